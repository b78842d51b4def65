//! Copies of a whole database between engines, table by table in key order, so that an interrupted copy goes on where it
//! stopped. A backup of PostgreSQL is a copy into an SQLite file; restoring is a copy out of one.

use std::path::Path;

use rusqlite::Connection;

use crate::postgres::pool::Lease;
use crate::postgres::{Postgres, migrate as postgres_migrate, tables as postgres_tables};
use crate::sqlite::maintenance::open_to_read;
use crate::sqlite::{connect, migrate as sqlite_migrate, tables as sqlite_tables};
use crate::tables::{BATCH_ROWS, Cell, TABLES, Table};
use crate::{Config, Error, Fence, Progress, SqliteConfig, Synchronous, TableCount};

/// Where the target remembers, until the copy is done, what it is a copy of.
const MARK: &str = "copied_from";

/// Copies everything from one database to another, which must be empty or hold a part of this very copy. No server may
/// use either. Answers what is in the target, after comparing counts and checksums of every table.
pub async fn copy(
    from: &Config,
    to: &Config,
    progress: Progress<'_>,
) -> Result<Vec<TableCount>, Error> {
    let mut source = Side::source(from).await?;
    let mut target = Side::target(to).await?;
    let result = run(&mut source, &mut target, &name(from), progress).await;
    if let Side::Postgres(lease) = source {
        let mut lease = lease;
        lease.end(Ok(())).await?;
    }
    result
}

/// Fills an empty database from the file of a backup.
pub async fn restore(
    backup: &Path,
    to: &Config,
    progress: Progress<'_>,
) -> Result<Vec<TableCount>, Error> {
    if !backup.exists() {
        return Err(Error::Other(format!("{}: no such file", backup.display())));
    }
    copy(&Config::Sqlite(SqliteConfig::new(backup)), to, progress).await
}

/// A backup: everything that `source` sees in its snapshot, into a new file that is on the disk when this returns.
pub(crate) async fn to_file(
    source: &mut Lease,
    target: &Path,
    progress: Progress<'_>,
) -> Result<Vec<TableCount>, Error> {
    if target.exists() {
        return Err(Error::Conflict("the backup's file exists"));
    }
    let mut config = SqliteConfig::new(target);
    // Nothing of it counts before it is whole, and then it is flushed at once.
    config.synchronous = Synchronous::Off;
    let mut file = Side::target(&Config::Sqlite(config)).await?;
    let mut counts = Vec::new();
    for table in TABLES {
        let mut last = None;
        while let Some(rows) = postgres_next(source, table, &mut last).await? {
            file.write(table, rows).await?;
        }
    }
    let sequences = postgres_tables::sequences(source).await?;
    file.set_sequences(sequences).await?;
    counts.extend(file.counts(progress).await?);
    file.finish(target).await?;
    if counts != postgres_tables::counts(source, progress).await? {
        return Err(Error::Corrupt(
            "the backup differs from what it was made of".into(),
        ));
    }
    Ok(counts)
}

async fn postgres_next(
    source: &mut Lease,
    table: &'static Table,
    last: &mut Option<Vec<Cell>>,
) -> Result<Option<Vec<Vec<Cell>>>, Error> {
    let rows = postgres_tables::batch(source, table, last.as_deref()).await?;
    *last = rows.last().cloned();
    Ok(Some(rows).filter(|rows| !rows.is_empty()))
}

/// How the mark names a database; without a password.
fn name(config: &Config) -> String {
    match config {
        Config::Sqlite(sqlite) => format!("sqlite {}", sqlite.path.display()),
        Config::Postgres(postgres) => {
            let tail = postgres
                .url
                .rsplit_once('@')
                .map_or(postgres.url.as_str(), |(_, tail)| tail);
            format!("postgres {tail}")
        }
    }
}

/// One end of a copy.
enum Side {
    /// `None` only while its work is under way on another thread.
    Sqlite(Option<Connection>),
    Postgres(Lease),
}

/// Runs blocking work on the side's connection.
async fn on<T: Send + 'static>(
    side: &mut Option<Connection>,
    work: impl FnOnce(&Connection) -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let connection = side
        .take()
        .ok_or_else(|| Error::Other("the copy was given up".into()))?;
    let run = move || {
        let result = work(&connection);
        (connection, result)
    };
    let (connection, result) = tokio::task::spawn_blocking(run)
        .await
        .map_err(|e| Error::Other(e.to_string()))?;
    *side = Some(connection);
    result
}

impl Side {
    async fn source(config: &Config) -> Result<Side, Error> {
        match config {
            Config::Sqlite(sqlite) => {
                let connection = open_to_read(&sqlite.path)?;
                if sqlite_migrate::version(&connection)? != sqlite_migrate::NEWEST {
                    return Err(Error::Other(
                        "the file was made by another version; start that version on it".into(),
                    ));
                }
                connection
                    .execute_batch("BEGIN")
                    .map_err(crate::sqlite::error)?;
                Ok(Side::Sqlite(Some(connection)))
            }
            Config::Postgres(postgres) => {
                let mut lease = Postgres::console(postgres).await?;
                if postgres_migrate::version(&mut lease).await? != postgres_migrate::NEWEST {
                    return Err(Error::Other(
                        "the database was made by another version; start that on it".into(),
                    ));
                }
                lease.begin_snapshot().await?;
                Ok(Side::Postgres(lease))
            }
        }
    }

    async fn target(config: &Config) -> Result<Side, Error> {
        match config {
            Config::Sqlite(sqlite) => {
                let mut connection = connect(sqlite, false)?;
                sqlite_migrate::run(&mut connection)?;
                Ok(Side::Sqlite(Some(connection)))
            }
            Config::Postgres(postgres) => {
                let mut lease = Postgres::console(postgres).await?;
                postgres_migrate::run(&mut lease).await?;
                Ok(Side::Postgres(lease))
            }
        }
    }

    async fn batch(
        &mut self,
        table: &'static Table,
        after: Option<Vec<Cell>>,
    ) -> Result<Vec<Vec<Cell>>, Error> {
        match self {
            Side::Sqlite(side) => {
                on(side, move |c| {
                    sqlite_tables::batch(c, table, after.as_deref())
                })
                .await
            }
            Side::Postgres(lease) => postgres_tables::batch(lease, table, after.as_deref()).await,
        }
    }

    async fn last_key(&mut self, table: &'static Table) -> Result<Option<Vec<Cell>>, Error> {
        match self {
            Side::Sqlite(side) => on(side, move |c| sqlite_tables::last_key(c, table)).await,
            Side::Postgres(lease) => postgres_tables::last_key(lease, table).await,
        }
    }

    async fn write(&mut self, table: &'static Table, rows: Vec<Vec<Cell>>) -> Result<(), Error> {
        match self {
            Side::Sqlite(side) => on(side, move |c| sqlite_tables::write(c, table, &rows)).await,
            Side::Postgres(lease) => {
                lease.begin(Fence::single()).await?;
                let result = postgres_tables::write(lease, table, &rows).await;
                lease.end(result).await
            }
        }
    }

    async fn sequences(&mut self) -> Result<Vec<i64>, Error> {
        match self {
            Side::Sqlite(side) => on(side, sqlite_tables::sequences).await,
            Side::Postgres(lease) => postgres_tables::sequences(lease).await,
        }
    }

    async fn set_sequences(&mut self, greatest: Vec<i64>) -> Result<(), Error> {
        match self {
            Side::Sqlite(side) => {
                on(side, move |c| sqlite_tables::set_sequences(c, &greatest)).await
            }
            Side::Postgres(lease) => postgres_tables::set_sequences(lease, &greatest).await,
        }
    }

    async fn counts(&mut self, progress: Progress<'_>) -> Result<Vec<TableCount>, Error> {
        match self {
            Side::Sqlite(side) => {
                let counts = on(side, |c| sqlite_tables::counts(c, &|_, _| {})).await?;
                counts
                    .iter()
                    .for_each(|count| progress(&count.table, count.rows));
                Ok(counts)
            }
            Side::Postgres(lease) => postgres_tables::counts(lease, progress).await,
        }
    }

    /// The mark, as a row of `meta`; `None` removes it.
    async fn set_mark(&mut self, mark: Option<&str>) -> Result<(), Error> {
        if let Some(mark) = mark {
            let row = vec![
                Cell::Text(MARK.into()),
                Cell::Bytes(mark.as_bytes().to_vec()),
            ];
            return self.write(&TABLES[0], vec![row]).await;
        }
        match self {
            Side::Sqlite(side) => on(side, |c| {
                crate::sqlite::execute(c, "DELETE FROM meta WHERE key = ?1", [MARK])
            })
            .await
            .map(drop),
            Side::Postgres(lease) => lease
                .execute(sqlx::query("DELETE FROM meta WHERE key = $1").bind(MARK))
                .await
                .map(drop),
        }
    }

    /// Leaves one file that is on the disk.
    async fn finish(self, path: &Path) -> Result<(), Error> {
        if let Side::Sqlite(Some(connection)) = self {
            connection
                .execute_batch("PRAGMA journal_mode = DELETE")
                .map_err(crate::sqlite::error)?;
            drop(connection);
            let synced = std::fs::File::open(path).and_then(|file| file.sync_all());
            synced.map_err(|e| Error::Other(e.to_string()))?;
        }
        Ok(())
    }
}

/// True where the target holds a part of this copy; `Conflict` where it holds anything else.
async fn check_target(target: &mut Side, from: &str) -> Result<(), Error> {
    let mark = target
        .batch(&TABLES[0], None)
        .await?
        .into_iter()
        .find_map(|row| match row.as_slice() {
            [Cell::Text(key), Cell::Bytes(value)] if key == MARK => Some(value.clone()),
            _ => None,
        });
    match mark {
        Some(mark) if mark == from.as_bytes() => return Ok(()),
        Some(_) => return Err(Error::Conflict("the target holds a part of another copy")),
        None => {}
    }
    for table in TABLES.iter().filter(|table| table.name != "meta") {
        if target.last_key(table).await?.is_some() {
            return Err(Error::Conflict("the target is not empty"));
        }
    }
    Ok(())
}

async fn run(
    source: &mut Side,
    target: &mut Side,
    from: &str,
    progress: Progress<'_>,
) -> Result<Vec<TableCount>, Error> {
    check_target(target, from).await?;
    target.set_mark(Some(from)).await?;
    for table in TABLES {
        // The server's own values are few and may be there already: they are written again.
        let mut last = if table.name == "meta" {
            None
        } else {
            target.last_key(table).await?
        };
        let mut copied = 0;
        loop {
            let rows = source.batch(table, last.clone()).await?;
            let full = rows.len() == BATCH_ROWS;
            copied += rows.len() as u64;
            last = rows.last().cloned();
            if !rows.is_empty() {
                target.write(table, rows).await?;
            }
            progress(table.name, copied);
            if !full {
                break;
            }
        }
    }
    let sequences = source.sequences().await?;
    target.set_sequences(sequences).await?;
    target.set_mark(None).await?;
    let (there, here) = (
        source.counts(progress).await?,
        target.counts(progress).await?,
    );
    if there != here {
        let wrong: Vec<_> = there
            .iter()
            .zip(&here)
            .filter(|(a, b)| a != b)
            .map(|(a, _)| a.table.as_str())
            .collect();
        return Err(Error::Corrupt(format!(
            "the copy differs in {}",
            wrong.join(", ")
        )));
    }
    Ok(here)
}
