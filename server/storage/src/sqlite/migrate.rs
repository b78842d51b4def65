//! Migrations of the SQLite engine, each in a transaction of its own together with its version.

use rusqlite::Connection;

use super::error;
use crate::Error;

const MIGRATIONS: &[&str] = &[
    include_str!("../../migrations/sqlite/0001_initial.sql"),
    include_str!("../../migrations/sqlite/0002_text_of_messages.sql"),
    include_str!("../../migrations/sqlite/0003_debts_without_archive.sql"),
    include_str!("../../migrations/sqlite/0004_bytes_of_pubsub.sql"),
    include_str!("../../migrations/sqlite/0005_resend_keys_by_time.sql"),
];

/// The newest migration known.
pub(crate) const NEWEST: i64 = MIGRATIONS.len() as i64;

/// Runs what has not run yet. The lock is SQLite's own: one writer.
pub(crate) fn run(connection: &mut Connection) -> Result<(), Error> {
    for (index, sql) in MIGRATIONS.iter().enumerate() {
        let version = index as i64 + 1;
        let transaction = connection
            .transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)
            .map_err(error)?;
        let done: i64 = transaction
            .pragma_query_value(None, "user_version", |row| row.get(0))
            .map_err(error)?;
        if done < version {
            transaction.execute_batch(sql).map_err(error)?;
            transaction
                .pragma_update(None, "user_version", version)
                .map_err(error)?;
            transaction.commit().map_err(error)?;
        }
    }
    Ok(())
}

/// The newest migration that has run.
pub(crate) fn version(connection: &Connection) -> Result<i64, Error> {
    connection
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .map_err(error)
}
