//! Account facts that every message needs (DESIGN §3): who exists, block list, archive preferences.
//!
//! Cached and bounded; [`AccountFacts::forget`] is the one way to drop an entry, and a load
//! that was under way when it was called does not come back as a stale entry. Who changes an
//! account calls it on a way that goes to its end whatever becomes of the session that asked.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use eider_storage::{
    AccountId, ArchiveDefault, ArchivePreferences, DebtTotals, LoginRecord, Storage,
};
use eider_xmpp::jid::{BareJid, Jid};
use parking_lot::Mutex;
use quick_cache::sync::Cache;
use tokio::time::Instant;

use crate::config::ConfigWatch;

/// A total that leaves no room is believed for so long: what was paid since may not have been in storage yet.
const FULL_BELIEVED: Duration = Duration::from_secs(5);

/// What waits for an account that is away, counted since it was last read.
#[derive(Debug, Default)]
pub struct Owed {
    count: Mutex<Count>,
    /// One reads the total at a time, and those behind it take what it read.
    reading: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Count {
    /// Read at this time, and what was stored since.
    total: Option<(DebtTotals, Instant)>,
    /// On its way into storage.
    submitted: DebtTotals,
}

/// What may wait of one kind.
#[derive(Debug, Clone, Copy)]
pub struct Bound {
    /// Whether it is of those that are archived, or of the others.
    pub archived: bool,
    /// Messages.
    pub rows_max: u64,
    /// Bytes of them.
    pub bytes_max: u64,
}

impl Owed {
    /// Whether one more message is within its bound; `None` where the total has to be read first.
    pub fn has_room(&self, bytes: u64, bound: &Bound, now: Instant) -> Option<bool> {
        let count = self.count.lock();
        let (total, read_at) = count.total.as_ref()?;
        let (total, submitted) = (total.of(bound.archived), count.submitted.of(bound.archived));
        let has_room = total.rows + submitted.rows < bound.rows_max
            && total.bytes + submitted.bytes + bytes <= bound.bytes_max;
        (has_room || now < *read_at + FULL_BELIEVED).then_some(has_room)
    }

    fn is_fresh(&self, now: Instant) -> bool {
        let count = self.count.lock();
        count
            .total
            .is_some_and(|(_, read_at)| now < read_at + FULL_BELIEVED)
    }

    fn was_read(&self, total: DebtTotals, now: Instant) {
        self.count.lock().total = Some((total, now));
    }

    /// Nothing is owed: everything was acknowledged, though storage may not know yet.
    pub fn settle(&self, now: Instant) {
        self.was_read(DebtTotals::default(), now);
    }

    /// The account takes its messages: what is owed afterwards is not known.
    pub fn forget(&self) {
        self.count.lock().total = None;
    }
}

/// A message counted as owed to an account from before its commit on, so that a flood in flight
/// is within the bounds too. Dropped without that commit, it counts no more.
#[derive(Debug)]
pub struct Counted {
    facts: Arc<Facts>,
    archived: bool,
    bytes: u64,
    stored: AtomicBool,
}

impl Counted {
    /// Counts a message of so many bytes.
    pub fn new(facts: Arc<Facts>, archived: bool, bytes: u64) -> Counted {
        let mut count = facts.owed.count.lock();
        let submitted = count.submitted.of_mut(archived);
        submitted.rows += 1;
        submitted.bytes += bytes;
        drop(count);
        Counted {
            facts,
            archived,
            bytes,
            stored: AtomicBool::new(false),
        }
    }

    /// The message is committed: it is owed.
    pub fn stored(&self) {
        if self.stored.swap(true, Ordering::Relaxed) {
            return;
        }
        let mut count = self.facts.owed.count.lock();
        self.take_back(&mut count);
        if let Some((total, _)) = &mut count.total {
            let total = total.of_mut(self.archived);
            total.rows += 1;
            total.bytes += self.bytes;
        }
    }

    fn take_back(&self, count: &mut Count) {
        let submitted = count.submitted.of_mut(self.archived);
        submitted.rows -= 1;
        submitted.bytes -= self.bytes;
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if !*self.stored.get_mut() {
            self.take_back(&mut self.facts.owed.count.lock());
        }
    }
}

/// What is known of one account.
#[derive(Debug)]
pub struct Facts {
    /// Its number in storage.
    pub id: AccountId,
    /// Whether logging in is barred.
    pub disabled: bool,
    /// Subscription requests that wait for the user's answer (RFC 6121 §3.1.3).
    pub pending_requests: u32,
    /// What the user set about archiving; `None` leaves it to the host.
    pub archive_preferences: Option<ArchivePreferences>,
    /// How much waits for the account while nobody takes it.
    pub owed: Owed,
    bare: BareJid,
    blocked: HashSet<String>,
}

impl Facts {
    /// Keeps of the login record of the account `bare` what messages need.
    pub fn new(bare: BareJid, record: LoginRecord) -> Facts {
        Facts {
            id: record.id,
            disabled: record.disabled,
            pending_requests: record.pending_requests,
            archive_preferences: record.archive_preferences,
            owed: Owed::default(),
            bare,
            blocked: record.block_list.jids.into_iter().collect(),
        }
    }

    /// Whose they are.
    pub fn bare(&self) -> &BareJid {
        &self.bare
    }

    /// What the user chose for messages with `peer` (XEP-0441 §2); `None` leaves it to the host.
    pub fn archive_choice(&self, peer: &Jid) -> Option<ArchiveDefault> {
        let preferences = self.archive_preferences.as_ref()?;
        let names = |list: &[String]| {
            list.iter()
                .any(|jid| jid == peer.as_str() || jid == peer.bare_str())
        };
        if names(&preferences.always) {
            return Some(ArchiveDefault::Always);
        }
        if names(&preferences.never) {
            return Some(ArchiveDefault::Never);
        }
        Some(preferences.default)
    }

    /// Whether stanzas from or to `jid` are blocked (XEP-0191 §2.1, the four forms of a JID). An
    /// account never blocks itself, also where it blocks its domain.
    pub fn blocks(&self, jid: &Jid) -> bool {
        if self.blocked.is_empty() || jid.bare_str() == self.bare.as_str() {
            return false;
        }
        self.blocked.contains(jid.as_str())
            || self.blocked.contains(jid.bare_str())
            || self.blocked.contains(jid.domain())
            || jid.resource().is_some_and(|resource| {
                self.blocked
                    .contains(&format!("{}/{resource}", jid.domain()))
            })
    }
}

/// An account's facts, or `None` where there is no such account.
pub type Known = Option<Arc<Facts>>;

/// See the module's documentation.
pub struct AccountFacts {
    storage: Arc<dyn Storage>,
    config: ConfigWatch,
    cache: Cache<BareJid, Known>,
}

impl AccountFacts {
    /// An empty cache of at most `limits.facts_cache_entries`.
    pub fn new(storage: Arc<dyn Storage>, config: ConfigWatch) -> AccountFacts {
        let entries = config.borrow().limits.facts_cache_entries as usize;
        AccountFacts {
            storage,
            config,
            cache: Cache::new(entries),
        }
    }

    /// What is in memory, without waiting.
    pub fn cached(&self, account: &str) -> Option<Known> {
        self.cache.get(account)
    }

    /// What is in memory or storage.
    ///
    /// # Errors
    /// Storage's.
    pub async fn load(&self, account: &BareJid) -> Result<Known, eider_storage::Error> {
        let guard = match self.cache.get_value_or_guard_async(account).await {
            Ok(known) => return Ok(known),
            Err(guard) => guard,
        };
        let known = match account.localpart() {
            Some(localpart) => {
                self.storage
                    .account_login(account.domain(), localpart)
                    .await?
            }
            None => None,
        };
        let known: Known = known.map(|record| Arc::new(Facts::new(account.clone(), record)));
        // Refused where `forget` was called meanwhile: then the next reader asks storage again.
        let _ = guard.insert(known.clone());
        Ok(known)
    }

    /// Reads how much waits for an account, so that [`Owed`] can count on: at most once in a while, whoever asks.
    ///
    /// # Errors
    /// Storage's.
    pub async fn load_owed(&self, account: &BareJid) -> Result<(), eider_storage::Error> {
        if let Some(facts) = self.load(account).await? {
            let _turn = facts.owed.reading.lock().await;
            if facts.owed.is_fresh(Instant::now()) {
                return Ok(());
            }
            let rows_max = {
                let limits = &self.config.borrow().limits;
                let both = limits
                    .offline_messages
                    .saturating_add(limits.offline_archived_messages);
                both.saturating_add(1)
            };
            let total = self.storage.archive_debt_total(facts.id, rows_max).await?;
            facts.owed.was_read(total, Instant::now());
        }
        Ok(())
    }

    /// Drops what is known of an account, because it has changed.
    pub fn forget(&self, account: &str) {
        self.cache.remove(account);
    }
}

impl std::fmt::Debug for AccountFacts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AccountFacts")
            .field("entries", &self.cache.len())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(blocked: &[&str]) -> Arc<Facts> {
        let bare = BareJid::parse("anna@localhost").unwrap();
        Arc::new(Facts {
            id: AccountId(1),
            disabled: false,
            pending_requests: 0,
            archive_preferences: None,
            owed: Owed::default(),
            bare,
            blocked: blocked.iter().map(|jid| (*jid).to_owned()).collect(),
        })
    }

    #[test]
    fn who_blocks_the_own_domain_does_not_block_itself() {
        let facts = facts(&["localhost"]);
        let blocks = |jid: &str| facts.blocks(&Jid::parse(jid).unwrap());
        assert!(blocks("bert@localhost/x") && blocks("localhost"));
        assert!(!blocks("anna@localhost") && !blocks("anna@localhost/other"));
    }

    fn bound(archived: bool, rows_max: u64) -> Bound {
        Bound {
            archived,
            rows_max,
            bytes_max: 100,
        }
    }

    #[test]
    fn what_was_not_stored_is_not_owed_and_nothing_is_read_for_it() {
        let facts = facts(&[]);
        let now = Instant::now();
        let has_room = || facts.owed.has_room(0, &bound(true, 1), now);
        facts.owed.settle(now);
        let under_way = Counted::new(facts.clone(), true, 10);
        assert_eq!(has_room(), Some(false));
        drop(under_way);
        assert_eq!(has_room(), Some(true));
        let stored = Counted::new(facts.clone(), true, 10);
        stored.stored();
        assert_eq!(facts.owed.has_room(0, &bound(true, 2), now), Some(true));
        drop(stored);
        assert_eq!(has_room(), Some(false));
        let other = facts.owed.has_room(0, &bound(false, 1), now);
        assert_eq!(other, Some(true), "each kind has its own bound");
    }

    #[test]
    fn a_full_total_is_read_again_after_a_while_and_not_before() {
        let facts = facts(&[]);
        let now = Instant::now();
        let mut total = DebtTotals::default();
        total.archived.rows = 9;
        facts.owed.was_read(total, now);
        let has_room = |rows_max, now| facts.owed.has_room(0, &bound(true, rows_max), now);
        assert_eq!(has_room(9, now), Some(false));
        assert!(facts.owed.is_fresh(now));
        let later = now + FULL_BELIEVED;
        assert_eq!(has_room(9, later), None);
        assert!(!facts.owed.is_fresh(later));
        assert_eq!(has_room(10, later), Some(true));
    }
}
