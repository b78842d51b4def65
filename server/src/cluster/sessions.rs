//! Which sessions an account has here (DESIGN §4): bare JID to handles and debts.
//!
//! Plain sharded locks, never held across an await. Delivery pushes into mailboxes
//! while it holds the shard, so that two senders' stanzas reach every resource in one order.

use std::collections::{BTreeSet, HashMap};
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicI16, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use eider_storage::AccountId;
use eider_xmpp::jid::{BareJid, FullJid, Jid};
use eider_xmpp::stanza::Stanza;
use foldhash::fast::RandomState;
use parking_lot::Mutex;
use rustls::ProtocolVersion;
use tokio_util::sync::CancellationToken;

use crate::account::ledger::{Acknowledged, Ledger};
use crate::account::resends::Watch;
use crate::c2s::errand::Errand;
use crate::c2s::mailbox::Mailbox;
use crate::xep::capabilities::Interests;
use crate::xep::carbons::Copied;

const SHARDS: usize = 64;
/// Stored in place of a priority while a resource is not available.
const UNAVAILABLE: i16 = i16::MIN;

/// What administrators are shown of a session; counted by the session, read by whoever asks.
#[derive(Debug, Default)]
pub struct About {
    /// The SASL mechanism of the login.
    pub mechanism: Mutex<&'static str>,
    /// Version and cipher suite of TLS.
    pub tls: Mutex<Option<(ProtocolVersion, &'static str)>>,
    /// Stanzas read from the client.
    pub stanzas_in: AtomicU64,
    /// Stanzas written to the client.
    pub stanzas_out: AtomicU64,
    /// When anything was last read, in seconds after the session's start.
    pub read_at_seconds: AtomicU64,
    /// Unix seconds at which a session without a stream ends; 0 with one.
    pub waits_until: AtomicU64,
    /// Whether stream management is on.
    pub stream_management: AtomicBool,
    /// Whether its client may resume it.
    pub resumable: AtomicBool,
    /// Whether the client says it is inactive.
    pub inactive: AtomicBool,
}

/// What others may know and do about one bound resource.
pub struct SessionHandle {
    /// The bound full JID.
    pub full: FullJid,
    /// Its account, as JIDs are compared.
    pub bare: BareJid,
    /// The account's number in storage; `None` for anonymous users.
    pub account: Option<AccountId>,
    /// Tells two sessions of one full JID apart.
    pub key: u64,
    /// The way in.
    pub mailbox: Mailbox,
    /// When the resource was bound.
    pub since: SystemTime,
    ended: OnceLock<CancellationToken>,
    /// For administrators.
    pub about: About,
    peer: Mutex<Option<IpAddr>>,
    weight: AtomicU32,
    priority: AtomicI16,
    carbons: AtomicBool,
    interested: AtomicBool,
    blocking_interest: AtomicBool,
    presence: Mutex<Option<Stanza>>,
    directed: Mutex<BTreeSet<Jid>>,
    /// What its messages are compared with, because its client may send some again.
    pub resends: Mutex<Watch>,
    interests: Mutex<Option<Arc<Interests>>>,
    /// Shows presence again that there was no room for.
    pub shows_again: Errand,
    /// Sends the last items of what its client wants to hear of.
    pub last_items: Errand,
}

impl SessionHandle {
    /// A handle of a resource that is not available yet.
    pub fn new(
        full: FullJid,
        account: Option<AccountId>,
        peer: Option<IpAddr>,
        since: SystemTime,
        limit_bytes: usize,
    ) -> SessionHandle {
        static NEXT_KEY: AtomicU64 = AtomicU64::new(1);
        SessionHandle {
            bare: full.bare(),
            full,
            account,
            key: NEXT_KEY.fetch_add(1, Ordering::Relaxed),
            mailbox: Mailbox::new(limit_bytes),
            since,
            ended: OnceLock::new(),
            about: About::default(),
            peer: Mutex::new(peer),
            weight: AtomicU32::new(0),
            priority: AtomicI16::new(UNAVAILABLE),
            carbons: AtomicBool::new(false),
            interested: AtomicBool::new(false),
            blocking_interest: AtomicBool::new(false),
            presence: Mutex::new(None),
            directed: Mutex::new(BTreeSet::new()),
            interests: Mutex::new(None),
            resends: Mutex::default(),
            shows_again: Errand::default(),
            last_items: Errand::default(),
        }
    }

    /// Cancelled once the session has ended and told its contacts. Made for the first who asks: few
    /// sessions ever have anyone wait for their end.
    pub fn ended(&self) -> &CancellationToken {
        self.ended.get_or_init(CancellationToken::new)
    }

    /// The priority of the last presence, or `None` while unavailable.
    pub fn priority(&self) -> Option<i8> {
        i8::try_from(self.priority.load(Ordering::Acquire)).ok()
    }

    /// Whether the resource takes messages for its account: available and not of negative priority.
    pub fn takes_messages(&self) -> bool {
        self.priority().is_some_and(|priority| priority >= 0)
    }

    /// The last broadcast presence.
    pub fn presence(&self) -> Option<Stanza> {
        self.presence.lock().clone()
    }

    /// Notes a broadcast presence; `None` for unavailable.
    pub fn set_presence(&self, presence: Option<(Stanza, i8)>) {
        let priority = presence
            .as_ref()
            .map_or(UNAVAILABLE, |(_, priority)| i16::from(*priority));
        *self.presence.lock() = presence.map(|(stanza, _)| stanza);
        self.priority.store(priority, Ordering::Release);
    }

    /// Available from bind on, without any presence: on a host that has none.
    pub fn set_available(&self) {
        self.priority.store(0, Ordering::Release);
    }

    /// The weight of the traffic class that its stream is in.
    pub fn weight(&self) -> u32 {
        self.weight.load(Ordering::Relaxed)
    }

    /// It has a stream, of this weight.
    pub fn set_weight(&self, weight: u32) {
        self.weight.store(weight, Ordering::Relaxed);
    }

    /// XEP-0280: whether copies are wanted.
    pub fn carbons(&self) -> bool {
        self.carbons.load(Ordering::Acquire)
    }

    /// XEP-0280 §4, §5.
    pub fn set_carbons(&self, wanted: bool) {
        self.carbons.store(wanted, Ordering::Release);
    }

    /// RFC 6121 §2.2: whether the resource asked for the roster and so gets pushes.
    pub fn interested(&self) -> bool {
        self.interested.load(Ordering::Acquire)
    }

    /// See [`SessionHandle::interested`].
    pub fn set_interested(&self) {
        self.interested.store(true, Ordering::Release);
    }

    /// XEP-0191 §3.2: whether the resource asked for the block list and so gets pushes.
    pub fn blocking_interest(&self) -> bool {
        self.blocking_interest.load(Ordering::Acquire)
    }

    /// See [`SessionHandle::blocking_interest`].
    pub fn set_blocking_interest(&self) {
        self.blocking_interest.store(true, Ordering::Release);
    }

    /// RFC 6121 §4.6: whom this resource has sent its presence to, beside its contacts.
    pub fn directed(&self) -> Vec<Jid> {
        self.directed.lock().iter().cloned().collect()
    }

    /// Notes a directed presence; false where `max` others are noted already.
    pub fn add_directed(&self, to: Jid, max: usize) -> bool {
        let mut directed = self.directed.lock();
        if directed.len() >= max && !directed.contains(&to) {
            return false;
        }
        directed.insert(to);
        true
    }

    /// A directed presence was taken back.
    pub fn remove_directed(&self, to: &Jid) {
        self.directed.lock().remove(to);
    }

    /// Whether presence was sent to anyone beside the contacts.
    pub fn has_any_directed(&self) -> bool {
        !self.directed.lock().is_empty()
    }

    /// Whether the account of that bare JID, or a resource of it, was sent presence.
    pub fn has_directed(&self, bare: &str) -> bool {
        self.directed.lock().iter().any(|to| to.bare_str() == bare)
    }

    /// The account of that bare JID learns of the end in another way.
    pub fn remove_directed_account(&self, bare: &str) {
        self.directed.lock().retain(|to| to.bare_str() != bare);
    }

    /// All of them are taken back.
    pub fn take_directed(&self) -> BTreeSet<Jid> {
        std::mem::take(&mut *self.directed.lock())
    }

    /// XEP-0115: pubsub nodes that the client wants to hear of, as far as it is known.
    pub fn interests(&self) -> Option<Arc<Interests>> {
        self.interests.lock().clone()
    }

    /// Notes what the client wants to hear of; what it was before.
    pub fn set_interests(&self, interests: Option<Arc<Interests>>) -> Option<Arc<Interests>> {
        std::mem::replace(&mut self.interests.lock(), interests)
    }

    /// The address of the current stream's client, or of the last one.
    pub fn peer(&self) -> Option<IpAddr> {
        *self.peer.lock()
    }

    /// A resumed session has a new stream.
    pub fn set_peer(&self, peer: Option<IpAddr>) {
        *self.peer.lock() = peer;
    }
}

/// One account with sessions here.
pub struct Entry {
    /// Its bound resources, oldest first.
    pub sessions: Vec<Arc<SessionHandle>>,
    /// Its delivery debts.
    pub ledger: Ledger,
    /// Messages its resources have sent one another copies of.
    pub copied: Copied,
}

impl Entry {
    /// Whether any of its resources is available.
    pub fn is_available(&self) -> bool {
        self.sessions
            .iter()
            .any(|handle| handle.priority().is_some())
    }

    /// The session bound to `resource`.
    pub fn find(&self, resource: &str) -> Option<&Arc<SessionHandle>> {
        self.sessions
            .iter()
            .find(|handle| handle.full.resource() == resource)
    }

    /// Who reads what became owed: the account's best resource that takes messages, of those that have a stream
    /// before those that wait for their client.
    pub fn heir(&self) -> Option<Arc<SessionHandle>> {
        let takers = self.sessions.iter().filter(|other| other.takes_messages());
        let is_connected =
            |other: &SessionHandle| other.about.waits_until.load(Ordering::Relaxed) == 0;
        takers
            .max_by_key(|other| (is_connected(other), other.priority()))
            .cloned()
    }
}

/// What a session leaves behind.
#[derive(Default)]
pub struct Departure {
    /// It was the account's last one, and surely nothing is owed to the account.
    pub nothing_owed: bool,
    /// Debts may be free: this resource shall read them.
    pub heir: Option<Arc<SessionHandle>>,
}

/// The ledger of an account whose last session has just left.
struct Left {
    /// An account made anew under the same name has another archive.
    account: Option<AccountId>,
    ledger: Ledger,
    /// How often paid debts were collected since.
    collected: u8,
}

/// Collections of paid debts after which what a left ledger knew is surely in storage.
const LEFT_COLLECTIONS: u8 = 2;

#[derive(Default)]
struct ShardState {
    entries: HashMap<BareJid, Box<Entry>, RandomState>,
    /// Paid debts are written a moment later: who logs in before that must not get them again.
    left: HashMap<BareJid, Left, RandomState>,
}

type Shard = Mutex<ShardState>;

/// See the module's documentation.
pub struct Sessions {
    hasher: RandomState,
    shards: Box<[Shard]>,
}

impl Default for Sessions {
    fn default() -> Sessions {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Sessions {
            hasher: RandomState::default(),
            shards,
        }
    }
}

impl Sessions {
    fn shard(&self, bare: &str) -> &Shard {
        let hash = self.hasher.hash_one(bare);
        &self.shards[usize::try_from(hash % SHARDS as u64).expect("less than SHARDS")]
    }

    /// Runs `look` with the account's entry, under its lock; `None` without sessions.
    pub fn with<R>(&self, bare: &str, look: impl FnOnce(Option<&mut Entry>) -> R) -> R {
        look(
            self.shard(bare)
                .lock()
                .entries
                .get_mut(bare)
                .map(Box::as_mut),
        )
    }

    /// Adds a session; a fresh ledger starts from what storage knew at login.
    ///
    /// # Errors
    /// The session that holds the full JID now, or one of an account that had the name before.
    pub fn insert(
        &self,
        handle: &Arc<SessionHandle>,
        stored: Acknowledged,
    ) -> Result<(), Arc<SessionHandle>> {
        let mut shard = self.shard(handle.bare.as_str()).lock();
        let ShardState { entries, left } = &mut *shard;
        let entry = entries.entry(handle.bare.clone()).or_insert_with(|| {
            let left = left.remove(handle.bare.as_str());
            let left = left.filter(|left| left.account == handle.account);
            Box::new(Entry {
                // Most accounts have one session.
                sessions: Vec::with_capacity(1),
                copied: Copied::default(),
                ledger: left.map_or_else(|| Ledger::new(stored), |left| left.ledger.reopened()),
            })
        });
        // Sessions of an account that was removed and made anew go first: their debts are others.
        let mut sessions = entry.sessions.iter();
        let holder = sessions.find(|other| {
            other.full.resource() == handle.full.resource() || other.account != handle.account
        });
        if let Some(holder) = holder {
            return Err(holder.clone());
        }
        entry.sessions.push(handle.clone());
        Ok(())
    }

    /// Removes this very session, and gives back the debts it held. The last one takes the ledger
    /// along; what it knew of paid debts is handed to `save` under the lock.
    pub fn remove(&self, handle: &SessionHandle, save: impl FnOnce(Acknowledged)) -> Departure {
        let mut shard = self.shard(handle.bare.as_str()).lock();
        let mut departure = Departure::default();
        let Some(entry) = shard.entries.get_mut(handle.bare.as_str()) else {
            return departure;
        };
        entry.sessions.retain(|other| other.key != handle.key);
        if entry.ledger.release(handle.key) {
            departure.heir = entry.heir();
        }
        if let Some(acknowledged) = entry.ledger.take_dirty() {
            save(acknowledged);
        }
        if entry.sessions.is_empty()
            && let Some((bare, entry)) = shard.entries.remove_entry(handle.bare.as_str())
        {
            departure.nothing_owed = entry.ledger.is_settled();
            let left = Left {
                account: handle.account,
                ledger: entry.ledger,
                collected: 0,
            };
            shard.left.insert(bare, left);
        }
        departure
    }

    /// The session of a full JID.
    pub fn find(&self, full: &FullJid) -> Option<Arc<SessionHandle>> {
        self.with(full.bare_str(), |entry| {
            entry.and_then(|entry| entry.find(full.resource()).cloned())
        })
    }

    /// All sessions of an account.
    pub fn of(&self, bare: &str) -> Vec<Arc<SessionHandle>> {
        self.with(bare, |entry| {
            entry
                .map(|entry| entry.sessions.clone())
                .unwrap_or_default()
        })
    }

    /// All sessions, shard by shard.
    pub fn all(&self) -> Vec<Arc<SessionHandle>> {
        let mut all = Vec::new();
        for shard in &self.shards {
            all.extend(
                shard
                    .lock()
                    .entries
                    .values()
                    .flat_map(|entry| entry.sessions.iter().cloned()),
            );
        }
        all
    }

    /// How many sessions there are.
    pub fn count(&self) -> usize {
        self.shards
            .iter()
            .map(|shard| {
                shard
                    .lock()
                    .entries
                    .values()
                    .map(|entry| entry.sessions.len())
                    .sum::<usize>()
            })
            .sum()
    }

    /// Paid debts of every account that changed since the last call.
    pub fn take_dirty_ledgers(&self) -> Vec<(AccountId, Acknowledged)> {
        let mut dirty = Vec::new();
        for shard in &self.shards {
            let mut shard = shard.lock();
            shard.left.retain(|_, left| {
                left.collected += 1;
                left.collected <= LEFT_COLLECTIONS
            });
            for entry in shard.entries.values_mut() {
                let account = entry.sessions.first().and_then(|handle| handle.account);
                if let (Some(account), Some(acknowledged)) = (account, entry.ledger.take_dirty()) {
                    dirty.push((account, acknowledged));
                }
            }
        }
        dirty
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(account: i64) -> Arc<SessionHandle> {
        let full = "anna@localhost/a".parse().unwrap();
        let account = Some(AccountId(account));
        let since = SystemTime::UNIX_EPOCH;
        Arc::new(SessionHandle::new(full, account, None, since, 1024))
    }

    #[test]
    fn who_has_a_stream_reads_what_became_owed() {
        let sessions = Sessions::default();
        let taker = |full: &str, priority| {
            let full = full.parse().unwrap();
            let since = SystemTime::UNIX_EPOCH;
            let handle = SessionHandle::new(full, Some(AccountId(1)), None, since, 1024);
            let presence = bytes::Bytes::from_static(b"<presence/>");
            let presence = Stanza::parse_stored(presence).unwrap();
            handle.set_presence(Some((presence, priority)));
            let handle = Arc::new(handle);
            assert!(sessions.insert(&handle, Acknowledged::default()).is_ok());
            handle
        };
        let (away, here) = (taker("anna@h/away", 5), taker("anna@h/here", 0));
        let heir = || sessions.with("anna@h", |entry| entry?.heir().map(|heir| heir.key));
        assert_eq!(heir(), Some(away.key));
        away.about.waits_until.store(1, Ordering::Relaxed);
        assert_eq!(heir(), Some(here.key));
    }

    #[test]
    fn an_account_made_anew_owes_nothing_of_the_old_one() {
        let sessions = Sessions::default();
        let old = session(1);
        let paid = Acknowledged {
            up_to: 500,
            above: Vec::new(),
        };
        assert!(sessions.insert(&old, paid).is_ok());
        let new = session(2);
        let holder = sessions.insert(&new, Acknowledged::default());
        assert_eq!(holder.err().map(|holder| holder.key), Some(old.key));
        sessions.remove(&old, |_| {});
        assert!(sessions.insert(&new, Acknowledged::default()).is_ok());
        let claimed = sessions.with("anna@localhost", |entry| {
            entry.is_some_and(|entry| entry.ledger.claim(1, new.key))
        });
        assert!(claimed, "its first message is not paid");
    }
}
