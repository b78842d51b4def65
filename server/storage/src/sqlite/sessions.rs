//! Saved stream-management sessions on SQLite.

use async_trait::async_trait;
use rusqlite::{Row, params};

use super::{Sqlite, all, blob, execute};
use crate::codec::decode_watermark;
use crate::{AccountId, Error, Fence, SavedSession, SavedSessions, Timestamp, Watermark};

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

    async fn sessions_take(
        &self,
        fence: Fence,
        limit: u32,
    ) -> Result<Vec<(SavedSession, Watermark)>, Error> {
        let select = "SELECT s.id, s.account, s.state, s.expires_at, o.acked_up_to, o.acked_above
                      FROM saved_session s LEFT JOIN archive_owner o ON o.owner = s.account ORDER BY s.id LIMIT ?1";
        self.write(fence, move |connection| {
            let taken = all(connection, select, params![limit], |row| {
                Ok((session(row)?, row.get::<_, Option<i64>>(4)?, blob(row, 5)?))
            })?;
            if let Some((last, _, _)) = taken.last() {
                let delete = "DELETE FROM saved_session WHERE id <= ?1";
                execute(connection, delete, params![last.id])?;
            }
            taken
                .into_iter()
                .map(|(session, up_to, above)| {
                    Ok((session, decode_watermark(up_to.unwrap_or(0), &above)?))
                })
                .collect()
        })
        .await
    }
}
