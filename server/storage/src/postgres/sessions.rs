//! Saved stream-management sessions on PostgreSQL.

use async_trait::async_trait;
use sqlx::postgres::PgRow;

use super::{Postgres, get};
use crate::codec::decode_watermark;
use crate::{AccountId, Error, Fence, SavedSession, SavedSessions, Timestamp, Watermark};

fn session(row: &PgRow) -> Result<SavedSession, Error> {
    let state: Vec<u8> = get(row, 2)?;
    Ok(SavedSession {
        id: get(row, 0)?,
        account: AccountId(get(row, 1)?),
        state: state.into(),
        expires_at: Timestamp(get(row, 3)?),
    })
}

#[async_trait]
impl SavedSessions for Postgres {
    async fn sessions_save(&self, fence: Fence, sessions: &[SavedSession]) -> Result<(), Error> {
        let sql = "INSERT INTO saved_session (id, account, state, expires_at)
                   SELECT u.id, a.id, u.state, u.expires_at
                   FROM unnest($1::text[], $2::bigint[], $3::bytea[], $4::bigint[]) u (id, account, state, expires_at)
                   JOIN account a ON a.id = u.account
                   ON CONFLICT (id) DO UPDATE SET account = excluded.account, state = excluded.state,
                   expires_at = excluded.expires_at";
        let ids: Vec<&str> = sessions.iter().map(|s| s.id.as_str()).collect();
        let accounts: Vec<i64> = sessions.iter().map(|s| s.account.0).collect();
        let states: Vec<&[u8]> = sessions.iter().map(|s| &s.state[..]).collect();
        let expiries: Vec<i64> = sessions.iter().map(|s| s.expires_at.0).collect();
        let statement = sqlx::query(sql)
            .bind(ids)
            .bind(accounts)
            .bind(states)
            .bind(expiries);
        self.write(fence, statement).await.map(drop)
    }

    async fn sessions_take(
        &self,
        fence: Fence,
        limit: u32,
    ) -> Result<Vec<(SavedSession, Watermark)>, Error> {
        let sql = "WITH taken AS (DELETE FROM saved_session WHERE id IN
                   (SELECT id FROM saved_session ORDER BY id LIMIT $1 FOR UPDATE)
                   RETURNING id, account, state, expires_at)
                   SELECT t.id, t.account, t.state, t.expires_at, coalesce(o.acked_up_to, 0), coalesce(o.acked_above, '')
                   FROM taken t LEFT JOIN archive_owner o ON o.owner = t.account";
        let rows = self
            .write(fence, sqlx::query(sql).bind(i64::from(limit)))
            .await?;
        rows.iter()
            .map(|row| {
                let watermark = decode_watermark(get(row, 4)?, get(row, 5)?)?;
                Ok((session(row)?, watermark))
            })
            .collect()
    }
}
