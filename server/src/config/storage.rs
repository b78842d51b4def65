//! Storage: the engine, where it is, how many connections, how long a request may take.

use std::time::Duration;

use eider_storage::{PostgresConfig, SqliteConfig, Synchronous};

use super::Config;
use crate::fault;

use super::schema::{choice, section};
use super::secret::Secret;

section! {
    /// The database.
    pub struct Storage {
        /// The engine. SQLite needs nothing: one file in the data directory.
        pub engine: Engine = Engine::Sqlite,
        /// Where PostgreSQL is: postgres://user:password@address/database
        pub dsn: Option<Secret> = None,
        /// A read-only standby for archive queries (PostgreSQL). Unset: `dsn` serves them.
        pub reader_dsn: Option<Secret> = None,
        /// How far behind the standby may be; further behind, archive queries go to `dsn`.
        pub reader_staleness_ms: u32 = 1_000,
        /// Connections for logins and everything that a client waits for.
        pub login_connections: u32 = 4,
        /// Connections for archive queries; when all are busy no login suffers.
        pub archive_connections: u32 = 4,
        /// Connections for the command line and commands of administrators (PostgreSQL; with SQLite each takes
        /// its own).
        pub console_connections: u32 = 1,
        /// Milliseconds in which a request must be done; then the client gets `resource-constraint`.
        pub deadline_ms: u32 = 4_000,
    }
}

impl Storage {
    /// The deadline of one request.
    pub fn deadline(&self) -> Duration {
        Duration::from_millis(self.deadline_ms.into())
    }
}

impl Config {
    /// What the storage is opened with.
    pub fn storage_config(&self) -> eider_storage::Config {
        let storage = &self.storage;
        match storage.engine {
            Engine::Sqlite => eider_storage::Config::Sqlite(SqliteConfig {
                login_readers: storage.login_connections as usize,
                archive_readers: storage.archive_connections as usize,
                deadline: storage.deadline(),
                synchronous: if fault::no_sync() {
                    Synchronous::Off
                } else {
                    Synchronous::Full
                },
                ..SqliteConfig::new(self.sqlite_file())
            }),
            Engine::Postgres => {
                let dsn = storage.dsn.as_ref().map(Secret::reveal).unwrap_or_default();
                eider_storage::Config::Postgres(PostgresConfig {
                    reader_url: storage
                        .reader_dsn
                        .as_ref()
                        .map(|dsn| dsn.reveal().to_owned()),
                    reader_staleness_max: Duration::from_millis(storage.reader_staleness_ms.into()),
                    login_connections: storage.login_connections,
                    archive_connections: storage.archive_connections,
                    console_connections: storage.console_connections,
                    deadline: storage.deadline(),
                    synchronous_commit: fault::no_sync().then(|| "off".to_owned()),
                    ..PostgresConfig::new(dsn)
                })
            }
        }
    }
}

choice! {
    /// A database engine.
    pub enum Engine {
        /// One file in the data directory.
        Sqlite = "sqlite",
        /// PostgreSQL 15 or newer.
        Postgres = "postgres",
    }
}
