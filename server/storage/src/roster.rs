//! RFC 6121 §2: rosters with versions, and pending inbound subscription requests (RFC 6121 §3.1.3).

use async_trait::async_trait;
use bytes::Bytes;

use crate::{AccountId, Error, Fence, Timestamp};

/// RFC 6121 §2.1.2.5. `remove` is not a state but [`RosterChange::Removed`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Subscription {
    #[default]
    None,
    To,
    From,
    Both,
}

/// One contact.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RosterItem {
    /// Bare or, rarely, full JID, prepared.
    pub jid: String,
    pub name: Option<String>,
    pub groups: Vec<String>,
    pub subscription: Subscription,
    /// An outbound request waits for its answer (`ask='subscribe'`).
    pub ask: bool,
    /// Pre-approved (RFC 6121 §3.4).
    pub approved: bool,
    /// True: only the server's bookkeeping (a pre-approval or a pending state of a contact the user never listed), not
    /// shown in roster results and pushes.
    pub hidden: bool,
    /// The roster version in which the item last changed. Ignored on writing.
    pub version: i64,
}

/// The whole roster, hidden items included, in JID order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RosterSnapshot {
    pub version: i64,
    pub items: Vec<RosterItem>,
}

/// A step between two versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RosterChange {
    Set(RosterItem),
    Removed { jid: String, version: i64 },
}

impl RosterChange {
    /// The roster version that this change made.
    pub fn version(&self) -> i64 {
        match self {
            RosterChange::Set(item) => item.version,
            RosterChange::Removed { version, .. } => *version,
        }
    }
}

/// What must hold for a write to happen: rosters are changed by several tasks (each session, each contact's stanza).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// Write whatever is there.
    Any,
    /// There is no item.
    Absent,
    /// The item is there in this version ([`RosterItem::version`]).
    Version(i64),
}

/// An inbound subscription request that the user has not answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingRequest {
    /// Bare JID of the sender.
    pub from: String,
    /// The whole stanza (RFC 6121 §3.1.3: "including all extended content").
    pub stanza: Bytes,
    pub at: Timestamp,
}

/// Rosters.
#[async_trait]
pub trait Roster {
    /// The whole roster in one statement.
    async fn roster_items(&self, account: AccountId) -> Result<RosterSnapshot, Error>;

    /// One item, hidden or not.
    async fn roster_item(&self, account: AccountId, jid: &str)
    -> Result<Option<RosterItem>, Error>;

    /// What changed after `since`, in version order; `None` where that is not known any more (too many removals since) or
    /// `since` is from the future: send the whole roster then. Each item appears once, in its newest form.
    async fn roster_changes(
        &self,
        account: AccountId,
        since: i64,
    ) -> Result<Option<Vec<RosterChange>>, Error>;

    /// Writes an item; answers the new roster version, which is the item's. `Conflict` where `expect` does not hold, where
    /// the roster would exceed `items_max`, or where the account is gone.
    async fn roster_put(
        &self,
        fence: Fence,
        account: AccountId,
        item: &RosterItem,
        expect: Expect,
        items_max: u32,
    ) -> Result<i64, Error>;

    /// Removes an item; `None` where there was none.
    async fn roster_remove(
        &self,
        fence: Fence,
        account: AccountId,
        jid: &str,
    ) -> Result<Option<i64>, Error>;

    /// Keeps a request, one per sender (a later one replaces). False: `pending_max` others wait already.
    async fn pending_put(
        &self,
        fence: Fence,
        account: AccountId,
        request: &PendingRequest,
        pending_max: u32,
    ) -> Result<bool, Error>;

    /// All requests, oldest first.
    async fn pending_list(&self, account: AccountId) -> Result<Vec<PendingRequest>, Error>;

    /// Whether a request of this sender waits.
    async fn pending_has(&self, account: AccountId, from: &str) -> Result<bool, Error>;

    /// Drops a request; false where there was none.
    async fn pending_remove(
        &self,
        fence: Fence,
        account: AccountId,
        from: &str,
    ) -> Result<bool, Error>;
}

/// Removals remembered per roster for [`Roster::roster_changes`].
pub(crate) const REMOVALS_MAX: u32 = 256;

/// The conflict where `expect` does not hold for what is there.
pub(crate) fn check_expectation(expect: Expect, current: Option<&RosterItem>) -> Result<(), Error> {
    let holds = match (expect, current) {
        (Expect::Any, _) | (Expect::Absent, None) => true,
        (Expect::Version(version), Some(item)) => item.version == version,
        (Expect::Absent, Some(_)) | (Expect::Version(_), None) => false,
    };
    if holds {
        Ok(())
    } else {
        Err(Error::Conflict("the roster item has changed"))
    }
}

/// Changes in version order.
pub(crate) fn order_changes(
    set: Vec<RosterItem>,
    removed: Vec<(String, i64)>,
) -> Vec<RosterChange> {
    let removed = removed
        .into_iter()
        .map(|(jid, version)| RosterChange::Removed { jid, version });
    let mut changes: Vec<_> = set
        .into_iter()
        .map(RosterChange::Set)
        .chain(removed)
        .collect();
    changes.sort_by_key(RosterChange::version);
    changes
}
