//! Where the data is and how it is reached.

use std::path::PathBuf;
use std::time::Duration;

/// Which engine, and its settings.
#[derive(Debug, Clone)]
pub enum Config {
    /// One file, the default.
    Sqlite(SqliteConfig),
    /// A PostgreSQL database, version 15 or newer.
    Postgres(PostgresConfig),
}

/// SQLite's `synchronous` setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Synchronous {
    /// A commit returns when the write-ahead log is on the disk. The only setting under which nothing is lost.
    Full,
    /// Nothing is flushed. For tests that must see loss.
    Off,
}

/// Settings of the SQLite engine.
#[derive(Debug, Clone)]
pub struct SqliteConfig {
    /// The database file; its directory must exist. `-wal` and `-shm` files lie beside it.
    pub path: PathBuf,
    /// Threads with a connection of their own that answer logins and every small read.
    pub login_readers: usize,
    /// The same for pages of the archive, so that slow ones stop no login.
    pub archive_readers: usize,
    /// Durability of a commit.
    pub synchronous: Synchronous,
    /// After this long a call yields an error.
    pub deadline: Duration,
}

impl SqliteConfig {
    /// Defaults: two readers of each kind, `synchronous=FULL`, 4 s.
    pub fn new(path: impl Into<PathBuf>) -> SqliteConfig {
        SqliteConfig {
            path: path.into(),
            login_readers: 2,
            archive_readers: 2,
            synchronous: Synchronous::Full,
            deadline: Duration::from_secs(4),
        }
    }
}

/// Settings of the PostgreSQL engine. Connections: all pools together plus one writer and, where
/// `reader_url` is set, `archive_connections` on the reader instead of the primary.
#[derive(Clone)]
pub struct PostgresConfig {
    /// `postgres://user:password@host:port/database`, a direct connection (the archive's writer holds a session lock,
    /// which a pooler in transaction mode would lose).
    pub url: String,
    /// A read replica for archive pages; debts are always read from the primary.
    pub reader_url: Option<String>,
    /// How far the reader may be behind before archive pages are read from the primary again.
    pub reader_staleness_max: Duration,
    /// Connections for logins, rosters and all other small reads and writes.
    pub login_connections: u32,
    /// Connections for archive pages.
    pub archive_connections: u32,
    /// Connections for the console, checks, backup and copy.
    pub console_connections: u32,
    /// After this long a call yields an error.
    pub deadline: Duration,
    /// Overrides `synchronous_commit` per connection. `None` raises anything weaker than `on` to `on`; tests that must
    /// see loss set `Some("off")`.
    pub synchronous_commit: Option<String>,
}

impl std::fmt::Debug for PostgresConfig {
    /// Without the addresses: they hold passwords.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresConfig")
            .field("login_connections", &self.login_connections)
            .field("archive_connections", &self.archive_connections)
            .field("console_connections", &self.console_connections)
            .finish_non_exhaustive()
    }
}

impl PostgresConfig {
    /// Defaults: 8 + 4 + 2 connections and the writer, 4 s, a reader at most 10 s behind.
    pub fn new(url: impl Into<String>) -> PostgresConfig {
        PostgresConfig {
            url: url.into(),
            reader_url: None,
            reader_staleness_max: Duration::from_secs(10),
            login_connections: 8,
            archive_connections: 4,
            console_connections: 2,
            deadline: Duration::from_secs(4),
            synchronous_commit: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_holds_no_password() {
        let mut config = PostgresConfig::new("postgres://eider:secret@db/eider");
        config.reader_url = Some("postgres://eider:secret@reader/eider".into());
        assert!(!format!("{:?}", Config::Postgres(config)).contains("secret"));
    }
}
