//! Secrets and settings of the server itself, health, checks, backup and copies.

use std::path::Path;

use async_trait::async_trait;

use crate::{AccountId, Error, Fence, Timestamp};

/// What `eider check` wants to know of a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// `sqlite` or `postgres`.
    pub engine: &'static str,
    /// The engine's version as it calls itself.
    pub version: String,
    pub encoding: String,
    /// The newest migration that has run.
    pub schema_version: i64,
    /// The newest migration this program knows.
    pub schema_expected: i64,
    /// Durability settings by name (`synchronous`, `journal_mode`; `fsync`, `synchronous_commit`,
    /// `full_page_writes`, `synchronous_standby_names`).
    pub durability: Vec<(String, String)>,
    /// True: what is acknowledged survives a crash of the machine (DESIGN §1).
    pub durable: bool,
    /// True: the loss of the primary is covered by a synchronous standby.
    pub survives_primary: bool,
    pub read_only: bool,
    /// The server's limit on connections; `None` where there is none.
    pub connections_max: Option<u32>,
    /// Connections all pools of this process may open.
    pub connections_wanted: u32,
    /// Bytes on disk.
    pub size_bytes: u64,
    /// One round trip, in microseconds.
    pub latency_us: u64,
    pub findings: Vec<Finding>,
}

/// Something wrong with the database, in words for the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What is wrong.
    pub problem: String,
    /// What users would notice.
    pub effect: String,
    /// What to type.
    pub remedy: String,
}

/// A pool as the metrics show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolState {
    pub name: &'static str,
    pub connections_max: u32,
    pub connections_open: u32,
    pub in_use: u32,
    /// Calls that wait for a connection.
    pub waiting: u32,
}

/// Rows of a table and a checksum over them that does not depend on their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableCount {
    pub table: String,
    pub rows: u64,
    pub checksum: u64,
}

/// Told while a long work goes on: (table, rows done so far in it).
pub type Progress<'a> = &'a (dyn Fn(&str, u64) + Send + Sync);

/// Everything that is not a user's.
#[async_trait]
pub trait Maintenance {
    /// A value of the server itself.
    async fn meta_get(&self, key: &str) -> Result<Option<Vec<u8>>, Error>;

    /// Stores `value` unless there is one already; answers what is stored now (secrets are made once, by whoever comes first).
    async fn meta_init(&self, fence: Fence, key: &str, value: &[u8]) -> Result<Vec<u8>, Error>;

    /// Replaces a value.
    async fn meta_set(&self, fence: Fence, key: &str, value: &[u8]) -> Result<(), Error>;

    /// One write-free round trip, in microseconds.
    async fn ping(&self) -> Result<u64, Error>;

    /// The database as `eider check` reports it.
    async fn describe(&self) -> Result<Description, Error>;

    /// Pools now, for the metrics.
    fn pools(&self) -> Vec<PoolState>;

    /// Takes the database for this process, which serves from now on; to be called once, at the start.
    ///
    /// # Errors
    /// [`Error::InUse`] where another server has it and keeps it.
    async fn claim(&self) -> Result<(), Error>;

    /// Registers an incarnation so that [`Fence::member`] of it is valid.
    async fn fence_register(&self, token: i64) -> Result<(), Error>;

    /// Declares an incarnation dead: when this returns, none of its writes can commit any more.
    async fn fence_kill(&self, token: i64) -> Result<(), Error>;

    /// Creates what the next weeks need (PostgreSQL: the archive's partitions of this month and the next).
    /// To be called at the start and daily.
    async fn prepare_ahead(&self, now: Timestamp) -> Result<(), Error>;

    /// Goes on with what interrupted removals left, in bounded steps; drops resend keys older than `resend_keys_before`.
    /// Answers how many rows went; 0: nothing left to do.
    async fn sweep(&self, fence: Fence, resend_keys_before: Timestamp) -> Result<u64, Error>;

    /// Every account's key after `after`, for walks in bounded steps.
    async fn account_ids(&self, after: AccountId, limit: u32) -> Result<Vec<AccountId>, Error>;

    /// Writes a consistent copy while the server runs: on SQLite a database file, on PostgreSQL a logical dump.
    /// The file must not exist. Answers what is in it, read back from it.
    async fn backup(&self, target: &Path, progress: Progress<'_>)
    -> Result<Vec<TableCount>, Error>;

    /// Counts and checksums of all tables, comparable between engines.
    async fn counts(&self, progress: Progress<'_>) -> Result<Vec<TableCount>, Error>;

    /// Ends the writer and closes all connections; calls made afterwards get `Unavailable`.
    async fn close(&self);
}
