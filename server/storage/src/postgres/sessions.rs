//! Saved stream-management sessions on PostgreSQL.

use async_trait::async_trait;
use sqlx::postgres::PgRow;

use super::pool::Lease;
use super::{Postgres, get};
use crate::{AccountId, Error, Fence, SavedSession, SavedSessions, Timestamp};

fn session(row: &PgRow) -> Result<SavedSession, Error> {
    let state: Vec<u8> = get(row, 2)?;
    Ok(SavedSession {
        id: get(row, 0)?,
        account: AccountId(get(row, 1)?),
        state: state.into(),
        expires_at: Timestamp(get(row, 3)?),
    })
}

async fn save(lease: &mut Lease, sessions: &[SavedSession]) -> Result<(), Error> {
    let sql = "INSERT INTO saved_session (id, account, state, expires_at)
               SELECT $1, id, $3, $4 FROM account WHERE id = $2
               ON CONFLICT (id) DO UPDATE SET account = excluded.account, state = excluded.state,
               expires_at = excluded.expires_at";
    for session in sessions {
        let statement = sqlx::query(sql)
            .bind(&session.id)
            .bind(session.account.0)
            .bind(&session.state[..])
            .bind(session.expires_at.0);
        lease.execute(statement).await?;
    }
    Ok(())
}

#[async_trait]
impl SavedSessions for Postgres {
    async fn sessions_save(&self, fence: Fence, sessions: &[SavedSession]) -> Result<(), Error> {
        let mut lease = self.begin(fence).await?;
        let result = save(&mut lease, sessions).await;
        lease.end(result).await
    }

    async fn session_take(
        &self,
        fence: Fence,
        id: &str,
        now: Timestamp,
    ) -> Result<Option<SavedSession>, Error> {
        let sql = "DELETE FROM saved_session WHERE id = $1 AND expires_at > $2 RETURNING id, account, state, expires_at";
        let row = self
            .write(fence, sqlx::query(sql).bind(id).bind(now.0))
            .await?
            .pop();
        row.as_ref().map(session).transpose()
    }

    async fn sessions_list(&self) -> Result<Vec<(String, AccountId, Timestamp)>, Error> {
        let rows = self
            .all(sqlx::query(
                "SELECT id, account, expires_at FROM saved_session ORDER BY id",
            ))
            .await?;
        rows.iter()
            .map(|row| {
                Ok((
                    get(row, 0)?,
                    AccountId(get(row, 1)?),
                    Timestamp(get(row, 2)?),
                ))
            })
            .collect()
    }

    async fn sessions_expired(
        &self,
        fence: Fence,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<SavedSession>, Error> {
        let sql = "DELETE FROM saved_session WHERE id IN
                   (SELECT id FROM saved_session WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2 FOR UPDATE)
                   RETURNING id, account, state, expires_at";
        let rows = self
            .write(fence, sqlx::query(sql).bind(now.0).bind(i64::from(limit)))
            .await?;
        rows.iter().map(session).collect()
    }
}
