//! RFC 6121 §2 and §3: rosters in storage, their changes and what follows from them.
//!
//! Every change of one roster, and the pushes that tell of it, happen under the
//! roster's lock ([`Rosters::lock`]), so that pushes come in the order of versions
//! (RFC 6121 §2.6.3). Who holds one lock never waits for another.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use bytes::Bytes;
use eider_storage::{
    AccountId, Expect, Fence, PendingRequest, RosterChange, RosterItem, Storage, Subscription,
    Timestamp,
};
use eider_xmpp::element::Element;
use eider_xmpp::error::{ErrorType, StanzaCondition, StanzaError};
use eider_xmpp::jid::{BareJid, Jid};
use eider_xmpp::payload::roster::{Shown, query};
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::contacts::{Contacts, state_of};
use super::subscription::{self, Entry, Inbound, Kept, Outbound, Presence, Request, State};

use crate::xep::storage_error;

const LOCKS: usize = 256;
/// Contacts that an account has in the mean, for the bound of the cache.
const CONTACTS_PER_ACCOUNT: u64 = 16;
/// How often a change is tried where somebody else changes the same item.
const TRIES: usize = 5;

/// Why a change of the roster is refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database failed.
    #[error("storage: {0}")]
    Storage(#[from] eider_storage::Error),
    /// There is no such item.
    #[error("not in the roster")]
    NotFound,
    /// The roster is full, or others change the item all the time.
    #[error("the roster takes no more items")]
    Full,
    /// Too many others wait for the user's answer.
    #[error("too many requests wait for an answer")]
    TooManyRequests,
}

impl Error {
    /// What the client is told.
    pub fn to_error(&self) -> StanzaError {
        match self {
            Error::Storage(error) => storage_error(error),
            Error::NotFound => StanzaError::new(StanzaCondition::ItemNotFound),
            Error::Full => StanzaError::over("roster_items")
                .kind(ErrorType::Wait)
                .text(self.to_string()),
            Error::TooManyRequests => StanzaError::over("pending_requests"),
        }
    }
}

/// The bounds of one roster.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Items.
    pub items: u32,
    /// Requests that wait for the user's answer.
    pub pending: u32,
    /// Bytes of such a request; a longer one is kept without its payloads.
    pub pending_bytes: u32,
}

/// The answer to a roster get.
#[derive(Debug, PartialEq)]
pub enum Got {
    /// The whole roster: `<query/>` of the result.
    Whole(Element),
    /// The client's version is known: an empty result, then these pushes.
    Changes(Vec<Element>),
}

/// What a removal entails.
#[derive(Debug)]
pub struct Removal {
    /// `<query/>` of the push.
    pub push: Element,
    /// What the contact is told, bare JID to bare JID, in order.
    pub told: Vec<Request>,
    /// What the contact sees of the account's presence, before that.
    pub presence: Presence,
}

/// All rosters.
pub struct Rosters {
    storage: Arc<dyn Storage>,
    fence: Fence,
    hasher: RandomState,
    locks: Box<[Arc<Mutex<()>>]>,
    contacts: Cache<AccountId, Contacts, ByContacts>,
}

/// An account in the cache weighs as much as its contacts, but never so much that the cache would
/// not take it: who has read contacts into memory finds them there.
#[derive(Clone)]
struct ByContacts {
    heaviest: u64,
}

/// Parts of the cache's whole weight that one account takes at most; more than it has shards.
const HEAVIEST_PART: u64 = 1_024;

impl Weighter<AccountId, Contacts> for ByContacts {
    fn weight(&self, _: &AccountId, contacts: &Contacts) -> u64 {
        (1 + contacts.len() as u64).min(self.heaviest)
    }
}

fn shown(item: &RosterItem) -> Element {
    let shown = Shown {
        jid: &item.jid,
        name: item.name.as_deref(),
        subscription: state_of(item, false).as_str(),
        ask: item.ask,
        approved: item.approved,
        groups: &item.groups,
    };
    shown.to_element()
}

fn removed(jid: &str) -> Element {
    let shown = Shown {
        jid,
        name: None,
        subscription: "remove",
        ask: false,
        approved: false,
        groups: &[],
    };
    shown.to_element()
}

fn push(version: i64, item: Element) -> Element {
    query(Some(&version.to_string()), [item])
}

fn stored_state(state: State) -> Subscription {
    match (state.to(), state.from()) {
        (false, false) => Subscription::None,
        (true, false) => Subscription::To,
        (false, true) => Subscription::From,
        (true, true) => Subscription::Both,
    }
}

impl Rosters {
    /// Rosters in this database; those of about `accounts_max` accounts are held in memory.
    pub fn new(storage: Arc<dyn Storage>, fence: Fence, accounts_max: usize) -> Rosters {
        let locks = (0..LOCKS).map(|_| Arc::default()).collect();
        let weight_max = accounts_max as u64 * CONTACTS_PER_ACCOUNT;
        let heaviest = (weight_max / HEAVIEST_PART).max(1);
        let by_contacts = ByContacts { heaviest };
        Rosters {
            storage,
            fence,
            hasher: RandomState::new(),
            locks,
            contacts: Cache::with_weighter(accounts_max, weight_max, by_contacts),
        }
    }

    /// Keeps everybody else from changing the roster until dropped.
    pub async fn lock(&self, account: AccountId) -> OwnedMutexGuard<()> {
        let hash = self.hasher.hash_one(account) % LOCKS as u64;
        let lock = &self.locks[usize::try_from(hash).expect("less than LOCKS")];
        lock.clone().lock_owned().await
    }

    /// RFC 6121 §2.1.3 and §2.6: the roster, or what changed since the client's version.
    ///
    /// # Errors
    /// Storage's.
    pub async fn get(&self, account: AccountId, known: Option<&str>) -> Result<Got, Error> {
        if let Some(since) = known.and_then(|version| version.parse::<i64>().ok())
            && let Some(changes) = self.storage.roster_changes(account, since).await?
        {
            return Ok(Got::Changes(changes.iter().filter_map(interim).collect()));
        }
        let roster = self.storage.roster_items(account).await?;
        let items = roster.items.iter().filter(|item| !item.hidden).map(shown);
        let whole = query(Some(&roster.version.to_string()), items);
        self.contacts.insert(account, Contacts::new(roster.items));
        Ok(Got::Whole(whole))
    }

    /// RFC 6121 §2.3 and §2.4: adds or updates an item; `<query/>` of the push.
    ///
    /// # Errors
    /// [`Error::Full`], and storage's.
    pub async fn put(
        &self,
        account: AccountId,
        jid: &Jid,
        name: Option<&str>,
        groups: &[String],
        limits: Limits,
    ) -> Result<Element, Error> {
        for _ in 0..TRIES {
            let before = self.storage.roster_item(account, jid.as_str()).await?;
            let item = RosterItem {
                jid: jid.as_str().to_owned(),
                name: name.map(str::to_owned),
                groups: groups.to_vec(),
                hidden: false,
                ..before.clone().unwrap_or_default()
            };
            if let Some(pushed) = self.write(account, before.as_ref(), &item, limits).await? {
                return Ok(pushed);
            }
        }
        Err(Error::Full)
    }

    /// Writes an item in place of what was read; `None` where that has changed meanwhile.
    async fn write(
        &self,
        account: AccountId,
        before: Option<&RosterItem>,
        item: &RosterItem,
        limits: Limits,
    ) -> Result<Option<Element>, Error> {
        let expect = before.map_or(Expect::Absent, |before| Expect::Version(before.version));
        let put = self
            .storage
            .roster_put(self.fence, account, item, expect, limits.items);
        match put.await {
            Ok(version) => {
                self.update(account, |contacts| contacts.with(item));
                Ok(Some(push(version, shown(item))))
            }
            Err(eider_storage::Error::Conflict(_)) => Ok(None),
            Err(error) => {
                // It may have been written all the same: storage has the word.
                self.forget(account);
                Err(error.into())
            }
        }
    }

    /// RFC 6121 §2.5: removes an item and what was between the two.
    ///
    /// # Errors
    /// [`Error::NotFound`], and storage's.
    pub async fn remove(&self, account: AccountId, jid: &Jid) -> Result<Removal, Error> {
        let item = self.storage.roster_item(account, jid.as_str()).await?;
        let item = item.filter(|item| !item.hidden).ok_or(Error::NotFound)?;
        let pending = self.is_pending(account, jid.bare_str()).await?;
        let version = self
            .storage
            .roster_remove(self.fence, account, &item.jid)
            .await
            .inspect_err(|_| self.forget(account))?;
        self.update(account, |contacts| contacts.without(&item.jid));
        let version = version.ok_or(Error::NotFound)?;
        let mut removal = Removal {
            push: push(version, removed(&item.jid)),
            told: Vec::new(),
            presence: Presence::Nothing,
        };
        if jid.is_bare() {
            let state = state_of(&item, pending);
            let entry = Entry {
                state,
                listed: true,
                approved: item.approved,
            };
            (removal.told, removal.presence) = subscription::removal(entry);
            if pending {
                self.storage
                    .pending_remove(self.fence, account, jid.bare_str())
                    .await?;
            }
        }
        Ok(removal)
    }

    async fn is_pending(&self, account: AccountId, contact: &str) -> Result<bool, Error> {
        Ok(self.storage.pending_has(account, contact).await?)
    }

    async fn read(
        &self,
        account: AccountId,
        contact: &BareJid,
    ) -> Result<(Option<RosterItem>, Entry), Error> {
        let item = self.storage.roster_item(account, contact.as_str()).await?;
        let pending = self.is_pending(account, contact.as_str()).await?;
        let entry = match &item {
            Some(item) => Entry {
                state: state_of(item, pending),
                listed: !item.hidden,
                approved: item.approved,
            },
            None => Entry {
                state: State::new(false, false, false, pending),
                ..Entry::default()
            },
        };
        Ok((item, entry))
    }

    /// What is between the account and a contact.
    ///
    /// # Errors
    /// Storage's.
    pub async fn entry(&self, account: AccountId, contact: &BareJid) -> Result<Entry, Error> {
        Ok(self.read(account, contact).await?.1)
    }

    /// RFC 6121 §A.2: the account sends a subscription stanza: what follows, and `<query/>`
    /// of the push, written.
    ///
    /// # Errors
    /// [`Error::Full`], and storage's.
    pub async fn outbound(
        &self,
        account: AccountId,
        contact: &BareJid,
        request: Request,
        limits: Limits,
    ) -> Result<(Outbound, Option<Element>), Error> {
        for _ in 0..TRIES {
            let (item, before) = self.read(account, contact).await?;
            let decision = subscription::outbound(before, request);
            let Some(pushed) = self
                .apply(account, contact, item, before, decision.next, limits)
                .await?
            else {
                continue;
            };
            if decision.kept == Kept::Drop {
                self.storage
                    .pending_remove(self.fence, account, contact.as_str())
                    .await?;
            }
            return Ok((decision, pushed.filter(|_| decision.push)));
        }
        Err(Error::Full)
    }

    /// RFC 6121 §A.3: a contact sends a subscription stanza: what follows, and `<query/>`
    /// of the push, written. `None`: too many requests wait, this one is dropped unseen.
    ///
    /// # Errors
    /// [`Error::Full`], and storage's.
    pub async fn inbound(
        &self,
        account: AccountId,
        contact: &BareJid,
        request: Request,
        kept: Bytes,
        now: Timestamp,
        limits: Limits,
    ) -> Result<(Inbound, Option<Element>), Error> {
        for _ in 0..TRIES {
            let (item, before) = self.read(account, contact).await?;
            let decision = subscription::inbound(before, request);
            let Some(pushed) = self
                .apply(account, contact, item, before, decision.next, limits)
                .await?
            else {
                continue;
            };
            match decision.kept {
                Kept::Unchanged => {}
                Kept::Drop => {
                    self.storage
                        .pending_remove(self.fence, account, contact.as_str())
                        .await?;
                }
                Kept::Store => {
                    let from = contact.as_str().to_owned();
                    let request = PendingRequest {
                        from,
                        stanza: kept,
                        at: now,
                    };
                    let put =
                        self.storage
                            .pending_put(self.fence, account, &request, limits.pending);
                    if !put.await? {
                        return Err(Error::TooManyRequests);
                    }
                }
            }
            return Ok((decision, pushed.filter(|_| decision.push)));
        }
        Err(Error::Full)
    }

    /// Writes what a decision changed: the push of the item, if there is one. `None`: the
    /// item has changed meanwhile.
    async fn apply(
        &self,
        account: AccountId,
        contact: &BareJid,
        item: Option<RosterItem>,
        before: Entry,
        next: Entry,
        limits: Limits,
    ) -> Result<Option<Option<Element>>, Error> {
        let kept = |e: Entry| {
            (
                e.listed,
                e.approved,
                e.state.as_str(),
                e.state.pending_out(),
            )
        };
        if !next.listed || kept(before) == kept(next) {
            return Ok(Some(None));
        }
        let written = RosterItem {
            jid: contact.as_str().to_owned(),
            subscription: stored_state(next.state),
            ask: next.state.pending_out(),
            approved: next.approved,
            hidden: false,
            ..item.clone().unwrap_or_default()
        };
        Ok(self
            .write(account, item.as_ref(), &written, limits)
            .await?
            .map(Some))
    }

    /// Contacts that are in memory, without waiting.
    pub fn cached_contacts(&self, account: AccountId) -> Option<Contacts> {
        self.contacts.get(&account)
    }

    /// Every contact with a bare JID.
    ///
    /// # Errors
    /// Storage's.
    pub async fn contacts(&self, account: AccountId) -> Result<Contacts, eider_storage::Error> {
        let guard = match self.contacts.get_value_or_guard_async(&account).await {
            Ok(contacts) => return Ok(contacts),
            Err(guard) => guard,
        };
        let roster = self.storage.roster_items(account).await?;
        let contacts = Contacts::new(roster.items);
        // Refused where the roster was written meanwhile: then the next reader asks storage again.
        let _ = guard.insert(contacts.clone());
        Ok(contacts)
    }

    /// What was written, in memory too. A load under way then does not come back as a stale entry.
    fn update(&self, account: AccountId, change: impl FnOnce(&Contacts) -> Contacts) {
        if let Some((_, contacts)) = self.contacts.remove(&account) {
            self.contacts.insert(account, change(&contacts));
        }
    }

    /// Drops what is in memory of an account that is gone, or may have changed.
    pub fn forget(&self, account: AccountId) {
        self.contacts.remove(&account);
    }

    /// RFC 6121 §3.1.3: the requests that wait for the user's answer, oldest first.
    ///
    /// # Errors
    /// Storage's.
    pub async fn requests(
        &self,
        account: AccountId,
    ) -> Result<Vec<PendingRequest>, eider_storage::Error> {
        self.storage.pending_list(account).await
    }
}

/// One interim push (RFC 6121 §2.6.3).
fn interim(change: &RosterChange) -> Option<Element> {
    match change {
        RosterChange::Set(item) if item.hidden => None,
        RosterChange::Set(item) => Some(push(item.version, shown(item))),
        RosterChange::Removed { jid, version } => Some(push(*version, removed(jid))),
    }
}

#[cfg(test)]
mod tests;
