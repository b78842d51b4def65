//! XEP-0198: stream-management sessions saved by a drained server for its next start.

use async_trait::async_trait;
use bytes::Bytes;

use crate::{AccountId, Error, Fence, Timestamp};

/// One session; what is in it is the server's own versioned format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedSession {
    /// The stream-management id (XEP-0198 §3), unpredictable.
    pub id: String,
    pub account: AccountId,
    pub state: Bytes,
    /// From then on the session is not resumable and [`SavedSessions::sessions_expired`] gives it out.
    pub expires_at: Timestamp,
}

/// Saved sessions.
#[async_trait]
pub trait SavedSessions {
    /// Saves all in one transaction; an equal id is replaced.
    async fn sessions_save(&self, fence: Fence, sessions: &[SavedSession]) -> Result<(), Error>;

    /// Gives a session out exactly once, deleting it in the same transaction. Expired ones are not given out here.
    async fn session_take(
        &self,
        fence: Fence,
        id: &str,
        now: Timestamp,
    ) -> Result<Option<SavedSession>, Error>;

    /// Every saved session without its state, for a start that has to announce them: (id, account, expires_at).
    async fn sessions_list(&self) -> Result<Vec<(String, AccountId, Timestamp)>, Error>;

    /// Takes up to `limit` sessions that expired before `now`, deleting them.
    async fn sessions_expired(
        &self,
        fence: Fence,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<SavedSession>, Error>;
}
