//! XEP-0313 on PostgreSQL.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgRow;
use tokio::time::{Instant, timeout};

use super::accounts::delete_rows;
use super::pool::{Lease, Pool};
use super::{Postgres, archive_query, get, scalar};
use crate::{
    AccountId, Archive, ArchiveFilter, ArchiveMetadata, ArchivePage, Commit, CommitError, DebtPage,
    DebtTotals, Error, Fence, Forgotten, Keep, PageRequest, PosRange, Position, ResendKey,
    Retained, SentRow, Timestamp, Unknown, Watermark,
};

const LAST_POSITION: &str = "SELECT greatest(pos_floor, acked_up_to,
    (SELECT max(pos) FROM archive WHERE owner = $1)) FROM archive_owner WHERE owner = $1";

/// How long a page waits for the reader, and how long none asks it after it failed.
const READER_PATIENCE: Duration = Duration::from_millis(500);
const READER_PAUSE: Duration = Duration::from_secs(10);

/// Accounts looked at in one step of forgetting what is paid.
const FORGET_STEP_ACCOUNTS: usize = 64;

impl Postgres {
    /// A connection for an archive page: the reader's where it is fresh enough for this owner, else the primary's.
    async fn page_connection(&self, owner: AccountId) -> Result<Lease, Error> {
        if let Some(reader) = self.reader.as_ref().filter(|_| self.reader_may_answer()) {
            let sql = format!("SELECT ({LAST_POSITION}), pg_current_wal_lsn()::text");
            let statement = sqlx::query(AssertSqlSafe(sql)).bind(owner.0);
            if let Some(row) = self.optional(statement).await? {
                match timeout(READER_PATIENCE, self.fresh_reader(reader, owner, &row)).await {
                    Ok(Ok(Some(lease))) => return Ok(lease),
                    Ok(Ok(None)) => {}
                    // As good as one that is behind; and not every page is to wait for it.
                    Ok(Err(_)) | Err(_) => *self.reader_failed.lock() = Some(Instant::now()),
                }
            }
        }
        self.archive.acquire().await
    }

    fn reader_may_answer(&self) -> bool {
        let failed = *self.reader_failed.lock();
        failed.is_none_or(|at| at.elapsed() >= READER_PAUSE)
    }

    /// A connection to the reader if it has this owner's newest row, and besides (deletions and tombstones show no newer
    /// row) everything that the primary had written, or all that is older than the bound. An idle primary sends nothing.
    async fn fresh_reader(
        &self,
        reader: &Arc<Pool>,
        owner: AccountId,
        primary: &PgRow,
    ) -> Result<Option<Lease>, Error> {
        let (newest, written): (Option<i64>, String) = (get(primary, 0)?, get(primary, 1)?);
        let mut lease = reader.acquire().await?;
        let sql = format!(
            "SELECT ({LAST_POSITION}) IS NOT DISTINCT FROM $2 AND (pg_last_wal_replay_lsn() >= $3::pg_lsn
             OR now() - pg_last_xact_replay_timestamp() <= $4 * interval '1 millisecond')"
        );
        let statement = sqlx::query(AssertSqlSafe(sql))
            .bind(owner.0)
            .bind(newest)
            .bind(written)
            .bind(self.config.reader_staleness_max.as_millis() as f64);
        let fresh = scalar::<Option<bool>>(lease.optional(statement).await?)?;
        Ok((fresh.flatten() == Some(true)).then_some(lease))
    }
}

#[async_trait]
impl Archive for Postgres {
    async fn archive_commit(&self, commit: Commit) -> Result<Vec<Position>, CommitError> {
        self.writer.commit(commit).await
    }

    async fn archive_resolve(&self, unknown: &Unknown) -> Result<Option<Vec<Position>>, Error> {
        self.writer.resolve(unknown)
    }

    async fn archive_debts(
        &self,
        owner: AccountId,
        after: Position,
        limit: u32,
        bytes_max: u64,
    ) -> Result<DebtPage, Error> {
        let mut lease = self.login.acquire().await?;
        archive_query::debts(&mut lease, owner, after, limit, bytes_max).await
    }

    async fn archive_debt_total(
        &self,
        owner: AccountId,
        rows_max: u32,
    ) -> Result<DebtTotals, Error> {
        archive_query::debt_total(&mut self.login.acquire().await?, owner, rows_max).await
    }

    async fn archive_watermark(&self, owner: AccountId) -> Result<Watermark, Error> {
        archive_query::watermark(&mut self.login.acquire().await?, owner).await
    }

    async fn archive_last_position(&self, owner: AccountId) -> Result<Position, Error> {
        let row = self
            .optional(sqlx::query(LAST_POSITION).bind(owner.0))
            .await?;
        Ok(Position(scalar(row)?.unwrap_or(0)))
    }

    async fn archive_query(
        &self,
        owner: AccountId,
        filter: &ArchiveFilter,
        page: &PageRequest,
    ) -> Result<ArchivePage, Error> {
        let mut lease = self.page_connection(owner).await?;
        archive_query::page(&mut lease, owner, filter, page).await
    }

    async fn archive_exists(
        &self,
        owner: AccountId,
        positions: &[Position],
    ) -> Result<Vec<bool>, Error> {
        let asked: Vec<_> = positions.iter().map(|pos| pos.0).collect();
        let sql = "SELECT pos FROM archive WHERE owner = $1 AND pos = ANY ($2) AND flags & 1 = 1";
        let mut lease = self.archive.acquire().await?;
        let rows = lease
            .all(sqlx::query(sql).bind(owner.0).bind(asked))
            .await?;
        let there = rows
            .iter()
            .map(|row| get::<i64>(row, 0))
            .collect::<Result<Vec<_>, Error>>()?;
        Ok(positions.iter().map(|pos| there.contains(&pos.0)).collect())
    }

    async fn archive_metadata(&self, owner: AccountId) -> Result<ArchiveMetadata, Error> {
        let first =
            "SELECT pos, at FROM archive WHERE owner = $1 AND flags & 1 = 1 ORDER BY pos LIMIT 1";
        let last = "SELECT pos, at FROM archive WHERE owner = $1 AND flags & 1 = 1 ORDER BY pos DESC LIMIT 1";
        let mut lease = self.page_connection(owner).await?;
        let mut ends = [None, None];
        for (end, sql) in ends.iter_mut().zip([first, last]) {
            if let Some(row) = lease.optional(sqlx::query(sql).bind(owner.0)).await? {
                *end = Some((Position(get(&row, 0)?), Timestamp(get(&row, 1)?)));
            }
        }
        Ok(ArchiveMetadata {
            first: ends[0],
            last: ends[1],
        })
    }

    async fn archive_replace(
        &self,
        fence: Fence,
        owner: AccountId,
        pos: Position,
        bytes: &[u8],
    ) -> Result<bool, Error> {
        let mut lease = self.begin(fence).await?;
        let result = replace(&mut lease, owner, pos, bytes).await;
        lease.end(result).await
    }

    async fn archive_retain(
        &self,
        fence: Fence,
        owner: AccountId,
        keep: Keep,
        limit: u32,
    ) -> Result<Retained, Error> {
        let mut lease = self.console.acquire().await?;
        lease.begin(fence).await?;
        let result = retain(&mut lease, owner, keep, limit).await;
        lease.end(result).await
    }

    async fn archive_forget_paid(
        &self,
        fence: Fence,
        from: AccountId,
        limit: u32,
    ) -> Result<Forgotten, Error> {
        let mut lease = self.console.acquire().await?;
        lease.begin(fence).await?;
        let result = forget_paid(&mut lease, from, limit).await;
        lease.end(result).await
    }

    async fn archive_recent_sent(
        &self,
        owner: AccountId,
        limit: u32,
        bytes_max: u64,
        not_before: Timestamp,
    ) -> Result<Vec<SentRow>, Error> {
        let mut lease = self.login.acquire().await?;
        let first = archive_query::first_at_or_after(&mut lease, owner, not_before).await?;
        let bytes_max = i64::try_from(bytes_max).unwrap_or(i64::MAX);
        let sql = "SELECT a.pos, a.at, a.peer, a.peer_resource, coalesce(a.own_bytes, m.bytes, '') FROM
                   (SELECT s.*, sum(s.size) OVER (ORDER BY s.pos DESC) AS total,
                    row_number() OVER (ORDER BY s.pos DESC) AS number FROM
                    (SELECT a.pos, a.month, octet_length(coalesce(a.own_bytes, m.bytes, ''))::bigint AS size
                     FROM archive a LEFT JOIN message m ON m.id = a.message AND m.month = a.month
                     WHERE a.owner = $1 AND a.pos >= $2 AND a.flags & 4 = 4 ORDER BY a.pos DESC LIMIT $3) s) f
                   JOIN archive a ON a.owner = $1 AND a.pos = f.pos AND a.month = f.month
                   LEFT JOIN message m ON m.id = a.message AND m.month = a.month
                   WHERE f.total <= $4 OR f.number = 1 ORDER BY a.pos DESC";
        let rows = lease
            .all(
                sqlx::query(sql)
                    .bind(owner.0)
                    .bind(first)
                    .bind(i64::from(limit))
                    .bind(bytes_max),
            )
            .await?;
        rows.iter()
            .map(|row| {
                let bytes: Vec<u8> = get(row, 4)?;
                Ok(SentRow {
                    pos: Position(get(row, 0)?),
                    at: Timestamp(get(row, 1)?),
                    peer: get(row, 2)?,
                    peer_resource: get(row, 3)?,
                    bytes: bytes.into(),
                })
            })
            .collect()
    }

    async fn archive_resend_keys(
        &self,
        account: AccountId,
        limit: u32,
        not_before: Timestamp,
    ) -> Result<Vec<ResendKey>, Error> {
        let sql = "SELECT at, key FROM resend_key WHERE account = $1 AND at >= $2 ORDER BY at DESC LIMIT $3";
        let rows = self
            .all(
                sqlx::query(sql)
                    .bind(account.0)
                    .bind(not_before.0)
                    .bind(i64::from(limit)),
            )
            .await?;
        rows.iter()
            .map(|row| {
                Ok(ResendKey {
                    account,
                    at: Timestamp(get(row, 0)?),
                    key: get(row, 1)?,
                })
            })
            .collect()
    }
}

async fn replace(
    lease: &mut Lease,
    owner: AccountId,
    pos: Position,
    bytes: &[u8],
) -> Result<bool, Error> {
    let sql = "SELECT month, message FROM archive WHERE owner = $1 AND pos = $2 FOR UPDATE";
    let Some(old) = lease
        .optional(sqlx::query(sql).bind(owner.0).bind(pos.0))
        .await?
    else {
        return Ok(false);
    };
    let (month, message): (i32, Option<i64>) = (get(&old, 0)?, get(&old, 1)?);
    let sql = "UPDATE archive SET own_bytes = $3, message = NULL WHERE owner = $1 AND pos = $2";
    lease
        .execute(sqlx::query(sql).bind(owner.0).bind(pos.0).bind(bytes))
        .await?;
    let sql = "UPDATE message SET owners = owners - 1 WHERE id = $1 AND month = $2";
    lease
        .execute(sqlx::query(sql).bind(message).bind(month))
        .await?;
    Ok(true)
}

async fn retain(
    lease: &mut Lease,
    owner: AccountId,
    keep: Keep,
    limit: u32,
) -> Result<Retained, Error> {
    // Rows below `end` go.
    let mut end = 0;
    if let Some(not_before) = keep.not_before {
        end = archive_query::first_at_or_after(lease, owner, not_before).await?;
    }
    if let Some(rows_max) = keep.rows_max {
        let sql = "SELECT pos FROM archive WHERE owner = $1 AND flags & 1 = 1 ORDER BY pos DESC LIMIT 1 OFFSET $2";
        let rows_max = i64::try_from(rows_max).unwrap_or(i64::MAX);
        let row = lease
            .optional(sqlx::query(sql).bind(owner.0).bind(rows_max))
            .await?;
        end = end.max(scalar::<i64>(row)?.map_or(0, |pos| pos + 1));
    }
    let watermark = archive_query::watermark(lease, owner).await?;
    let mut paid = watermark.acked_above;
    paid.push(PosRange {
        first: Position(0),
        last: watermark.acked_up_to,
    });
    let condition = "pos < $2 AND flags & 1 = 1 AND (flags & 2 = 0 OR EXISTS
         (SELECT 1 FROM unnest($3::bigint[], $4::bigint[]) r (first, last) WHERE pos BETWEEN r.first AND r.last))";
    let (gone, last) = delete_rows(lease, owner, condition, end, &paid, i64::from(limit)).await?;
    if gone > 0 {
        let sql = "UPDATE archive_owner SET pos_floor = greatest(pos_floor, $2) WHERE owner = $1";
        lease
            .execute(sqlx::query(sql).bind(owner.0).bind(last))
            .await?;
    }
    Ok(Retained {
        rows_deleted: gone,
        more: gone == u64::from(limit),
    })
}

async fn forget_paid(lease: &mut Lease, from: AccountId, limit: u32) -> Result<Forgotten, Error> {
    let mut forgotten = Forgotten {
        rows_deleted: 0,
        next: Some(from),
    };
    for _ in 0..FORGET_STEP_ACCOUNTS {
        let sql = "SELECT owner FROM archive WHERE owner >= $1 AND flags & 1 = 0 ORDER BY owner, pos LIMIT 1";
        let from = forgotten.next.map_or(0, |owner| owner.0);
        let next = lease.optional(sqlx::query(sql).bind(from)).await?;
        forgotten.next = scalar(next)?.map(AccountId);
        let left = u64::from(limit).saturating_sub(forgotten.rows_deleted);
        let Some(owner) = forgotten.next.filter(|_| left > 0) else {
            break;
        };
        let acked = archive_query::watermark(lease, owner).await?.acked_up_to;
        let condition = "pos <= $2 AND flags & 1 = 0";
        let (gone, _) = delete_rows(lease, owner, condition, acked.0, &[], left as i64).await?;
        forgotten.rows_deleted += gone;
        if gone < left {
            forgotten.next = Some(AccountId(owner.0 + 1));
        }
    }
    Ok(forgotten)
}
