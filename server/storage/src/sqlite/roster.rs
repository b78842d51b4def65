//! RFC 6121 §2 on SQLite.

use async_trait::async_trait;
use rusqlite::{Connection, Row, params};

use super::{Sqlite, all, blob, execute, optional};
use crate::codec::{decode_strings, decode_subscription, encode_strings, encode_subscription};
use crate::roster::{REMOVALS_MAX, check_expectation, order_changes};
use crate::{
    AccountId, Error, Expect, Fence, PendingRequest, Roster, RosterChange, RosterItem,
    RosterSnapshot, Timestamp,
};

const COLUMNS: &str = "jid, name, contact_groups, subscription, ask, approved, hidden, version";

fn item(row: &Row<'_>) -> rusqlite::Result<Result<RosterItem, Error>> {
    let (groups, subscription) = (
        decode_strings(&row.get::<_, String>(2)?),
        decode_subscription(row.get(3)?),
    );
    let (jid, name) = (row.get(0)?, row.get(1)?);
    let (ask, approved, hidden, version) = (row.get(4)?, row.get(5)?, row.get(6)?, row.get(7)?);
    Ok((|| {
        Ok(RosterItem {
            jid,
            name,
            groups: groups?,
            subscription: subscription?,
            ask,
            approved,
            hidden,
            version,
        })
    })())
}

fn find(
    connection: &Connection,
    account: AccountId,
    jid: &str,
) -> Result<Option<RosterItem>, Error> {
    let sql = format!("SELECT {COLUMNS} FROM roster WHERE account = ?1 AND jid = ?2");
    optional(connection, &sql, params![account.0, jid], item)?.transpose()
}

fn versions(connection: &Connection, account: AccountId) -> Result<(i64, i64), Error> {
    let sql = "SELECT roster_version, roster_floor FROM account WHERE id = ?1";
    Ok(optional(connection, sql, [account.0], |row| {
        Ok((row.get(0)?, row.get(1)?))
    })?
    .unwrap_or_default())
}

/// Takes the next roster version.
fn next_version(connection: &Connection, account: AccountId) -> Result<i64, Error> {
    let sql = "UPDATE account SET roster_version = roster_version + 1 WHERE id = ?1 RETURNING roster_version";
    optional(connection, sql, [account.0], |row| row.get(0))?
        .ok_or(Error::Conflict("the account is gone"))
}

#[async_trait]
impl Roster for Sqlite {
    async fn roster_items(&self, account: AccountId) -> Result<RosterSnapshot, Error> {
        self.read(move |connection| {
            let sql = format!("SELECT {COLUMNS} FROM roster WHERE account = ?1 ORDER BY jid");
            let items = all(connection, &sql, [account.0], item)?
                .into_iter()
                .collect::<Result<_, Error>>()?;
            Ok(RosterSnapshot {
                version: versions(connection, account)?.0,
                items,
            })
        })
        .await
    }

    async fn roster_item(
        &self,
        account: AccountId,
        jid: &str,
    ) -> Result<Option<RosterItem>, Error> {
        let jid = jid.to_owned();
        self.read(move |connection| find(connection, account, &jid))
            .await
    }

    async fn roster_changes(
        &self,
        account: AccountId,
        since: i64,
    ) -> Result<Option<Vec<RosterChange>>, Error> {
        self.read(move |connection| {
            let (version, floor) = versions(connection, account)?;
            if since < floor || since > version {
                return Ok(None);
            }
            let sql = format!("SELECT {COLUMNS} FROM roster WHERE account = ?1 AND version > ?2");
            let set = all(connection, &sql, [account.0, since], item)?
                .into_iter()
                .collect::<Result<Vec<_>, Error>>()?;
            let sql = "SELECT jid, version FROM roster_removed WHERE account = ?1 AND version > ?2";
            let removed = all(connection, sql, [account.0, since], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?;
            Ok(Some(order_changes(set, removed)))
        })
        .await
    }

    async fn roster_put(
        &self,
        fence: Fence,
        account: AccountId,
        item: &RosterItem,
        expect: Expect,
        items_max: u32,
    ) -> Result<i64, Error> {
        let item = item.clone();
        self.write(fence, move |connection| {
            let version = next_version(connection, account)?;
            let current = find(connection, account, &item.jid)?;
            check_expectation(expect, current.as_ref())?;
            if current.is_none() {
                let sql = "SELECT count(*) FROM roster WHERE account = ?1";
                let count: Option<u32> = optional(connection, sql, [account.0], |row| row.get(0))?;
                if count.unwrap_or(0) >= items_max {
                    return Err(Error::Conflict("the roster is full"));
                }
            }
            put(connection, account, &item, version)?;
            Ok(version)
        })
        .await
    }

    async fn roster_remove(
        &self,
        fence: Fence,
        account: AccountId,
        jid: &str,
    ) -> Result<Option<i64>, Error> {
        let jid = jid.to_owned();
        self.write(fence, move |connection| {
            let sql = "DELETE FROM roster WHERE account = ?1 AND jid = ?2";
            if execute(connection, sql, params![account.0, jid])? == 0 {
                return Ok(None);
            }
            let version = next_version(connection, account)?;
            execute(
                connection,
                "INSERT INTO roster_removed (account, jid, version) VALUES (?1, ?2, ?3)
                 ON CONFLICT (account, jid) DO UPDATE SET version = excluded.version",
                params![account.0, jid, version],
            )?;
            forget_removals(connection, account)?;
            Ok(Some(version))
        })
        .await
    }

    async fn pending_put(
        &self,
        fence: Fence,
        account: AccountId,
        request: &PendingRequest,
        pending_max: u32,
    ) -> Result<bool, Error> {
        let request = request.clone();
        self.write(fence, move |connection| {
            let sql = "SELECT count(*) FROM pending_request WHERE account = ?1 AND sender <> ?2";
            let others: Option<u32> = optional(connection, sql, params![account.0, request.from], |row| row.get(0))?;
            if others.unwrap_or(0) >= pending_max {
                return Ok(false);
            }
            execute(
                connection,
                "INSERT INTO pending_request (account, sender, stanza, at) SELECT id, ?2, ?3, ?4 FROM account WHERE id = ?1
                 ON CONFLICT (account, sender) DO UPDATE SET stanza = excluded.stanza, at = excluded.at",
                params![account.0, request.from, &request.stanza[..], request.at.0],
            )
            .map(|rows| rows > 0)
        })
        .await
    }

    async fn pending_list(&self, account: AccountId) -> Result<Vec<PendingRequest>, Error> {
        let sql =
            "SELECT sender, stanza, at FROM pending_request WHERE account = ?1 ORDER BY at, sender";
        self.read(move |connection| {
            all(connection, sql, [account.0], |row| {
                Ok(PendingRequest {
                    from: row.get(0)?,
                    stanza: blob(row, 1)?.into(),
                    at: Timestamp(row.get(2)?),
                })
            })
        })
        .await
    }

    async fn pending_has(&self, account: AccountId, from: &str) -> Result<bool, Error> {
        let from = from.to_owned();
        let sql = "SELECT 1 FROM pending_request WHERE account = ?1 AND sender = ?2";
        self.read(move |c| {
            let found: Option<i64> = optional(c, sql, params![account.0, from], |row| row.get(0))?;
            Ok(found.is_some())
        })
        .await
    }

    async fn pending_remove(
        &self,
        fence: Fence,
        account: AccountId,
        from: &str,
    ) -> Result<bool, Error> {
        let from = from.to_owned();
        let sql = "DELETE FROM pending_request WHERE account = ?1 AND sender = ?2";
        self.write(fence, move |c| {
            Ok(execute(c, sql, params![account.0, from])? > 0)
        })
        .await
    }
}

fn put(
    connection: &Connection,
    account: AccountId,
    item: &RosterItem,
    version: i64,
) -> Result<(), Error> {
    execute(
        connection,
        "INSERT INTO roster (account, jid, name, contact_groups, subscription, ask, approved, hidden, version)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
         ON CONFLICT (account, jid) DO UPDATE SET name = excluded.name, contact_groups = excluded.contact_groups,
         subscription = excluded.subscription, ask = excluded.ask, approved = excluded.approved,
         hidden = excluded.hidden, version = excluded.version",
        params![
            account.0,
            item.jid,
            item.name,
            encode_strings(&item.groups),
            encode_subscription(item.subscription),
            item.ask,
            item.approved,
            item.hidden,
            version,
        ],
    )?;
    execute(
        connection,
        "DELETE FROM roster_removed WHERE account = ?1 AND jid = ?2",
        params![account.0, item.jid],
    )?;
    Ok(())
}

/// Keeps the newest removals; versions older than a forgotten one cannot be told what changed.
fn forget_removals(connection: &Connection, account: AccountId) -> Result<(), Error> {
    let sql = "SELECT version FROM roster_removed WHERE account = ?1 ORDER BY version DESC LIMIT 1 OFFSET ?2";
    let newest_forgotten: Option<i64> =
        optional(connection, sql, params![account.0, REMOVALS_MAX], |row| {
            row.get(0)
        })?;
    if let Some(version) = newest_forgotten {
        execute(
            connection,
            "DELETE FROM roster_removed WHERE account = ?1 AND version <= ?2",
            [account.0, version],
        )?;
        execute(
            connection,
            "UPDATE account SET roster_floor = ?2 WHERE id = ?1",
            [account.0, version],
        )?;
    }
    Ok(())
}
