//! Accounts and their SCRAM keys (RFC 5802, RFC 7677), last activity (XEP-0012).

use async_trait::async_trait;

use crate::{AccountId, ArchivePreferences, BlockList, Error, Fence, Timestamp, Watermark};

/// Keys of one SCRAM mechanism (RFC 5802 §3). The password itself is never stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScramKeys {
    pub salt: Vec<u8>,
    pub iterations: u32,
    pub stored_key: Vec<u8>,
    pub server_key: Vec<u8>,
}

/// An account's keys, by hash. All `None`: nobody can log in with a password.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    pub sha1: Option<ScramKeys>,
    pub sha256: Option<ScramKeys>,
    pub sha512: Option<ScramKeys>,
}

/// Everything a session's start needs from the account, read in one statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginRecord {
    pub id: AccountId,
    pub disabled: bool,
    pub credentials: Credentials,
    /// Version of the newest roster change; 0 for a roster never touched.
    pub roster_version: i64,
    /// `None`: the user never set any, the host's default applies.
    pub archive_preferences: Option<ArchivePreferences>,
    pub block_list: BlockList,
    pub watermark: Watermark,
    /// Pending inbound subscription requests.
    pub pending_requests: u32,
    pub last_activity: Option<LastActivity>,
}

/// When the last session ended and what its unavailable presence said (XEP-0012 §4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastActivity {
    pub at: Timestamp,
    pub status: String,
}

/// An account as the console shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountSummary {
    pub id: AccountId,
    pub host: String,
    pub localpart: String,
    pub disabled: bool,
    pub created_at: Timestamp,
    pub last_activity: Option<LastActivity>,
}

/// Who may log in.
#[async_trait]
pub trait Accounts {
    /// Makes an account; `Conflict` where it exists.
    async fn account_create(
        &self,
        fence: Fence,
        host: &str,
        localpart: &str,
        credentials: &Credentials,
        now: Timestamp,
    ) -> Result<AccountId, Error>;

    /// The account as a session's start needs it, disabled ones too. One statement.
    async fn account_login(
        &self,
        host: &str,
        localpart: &str,
    ) -> Result<Option<LoginRecord>, Error>;

    /// The same by key, for `account/facts.rs`. One statement.
    async fn account_by_id(&self, id: AccountId) -> Result<Option<LoginRecord>, Error>;

    /// The key alone: for delivery to an account that nobody uses now.
    async fn account_id(&self, host: &str, localpart: &str) -> Result<Option<AccountId>, Error>;

    /// Replaces all keys (a password change). False: no such account.
    async fn account_set_keys(
        &self,
        fence: Fence,
        id: AccountId,
        credentials: &Credentials,
    ) -> Result<bool, Error>;

    /// Disables or enables. False: no such account.
    async fn account_set_disabled(
        &self,
        fence: Fence,
        id: AccountId,
        disabled: bool,
    ) -> Result<bool, Error>;

    /// Removes the account and everything of it: roster, archive, debts, preferences, its PEP nodes, saved sessions.
    /// False: no such account. The archive goes in bounded steps after the account itself is gone;
    /// where that is interrupted, [`crate::Maintenance::sweep`] finishes it.
    async fn account_remove(&self, fence: Fence, id: AccountId) -> Result<bool, Error>;

    /// Accounts of a host in localpart order after `after`, those whose localpart contains `search` (plain text), at
    /// most `limit`.
    async fn account_list(
        &self,
        host: &str,
        after: Option<&str>,
        search: Option<&str>,
        limit: u32,
    ) -> Result<Vec<AccountSummary>, Error>;

    /// One account for the console.
    async fn account_show(
        &self,
        host: &str,
        localpart: &str,
    ) -> Result<Option<AccountSummary>, Error>;

    /// Accounts of a host.
    async fn account_count(&self, host: &str) -> Result<u64, Error>;

    /// Writes when the account's last session ended and its status text.
    async fn account_set_last_activity(
        &self,
        fence: Fence,
        id: AccountId,
        last: &LastActivity,
    ) -> Result<(), Error>;
}
