//! Saved stream-management sessions on SQLite.

use async_trait::async_trait;
use rusqlite::{Row, params};

use super::{Sqlite, all, blob, execute, optional};
use crate::{AccountId, Error, Fence, SavedSession, SavedSessions, Timestamp};

fn session(row: &Row<'_>) -> rusqlite::Result<SavedSession> {
    Ok(SavedSession {
        id: row.get(0)?,
        account: AccountId(row.get(1)?),
        state: blob(row, 2)?.into(),
        expires_at: Timestamp(row.get(3)?),
    })
}

#[async_trait]
impl SavedSessions for Sqlite {
    async fn sessions_save(&self, fence: Fence, sessions: &[SavedSession]) -> Result<(), Error> {
        let sessions = sessions.to_vec();
        self.write(fence, move |connection| {
            for session in &sessions {
                execute(
                    connection,
                    "INSERT INTO saved_session (id, account, state, expires_at)
                     SELECT ?1, id, ?3, ?4 FROM account WHERE id = ?2
                     ON CONFLICT (id) DO UPDATE SET account = excluded.account, state = excluded.state,
                     expires_at = excluded.expires_at",
                    params![session.id, session.account.0, &session.state[..], session.expires_at.0],
                )?;
            }
            Ok(())
        })
        .await
    }

    async fn session_take(
        &self,
        fence: Fence,
        id: &str,
        now: Timestamp,
    ) -> Result<Option<SavedSession>, Error> {
        let id = id.to_owned();
        let sql = "DELETE FROM saved_session WHERE id = ?1 AND expires_at > ?2 RETURNING id, account, state, expires_at";
        self.write(fence, move |c| {
            optional(c, sql, params![id, now.0], session)
        })
        .await
    }

    async fn sessions_list(&self) -> Result<Vec<(String, AccountId, Timestamp)>, Error> {
        let sql = "SELECT id, account, expires_at FROM saved_session ORDER BY id";
        self.read(move |c| {
            all(c, sql, [], |row| {
                Ok((row.get(0)?, AccountId(row.get(1)?), Timestamp(row.get(2)?)))
            })
        })
        .await
    }

    async fn sessions_expired(
        &self,
        fence: Fence,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<SavedSession>, Error> {
        let sql = "DELETE FROM saved_session WHERE id IN
                   (SELECT id FROM saved_session WHERE expires_at <= ?1 ORDER BY expires_at LIMIT ?2)
                   RETURNING id, account, state, expires_at";
        self.write(fence, move |c| all(c, sql, params![now.0, limit], session))
            .await
    }
}
