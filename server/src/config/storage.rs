//! Storage: the engine, where it is, how many connections, how long a request may take.

use std::time::Duration;

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
        /// Connections for writing messages.
        pub writer_connections: u32 = 2,
        /// Connections for archive queries; when all are busy no login suffers.
        pub archive_connections: u32 = 4,
        /// Connections for the command line and commands of administrators.
        pub console_connections: u32 = 1,
        /// Milliseconds in which a request must be done; then the client gets `resource-constraint`.
        pub deadline_ms: u32 = 4_000,
        /// Milliseconds in which a connection to PostgreSQL must be made.
        pub connect_timeout_ms: u32 = 3_000,
        /// Rows written by one commit at most.
        pub batch_rows: u32 = 1_000,
        /// Memory SQLite keeps pages in, per connection.
        pub sqlite_cache_kib: u32 = 16 * 1024,
    }
}

impl Storage {
    /// The deadline of one request.
    pub fn deadline(&self) -> Duration {
        Duration::from_millis(self.deadline_ms.into())
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
