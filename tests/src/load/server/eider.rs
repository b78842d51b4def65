//! Eider: its configuration, and accounts and rosters put into its storage before it starts.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::{Context, Result, bail, ensure};
use eider_storage::{
    Config, Credentials, Expect, Fence, PostgresConfig, RosterItem, ScramKeys, SqliteConfig,
    Storage, Subscription, Synchronous, Timestamp,
};
use tokio::task::JoinSet;

use super::{Archive, Engine, HOST, Plan, Ports, Prepared, Site};
use crate::load::client::localpart;
use crate::load::scram::{Hash, ITERATIONS, Keys, SALT};

/// Accounts made at once.
const AT_ONCE: u32 = 16;
/// Bound of a roster, above that of every row.
const ROSTER_ITEMS_MAX: u32 = 100_000;

/// Eider's binary: as named, else the one beside this program.
pub fn binary(named: Option<PathBuf>) -> Result<PathBuf> {
    let beside = std::env::current_exe()?.with_file_name("eider");
    let path = named.unwrap_or(beside);
    ensure!(
        path.exists(),
        "{} is not there: cargo build --release --workspace",
        path.display()
    );
    // Servers are started in their own directories.
    Ok(std::path::absolute(path)?)
}

/// The configuration: defaults, less the limits that exist to stop what this program does.
fn configuration(site: &Site, plan: &Plan, directory: &Path, ports: Ports) -> Result<String> {
    let (archive, force, offline) = match plan.archive {
        Archive::Off => ("never", "off", false),
        Archive::Owed => ("never", "off", true),
        Archive::On => ("always", "none", true),
    };
    let storage = match plan.engine {
        Engine::Sqlite => "engine = \"sqlite\"".to_owned(),
        Engine::Postgres => format!(
            "engine = \"postgres\"\ndsn = \"{}\"",
            site.postgres()?.url("eider")
        ),
    };
    let listener = |port: u16, tls: &str| {
        format!(
            "[[listeners.c2s]]\naddress = \"127.0.0.1\"\nport = {port}\ntls = \"{tls}\"\n\
             connections_per_second = 100000\nconnections_per_second_per_address = 0\n\
             max_connections_per_address = 0\n"
        )
    };
    Ok(format!(
        "data_directory = \"{}\"\n\
         [[hosts]]\nname = \"{HOST}\"\narchive = \"{archive}\"\narchive_force = \"{force}\"\n\
         offline_messages = {offline}\n\
         [listeners.http]\nport = {}\n{}{}\
         [login]\niterations = {ITERATIONS}\nlogins_per_account_per_minute = 0\n\
         [limits]\nsessions_per_address = 0\n\
         [logging]\nlevel = \"warn\"\n\
         [storage]\n{storage}\n",
        directory.display(),
        ports.http,
        listener(ports.starttls, "starttls"),
        listener(ports.direct, "direct"),
    ))
}

/// The database with commits that need not survive: a row's accounts are made quickly, and the
/// server opens it again with its own settings.
async fn create(site: &Site, plan: &Plan, directory: &Path) -> Result<Arc<dyn Storage>> {
    if plan.engine == Engine::Postgres {
        site.postgres()?.database("eider").await?;
    }
    open(site, plan, directory).await
}

/// The database as it is.
pub(super) async fn open(site: &Site, plan: &Plan, directory: &Path) -> Result<Arc<dyn Storage>> {
    let config = match plan.engine {
        Engine::Sqlite => {
            let mut config = SqliteConfig::new(directory.join("eider.sqlite"));
            config.synchronous = Synchronous::Off;
            Config::Sqlite(config)
        }
        Engine::Postgres => {
            let mut config = PostgresConfig::new(site.postgres()?.url("eider"));
            config.synchronous_commit = Some("off".to_owned());
            Config::Postgres(config)
        }
    };
    Ok(eider_storage::open(&config).await?)
}

fn credentials() -> Credentials {
    let keys = |hash| {
        let keys = Keys::of_run(hash);
        Some(ScramKeys {
            salt: SALT.to_vec(),
            iterations: ITERATIONS,
            stored_key: keys.stored_key,
            server_key: keys.server_key,
        })
    };
    Credentials {
        sha1: keys(Hash::Sha1),
        sha256: keys(Hash::Sha256),
        sha512: keys(Hash::Sha512),
    }
}

#[expect(clippy::disallowed_methods, reason = "the accounts are made now")]
async fn account(
    storage: Arc<dyn Storage>,
    credentials: Arc<Credentials>,
    plan: Plan,
    index: u32,
) -> Result<()> {
    let (fence, now) = (Fence::single(), Timestamp::from_system(SystemTime::now()));
    let id = storage
        .account_create(fence, HOST, &localpart(index), &credentials, now)
        .await?;
    for contact in plan.rosters.contacts(index, plan.accounts) {
        let jid = format!("{}@{HOST}", localpart(contact));
        let item = RosterItem {
            jid,
            subscription: Subscription::Both,
            ..RosterItem::default()
        };
        storage
            .roster_put(fence, id, &item, Expect::Any, ROSTER_ITEMS_MAX)
            .await?;
    }
    Ok(())
}

async fn fill(storage: Arc<dyn Storage>, plan: &Plan) -> Result<()> {
    let credentials = Arc::new(credentials());
    let mut pending = JoinSet::new();
    for index in 0..plan.accounts {
        if pending.len() >= AT_ONCE as usize
            && let Some(done) = pending.join_next().await
        {
            done??;
        }
        pending.spawn(account(storage.clone(), credentials.clone(), *plan, index));
    }
    while let Some(done) = pending.join_next().await {
        done??;
    }
    Ok(())
}

pub(super) async fn prepare(
    site: &Site,
    plan: &Plan,
    directory: &Path,
    ports: Ports,
) -> Result<Prepared> {
    let config = directory.join("eider.toml");
    std::fs::write(&config, configuration(site, plan, directory, ports)?)?;
    let storage = create(site, plan, directory)
        .await
        .context("opening the database")?;
    if let Err(error) = fill(storage, plan).await {
        bail!("making accounts: {error:#}");
    }
    let database = match plan.engine {
        Engine::Sqlite => None,
        Engine::Postgres => Some(site.postgres()?.pid()),
    };
    let mut command = Command::new(&site.eider);
    command
        .arg("--config")
        .arg(&config)
        .arg("serve")
        .current_dir(directory);
    Ok(Prepared {
        command,
        database,
        marker: None,
    })
}
