//! What administration asks of live sessions; answered by whoever owns them.

use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::accounts::{Account, Change};
use super::protocol::Failure;
use crate::c2s::control::Kick;
use crate::cluster::sessions::SessionHandle;
use crate::config::Config;

/// One session, as shown to administrators.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionInfo {
    /// The full JID.
    pub jid: String,
    /// Address and port of the client; `None` while it is away.
    pub address: Option<String>,
    /// The listener the client came through, as `5222 starttls`.
    pub listener: Option<String>,
    /// Version and cipher suite of TLS, as `TLSv1.3 TLS13_AES_256_GCM_SHA384`.
    pub tls: Option<String>,
    /// The SASL mechanism of the login.
    pub mechanism: String,
    /// Seconds since the session was bound.
    pub age_seconds: u64,
    /// Seconds since anything was read from the client.
    pub idle_seconds: u64,
    /// `Some(seconds left)` where the session waits for its client to return (XEP-0198).
    pub waiting_seconds: Option<u64>,
    /// The presence last sent: `None` where the session is not available.
    pub priority: Option<i8>,
    /// Whether stream management is on.
    pub stream_management: bool,
    /// Whether carbons are on.
    pub carbons: bool,
    /// Whether the client said that its user looks elsewhere (XEP-0352).
    pub inactive: bool,
    /// Bytes waiting to be written or acknowledged.
    pub queue_bytes: u64,
    /// Stanzas read from the client.
    pub stanzas_in: u64,
    /// Stanzas written to the client.
    pub stanzas_out: u64,
}

/// Live sessions of the server. Implemented by the registry of sessions.
#[async_trait]
pub trait SessionsAdmin: Send + Sync {
    /// All sessions, or those of one account (bare JID), ordered by JID.
    async fn list(&self, account: Option<&str>) -> Vec<SessionInfo>;

    /// Ends sessions: one (full JID) or all of an account (bare JID), resumable ones too. The client
    /// gets the stream error of the reason. Returns how many ended.
    async fn kick(&self, jid: &str, reason: Kick) -> usize;

    /// Changes an account, to the end whatever becomes of the caller. Contacts of one that is
    /// removed are told first, and what is remembered of it is dropped however the change ended.
    /// Sessions whose right to be there is gone end, but `asking`, which its own side ends once it
    /// is answered. Returns how many ended.
    ///
    /// # Errors
    /// As [`accounts::change`](super::accounts::change).
    async fn change(
        &self,
        config: Arc<Config>,
        account: Account,
        change: Change,
        asking: Option<Arc<SessionHandle>>,
    ) -> Result<usize, Failure>;

    /// How many sessions there are.
    fn count(&self) -> usize;
}
