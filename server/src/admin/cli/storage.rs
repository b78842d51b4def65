//! `eider storage`: moving everything from one database to another.

use std::path::PathBuf;

use clap::Subcommand;
use parking_lot::Mutex;

use super::Global;
use super::ask::own_data_directory;
use super::backup::{not_empty, report, stopped};
use super::output::Progress;
use crate::admin::protocol::{Failure, FailureKind, Tables};
use crate::config::{Engine, Sources};

/// The database
#[derive(Debug, Subcommand)]
pub enum Storage {
    /// Copies everything into another, empty database: SQLite to PostgreSQL or back. Stopped half-way, the
    /// same command goes on; at the end rows and checksums of both are compared
    Copy {
        /// The configuration file whose section `[storage]` names the target; the server serves with it
        /// afterwards
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
    },
}

/// Runs the subcommand.
///
/// # Errors
/// Why it was not done.
pub async fn run(global: &Global, command: Storage) -> Result<(), Failure> {
    let Storage::Copy { to } = command;
    let from = global.load()?;
    // The file alone: the environment and the command line say what the source is.
    let target = Sources {
        file: Some(to.clone()),
        ..Sources::default()
    };
    let target = target
        .load()
        .map_err(|e| Failure::new(FailureKind::Configuration, e.to_string()))?;
    let same = from.storage.engine == target.storage.engine
        && match from.storage.engine {
            Engine::Sqlite => from.sqlite_file() == target.sqlite_file(),
            Engine::Postgres => from.storage.dsn == target.storage.dsn,
        };
    if same {
        let what = format!("{} names the database that is in use", to.display());
        return Err(Failure::new(FailureKind::Usage, what)
            .hint("set another storage.engine, storage.dsn or data_directory in it"));
    }
    stopped(&from, "a copy").await?;
    stopped(&target, "a copy").await?;
    let _target = own_data_directory(&target.data_directory).await?;
    // Both engines may be configured for the same directory.
    let _source = match from.data_directory == target.data_directory {
        true => None,
        false => Some(own_data_directory(&from.data_directory).await?),
    };
    let progress = Mutex::new(Progress::new(global));
    let show = |table: &str, rows: u64| progress.lock().show(table, rows);
    let copied = eider_storage::copy(&from.storage_config(), &target.storage_config(), &show).await;
    progress.lock().end();
    let tables = Tables::from(copied.map_err(|e| not_empty(e, &target))?);
    report(global, &tables, "copied and compared");
    Ok(())
}
