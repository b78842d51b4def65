//! A lone commit: the latency below which nothing durable can be.

use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use rusqlite::Connection as Sqlite;
use sqlx::{Connection, PgConnection};

use crate::load::postgres::Postgres;
use crate::load::report::Row;
use crate::load::stats::Latencies;

const COMMITS: usize = 300;
/// As many bytes as the stanza of a chat row.
const BYTES: usize = 200;

/// Commits of one row on PostgreSQL, one after another.
pub async fn postgres(postgres: &Postgres) -> Result<Row> {
    let url = postgres.database("lone").await?;
    let mut connection = PgConnection::connect(&url).await?;
    sqlx::query("CREATE TABLE lone (id bigserial PRIMARY KEY, bytes bytea NOT NULL)")
        .execute(&mut connection)
        .await?;
    let mut latencies = Latencies::default();
    for _ in 0..COMMITS {
        let begun = Instant::now();
        sqlx::query("INSERT INTO lone (bytes) VALUES ($1)")
            .bind(vec![7_u8; BYTES])
            .execute(&mut connection)
            .await?;
        latencies.add(u64::try_from(begun.elapsed().as_nanos())?);
    }
    Ok(row(latencies, "postgres"))
}

/// Commits of one row on SQLite, WAL and `synchronous=FULL`, one after another.
pub fn sqlite(directory: &Path) -> Result<Row> {
    let connection = Sqlite::open(directory.join("lone.sqlite"))?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    connection.pragma_update(None, "synchronous", "full")?;
    connection.execute_batch("CREATE TABLE lone (id INTEGER PRIMARY KEY, bytes BLOB NOT NULL)")?;
    let mut insert = connection.prepare("INSERT INTO lone (bytes) VALUES (?1)")?;
    let mut latencies = Latencies::default();
    for _ in 0..COMMITS {
        let begun = Instant::now();
        insert.execute([vec![7_u8; BYTES]])?;
        latencies.add(u64::try_from(begun.elapsed().as_nanos())?);
    }
    Ok(row(latencies, "sqlite"))
}

fn row(mut latencies: Latencies, engine: &str) -> Row {
    Row {
        p50_ms: latencies.percentile_ms(50.0),
        p99_ms: latencies.percentile_ms(99.0),
        ..Row::new(format!("lone commit, {engine}"), "bare")
    }
}
