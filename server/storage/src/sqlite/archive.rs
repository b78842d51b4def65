//! XEP-0313 on SQLite.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use rusqlite::{Connection, params};
use tokio::sync::oneshot;

use super::archive_commit::{self, delete_row, raise_floor, release_message};
use super::archive_query::{self, first_at_or_after};
use super::worker::{Stage, withdraw};
use super::{Sqlite, all, blob, check_fence, execute, optional};
use crate::{
    AccountId, Archive, ArchiveFilter, ArchiveMetadata, ArchivePage, Commit, CommitError, DebtPage,
    DebtTotals, Error, Fence, Forgotten, Keep, PageRequest, Position, ResendKey, Retained, SentRow,
    Timestamp, Unknown, Watermark,
};

/// Accounts looked at in one step of forgetting what is paid.
const FORGET_STEP_ACCOUNTS: usize = 64;

#[async_trait]
impl Archive for Sqlite {
    async fn archive_commit(&self, commit: Commit) -> Result<Vec<Position>, CommitError> {
        let ticket = self.next_ticket.fetch_add(1, Ordering::Relaxed);
        let stage = Arc::new(Mutex::new(Stage::Queued));
        let (answer, mut answered) = oneshot::channel();
        let ledger = self.ledger.clone();
        self.writer.submit(
            stage.clone(),
            move |connection, state| {
                check_fence(connection, commit.fence)?;
                archive_commit::commit(connection, state, &commit)
            },
            move |result| {
                // Nobody waits any more: the caller holds a ticket.
                if let Err(result) = answer.send(result) {
                    ledger.lock().settle(ticket, result.ok());
                }
            },
        )?;
        if let Ok(answer) = tokio::time::timeout(self.config.deadline, &mut answered).await {
            return Ok(answer.map_err(|_| Error::Unavailable("database is closed".into()))??);
        }
        let told = withdraw(&stage);
        if !matches!(told, Error::Unknown(_)) {
            return Err(told.into());
        }
        self.ledger.lock().open(ticket);
        // Once closed, the writer's answer goes to the ledger; what came before that is here.
        answered.close();
        if let Ok(answer) = answered.try_recv() {
            self.ledger.lock().forget(ticket);
            return Ok(answer?);
        }
        Err(CommitError::Unknown(Unknown { ticket }))
    }

    async fn archive_resolve(&self, unknown: &Unknown) -> Result<Option<Vec<Position>>, Error> {
        self.ledger.lock().ask(unknown.ticket)
    }

    async fn archive_debts(
        &self,
        owner: AccountId,
        after: Position,
        limit: u32,
        bytes_max: u64,
    ) -> Result<DebtPage, Error> {
        self.read(move |connection| {
            archive_query::debts(connection, owner, after, limit, bytes_max)
        })
        .await
    }

    async fn archive_debt_total(
        &self,
        owner: AccountId,
        rows_max: u32,
    ) -> Result<DebtTotals, Error> {
        self.read(move |connection| archive_query::debt_total(connection, owner, rows_max))
            .await
    }

    async fn archive_watermark(&self, owner: AccountId) -> Result<Watermark, Error> {
        self.read(move |connection| archive_query::watermark(connection, owner))
            .await
    }

    async fn archive_last_position(&self, owner: AccountId) -> Result<Position, Error> {
        let sql = "SELECT max(pos_floor, acked_up_to,
                   coalesce((SELECT max(pos) FROM archive WHERE owner = ?1), 0)) FROM archive_owner WHERE owner = ?1";
        self.read(move |connection| {
            let last: Option<i64> = optional(connection, sql, [owner.0], |row| row.get(0))?;
            Ok(Position(last.unwrap_or(0)))
        })
        .await
    }

    async fn archive_query(
        &self,
        owner: AccountId,
        filter: &ArchiveFilter,
        page: &PageRequest,
    ) -> Result<ArchivePage, Error> {
        let (filter, page) = (filter.clone(), *page);
        self.read_page(move |connection| archive_query::page(connection, owner, &filter, &page))
            .await
    }

    async fn archive_exists(
        &self,
        owner: AccountId,
        positions: &[Position],
    ) -> Result<Vec<bool>, Error> {
        let positions = positions.to_vec();
        self.read_page(move |connection| {
            let sql = "SELECT EXISTS (SELECT 1 FROM archive WHERE owner = ?1 AND pos = ?2 AND flags & 1 = 1)";
            positions
                .iter()
                .map(|pos| Ok(optional(connection, sql, [owner.0, pos.0], |row| row.get(0))?.unwrap_or(false)))
                .collect()
        })
        .await
    }

    async fn archive_metadata(&self, owner: AccountId) -> Result<ArchiveMetadata, Error> {
        self.read_page(move |connection| {
            let end = |order: &str| {
                let sql =
                    format!("SELECT pos, at FROM archive WHERE owner = ?1 AND flags & 1 = 1 ORDER BY pos {order} LIMIT 1");
                optional(connection, &sql, [owner.0], |row| Ok((Position(row.get(0)?), Timestamp(row.get(1)?))))
            };
            Ok(ArchiveMetadata { first: end("ASC")?, last: end("DESC")? })
        })
        .await
    }

    async fn archive_replace(
        &self,
        fence: Fence,
        owner: AccountId,
        pos: Position,
        bytes: &[u8],
    ) -> Result<bool, Error> {
        let bytes = bytes.to_vec();
        self.write(fence, move |connection| {
            replace(connection, owner, pos, &bytes)
        })
        .await
    }

    async fn archive_retain(
        &self,
        fence: Fence,
        owner: AccountId,
        keep: Keep,
        limit: u32,
    ) -> Result<Retained, Error> {
        self.write(fence, move |connection| {
            retain(connection, owner, keep, limit)
        })
        .await
    }

    async fn archive_forget_paid(
        &self,
        fence: Fence,
        from: AccountId,
        limit: u32,
    ) -> Result<Forgotten, Error> {
        self.write(fence, move |connection| {
            forget_paid(connection, from, limit)
        })
        .await
    }

    async fn archive_recent_sent(
        &self,
        owner: AccountId,
        limit: u32,
        bytes_max: u64,
        not_before: Timestamp,
    ) -> Result<Vec<SentRow>, Error> {
        let bytes_max = i64::try_from(bytes_max).unwrap_or(i64::MAX);
        self.read(move |connection| {
            let first = first_at_or_after(connection, owner, not_before)?;
            all(
                connection,
                "SELECT a.pos, a.at, a.peer, a.peer_resource, coalesce(a.own_bytes, m.bytes) FROM
                 (SELECT s.*, sum(s.size) OVER (ORDER BY s.pos DESC) AS total,
                  row_number() OVER (ORDER BY s.pos DESC) AS number FROM
                  (SELECT a.pos, length(coalesce(a.own_bytes, m.bytes)) AS size
                   FROM archive a LEFT JOIN message m ON m.id = a.message
                   WHERE a.owner = ?1 AND a.pos >= ?2 AND a.flags & 4 = 4 ORDER BY a.pos DESC LIMIT ?3) s) f
                 JOIN archive a ON a.owner = ?1 AND a.pos = f.pos LEFT JOIN message m ON m.id = a.message
                 WHERE f.total <= ?4 OR f.number = 1 ORDER BY a.pos DESC",
                params![owner.0, first, limit, bytes_max],
                |row| {
                    Ok(SentRow {
                        pos: Position(row.get(0)?),
                        at: Timestamp(row.get(1)?),
                        peer: row.get(2)?,
                        peer_resource: row.get(3)?,
                        bytes: Bytes::from(blob(row, 4)?),
                    })
                },
            )
        })
        .await
    }

    async fn archive_resend_keys(
        &self,
        account: AccountId,
        limit: u32,
        not_before: Timestamp,
    ) -> Result<Vec<ResendKey>, Error> {
        self.read(move |connection| {
            all(
                connection,
                "SELECT at, key FROM resend_key WHERE account = ?1 AND at >= ?2 ORDER BY at DESC LIMIT ?3",
                params![account.0, not_before.0, limit],
                |row| Ok(ResendKey { account, at: Timestamp(row.get(0)?), key: row.get(1)? }),
            )
        })
        .await
    }
}

fn replace(
    connection: &Connection,
    owner: AccountId,
    pos: Position,
    bytes: &[u8],
) -> Result<bool, Error> {
    let message: Option<Option<i64>> = optional(
        connection,
        "SELECT message FROM archive WHERE owner = ?1 AND pos = ?2",
        params![owner.0, pos.0],
        |row| row.get(0),
    )?;
    let Some(message) = message else {
        return Ok(false);
    };
    execute(
        connection,
        "UPDATE archive SET own_bytes = ?3, message = NULL WHERE owner = ?1 AND pos = ?2",
        params![owner.0, pos.0, bytes],
    )?;
    if let Some(message) = message {
        release_message(connection, message)?;
    }
    Ok(true)
}

fn retain(
    connection: &Connection,
    owner: AccountId,
    keep: Keep,
    limit: u32,
) -> Result<Retained, Error> {
    // Rows below `end` go.
    let mut end = 0;
    if let Some(not_before) = keep.not_before {
        end = first_at_or_after(connection, owner, not_before)?;
    }
    if let Some(rows_max) = keep.rows_max {
        let newest_too_many: Option<i64> = optional(
            connection,
            "SELECT pos FROM archive WHERE owner = ?1 AND flags & 1 = 1 ORDER BY pos DESC LIMIT 1 OFFSET ?2",
            params![owner.0, i64::try_from(rows_max).unwrap_or(i64::MAX)],
            |row| row.get(0),
        )?;
        end = end.max(newest_too_many.map_or(0, |pos| pos + 1));
    }
    let watermark = archive_query::watermark(connection, owner)?;
    let above = watermark.acked_above.iter();
    let above: Vec<_> = above.map(|range| (range.first.0, range.last.0)).collect();
    let above = serde_json::to_string(&above).expect("integers have a JSON form");
    let going = all(
        connection,
        "SELECT pos FROM archive WHERE owner = ?1 AND pos < ?2 AND flags & 1 = 1 AND (flags & 2 = 0 OR pos <= ?3
         OR EXISTS (SELECT 1 FROM json_each(?4) WHERE pos BETWEEN value ->> 0 AND value ->> 1)) ORDER BY pos LIMIT ?5",
        params![owner.0, end, watermark.acked_up_to.0, above, limit],
        |row| Ok(Position(row.get(0)?)),
    )?;
    for pos in &going {
        delete_row(connection, owner, *pos)?;
    }
    if let Some(last) = going.last() {
        raise_floor(connection, owner, *last)?;
    }
    Ok(Retained {
        rows_deleted: going.len() as u64,
        more: going.len() == limit as usize,
    })
}

fn forget_paid(connection: &Connection, from: AccountId, limit: u32) -> Result<Forgotten, Error> {
    let mut forgotten = Forgotten {
        rows_deleted: 0,
        next: Some(from),
    };
    for _ in 0..FORGET_STEP_ACCOUNTS {
        let next = optional(
            connection,
            "SELECT min(owner) FROM archive INDEXED BY archive_unarchived WHERE owner >= ?1 AND flags & 1 = 0",
            [forgotten.next.map_or(0, |owner| owner.0)],
            |row| row.get::<_, Option<i64>>(0),
        )?;
        forgotten.next = next.flatten().map(AccountId);
        let left = u64::from(limit).saturating_sub(forgotten.rows_deleted);
        let Some(owner) = forgotten.next.filter(|_| left > 0) else {
            break;
        };
        let acked = archive_query::watermark(connection, owner)?.acked_up_to;
        let going = all(
            connection,
            "SELECT pos FROM archive INDEXED BY archive_unarchived
             WHERE owner = ?1 AND pos <= ?2 AND flags & 1 = 0 ORDER BY pos LIMIT ?3",
            params![owner.0, acked.0, left as i64],
            |row| Ok(Position(row.get(0)?)),
        )?;
        for pos in &going {
            delete_row(connection, owner, *pos)?;
        }
        forgotten.rows_deleted += going.len() as u64;
        if (going.len() as u64) < left {
            forgotten.next = Some(AccountId(owner.0 + 1));
        }
    }
    Ok(forgotten)
}
