//! Migrations of the PostgreSQL engine, under one lock, each in a transaction of its own together with its version.

use sqlx::AssertSqlSafe;

use super::pool::Lease;
use super::{get, scalar};
use crate::Error;

const MIGRATIONS: &[&str] = &[
    include_str!("../../migrations/postgres/0001_initial.sql"),
    include_str!("../../migrations/postgres/0002_text_of_messages.sql"),
    include_str!("../../migrations/postgres/0003_debts_without_archive.sql"),
    include_str!("../../migrations/postgres/0004_bytes_of_pubsub.sql"),
    include_str!("../../migrations/postgres/0005_resend_keys_by_time.sql"),
];

/// The newest migration known.
pub(crate) const NEWEST: i64 = MIGRATIONS.len() as i64;

/// Servers that start together migrate one after another ("eider", then 1).
const LOCK: i64 = 0x6569_6465_7200_0001;

/// Whether there are tables of an older version.
pub(crate) async fn is_due(lease: &mut Lease) -> Result<bool, Error> {
    let version = version(lease).await?;
    Ok(version > 0 && version < NEWEST)
}

/// Runs what has not run yet.
pub(crate) async fn run(lease: &mut Lease) -> Result<(), Error> {
    if version(lease).await? >= NEWEST {
        return Ok(());
    }
    tracing::info!(to = NEWEST, "brings the database's tables up to date");
    for (index, sql) in MIGRATIONS.iter().enumerate() {
        lease.execute(sqlx::query("BEGIN")).await?;
        let result = step(lease, index as i64 + 1, sql).await;
        lease.end(result).await?;
    }
    Ok(())
}

async fn step(lease: &mut Lease, version_made: i64, sql: &'static str) -> Result<(), Error> {
    lease
        .execute(sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(LOCK))
        .await?;
    let table = "CREATE TABLE IF NOT EXISTS schema_migration (version bigint PRIMARY KEY, at timestamptz DEFAULT now())";
    lease.execute(sqlx::query(table)).await?;
    if version(lease).await? >= version_made {
        return Ok(());
    }
    lease.script(AssertSqlSafe(sql.to_owned())).await?;
    lease
        .execute(
            sqlx::query("INSERT INTO schema_migration (version) VALUES ($1)").bind(version_made),
        )
        .await?;
    Ok(())
}

/// The newest migration that has run.
pub(crate) async fn version(lease: &mut Lease) -> Result<i64, Error> {
    let there = lease
        .optional(sqlx::query(
            "SELECT to_regclass('schema_migration') IS NOT NULL",
        ))
        .await?;
    if scalar::<bool>(there)? != Some(true) {
        return Ok(0);
    }
    let row = lease
        .optional(sqlx::query(
            "SELECT coalesce(max(version), 0)::bigint FROM schema_migration",
        ))
        .await?;
    row.map_or(Ok(0), |row| get(&row, 0))
}
