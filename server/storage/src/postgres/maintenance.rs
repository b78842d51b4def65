//! Server values, checks, partitions, counts on PostgreSQL.

use std::path::Path;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use sqlx::AssertSqlSafe;

use super::accounts::remove_step;
use super::describe::describe;
use super::pool::Lease;
use super::statement::month_of;
use super::{Postgres, get, scalar, tables};
use crate::{
    AccountId, Description, Error, Fence, Maintenance, PoolState, Progress, TableCount, Timestamp,
};

/// Rows deleted in one transaction of a sweep.
const SWEEP_STEP_ROWS: i64 = 1000;
/// Work of the console ends after this long.
pub(super) const CONSOLE_DEADLINE: Duration = Duration::from_secs(12 * 3600);

impl Postgres {
    /// Connections that all pools together may open.
    pub(super) fn connections_wanted(&self) -> u32 {
        let config = &self.config;
        let archive = if self.reader.is_some() { 2 } else { 1 } * config.archive_connections;
        // The writer's, and one for a backup.
        config.login_connections + archive + config.console_connections + 2
    }
}

#[async_trait]
impl Maintenance for Postgres {
    async fn meta_get(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        scalar(
            self.optional(sqlx::query("SELECT value FROM meta WHERE key = $1").bind(key))
                .await?,
        )
    }

    async fn meta_init(&self, fence: Fence, key: &str, value: &[u8]) -> Result<Vec<u8>, Error> {
        let sql = "INSERT INTO meta (key, value) VALUES ($1, $2) ON CONFLICT (key) DO NOTHING";
        self.write(fence, sqlx::query(sql).bind(key).bind(value))
            .await?;
        self.meta_get(key)
            .await?
            .ok_or_else(|| Error::Other("a value vanished".into()))
    }

    async fn meta_set(&self, fence: Fence, key: &str, value: &[u8]) -> Result<(), Error> {
        let sql = "INSERT INTO meta (key, value) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = excluded.value";
        self.write(fence, sqlx::query(sql).bind(key).bind(value))
            .await
            .map(drop)
    }

    async fn ping(&self) -> Result<u64, Error> {
        let mut lease = self.login.acquire().await?;
        let start = Instant::now();
        lease.optional(sqlx::query("SELECT 1")).await?;
        Ok(start.elapsed().as_micros() as u64)
    }

    async fn describe(&self) -> Result<Description, Error> {
        let latency_us = self.ping().await?;
        describe(self, &mut self.console.acquire().await?, latency_us).await
    }

    fn pools(&self) -> Vec<PoolState> {
        let mut pools = vec![
            self.writer.state(),
            self.login.state(),
            self.archive.state(),
            self.console.state(),
        ];
        pools.extend(self.reader.as_ref().map(|reader| reader.state()));
        pools
    }

    async fn claim(&self) -> Result<(), Error> {
        self.writer.claim().await
    }

    async fn fence_register(&self, token: i64) -> Result<(), Error> {
        let sql = "INSERT INTO member_fence (token) VALUES ($1) ON CONFLICT DO NOTHING";
        self.write(Fence::single(), sqlx::query(sql).bind(token))
            .await
            .map(drop)
    }

    async fn fence_kill(&self, token: i64) -> Result<(), Error> {
        let sql = "INSERT INTO member_fence (token, dead) VALUES ($1, 1) ON CONFLICT (token) DO UPDATE SET dead = 1";
        self.write(Fence::single(), sqlx::query(sql).bind(token))
            .await
            .map(drop)
    }

    async fn prepare_ahead(&self, now: Timestamp) -> Result<(), Error> {
        let month = month_of(now);
        for month in [month, month + 1] {
            for table in ["message", "archive"] {
                self.make_partition(table, month).await?;
            }
        }
        Ok(())
    }

    async fn sweep(&self, fence: Fence, resend_keys_before: Timestamp) -> Result<u64, Error> {
        let mut lease = self.console.acquire().await?;
        lease.begin(fence).await?;
        let result = sweep(&mut lease, resend_keys_before).await;
        lease.end(result).await
    }

    async fn account_ids(&self, after: AccountId, limit: u32) -> Result<Vec<AccountId>, Error> {
        let sql = "SELECT id FROM account WHERE id > $1 ORDER BY id LIMIT $2";
        let rows = self
            .all(sqlx::query(sql).bind(after.0).bind(i64::from(limit)))
            .await?;
        rows.iter().map(|row| Ok(AccountId(get(row, 0)?))).collect()
    }

    async fn backup(
        &self,
        target: &Path,
        progress: Progress<'_>,
    ) -> Result<Vec<TableCount>, Error> {
        let mut lease = Postgres::console(&self.config).await?;
        lease.begin_snapshot().await?;
        let result = crate::copy::to_file(&mut lease, target, progress).await;
        lease.end(result).await
    }

    async fn counts(&self, progress: Progress<'_>) -> Result<Vec<TableCount>, Error> {
        let mut lease = Postgres::console(&self.config).await?;
        lease.begin_snapshot().await?;
        let result = tables::counts(&mut lease, progress).await;
        lease.end(result).await
    }

    async fn close(&self) {
        self.writer.close().await;
        for pool in [&self.login, &self.archive, &self.console]
            .into_iter()
            .chain(&self.reader)
        {
            pool.close().await;
        }
    }
}

impl Postgres {
    /// Rows of a month that nobody prepared lie in the default partition; that month then stays there.
    async fn make_partition(&self, table: &'static str, month: i32) -> Result<(), Error> {
        let name = format!("{table}_{:04}_{:02}", month / 12, month % 12 + 1);
        let there = "SELECT to_regclass($1) IS NOT NULL
                     OR EXISTS (SELECT 1 FROM archive_default WHERE month = $2)
                     OR EXISTS (SELECT 1 FROM message_default WHERE month = $2)";
        let mut lease = self.console.acquire().await?;
        if scalar::<bool>(
            lease
                .optional(sqlx::query(there).bind(&name).bind(month))
                .await?,
        )? == Some(true)
        {
            return Ok(());
        }
        // The lock on the default partition must not queue the archive's writer behind a long reader; made apart, the new
        // one locks nothing else. All or nothing: one script is one transaction.
        let sql = format!(
            "SET lock_timeout = '1s'; CREATE TABLE {name} (LIKE {table});
             ALTER TABLE {table} ATTACH PARTITION {name} FOR VALUES FROM ({month}) TO ({}); RESET lock_timeout",
            month + 1
        );
        lease.script(AssertSqlSafe(sql)).await
    }
}

async fn sweep(lease: &mut Lease, resend_keys_before: Timestamp) -> Result<u64, Error> {
    let sql = "DELETE FROM resend_key WHERE (account, at, key) IN
               (SELECT account, at, key FROM resend_key WHERE at < $1 LIMIT $2)";
    let mut gone = lease
        .execute(
            sqlx::query(sql)
                .bind(resend_keys_before.0)
                .bind(SWEEP_STEP_ROWS),
        )
        .await?;
    let sql = "WITH d AS (DELETE FROM message WHERE (id, month) IN
               (SELECT id, month FROM message WHERE owners <= 0 LIMIT $1) RETURNING id),
               t AS (DELETE FROM message_text t USING d WHERE t.message = d.id)
               SELECT count(*) FROM d";
    let swept = lease
        .optional(sqlx::query(sql).bind(SWEEP_STEP_ROWS))
        .await?;
    gone += scalar::<i64>(swept)?.unwrap_or(0) as u64;
    let sql = "SELECT id FROM removed_account ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED";
    if let Some(id) = scalar(lease.optional(sqlx::query(sql)).await?)? {
        gone += remove_step(lease, AccountId(id)).await?;
    }
    Ok(gone)
}
