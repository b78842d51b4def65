//! Copies of a whole database between engines, table by table in key order, so that an interrupted copy goes on where it
//! stopped. A backup of PostgreSQL is a copy into an SQLite file; restoring is a copy out of one.

use std::path::Path;

use rusqlite::Connection;

use crate::backup_file::BackupFile;
use crate::postgres::pool::Lease;
use crate::postgres::{Postgres, migrate as postgres_migrate, tables as postgres_tables};
use crate::sqlite::maintenance::open_to_read;
use crate::sqlite::{Use, connect, migrate as sqlite_migrate, tables as sqlite_tables};
use crate::tables::{Cell, TABLES, Table, row_digest};
use crate::{Config, Error, Fence, Progress, SqliteConfig, Synchronous, TableCount};

/// Where the target remembers, until the copy is done, what it is a copy of. No server opens a database that has it.
pub(crate) const MARK: &str = "copied_from";

/// Versions whose tables are those of [`TABLES`].
const READABLE: std::ops::RangeInclusive<i64> = 2..=postgres_migrate::NEWEST;
const _: () = assert!(postgres_migrate::NEWEST == sqlite_migrate::NEWEST);

/// How far a restored database skips ahead in what clients have seen. After its backup the old database gave positions
/// and roster versions of which this one knows nothing; they must not be given again for something else.
const SKIPPED: i64 = 1 << 32;

/// Copies everything from one database to another, which must be empty or hold a part of this very copy. No server may
/// use either. Answers what is in the target, after comparing counts and checksums of every table.
pub async fn copy(
    from: &Config,
    to: &Config,
    progress: Progress<'_>,
) -> Result<Vec<TableCount>, Error> {
    fill(from, to, progress, &[]).await
}

async fn fill(
    from: &Config,
    to: &Config,
    progress: Progress<'_>,
    afterwards: &[String],
) -> Result<Vec<TableCount>, Error> {
    let mut source = Side::source(from).await?;
    let mut target = Side::target(to).await?;
    let mark = name(from);
    let result = run(&mut source, &mut target, &mark, progress).await;
    if let Side::Postgres(mut lease) = source {
        lease.end(Ok(())).await?;
    }
    let counts = result?;
    target.finish_copy(afterwards).await?;
    Ok(counts)
}

/// Fills an empty database from the file of a backup. Archives and rosters go on far above what the backup knows.
pub async fn restore(
    backup: &Path,
    to: &Config,
    progress: Progress<'_>,
) -> Result<Vec<TableCount>, Error> {
    if !backup.exists() {
        return Err(Error::Other(format!("{}: no such file", backup.display())));
    }
    let skip = [
        format!(
            "UPDATE archive_owner SET pos_floor = {SKIPPED} + CASE WHEN pos_floor > acked_up_to THEN pos_floor ELSE acked_up_to END"
        ),
        format!(
            "UPDATE account SET roster_version = roster_version + {SKIPPED}, roster_floor = roster_version + {SKIPPED}"
        ),
    ];
    let from = Config::Sqlite(SqliteConfig::new(backup));
    fill(&from, to, progress, &skip).await
}

/// A backup: everything that `source` sees in its snapshot, into a new file that is on the disk when this returns.
pub(crate) async fn to_file(
    source: &mut Lease,
    target: &Path,
    progress: Progress<'_>,
) -> Result<Vec<TableCount>, Error> {
    let backup = BackupFile::new(target)?;
    let mut config = SqliteConfig::new(backup.path());
    // Nothing of it counts before it is whole, and then it is flushed at once.
    config.synchronous = Synchronous::Off;
    let mut file = Side::target(&Config::Sqlite(config)).await?;
    for table in TABLES {
        let (mut last, mut copied) = (None, 0);
        while let Some(rows) = postgres_next(source, table, &mut last).await? {
            copied += rows.len() as u64;
            file.write(table, rows).await?;
            progress(table.name, copied);
        }
    }
    let sequences = postgres_tables::sequences(source).await?;
    file.set_sequences(sequences).await?;
    let counts = file.counts(progress).await?;
    file.close()?;
    if counts != postgres_tables::counts(source, progress).await? {
        return Err(Error::Corrupt(
            "the backup differs from what it was made of".into(),
        ));
    }
    backup.finish()?;
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
                if !READABLE.contains(&sqlite_migrate::version(&connection)?) {
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
                if !READABLE.contains(&postgres_migrate::version(&mut lease).await?) {
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
                let mut connection = connect(sqlite, Use::Write)?;
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

    async fn set_mark(&mut self, mark: &str) -> Result<(), Error> {
        self.write(&TABLES[0], vec![mark_row(mark)]).await
    }

    /// Removes the mark, and does the rest, in one transaction.
    async fn finish_copy(&mut self, rest: &[String]) -> Result<(), Error> {
        let unmark = format!("DELETE FROM meta WHERE key = '{MARK}'");
        let statements: Vec<_> = rest.iter().cloned().chain([unmark]).collect();
        match self {
            Side::Sqlite(side) => {
                let all = format!("BEGIN; {}; COMMIT", statements.join("; "));
                on(side, move |c| {
                    c.execute_batch(&all).map_err(crate::sqlite::error)
                })
                .await
            }
            Side::Postgres(lease) => {
                lease.begin(Fence::single()).await?;
                let mut result = Ok(());
                for statement in statements {
                    if result.is_ok() {
                        let statement = sqlx::query(sqlx::AssertSqlSafe(statement));
                        result = lease.execute(statement).await.map(drop);
                    }
                }
                lease.end(result).await
            }
        }
    }

    /// Leaves one file without a log beside it.
    fn close(self) -> Result<(), Error> {
        match self {
            Side::Sqlite(Some(connection)) => connection
                .execute_batch("PRAGMA journal_mode = DELETE")
                .map_err(crate::sqlite::error),
            _ => Ok(()),
        }
    }
}

fn mark_row(mark: &str) -> Vec<Cell> {
    vec![
        Cell::Text(MARK.into()),
        Cell::Bytes(mark.as_bytes().to_vec()),
    ]
}

/// What is in a target that still has its mark, without it.
fn without_mark(mut counts: Vec<TableCount>, mark: &str) -> Vec<TableCount> {
    let meta = counts
        .iter_mut()
        .filter(|count| count.table == TABLES[0].name);
    for meta in meta {
        meta.rows -= 1;
        meta.checksum = meta.checksum.wrapping_sub(row_digest(&mark_row(mark)));
    }
    counts
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
    target.set_mark(from).await?;
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
            if rows.is_empty() {
                break;
            }
            copied += rows.len() as u64;
            last = rows.last().cloned();
            target.write(table, rows).await?;
            progress(table.name, copied);
        }
    }
    let sequences = source.sequences().await?;
    target.set_sequences(sequences).await?;
    let there = source.counts(progress).await?;
    let here = without_mark(target.counts(progress).await?, from);
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
