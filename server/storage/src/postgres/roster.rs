//! RFC 6121 §2 on PostgreSQL.

use async_trait::async_trait;
use sqlx::postgres::PgRow;

use super::pool::Lease;
use super::{Postgres, flag, get, scalar};
use crate::codec::{decode_strings, decode_subscription, encode_strings, encode_subscription};
use crate::roster::{REMOVALS_MAX, check_expectation, order_changes};
use crate::{
    AccountId, Error, Expect, Fence, PendingRequest, Roster, RosterChange, RosterItem,
    RosterSnapshot, Timestamp,
};

macro_rules! items {
    ($condition:literal) => {
        concat!(
            "SELECT jid, name, contact_groups, subscription, ask, approved, hidden, version FROM roster WHERE ",
            $condition
        )
    };
}

fn item(row: &PgRow) -> Result<RosterItem, Error> {
    Ok(RosterItem {
        jid: get(row, 0)?,
        name: get(row, 1)?,
        groups: decode_strings(get(row, 2)?)?,
        subscription: decode_subscription(get(row, 3)?)?,
        ask: flag(row, 4)?,
        approved: flag(row, 5)?,
        hidden: flag(row, 6)?,
        version: get(row, 7)?,
    })
}

async fn find(
    lease: &mut Lease,
    account: AccountId,
    jid: &str,
) -> Result<Option<RosterItem>, Error> {
    let row = lease
        .optional(
            sqlx::query(items!("account = $1 AND jid = $2"))
                .bind(account.0)
                .bind(jid),
        )
        .await?;
    row.as_ref().map(item).transpose()
}

async fn versions(lease: &mut Lease, account: AccountId) -> Result<(i64, i64), Error> {
    let sql = "SELECT roster_version, roster_floor FROM account WHERE id = $1";
    let row = lease.optional(sqlx::query(sql).bind(account.0)).await?;
    row.map_or(Ok((0, 0)), |row| Ok((get(&row, 0)?, get(&row, 1)?)))
}

/// Takes the next roster version, and with it the lock under which a roster changes.
async fn next_version(lease: &mut Lease, account: AccountId) -> Result<i64, Error> {
    let sql = "UPDATE account SET roster_version = roster_version + 1 WHERE id = $1 RETURNING roster_version";
    scalar(lease.optional(sqlx::query(sql).bind(account.0)).await?)?
        .ok_or(Error::Conflict("the account is gone"))
}

#[async_trait]
impl Roster for Postgres {
    async fn roster_items(&self, account: AccountId) -> Result<RosterSnapshot, Error> {
        // The version comes with the items: a roster and its version must be of one moment.
        let sql = "SELECT r.jid, r.name, r.contact_groups, r.subscription, r.ask, r.approved, r.hidden, r.version,
                   a.roster_version FROM account a LEFT JOIN roster r ON r.account = a.id WHERE a.id = $1 ORDER BY r.jid";
        let rows = self.all(sqlx::query(sql).bind(account.0)).await?;
        let mut snapshot = RosterSnapshot::default();
        for row in &rows {
            snapshot.version = get(row, 8)?;
            if get::<Option<&str>>(row, 0)?.is_some() {
                snapshot.items.push(item(row)?);
            }
        }
        Ok(snapshot)
    }

    async fn roster_item(
        &self,
        account: AccountId,
        jid: &str,
    ) -> Result<Option<RosterItem>, Error> {
        find(&mut self.login.acquire().await?, account, jid).await
    }

    async fn roster_changes(
        &self,
        account: AccountId,
        since: i64,
    ) -> Result<Option<Vec<RosterChange>>, Error> {
        let mut lease = self.login.acquire().await?;
        lease.begin_snapshot().await?;
        let result = changes(&mut lease, account, since).await;
        lease.end(result).await
    }

    async fn roster_put(
        &self,
        fence: Fence,
        account: AccountId,
        item: &RosterItem,
        expect: Expect,
        items_max: u32,
    ) -> Result<i64, Error> {
        let mut lease = self.begin(fence).await?;
        let result = put(&mut lease, account, item, expect, items_max).await;
        lease.end(result).await
    }

    async fn roster_remove(
        &self,
        fence: Fence,
        account: AccountId,
        jid: &str,
    ) -> Result<Option<i64>, Error> {
        let mut lease = self.begin(fence).await?;
        let result = remove(&mut lease, account, jid).await;
        lease.end(result).await
    }

    async fn pending_put(
        &self,
        fence: Fence,
        account: AccountId,
        request: &PendingRequest,
        pending_max: u32,
    ) -> Result<bool, Error> {
        let mut lease = self.begin(fence).await?;
        let result = put_pending(&mut lease, account, request, pending_max).await;
        lease.end(result).await
    }

    async fn pending_list(&self, account: AccountId) -> Result<Vec<PendingRequest>, Error> {
        let sql =
            "SELECT sender, stanza, at FROM pending_request WHERE account = $1 ORDER BY at, sender";
        let rows = self.all(sqlx::query(sql).bind(account.0)).await?;
        rows.iter()
            .map(|row| {
                let stanza: Vec<u8> = get(row, 1)?;
                Ok(PendingRequest {
                    from: get(row, 0)?,
                    stanza: stanza.into(),
                    at: Timestamp(get(row, 2)?),
                })
            })
            .collect()
    }

    async fn pending_has(&self, account: AccountId, from: &str) -> Result<bool, Error> {
        let sql = "SELECT 1 FROM pending_request WHERE account = $1 AND sender = $2";
        let found = self.optional(sqlx::query(sql).bind(account.0).bind(from));
        Ok(found.await?.is_some())
    }

    async fn pending_remove(
        &self,
        fence: Fence,
        account: AccountId,
        from: &str,
    ) -> Result<bool, Error> {
        let sql = "DELETE FROM pending_request WHERE account = $1 AND sender = $2 RETURNING 1";
        Ok(!self
            .write(fence, sqlx::query(sql).bind(account.0).bind(from))
            .await?
            .is_empty())
    }
}

async fn changes(
    lease: &mut Lease,
    account: AccountId,
    since: i64,
) -> Result<Option<Vec<RosterChange>>, Error> {
    let (version, floor) = versions(lease, account).await?;
    if since < floor || since > version {
        return Ok(None);
    }
    let sql = items!("account = $1 AND version > $2");
    let rows = lease
        .all(sqlx::query(sql).bind(account.0).bind(since))
        .await?;
    let set = rows.iter().map(item).collect::<Result<_, _>>()?;
    let sql = "SELECT jid, version FROM roster_removed WHERE account = $1 AND version > $2";
    let rows = lease
        .all(sqlx::query(sql).bind(account.0).bind(since))
        .await?;
    let removed = rows
        .iter()
        .map(|row| Ok((get(row, 0)?, get(row, 1)?)))
        .collect::<Result<_, Error>>()?;
    Ok(Some(order_changes(set, removed)))
}

async fn put(
    lease: &mut Lease,
    account: AccountId,
    item: &RosterItem,
    expect: Expect,
    items_max: u32,
) -> Result<i64, Error> {
    let version = next_version(lease, account).await?;
    let current = find(lease, account, &item.jid).await?;
    check_expectation(expect, current.as_ref())?;
    if current.is_none() {
        let sql = "SELECT count(*) FROM roster WHERE account = $1";
        let count: Option<i64> = scalar(lease.optional(sqlx::query(sql).bind(account.0)).await?)?;
        if count.unwrap_or(0) >= i64::from(items_max) {
            return Err(Error::Conflict("the roster is full"));
        }
    }
    let sql = "INSERT INTO roster (account, jid, name, contact_groups, subscription, ask, approved, hidden, version)
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
               ON CONFLICT (account, jid) DO UPDATE SET name = excluded.name, contact_groups = excluded.contact_groups,
               subscription = excluded.subscription, ask = excluded.ask, approved = excluded.approved,
               hidden = excluded.hidden, version = excluded.version";
    let statement = sqlx::query(sql)
        .bind(account.0)
        .bind(&item.jid)
        .bind(&item.name)
        .bind(encode_strings(&item.groups))
        .bind(encode_subscription(item.subscription))
        .bind(i16::from(item.ask))
        .bind(i16::from(item.approved))
        .bind(i16::from(item.hidden))
        .bind(version);
    lease.execute(statement).await?;
    let sql = "DELETE FROM roster_removed WHERE account = $1 AND jid = $2";
    lease
        .execute(sqlx::query(sql).bind(account.0).bind(&item.jid))
        .await?;
    Ok(version)
}

async fn remove(lease: &mut Lease, account: AccountId, jid: &str) -> Result<Option<i64>, Error> {
    // First the account's row, as put does: two that took their locks crosswise would wait for each other.
    let lock = "SELECT 1 FROM account WHERE id = $1 FOR UPDATE";
    lease.execute(sqlx::query(lock).bind(account.0)).await?;
    let sql = "DELETE FROM roster WHERE account = $1 AND jid = $2";
    if lease
        .execute(sqlx::query(sql).bind(account.0).bind(jid))
        .await?
        == 0
    {
        return Ok(None);
    }
    let version = next_version(lease, account).await?;
    let sql = "INSERT INTO roster_removed (account, jid, version) VALUES ($1, $2, $3)
               ON CONFLICT (account, jid) DO UPDATE SET version = excluded.version";
    lease
        .execute(sqlx::query(sql).bind(account.0).bind(jid).bind(version))
        .await?;
    forget_removals(lease, account).await?;
    Ok(Some(version))
}

/// Keeps the newest removals; versions older than a forgotten one cannot be told what changed.
async fn forget_removals(lease: &mut Lease, account: AccountId) -> Result<(), Error> {
    let sql = "SELECT version FROM roster_removed WHERE account = $1 ORDER BY version DESC LIMIT 1 OFFSET $2";
    let row = lease
        .optional(
            sqlx::query(sql)
                .bind(account.0)
                .bind(i64::from(REMOVALS_MAX)),
        )
        .await?;
    if let Some(version) = scalar::<i64>(row)? {
        for sql in [
            "DELETE FROM roster_removed WHERE account = $1 AND version <= $2",
            "UPDATE account SET roster_floor = $2 WHERE id = $1",
        ] {
            lease
                .execute(sqlx::query(sql).bind(account.0).bind(version))
                .await?;
        }
    }
    Ok(())
}

async fn put_pending(
    lease: &mut Lease,
    account: AccountId,
    request: &PendingRequest,
    pending_max: u32,
) -> Result<bool, Error> {
    let lock = "SELECT 1 FROM account WHERE id = $1 FOR UPDATE";
    if lease.execute(sqlx::query(lock).bind(account.0)).await? == 0 {
        return Ok(false);
    }
    let sql = "SELECT count(*) FROM pending_request WHERE account = $1 AND sender <> $2";
    let others: Option<i64> = scalar(
        lease
            .optional(sqlx::query(sql).bind(account.0).bind(&request.from))
            .await?,
    )?;
    if others.unwrap_or(0) >= i64::from(pending_max) {
        return Ok(false);
    }
    let sql = "INSERT INTO pending_request (account, sender, stanza, at) VALUES ($1, $2, $3, $4)
               ON CONFLICT (account, sender) DO UPDATE SET stanza = excluded.stanza, at = excluded.at";
    let statement = sqlx::query(sql)
        .bind(account.0)
        .bind(&request.from)
        .bind(&request.stanza[..])
        .bind(request.at.0);
    Ok(lease.execute(statement).await? > 0)
}
