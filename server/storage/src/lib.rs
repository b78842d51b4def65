//! What Eider keeps: one trait file per topic, on SQLite and PostgreSQL.
//!
//! [`open`] gives an `Arc<dyn Storage>`, the sum of the topic traits; every method name starts with its topic.
//! Each call ends within the configured deadline (4 s by default): a database that hangs yields an error.
//! JIDs are passed as prepared strings (RFC 7622): this crate compares them byte by byte and knows no XMPP.

mod accounts;
mod archive;
mod backup_file;
mod codec;
mod config;
mod copy;
mod error;
mod heads;
mod ledger;
mod maintenance;
mod postgres;
mod preferences;
mod pubsub;
mod roster;
mod sessions;
mod sqlite;
mod tables;
mod values;

use std::sync::Arc;

pub use accounts::{AccountSummary, Accounts, Credentials, LastActivity, LoginRecord, ScramKeys};
pub use archive::{
    Archive, ArchiveFilter, ArchiveMetadata, ArchivePage, ArchivedRow, Commit, CommitError,
    DEBT_LOOK_ROWS_MAX, DebtPage, DebtTotal, DebtTotals, Direction, Forgotten, Keep, MessageKind,
    NewMessage, OwnerRow, PageRequest, PosRange, Position, ResendKey, Retained, RowFlags, SentRow,
    Unknown, Watermark,
};
pub use config::{Config, PostgresConfig, SqliteConfig, Synchronous};
pub use copy::{copy, restore};
pub use error::Error;
pub use maintenance::{Description, Finding, Maintenance, PoolState, Progress, TableCount};
pub use preferences::{ArchiveDefault, ArchivePreferences, BlockList, Preferences, VCard};
pub use pubsub::{PublishOutcome, Pubsub, PubsubItem, PubsubItemHead, PubsubNode, PubsubRelation};
pub use roster::{
    Expect, PendingRequest, Roster, RosterChange, RosterItem, RosterSnapshot, Subscription,
};
pub use sessions::{SavedSession, SavedSessions};
pub use values::{AccountId, Fence, Timestamp};

/// Everything the server keeps, behind one handle.
pub trait Storage:
    Accounts
    + Roster
    + Archive
    + Preferences
    + Pubsub
    + SavedSessions
    + Maintenance
    + Send
    + Sync
    + 'static
{
}

impl<T> Storage for T where
    T: Accounts
        + Roster
        + Archive
        + Preferences
        + Pubsub
        + SavedSessions
        + Maintenance
        + Send
        + Sync
        + 'static
{
}

/// Opens the database named by `config`, runs its migrations and starts its writer.
///
/// # Errors
/// [`Error::Unfinished`] where a copy into it was not finished.
pub async fn open(config: &Config) -> Result<Arc<dyn Storage>, Error> {
    let storage: Arc<dyn Storage> = match config {
        Config::Sqlite(config) => Arc::new(sqlite::Sqlite::open(config).await?),
        Config::Postgres(config) => Arc::new(postgres::Postgres::open(config).await?),
    };
    match storage.meta_get(copy::MARK).await? {
        None => Ok(storage),
        Some(from) => {
            storage.close().await;
            Err(Error::Unfinished(String::from_utf8_lossy(&from).into()))
        }
    }
}
