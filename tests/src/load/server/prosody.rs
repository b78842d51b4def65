//! Debian's prosody: its configuration and its flat files.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::{Archive, HOST, Plan, Ports, Prepared, Site};
use crate::load::client::localpart;
use crate::load::scram::{Hash, ITERATIONS, Keys, SALT};

/// What Debian's package loads and clients use, less what only slows (limits, s2s, registration).
const MODULES: &str = "'disco';'roster';'saslauth';'tls';'blocklist';'bookmarks';'carbons';'pep';'private';'smacks';\
    'vcard4';'vcard_legacy';'csi_simple';'ping';'time';'uptime';'version';'posix'";

fn configuration(site: &Site, plan: &Plan, directory: &Path, ports: Ports) -> Result<String> {
    let at = directory.display();
    let archived = plan.archive == Archive::On;
    let mam = if archived { ";'mam'" } else { "" };
    let mut text = format!(
        "run_as_root = true; pidfile = '{at}/prosody.pid'; data_path = '{at}/data'\n\
         modules_enabled = {{ {MODULES}{mam} }}; modules_disabled = {{ 's2s' }}\n\
         c2s_ports = {{ {} }}; c2s_direct_tls_ports = {{ {} }}; interfaces = {{ '127.0.0.1' }}\n\
         authentication = 'internal_hashed'; password_hash = 'SHA-256'; default_iteration_count = {ITERATIONS}\n\
         c2s_require_encryption = true; log = {{ warn = '{at}/prosody.log' }}; plugin_paths = {{}}\n\
         ssl = {{ certificate = '{}'; key = '{}' }}; c2s_direct_tls_ssl = ssl; network_settings = {{ backlog = 4096 }}\n",
        ports.starttls,
        ports.direct,
        site.certificate.certificate.display(),
        site.certificate.key.display(),
    );
    if archived {
        writeln!(
            text,
            "default_archive_policy = true; archive_expires_after = 'never'; storage = {{ archive = 'sql' }}\n\
             sql = {{ driver = 'PostgreSQL'; database = 'prosody'; username = 'postgres'; password = 'trusted'; \
             host = '127.0.0.1'; port = {} }}",
            site.postgres()?.port()
        )?;
    }
    writeln!(text, "VirtualHost '{HOST}'")?;
    Ok(text)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn accounts(plan: &Plan, directory: &Path) -> Result<()> {
    let keys = Keys::of_run(Hash::Sha256);
    let account = format!(
        "return {{ iteration_count = {ITERATIONS}; salt = \"{}\"; stored_key = \"{}\"; server_key = \"{}\"; }};\n",
        String::from_utf8_lossy(SALT),
        hex(&keys.stored_key),
        hex(&keys.server_key)
    );
    let data = directory.join("data").join(HOST);
    for store in ["accounts", "roster"] {
        std::fs::create_dir_all(data.join(store))?;
    }
    for index in 0..plan.accounts {
        let file = format!("{}.dat", localpart(index));
        std::fs::write(data.join("accounts").join(&file), &account)?;
        let contacts = plan.rosters.contacts(index, plan.accounts);
        if contacts.is_empty() {
            continue;
        }
        let mut roster = String::from("return { [false] = { version = 1; pending = {}; };\n");
        for contact in contacts {
            let contact = localpart(contact);
            writeln!(
                roster,
                "[\"{contact}@{HOST}\"] = {{ subscription = \"both\"; groups = {{}}; }};"
            )?;
        }
        roster.push_str("};\n");
        std::fs::write(data.join("roster").join(&file), roster)?;
    }
    Ok(())
}

pub(super) async fn prepare(
    site: &Site,
    plan: &Plan,
    directory: &Path,
    ports: Ports,
) -> Result<Prepared> {
    let config = directory.join("prosody.cfg.lua");
    std::fs::write(&config, configuration(site, plan, directory, ports)?)?;
    accounts(plan, directory)?;
    let mut database = None;
    if plan.archive == Archive::On {
        site.postgres()?.database("prosody").await?;
        database = Some(site.postgres()?.pid());
    }
    let mut command = Command::new("prosody");
    command
        .arg("-F")
        .arg("--config")
        .arg(&config)
        .current_dir(directory);
    Ok(Prepared {
        command,
        database,
        marker: None,
    })
}
