//! XEP-0198: stream-management sessions saved by a drained server for its next start.

use async_trait::async_trait;
use bytes::Bytes;

use crate::{AccountId, Error, Fence, Timestamp, Watermark};

/// One session; what is in it is the server's own versioned format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedSession {
    /// The stream-management id (XEP-0198 §3), unpredictable.
    pub id: String,
    pub account: AccountId,
    pub state: Bytes,
    /// From then on the session is not resumable.
    pub expires_at: Timestamp,
}

/// Saved sessions.
#[async_trait]
pub trait SavedSessions {
    /// Saves all in one transaction; an equal id is replaced. A session whose account is gone is left out.
    async fn sessions_save(&self, fence: Fence, sessions: &[SavedSession]) -> Result<(), Error>;

    /// Gives out up to `limit` sessions, each exactly once, deleting them in the same transaction; with
    /// each what its account has acknowledged. Empty once there are none.
    async fn sessions_take(
        &self,
        fence: Fence,
        limit: u32,
    ) -> Result<Vec<(SavedSession, Watermark)>, Error>;
}
