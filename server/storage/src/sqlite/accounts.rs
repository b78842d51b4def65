//! Accounts on SQLite.

use async_trait::async_trait;
use rusqlite::{Connection, Row, params};

use super::archive_commit::delete_row;
use super::{Sqlite, all, blob, check_fence, execute, optional};
use crate::codec::{
    decode_archive_preferences, decode_credentials, decode_strings, decode_watermark,
    encode_credentials,
};
use crate::{
    AccountId, AccountSummary, Accounts, BlockList, Credentials, Error, Fence, LastActivity,
    LoginRecord, Position, Timestamp,
};

/// Archive rows of a removed account deleted in one transaction.
const REMOVE_STEP_ROWS: u32 = 1000;

const LOGIN: &str = "SELECT a.id, a.disabled, a.credentials, a.roster_version, a.archive_preferences, a.blocked_version,
    a.blocked, a.last_at, a.last_status, o.acked_up_to, o.acked_above,
    (SELECT count(*) FROM pending_request p WHERE p.account = a.id)
    FROM account a LEFT JOIN archive_owner o ON o.owner = a.id WHERE";

fn last_activity(row: &Row<'_>, index: usize) -> rusqlite::Result<Option<LastActivity>> {
    let at: Option<i64> = row.get(index)?;
    let status: Option<String> = row.get(index + 1)?;
    Ok(at.map(|at| LastActivity {
        at: Timestamp(at),
        status: status.unwrap_or_default(),
    }))
}

fn login(
    connection: &Connection,
    condition: &str,
    params: impl rusqlite::Params,
) -> Result<Option<LoginRecord>, Error> {
    let read = optional(connection, &format!("{LOGIN} {condition}"), params, |row| {
        let record = || -> rusqlite::Result<Result<LoginRecord, Error>> {
            let credentials = decode_credentials(&blob(row, 2)?);
            let preferences =
                decode_archive_preferences(row.get::<_, Option<String>>(4)?.as_deref());
            let blocked = decode_strings(&row.get::<_, String>(6)?);
            let watermark =
                decode_watermark(row.get::<_, Option<i64>>(9)?.unwrap_or(0), &blob(row, 10)?);
            let (id, disabled, roster_version) = (AccountId(row.get(0)?), row.get(1)?, row.get(3)?);
            let (version, last_activity, pending_requests) =
                (row.get(5)?, last_activity(row, 7)?, row.get(11)?);
            Ok((|| {
                Ok(LoginRecord {
                    id,
                    disabled,
                    credentials: credentials?,
                    roster_version,
                    archive_preferences: preferences?,
                    block_list: BlockList {
                        version,
                        jids: blocked?,
                    },
                    watermark: watermark?,
                    pending_requests,
                    last_activity,
                })
            })())
        };
        record()
    })?;
    read.transpose()
}

const SUMMARY: &str =
    "SELECT id, host, localpart, disabled, created_at, last_at, last_status FROM account WHERE";

fn summary(row: &Row<'_>) -> rusqlite::Result<AccountSummary> {
    Ok(AccountSummary {
        id: AccountId(row.get(0)?),
        host: row.get(1)?,
        localpart: row.get(2)?,
        disabled: row.get(3)?,
        created_at: Timestamp(row.get(4)?),
        last_activity: last_activity(row, 5)?,
    })
}

#[async_trait]
impl Accounts for Sqlite {
    async fn account_create(
        &self,
        fence: Fence,
        host: &str,
        localpart: &str,
        credentials: &Credentials,
        now: Timestamp,
    ) -> Result<AccountId, Error> {
        let (host, localpart, keys) = (
            host.to_owned(),
            localpart.to_owned(),
            encode_credentials(credentials),
        );
        self.write(fence, move |connection| {
            let id: Option<i64> = optional(
                connection,
                "INSERT INTO account (host, localpart, credentials, created_at) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT DO NOTHING RETURNING id",
                params![host, localpart, keys, now.0],
                |row| row.get(0),
            )?;
            let id = id.ok_or(Error::Conflict("the account exists"))?;
            execute(connection, "INSERT INTO archive_owner (owner) VALUES (?1)", [id])?;
            Ok(AccountId(id))
        })
        .await
    }

    async fn account_login(
        &self,
        host: &str,
        localpart: &str,
    ) -> Result<Option<LoginRecord>, Error> {
        let (host, localpart) = (host.to_owned(), localpart.to_owned());
        self.read(move |connection| {
            login(
                connection,
                "a.host = ?1 AND a.localpart = ?2",
                [host, localpart],
            )
        })
        .await
    }

    async fn account_by_id(&self, id: AccountId) -> Result<Option<LoginRecord>, Error> {
        self.read(move |connection| login(connection, "a.id = ?1", [id.0]))
            .await
    }

    async fn account_id(&self, host: &str, localpart: &str) -> Result<Option<AccountId>, Error> {
        let (host, localpart) = (host.to_owned(), localpart.to_owned());
        let sql = "SELECT id FROM account WHERE host = ?1 AND localpart = ?2";
        self.read(move |c| optional(c, sql, [host, localpart], |row| Ok(AccountId(row.get(0)?))))
            .await
    }

    async fn account_set_keys(
        &self,
        fence: Fence,
        id: AccountId,
        credentials: &Credentials,
    ) -> Result<bool, Error> {
        let keys = encode_credentials(credentials);
        let sql = "UPDATE account SET credentials = ?2 WHERE id = ?1";
        self.write(
            fence,
            move |c| Ok(execute(c, sql, params![id.0, keys])? > 0),
        )
        .await
    }

    async fn account_set_disabled(
        &self,
        fence: Fence,
        id: AccountId,
        disabled: bool,
    ) -> Result<bool, Error> {
        let sql = "UPDATE account SET disabled = ?2 WHERE id = ?1";
        self.write(fence, move |c| {
            Ok(execute(c, sql, params![id.0, disabled])? > 0)
        })
        .await
    }

    async fn account_remove(&self, fence: Fence, id: AccountId) -> Result<bool, Error> {
        let removed = self
            .writer
            .run(move |connection, state| {
                check_fence(connection, fence)?;
                state.heads.forget(id);
                remove(connection, id)
            })
            .await?;
        if removed {
            while self.write(fence, move |c| remove_step(c, id)).await? > 0 {}
        }
        Ok(removed)
    }

    async fn account_list(
        &self,
        host: &str,
        after: Option<&str>,
        search: Option<&str>,
        limit: u32,
    ) -> Result<Vec<AccountSummary>, Error> {
        let (host, after) = (host.to_owned(), after.unwrap_or("").to_owned());
        let search = search.unwrap_or("").to_owned();
        let sql = format!(
            "{SUMMARY} host = ?1 AND localpart > ?2 AND instr(localpart, ?3) > 0 ORDER BY localpart LIMIT ?4"
        );
        self.read(move |c| all(c, &sql, params![host, after, search, limit], summary))
            .await
    }

    async fn account_show(
        &self,
        host: &str,
        localpart: &str,
    ) -> Result<Option<AccountSummary>, Error> {
        let (host, localpart) = (host.to_owned(), localpart.to_owned());
        let sql = format!("{SUMMARY} host = ?1 AND localpart = ?2");
        self.read(move |c| optional(c, &sql, [host, localpart], summary))
            .await
    }

    async fn account_count(&self, host: &str) -> Result<u64, Error> {
        let host = host.to_owned();
        let sql = "SELECT count(*) FROM account WHERE host = ?1";
        self.read(move |c| {
            Ok(optional(c, sql, [host], |row| row.get::<_, i64>(0))?.unwrap_or(0) as u64)
        })
        .await
    }

    async fn account_set_last_activity(
        &self,
        fence: Fence,
        id: AccountId,
        last: &LastActivity,
    ) -> Result<(), Error> {
        let last = last.clone();
        let sql = "UPDATE account SET last_at = ?2, last_status = ?3 WHERE id = ?1";
        self.write(fence, move |c| {
            execute(c, sql, params![id.0, last.at.0, last.status]).map(drop)
        })
        .await
    }
}

fn remove(connection: &Connection, id: AccountId) -> Result<bool, Error> {
    let jid: Option<String> = optional(
        connection,
        "DELETE FROM account WHERE id = ?1 RETURNING localpart || '@' || host",
        [id.0],
        |row| row.get(0),
    )?;
    let Some(jid) = jid else { return Ok(false) };
    execute(
        connection,
        "DELETE FROM pubsub_node WHERE service = ?1",
        [jid],
    )?;
    execute(
        connection,
        "DELETE FROM archive_owner WHERE owner = ?1",
        [id.0],
    )?;
    execute(
        connection,
        "DELETE FROM resend_key WHERE account = ?1",
        [id.0],
    )?;
    execute(
        connection,
        "INSERT INTO removed_account (id) VALUES (?1)",
        [id.0],
    )?;
    Ok(true)
}

/// Deletes some of a removed account's archive; 0: nothing is left, and its mark is gone.
pub(super) fn remove_step(connection: &Connection, id: AccountId) -> Result<u64, Error> {
    let rows = all(
        connection,
        "SELECT pos FROM archive WHERE owner = ?1 ORDER BY pos LIMIT ?2",
        params![id.0, REMOVE_STEP_ROWS],
        |row| Ok(Position(row.get(0)?)),
    )?;
    for pos in &rows {
        delete_row(connection, id, *pos)?;
    }
    if rows.is_empty() {
        execute(
            connection,
            "DELETE FROM removed_account WHERE id = ?1",
            [id.0],
        )?;
    }
    Ok(rows.len() as u64)
}
