//! The SQLite engine: one file in WAL mode, one thread that writes, a few that read.

mod accounts;
mod archive;
mod archive_commit;
mod archive_query;
pub(crate) mod maintenance;
pub(crate) mod migrate;
mod preferences;
mod pubsub;
mod roster;
mod sessions;
pub(crate) mod tables;
mod worker;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use parking_lot::Mutex;
use rusqlite::Connection;

use crate::ledger::CommitLedger;
use crate::{Error, Fence, SqliteConfig, Synchronous};
use worker::{Readers, Writer};

/// The engine behind `dyn Storage`.
pub(crate) struct Sqlite {
    config: SqliteConfig,
    writer: Writer,
    /// Logins, rosters, and every small read.
    login: Readers,
    /// Pages of the archive, which may be slow.
    archive: Readers,
    ledger: Arc<Mutex<CommitLedger>>,
    next_ticket: AtomicU64,
}

impl Sqlite {
    pub(crate) async fn open(config: &SqliteConfig) -> Result<Sqlite, Error> {
        let config = config.clone();
        tokio::task::spawn_blocking(move || {
            let mut writing = connect(&config, Use::Write)?;
            migrate::run(&mut writing)?;
            let readers = |count: usize, connection_use| {
                let reading = (0..count.max(1)).map(|_| connect(&config, connection_use));
                Readers::start(reading.collect::<Result<_, _>>()?, config.deadline)
            };
            Ok(Sqlite {
                writer: Writer::start(writing, config.deadline)?,
                login: readers(config.login_readers, Use::Login)?,
                archive: readers(config.archive_readers, Use::Archive)?,
                config,
                ledger: Arc::default(),
                next_ticket: AtomicU64::new(1),
            })
        })
        .await
        .map_err(|e| Error::Other(e.to_string()))?
    }

    /// Runs `work` in a transaction of its own under `fence`.
    async fn write<T, F>(&self, fence: Fence, work: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, Error> + Send + 'static,
    {
        self.writer
            .run(move |connection, _| {
                check_fence(connection, fence)?;
                work(connection)
            })
            .await
    }

    /// Runs `work` on a snapshot.
    async fn read<T, F>(&self, work: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, Error> + Send + 'static,
    {
        self.login.run(work).await
    }

    /// The same for a page of the archive.
    async fn read_page<T, F>(&self, work: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, Error> + Send + 'static,
    {
        self.archive.run(work).await
    }
}

/// What a connection is for. Only the writer's may write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    /// Every change.
    Write,
    /// Short reads: logins, rosters, facts.
    Login,
    /// Pages of archives.
    Archive,
}

impl Use {
    /// Pages of the file that the connection keeps; the system keeps all of them. What short reads have in
    /// common are the upper pages of a few trees, while their rows are read once.
    fn cache_kib(self) -> u32 {
        match self {
            Use::Write | Use::Archive => 8_000,
            Use::Login => 256,
        }
    }
}

/// Opens the file with the settings of this engine.
pub(crate) fn connect(config: &SqliteConfig, connection_use: Use) -> Result<Connection, Error> {
    let connection = Connection::open(&config.path).map_err(error)?;
    connection.busy_timeout(config.deadline).map_err(error)?;
    connection.set_prepared_statement_cache_capacity(256);
    let synchronous = match config.synchronous {
        Synchronous::Full => "FULL",
        Synchronous::Off => "OFF",
    };
    // fullfsync: F_FULLFSYNC where the system's fsync leaves data in the disk's cache (macOS).
    connection
        .execute_batch(&format!(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = {synchronous}; PRAGMA fullfsync = ON;
             PRAGMA checkpoint_fullfsync = ON; PRAGMA foreign_keys = ON; PRAGMA temp_store = MEMORY;
             PRAGMA cache_size = -{}; PRAGMA wal_autocheckpoint = 4000; PRAGMA journal_size_limit = 67108864;
             PRAGMA trusted_schema = OFF; PRAGMA query_only = {};",
            connection_use.cache_kib(),
            if connection_use == Use::Write {
                "OFF"
            } else {
                "ON"
            }
        ))
        .map_err(error)?;
    Ok(connection)
}

fn check_fence(connection: &Connection, fence: Fence) -> Result<(), Error> {
    let Some(token) = fence.token() else {
        return Ok(());
    };
    let valid: bool = connection
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM member_fence WHERE token = ?1 AND dead = 0)")
        .and_then(|mut statement| statement.query_row([token], |row| row.get(0)))
        .map_err(error)?;
    if valid { Ok(()) } else { Err(Error::Fenced) }
}

/// What SQLite says, in this crate's classes. SQLite leaves nothing half done; a commit of unknown outcome ends the process
/// (`worker.rs`).
pub(crate) fn error(error: rusqlite::Error) -> Error {
    use rusqlite::ErrorCode as Code;
    match error.sqlite_error_code() {
        Some(
            Code::DatabaseBusy
            | Code::DatabaseLocked
            | Code::ReadOnly
            | Code::CannotOpen
            | Code::SystemIoFailure
            | Code::DiskFull
            | Code::OperationInterrupted,
        ) => Error::Unavailable(error.to_string()),
        Some(Code::DatabaseCorrupt | Code::NotADatabase) => Error::Corrupt(error.to_string()),
        _ => Error::Other(error.to_string()),
    }
}

/// Rows changed by a cached statement.
pub(crate) fn execute(
    connection: &Connection,
    sql: &str,
    params: impl rusqlite::Params,
) -> Result<usize, Error> {
    connection
        .prepare_cached(sql)
        .and_then(|mut statement| statement.execute(params))
        .map_err(error)
}

/// The one row of a cached statement, or `None`.
fn optional<T>(
    connection: &Connection,
    sql: &str,
    params: impl rusqlite::Params,
    map: impl FnOnce(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
) -> Result<Option<T>, Error> {
    use rusqlite::OptionalExtension;
    connection
        .prepare_cached(sql)
        .and_then(|mut statement| statement.query_row(params, map).optional())
        .map_err(error)
}

/// All rows of a cached statement.
fn all<T>(
    connection: &Connection,
    sql: &str,
    params: impl rusqlite::Params,
    map: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
) -> Result<Vec<T>, Error> {
    connection
        .prepare_cached(sql)
        .and_then(|mut statement| {
            statement
                .query_map(params, map)?
                .collect::<rusqlite::Result<Vec<T>>>()
        })
        .map_err(error)
}

/// Bytes of a column that may be NULL, empty then.
fn blob(row: &rusqlite::Row<'_>, index: usize) -> rusqlite::Result<Vec<u8>> {
    Ok(row.get::<_, Option<Vec<u8>>>(index)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;
    use crate::Accounts;

    #[tokio::test(flavor = "multi_thread")]
    async fn pages_that_hold_every_connection_stop_no_login() {
        let name = format!("eider-sqlite-pools-{}.sqlite", std::process::id());
        let path = std::env::temp_dir().join(name);
        let config = SqliteConfig::new(&path);
        let engine = Arc::new(Sqlite::open(&config).await.expect("opens"));
        let pages = config.archive_readers;
        let (held, done) = (
            Arc::new(Barrier::new(pages + 1)),
            Arc::new(Barrier::new(pages + 1)),
        );
        let reads: Vec<_> = (0..pages)
            .map(|_| {
                let (engine, held, done) = (engine.clone(), held.clone(), done.clone());
                tokio::spawn(async move {
                    let slow = engine.read_page(move |_| {
                        held.wait();
                        done.wait();
                        Ok(())
                    });
                    slow.await
                })
            })
            .collect();
        tokio::task::spawn_blocking(move || held.wait())
            .await
            .expect("every page is being read");
        let nobody = engine.account_login("example.org", "nobody").await;
        assert!(nobody.expect("a login is read meanwhile").is_none());
        tokio::task::spawn_blocking(move || done.wait())
            .await
            .expect("the pages end");
        for read in reads {
            read.await.expect("ran").expect("was read");
        }
        crate::Maintenance::close(&*engine).await;
        for suffix in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{}{suffix}", path.display()));
        }
    }
}
