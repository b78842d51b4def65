//! `eider backup`: a consistent copy of the database while the server runs, or while it does not.
//! `eider restore`: fills an empty database from it.

use std::path::PathBuf;

use clap::Args;
use parking_lot::Mutex;

use super::ask::{ask, own_data_directory};
use super::output::Progress;
use super::{Global, output};
use crate::admin::commands::new_file;
use crate::admin::protocol::{Failure, FailureKind, Request, Tables};
use crate::admin::socket::Asking;
use crate::config::{Config, Engine};

/// A backup.
#[derive(Debug, Clone, Args)]
pub struct Backup {
    /// The file to write; it must not exist
    file: PathBuf,
}

/// Writes the backup; what is reported was read back from the file.
///
/// # Errors
/// Why it was not done.
pub async fn run(global: &Global, backup: Backup) -> Result<(), Failure> {
    let target = new_file(&backup.file)?;
    let tables: Tables = ask(
        global,
        Request::Backup {
            target: target.clone(),
        },
    )
    .await?;
    report(
        global,
        &tables,
        &format!("{} written and verified", target.display()),
    );
    Ok(())
}

/// A backup to fill the database from.
#[derive(Debug, Clone, Args)]
pub struct Restore {
    /// The file that `eider backup` wrote, from either engine
    file: PathBuf,
}

/// Fills the configured database, which must be empty, and compares it with the backup. An interrupted
/// restore goes on where it stopped.
///
/// # Errors
/// Why it was not done.
pub async fn restore(global: &Global, restore: Restore) -> Result<(), Failure> {
    if !restore.file.exists() {
        let what = format!("{}: no such file", restore.file.display());
        return Err(Failure::new(FailureKind::NotFound, what));
    }
    let config = global.load()?;
    stopped(&config, "a restore").await?;
    let _directory = own_data_directory(&config.data_directory).await?;
    let progress = Mutex::new(Progress::new(global));
    let show = |table: &str, rows: u64| progress.lock().show(table, rows);
    let restored = eider_storage::restore(&restore.file, &config.storage_config(), &show).await;
    progress.lock().end();
    let tables = Tables::from(restored.map_err(|e| not_empty(e, &config))?);
    report(global, &tables, "restored and compared with the backup");
    Ok(())
}

/// Sees that no server uses the database.
///
/// # Errors
/// Where one answers.
pub async fn stopped(config: &Config, work: &str) -> Result<(), Failure> {
    match Asking::start(&config.control_socket(), &Request::Status).await {
        Ok(None) => Ok(()),
        _ => {
            let what = format!("the server is running, and {work} needs it stopped");
            let hint = "systemctl stop eider (or kill -TERM with the process of: eider status)";
            Err(Failure::new(FailureKind::Failed, what).hint(hint))
        }
    }
}

/// Says what to do about a target that is in use already.
pub fn not_empty(error: eider_storage::Error, config: &Config) -> Failure {
    let failure = Failure::from(error);
    if failure.kind != FailureKind::Exists {
        return failure;
    }
    let file = config.sqlite_file();
    failure.hint(match config.storage.engine {
        Engine::Sqlite => format!("mv {0} {0}.old (and {0}-wal, {0}-shm)", file.display()),
        Engine::Postgres => "createdb a new one, and name it in storage.dsn".to_owned(),
    })
}

/// Prints what was written.
pub fn report(global: &Global, tables: &Tables, done: &str) {
    if global.json {
        return output::json(tables);
    }
    let filled = tables.tables.iter().filter(|t| t.rows > 0);
    let rows: Vec<_> = filled
        .map(|t| vec![t.table.clone(), t.rows.to_string()])
        .collect();
    output::table(&["table", "rows"], &rows, "nothing is in it");
    output::line(format_args!("{done}: {} rows", tables.rows));
}
