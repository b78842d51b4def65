//! Accounts on PostgreSQL.

use async_trait::async_trait;
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgRow;

use super::pool::Lease;
use super::{Postgres, flag, get, scalar};
use crate::codec::{
    decode_archive_preferences, decode_credentials, decode_strings, decode_watermark,
    encode_credentials,
};
use crate::{
    AccountId, AccountSummary, Accounts, BlockList, Credentials, Error, Fence, LastActivity,
    LoginRecord, PosRange, Timestamp,
};

/// Archive rows of a removed account deleted in one transaction.
const REMOVE_STEP_ROWS: i64 = 1000;

macro_rules! login {
    ($condition:literal) => {
        concat!(
            "SELECT a.id, a.disabled, a.credentials, a.roster_version, a.archive_preferences, a.blocked_version,
             a.blocked, a.last_at, a.last_status, o.acked_up_to, o.acked_above,
             (SELECT count(*) FROM pending_request p WHERE p.account = a.id)
             FROM account a LEFT JOIN archive_owner o ON o.owner = a.id WHERE ",
            $condition
        )
    };
}

fn last_activity(row: &PgRow, index: usize) -> Result<Option<LastActivity>, Error> {
    let at: Option<i64> = get(row, index)?;
    let status: Option<String> = get(row, index + 1)?;
    Ok(at.map(|at| LastActivity {
        at: Timestamp(at),
        status: status.unwrap_or_default(),
    }))
}

fn login(row: &PgRow) -> Result<LoginRecord, Error> {
    let ranges: Option<&[u8]> = get(row, 10)?;
    let pending: i64 = get(row, 11)?;
    Ok(LoginRecord {
        id: AccountId(get(row, 0)?),
        disabled: flag(row, 1)?,
        credentials: decode_credentials(get(row, 2)?)?,
        roster_version: get(row, 3)?,
        archive_preferences: decode_archive_preferences(get(row, 4)?)?,
        block_list: BlockList {
            version: get(row, 5)?,
            jids: decode_strings(get(row, 6)?)?,
        },
        watermark: decode_watermark(
            get::<Option<i64>>(row, 9)?.unwrap_or(0),
            ranges.unwrap_or_default(),
        )?,
        pending_requests: pending as u32,
        last_activity: last_activity(row, 7)?,
    })
}

macro_rules! summary {
    ($condition:literal) => {
        concat!(
            "SELECT id, host, localpart, disabled, created_at, last_at, last_status FROM account WHERE ",
            $condition
        )
    };
}

fn summary(row: &PgRow) -> Result<AccountSummary, Error> {
    Ok(AccountSummary {
        id: AccountId(get(row, 0)?),
        host: get(row, 1)?,
        localpart: get(row, 2)?,
        disabled: flag(row, 3)?,
        created_at: Timestamp(get(row, 4)?),
        last_activity: last_activity(row, 5)?,
    })
}

#[async_trait]
impl Accounts for Postgres {
    async fn account_create(
        &self,
        fence: Fence,
        host: &str,
        localpart: &str,
        credentials: &Credentials,
        now: Timestamp,
    ) -> Result<AccountId, Error> {
        let sql = "WITH a AS (INSERT INTO account (host, localpart, credentials, created_at) VALUES ($1, $2, $3, $4)
                   ON CONFLICT DO NOTHING RETURNING id)
                   INSERT INTO archive_owner (owner) SELECT id FROM a RETURNING owner";
        let statement = sqlx::query(sql)
            .bind(host)
            .bind(localpart)
            .bind(encode_credentials(credentials))
            .bind(now.0);
        let made = self.write(fence, statement).await?.pop();
        Ok(AccountId(
            scalar(made)?.ok_or(Error::Conflict("the account exists"))?,
        ))
    }

    async fn account_login(
        &self,
        host: &str,
        localpart: &str,
    ) -> Result<Option<LoginRecord>, Error> {
        let sql = login!("a.host = $1 AND a.localpart = $2");
        let row = self
            .optional(sqlx::query(sql).bind(host).bind(localpart))
            .await?;
        row.as_ref().map(login).transpose()
    }

    async fn account_by_id(&self, id: AccountId) -> Result<Option<LoginRecord>, Error> {
        let row = self
            .optional(sqlx::query(login!("a.id = $1")).bind(id.0))
            .await?;
        row.as_ref().map(login).transpose()
    }

    async fn account_id(&self, host: &str, localpart: &str) -> Result<Option<AccountId>, Error> {
        let sql = "SELECT id FROM account WHERE host = $1 AND localpart = $2";
        Ok(scalar(
            self.optional(sqlx::query(sql).bind(host).bind(localpart))
                .await?,
        )?
        .map(AccountId))
    }

    async fn account_set_keys(
        &self,
        fence: Fence,
        id: AccountId,
        credentials: &Credentials,
    ) -> Result<bool, Error> {
        let sql = "UPDATE account SET credentials = $2 WHERE id = $1 RETURNING id";
        let statement = sqlx::query(sql)
            .bind(id.0)
            .bind(encode_credentials(credentials));
        Ok(!self.write(fence, statement).await?.is_empty())
    }

    async fn account_set_disabled(
        &self,
        fence: Fence,
        id: AccountId,
        disabled: bool,
    ) -> Result<bool, Error> {
        let sql = "UPDATE account SET disabled = $2 WHERE id = $1 RETURNING id";
        let statement = sqlx::query(sql).bind(id.0).bind(i16::from(disabled));
        Ok(!self.write(fence, statement).await?.is_empty())
    }

    async fn account_remove(&self, fence: Fence, id: AccountId) -> Result<bool, Error> {
        let mut lease = self.begin(fence).await?;
        let result = remove(&mut lease, id).await;
        let removed = lease.end(result).await?;
        drop(lease);
        if removed {
            // Until here the writer may have given positions to an account that was going: the steps take those rows too.
            self.writer.forget(id).await?;
            loop {
                let mut lease = self.begin(fence).await?;
                let result = remove_step(&mut lease, id).await;
                if lease.end(result).await? == 0 {
                    break;
                }
            }
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
        let sql = summary!(
            "host = $1 AND localpart > $2 AND strpos(localpart, $3) > 0 ORDER BY localpart LIMIT $4"
        );
        let statement = sqlx::query(sql)
            .bind(host)
            .bind(after.unwrap_or_default())
            .bind(search.unwrap_or_default())
            .bind(i64::from(limit));
        self.all(statement).await?.iter().map(summary).collect()
    }

    async fn account_show(
        &self,
        host: &str,
        localpart: &str,
    ) -> Result<Option<AccountSummary>, Error> {
        let sql = summary!("host = $1 AND localpart = $2");
        let row = self
            .optional(sqlx::query(sql).bind(host).bind(localpart))
            .await?;
        row.as_ref().map(summary).transpose()
    }

    async fn account_count(&self, host: &str) -> Result<u64, Error> {
        let row = self
            .optional(sqlx::query("SELECT count(*) FROM account WHERE host = $1").bind(host))
            .await?;
        Ok(scalar::<i64>(row)?.unwrap_or(0) as u64)
    }

    async fn account_set_last_activity(
        &self,
        fence: Fence,
        id: AccountId,
        last: &LastActivity,
    ) -> Result<(), Error> {
        let sql = "UPDATE account SET last_at = $2, last_status = $3 WHERE id = $1";
        self.write(
            fence,
            sqlx::query(sql)
                .bind(id.0)
                .bind(last.at.0)
                .bind(&last.status),
        )
        .await
        .map(drop)
    }
}

async fn remove(lease: &mut Lease, id: AccountId) -> Result<bool, Error> {
    let sql = "DELETE FROM account WHERE id = $1 RETURNING localpart || '@' || host";
    let Some(jid) = scalar::<String>(lease.optional(sqlx::query(sql).bind(id.0)).await?)? else {
        return Ok(false);
    };
    lease
        .execute(sqlx::query("DELETE FROM pubsub_node WHERE service = $1").bind(jid))
        .await?;
    for sql in [
        "DELETE FROM archive_owner WHERE owner = $1",
        "DELETE FROM resend_key WHERE account = $1",
        "INSERT INTO removed_account (id) VALUES ($1)",
    ] {
        lease.execute(sqlx::query(sql).bind(id.0)).await?;
    }
    Ok(true)
}

/// Deletes some of a removed account's archive; 0: nothing is left, and its mark is gone.
pub(super) async fn remove_step(lease: &mut Lease, id: AccountId) -> Result<u64, Error> {
    let gone = delete_rows(lease, id, "true", 0, &[], REMOVE_STEP_ROWS).await?;
    if gone.0 == 0 {
        lease
            .execute(sqlx::query("DELETE FROM removed_account WHERE id = $1").bind(id.0))
            .await?;
    }
    Ok(gone.0)
}

/// Deletes an owner's oldest rows under a condition over `$2` and the ranges `$3` to `$4`, releasing their messages, at
/// most `limit`; answers how many and the last position.
pub(super) async fn delete_rows(
    lease: &mut Lease,
    owner: AccountId,
    condition: &'static str,
    second: i64,
    ranges: &[PosRange],
    limit: i64,
) -> Result<(u64, i64), Error> {
    let sql = format!(
        "WITH d AS (DELETE FROM archive WHERE (owner, pos, month) IN
         (SELECT owner, pos, month FROM archive WHERE owner = $1 AND $2::bigint IS NOT NULL AND $3::bigint[] IS NOT NULL
          AND $4::bigint[] IS NOT NULL AND {condition} ORDER BY pos LIMIT $5)
         RETURNING owner, pos, month, message),
         r AS (UPDATE message m SET owners = m.owners - g.gone
         FROM (SELECT month, message, count(*)::smallint AS gone FROM d WHERE message IS NOT NULL GROUP BY 1, 2) g
         WHERE m.id = g.message AND m.month = g.month)
         SELECT count(*), coalesce(max(pos), 0) FROM d"
    );
    let statement = sqlx::query(AssertSqlSafe(sql))
        .bind(owner.0)
        .bind(second)
        .bind(ranges.iter().map(|range| range.first.0).collect::<Vec<_>>())
        .bind(ranges.iter().map(|range| range.last.0).collect::<Vec<_>>())
        .bind(limit);
    let rows = lease.all(statement).await?;
    let row = rows
        .first()
        .ok_or_else(|| Error::Other("a count without a row".into()))?;
    Ok((get::<i64>(row, 0)? as u64, get(row, 1)?))
}
