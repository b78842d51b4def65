//! Debian's ejabberd: its configuration, and accounts and rosters loaded into Mnesia at its start.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::{Archive, HOST, Plan, Ports, Prepared, Site};
use crate::load::client::localpart;
use crate::load::scram::{Hash, ITERATIONS, Keys, SALT};

/// What Debian's package loads and clients use, less what only slows (shapers, fail2ban, s2s, rooms).
const MODULES: [&str; 16] = [
    "mod_adhoc",
    "mod_blocking",
    "mod_caps",
    "mod_carboncopy",
    "mod_client_state",
    "mod_disco",
    "mod_last",
    "mod_offline",
    "mod_ping",
    "mod_privacy",
    "mod_private",
    "mod_roster",
    "mod_stream_mgmt",
    "mod_vcard",
    "mod_vcard_xupdate",
    "mod_version",
];

fn configuration(site: &Site, plan: &Plan, ports: Ports) -> Result<String> {
    let mut text = format!(
        "loglevel: error\nhosts: [\"{HOST}\"]\ncertfiles: [\"{}\"]\n\
         disable_sasl_mechanisms: [\"digest-md5\", \"X-OAUTH2\"]\n\
         auth_method: internal\nauth_password_format: scram\nauth_scram_hash: sha256\n\
         access_rules: {{c2s: {{allow: all}}}}\nlisten:\n",
        site.certificate.both.display()
    );
    for (port, tls) in [(ports.starttls, "starttls_required"), (ports.direct, "tls")] {
        writeln!(
            text,
            "  - {{port: {port}, ip: \"127.0.0.1\", module: ejabberd_c2s, max_stanza_size: 262144, shaper: none, \
             access: c2s, backlog: 4096, {tls}: true}}"
        )?;
    }
    if plan.archive == Archive::On {
        writeln!(
            text,
            "sql_type: pgsql\nsql_server: \"127.0.0.1\"\nsql_port: {}\nsql_database: ejabberd\n\
             sql_username: postgres\nsql_password: trusted\nsql_pool_size: 10",
            site.postgres()?.port()
        )?;
    }
    text.push_str("modules:\n");
    for module in MODULES {
        writeln!(text, "  {module}: {{}}")?;
    }
    text.push_str("  mod_pubsub: {plugins: [flat, pep]}\n");
    if plan.archive == Archive::On {
        text.push_str("  mod_mam: {db_type: sql, default: always}\n");
    }
    Ok(text)
}

/// Accounts and rosters in the form of `mnesia:load_textfile`'s records, one term per line.
fn records(plan: &Plan) -> Result<String> {
    let keys = Keys::of_run(Hash::Sha256);
    let [stored, server, salt] =
        [&keys.stored_key, &keys.server_key, SALT].map(|k| BASE64.encode(k));
    let scram =
        format!("{{scram,<<\"{stored}\">>,<<\"{server}\">>,<<\"{salt}\">>,sha256,{ITERATIONS}}}");
    let mut text = String::new();
    for index in 0..plan.accounts {
        let us = format!("<<\"{}\">>,<<\"{HOST}\">>", localpart(index));
        writeln!(text, "{{passwd,{{{us}}},{scram}}}.")?;
        for contact in plan.rosters.contacts(index, plan.accounts) {
            let jid = format!("{{<<\"{}\">>,<<\"{HOST}\">>,<<>>}}", localpart(contact));
            writeln!(
                text,
                "{{roster,{{{us},{jid}}},{{{us}}},{jid},<<>>,both,none,[],<<>>,[]}}."
            )?;
        }
    }
    Ok(text)
}

pub(super) async fn prepare(
    site: &Site,
    plan: &Plan,
    directory: &Path,
    ports: Ports,
) -> Result<Prepared> {
    let config = directory.join("ejabberd.yml");
    std::fs::write(&config, configuration(site, plan, ports)?)?;
    let accounts = directory.join("accounts.term");
    std::fs::write(&accounts, records(plan)?)?;
    let mut database = None;
    if plan.archive == Archive::On {
        let postgres = site.postgres()?;
        postgres.database("ejabberd").await?;
        postgres
            .run_file("ejabberd", Path::new("/usr/share/ejabberd/sql/pg.sql"))
            .await?;
        database = Some(postgres.pid());
    }
    // Mnesia's tables are there only once ejabberd has started: the accounts follow at once, and
    // clients wait for the marker.
    let marker = directory.join("accounts.done");
    let load = format!(
        "{{ok, T}} = file:consult(\"{}\"), [mnesia:dirty_write(R) || R <- T], ok = file:write_file(\"{}\", <<>>).",
        accounts.display(),
        marker.display()
    );
    let mut command = Command::new("erl");
    command
        .args(["-noinput", "+K", "true", "+P", "250000", "-pa"])
        .arg(library()?);
    command
        .args(["-mnesia", "dir"])
        .arg(format!("\"{}\"", directory.join("mnesia").display()));
    command
        .args(["-s", "ejabberd", "-eval", &load])
        .current_dir(directory);
    command
        .env("HOME", directory)
        .env("EJABBERD_CONFIG_PATH", &config);
    command.env("EJABBERD_LOG_PATH", directory.join("ejabberd.log"));
    command
        .env("ERL_CRASH_DUMP", "/dev/null")
        .env("ERL_MAX_PORTS", "32000")
        .env("ERL_LIBS", LIBRARIES);
    Ok(Prepared {
        command,
        database,
        marker: Some(marker),
    })
}

const LIBRARIES: &str = "/usr/lib/x86_64-linux-gnu";

fn library() -> Result<std::path::PathBuf> {
    let all = std::fs::read_dir(LIBRARIES)?
        .flatten()
        .map(|e| e.path().join("ebin"));
    let mut found = all.filter(|p| p.join("ejabberd.app").exists());
    found.next().context("ejabberd is not installed")
}
