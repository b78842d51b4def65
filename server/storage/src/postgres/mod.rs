//! The PostgreSQL engine: pools apart for logins, archive pages and the console, and one connection that writes the
//! archive.

mod accounts;
mod archive;
mod archive_query;
mod connection;
mod describe;
mod maintenance;
pub(crate) mod migrate;
pub(crate) mod pool;
mod preferences;
mod pubsub;
mod roster;
mod sessions;
mod statement;
pub(crate) mod tables;
mod writer;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use sqlx::postgres::PgRow;
use sqlx::{Decode, Postgres as Engine, Row, Type};
use tokio::time::Instant;

use crate::{Error, Fence, PostgresConfig};
use connection::{Setup, error};
use pool::{Lease, Pool, Statement};
use writer::Writer;

/// The engine behind `dyn Storage`.
pub(crate) struct Postgres {
    config: PostgresConfig,
    /// Logins, rosters, and every small read and write.
    login: Arc<Pool>,
    /// Pages of the archive, which may be slow.
    archive: Arc<Pool>,
    /// The same on a read replica.
    reader: Option<Arc<Pool>>,
    /// When it last could not be asked.
    reader_failed: Mutex<Option<Instant>>,
    /// What takes its time: counts, dumps, checks.
    console: Arc<Pool>,
    writer: Writer,
}

impl Postgres {
    pub(crate) async fn open(config: &PostgresConfig) -> Result<Postgres, Error> {
        let deadline = config.deadline;
        let quick = Setup::new(config, &config.url, deadline, true)?;
        let long = Setup::new(config, &config.url, Duration::ZERO, true)?;
        let console = Pool::new(
            "console",
            long.clone(),
            config.console_connections,
            deadline,
        );
        // It may rewrite whole tables, or wait for another server that does.
        let patience = Instant::now() + maintenance::CONSOLE_DEADLINE;
        let mut lease = console.acquire_until(patience).await?;
        let writer = Writer::start(quick.clone(), deadline);
        // Another server's tables are not changed under it, nor their locks taken: that it has the database is said first.
        if migrate::is_due(&mut lease).await? {
            writer.claim().await?;
        }
        migrate::run(&mut lease).await?;
        drop(lease);
        let reader = match &config.reader_url {
            Some(url) => {
                let setup = Setup::new(config, url, deadline, false)?;
                Some(Pool::new(
                    "reader",
                    setup,
                    config.archive_connections,
                    deadline,
                ))
            }
            None => None,
        };
        Ok(Postgres {
            login: Pool::new("login", quick.clone(), config.login_connections, deadline),
            archive: Pool::new(
                "archive",
                quick.clone(),
                config.archive_connections,
                deadline,
            ),
            reader,
            reader_failed: Mutex::default(),
            console,
            writer,
            config: config.clone(),
        })
    }

    /// A connection of its own for work that takes hours.
    pub(crate) async fn console(config: &PostgresConfig) -> Result<Lease, Error> {
        let setup = Setup::new(config, &config.url, Duration::ZERO, true)?;
        let pool = Pool::new("console", setup, 1, config.deadline);
        pool.acquire_until(Instant::now() + maintenance::CONSOLE_DEADLINE)
            .await
    }

    /// One statement that reads.
    async fn all(&self, statement: Statement<'_>) -> Result<Vec<PgRow>, Error> {
        self.login.acquire().await?.all(statement).await
    }

    /// One statement that reads at most one row.
    async fn optional(&self, statement: Statement<'_>) -> Result<Option<PgRow>, Error> {
        self.login.acquire().await?.optional(statement).await
    }

    /// One statement that writes; answers what it returns.
    async fn write(&self, fence: Fence, statement: Statement<'_>) -> Result<Vec<PgRow>, Error> {
        self.login.acquire().await?.write(fence, statement).await
    }

    /// A connection with a transaction begun; end it with [`Lease::end`].
    async fn begin(&self, fence: Fence) -> Result<Lease, Error> {
        let mut lease = self.login.acquire().await?;
        lease.begin(fence).await?;
        Ok(lease)
    }
}

/// A column's value.
fn get<'r, T>(row: &'r PgRow, index: usize) -> Result<T, Error>
where
    T: Decode<'r, Engine> + Type<Engine>,
{
    row.try_get(index).map_err(error)
}

/// A column of 0 and 1.
fn flag(row: &PgRow, index: usize) -> Result<bool, Error> {
    Ok(get::<i16>(row, index)? != 0)
}

/// The first column of the only row.
fn scalar<T>(row: Option<PgRow>) -> Result<Option<T>, Error>
where
    T: for<'r> Decode<'r, Engine> + Type<Engine>,
{
    row.map(|row| get(&row, 0)).transpose()
}
