//! Server values, checks, backup on SQLite.

use std::path::Path;
use std::time::Instant;

use async_trait::async_trait;
use rusqlite::{Connection, OpenFlags, params};

use super::accounts::remove_step;
use super::{Sqlite, all, error, execute, migrate, optional, tables};
use crate::backup_file::BackupFile;
use crate::{
    AccountId, Description, Error, Fence, Finding, Maintenance, PoolState, Progress, TableCount,
    Timestamp,
};

/// Pages copied by an online backup before others get their turn.
const BACKUP_STEP_PAGES: std::ffi::c_int = 512;
/// Resend keys deleted in one transaction.
const SWEEP_STEP_ROWS: u32 = 1000;
const SWEEP_RESEND_KEYS: &str = "DELETE FROM resend_key WHERE (account, at, key) IN
     (SELECT account, at, key FROM resend_key WHERE at < ?1 LIMIT ?2)";

#[async_trait]
impl Maintenance for Sqlite {
    async fn meta_get(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        let key = key.to_owned();
        self.read(move |c| {
            optional(c, "SELECT value FROM meta WHERE key = ?1", [key], |row| {
                row.get(0)
            })
        })
        .await
    }

    async fn meta_init(&self, fence: Fence, key: &str, value: &[u8]) -> Result<Vec<u8>, Error> {
        let (key, value) = (key.to_owned(), value.to_vec());
        self.write(fence, move |connection| {
            let sql = "INSERT INTO meta (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO NOTHING";
            execute(connection, sql, params![key, value])?;
            let stored = optional(
                connection,
                "SELECT value FROM meta WHERE key = ?1",
                [key],
                |row| row.get(0),
            )?;
            Ok(stored.unwrap_or(value))
        })
        .await
    }

    async fn meta_set(&self, fence: Fence, key: &str, value: &[u8]) -> Result<(), Error> {
        let (key, value) = (key.to_owned(), value.to_vec());
        let sql = "INSERT INTO meta (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = excluded.value";
        self.write(fence, move |c| {
            execute(c, sql, params![key, value]).map(drop)
        })
        .await
    }

    async fn ping(&self) -> Result<u64, Error> {
        let start = Instant::now();
        self.read(|c| optional(c, "SELECT 1", [], |row| row.get::<_, i64>(0)))
            .await?;
        Ok(start.elapsed().as_micros() as u64)
    }

    async fn describe(&self) -> Result<Description, Error> {
        let latency_us = self.ping().await?;
        let path = self.config.path.clone();
        let connections_wanted = self.login.count + self.archive.count + 1;
        // The writer's own settings count: readers do not commit.
        let settings = self.write(Fence::single(), settings).await?;
        self.read(move |connection| {
            describe(connection, &path, settings, connections_wanted, latency_us)
        })
        .await
    }

    fn pools(&self) -> Vec<PoolState> {
        vec![
            PoolState {
                name: "writer",
                connections_max: 1,
                connections_open: 1,
                in_use: u32::from(self.writer.waiting() > 0),
                waiting: self.writer.waiting(),
            },
            self.login.state("login"),
            self.archive.state("archive"),
        ]
    }

    /// A file in the data directory belongs to whoever holds that.
    async fn claim(&self) -> Result<(), Error> {
        Ok(())
    }

    async fn fence_register(&self, token: i64) -> Result<(), Error> {
        let sql = "INSERT INTO member_fence (token) VALUES (?1) ON CONFLICT DO NOTHING";
        self.write(Fence::single(), move |c| execute(c, sql, [token]).map(drop))
            .await
    }

    async fn fence_kill(&self, token: i64) -> Result<(), Error> {
        let sql = "INSERT INTO member_fence (token, dead) VALUES (?1, 1) ON CONFLICT (token) DO UPDATE SET dead = 1";
        self.write(Fence::single(), move |c| execute(c, sql, [token]).map(drop))
            .await
    }

    async fn prepare_ahead(&self, _now: Timestamp) -> Result<(), Error> {
        Ok(())
    }

    async fn sweep(&self, fence: Fence, resend_keys_before: Timestamp) -> Result<u64, Error> {
        self.write(fence, move |connection| {
            let mut gone = execute(
                connection,
                SWEEP_RESEND_KEYS,
                params![resend_keys_before.0, SWEEP_STEP_ROWS],
            )? as u64;
            let removed: Option<i64> = optional(
                connection,
                "SELECT id FROM removed_account LIMIT 1",
                [],
                |row| row.get(0),
            )?;
            if let Some(id) = removed {
                gone += remove_step(connection, AccountId(id))?;
            }
            Ok(gone)
        })
        .await
    }

    async fn account_ids(&self, after: AccountId, limit: u32) -> Result<Vec<AccountId>, Error> {
        let sql = "SELECT id FROM account WHERE id > ?1 ORDER BY id LIMIT ?2";
        self.read(move |c| {
            all(c, sql, params![after.0, limit], |row| {
                Ok(AccountId(row.get(0)?))
            })
        })
        .await
    }

    async fn backup(
        &self,
        target: &Path,
        progress: Progress<'_>,
    ) -> Result<Vec<TableCount>, Error> {
        let (path, target) = (self.config.path.clone(), target.to_owned());
        blocking(progress, move |progress| backup(&path, &target, progress)).await
    }

    async fn counts(&self, progress: Progress<'_>) -> Result<Vec<TableCount>, Error> {
        let path = self.config.path.clone();
        blocking(progress, move |progress| counts_of(&path, progress)).await
    }

    async fn close(&self) {
        self.login.close().await;
        self.archive.close().await;
        self.writer.close().await;
    }
}

fn settings(connection: &Connection) -> Result<(String, i64), Error> {
    let journal: String = connection
        .pragma_query_value(None, "journal_mode", |row| row.get(0))
        .map_err(error)?;
    let synchronous: i64 = connection
        .pragma_query_value(None, "synchronous", |row| row.get(0))
        .map_err(error)?;
    Ok((journal, synchronous))
}

fn describe(
    connection: &Connection,
    path: &Path,
    (journal, synchronous): (String, i64),
    connections_wanted: u32,
    latency_us: u64,
) -> Result<Description, Error> {
    let encoding = connection
        .pragma_query_value(None, "encoding", |row| row.get(0))
        .map_err(error)?;
    let durable = synchronous >= 2 && journal.eq_ignore_ascii_case("wal");
    let name = ["off", "normal", "full", "extra"]
        .get(synchronous as usize)
        .copied()
        .unwrap_or("unknown");
    let read_only = std::fs::metadata(path).is_ok_and(|meta| meta.permissions().readonly());
    let mut findings = Vec::new();
    if !durable {
        findings.push(Finding {
            problem: format!("SQLite runs with synchronous={name}, journal_mode={journal}"),
            effect: "a power cut loses messages that were acknowledged".into(),
            remedy: "remove the setting that weakens it; the default is synchronous=FULL".into(),
        });
    }
    let size = |suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        std::fs::metadata(name).map_or(0, |meta| meta.len())
    };
    Ok(Description {
        engine: "sqlite",
        version: rusqlite::version().to_owned(),
        encoding,
        schema_version: migrate::version(connection)?,
        schema_expected: migrate::NEWEST,
        durability: vec![
            ("synchronous".into(), name.into()),
            ("journal_mode".into(), journal),
        ],
        durable,
        survives_primary: false,
        read_only,
        connections_max: None,
        connections_wanted,
        size_bytes: size("") + size("-wal"),
        latency_us,
        findings,
    })
}

/// SQLite's online backup into a new file, then counted from that file.
fn backup(path: &Path, target: &Path, progress: Progress<'_>) -> Result<Vec<TableCount>, Error> {
    let file = BackupFile::new(target)?;
    let source = open_to_read(path)?;
    // Held open: otherwise each write meanwhile would start the backup over.
    source
        .execute_batch("BEGIN; SELECT count(*) FROM meta")
        .map_err(error)?;
    let mut copy = Connection::open(file.path()).map_err(error)?;
    {
        let backup = rusqlite::backup::Backup::new(&source, &mut copy).map_err(error)?;
        loop {
            let step = backup.step(BACKUP_STEP_PAGES).map_err(error)?;
            let pages = backup.progress();
            progress(
                "pages",
                u64::from(
                    pages
                        .pagecount
                        .saturating_sub(pages.remaining)
                        .unsigned_abs(),
                ),
            );
            if step == rusqlite::backup::StepResult::Done {
                break;
            }
        }
    }
    // The copy carries WAL mode in its header; a single file is easier to move.
    copy.execute_batch("PRAGMA journal_mode = DELETE")
        .map_err(error)?;
    let intact: String = copy
        .pragma_query_value(None, "integrity_check", |row| row.get(0))
        .map_err(error)?;
    if intact != "ok" {
        return Err(Error::Corrupt(format!(
            "the backup fails its check: {intact}"
        )));
    }
    drop(copy);
    let written = counts_of(file.path(), progress)?;
    let original = tables::counts(&source, progress)?;
    if written != original {
        return Err(Error::Corrupt(
            "the backup differs from what it was made of".into(),
        ));
    }
    file.finish()?;
    Ok(written)
}

/// A second connection to the file, which only reads.
pub(crate) fn open_to_read(path: &Path) -> Result<Connection, Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(path, flags).map_err(error)
}

/// Runs blocking work that reports progress; the caller's function is called on the caller's side.
async fn blocking<T: Send + 'static>(
    progress: Progress<'_>,
    work: impl FnOnce(Progress<'_>) -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let (sender, mut told) = tokio::sync::mpsc::unbounded_channel();
    let done = tokio::task::spawn_blocking(move || {
        work(&move |table: &str, rows| drop(sender.send((table.to_owned(), rows))))
    });
    while let Some((table, rows)) = told.recv().await {
        progress(&table, rows);
    }
    done.await.map_err(|e| Error::Other(e.to_string()))?
}

/// Counts of a database file, all of one moment.
fn counts_of(path: &Path, progress: Progress<'_>) -> Result<Vec<TableCount>, Error> {
    let connection = open_to_read(path)?;
    connection.execute_batch("BEGIN").map_err(error)?;
    tables::counts(&connection, progress)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A day's keys may be millions, and this is done every minute, by the thread that writes.
    #[test]
    fn old_resend_keys_are_found_without_reading_all() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate::run(&mut connection).unwrap();
        let plan: Vec<String> = all(
            &connection,
            &format!("EXPLAIN QUERY PLAN {SWEEP_RESEND_KEYS}"),
            params![0, 1],
            |row| row.get("detail"),
        )
        .unwrap();
        assert!(
            plan.iter().all(|step| !step.starts_with("SCAN")),
            "{plan:?}"
        );
    }
}
