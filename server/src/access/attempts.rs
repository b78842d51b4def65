//! Limits on tries to log in, per account and per address, with the time to wait

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::counted_address;
use crate::config::{Limits, Login};

/// Accounts and addresses remembered each; beyond, who was counted longest ago is
/// forgotten.
const MAX_ENTRIES: usize = 100_000;
const MINUTE: Duration = Duration::from_secs(60);
/// Tries under way, for one account, where not more sessions are allowed to it, and from one address (IPv6: one
/// /64): all clients of a network that comes back must find room at once.
const ACCOUNT_AT_ONCE: u32 = 1_000;
const ADDRESS_AT_ONCE: u32 = 4_000;
/// Who finds too many tries under way comes again after this.
const SOON: Duration = Duration::from_millis(500);
/// How long an address is known as one of an account's.
const KNOWN_TIME: Duration = Duration::from_secs(30 * 24 * 3_600);

/// The limits that hold now; 0 means none.
#[derive(Clone, Copy, Debug)]
pub struct AttemptLimits {
    /// Failed tries for one account in a window.
    pub per_account: u32,
    /// Failed tries from one address in a window.
    pub per_address: u32,
    /// The window.
    pub window: Duration,
    /// Successful logins of one account in a minute.
    pub logins_per_minute: u32,
    /// Tries under way for one account, where `per_account` is a limit at all.
    pub account_at_once: u32,
}

impl AttemptLimits {
    /// As configured.
    pub fn new(login: &Login, limits: &Limits) -> Self {
        AttemptLimits {
            per_account: login.attempts_per_account,
            per_address: login.attempts_per_address,
            window: Duration::from_secs(u64::from(login.attempts_window_seconds.max(1))),
            logins_per_minute: login.logins_per_account_per_minute,
            account_at_once: limits.sessions_per_account.max(ACCOUNT_AT_ONCE),
        }
    }
}

/// Counts tries over all streams.
#[derive(Debug, Default)]
pub struct Attempts {
    /// By account; tries from an address where it has logged in lately are counted apart, so that
    /// strangers who guess do not keep its owner out.
    accounts: Mutex<Tries<(String, Option<IpAddr>)>>,
    addresses: Mutex<Tries<IpAddr>>,
    logins: Mutex<Windows<String>>,
    /// Where accounts have logged in lately.
    known: Mutex<Windows<(String, IpAddr)>>,
}

/// A try under way. Only its outcome is counted, when it is to be told, and held back where the limit is reached by
/// then: many tries at once tell no more than one after another.
#[derive(Debug)]
pub struct Attempt {
    attempts: Arc<Attempts>,
    account: (String, Option<IpAddr>),
    address: IpAddr,
    limits: AttemptLimits,
}

impl Attempts {
    /// Asked before a password is looked at.
    ///
    /// # Errors
    /// How long to wait before the next try.
    pub fn begin(
        self: &Arc<Self>,
        account: &str,
        address: IpAddr,
        limits: &AttemptLimits,
        now: Instant,
    ) -> Result<Attempt, Duration> {
        let address = counted_address(address);
        let here = (account.to_owned(), address);
        let is_known = self.known.lock().wait(&here, 1, KNOWN_TIME, now).is_some();
        let account = (here.0, is_known.then_some(address));
        let mut accounts = self.accounts.lock();
        let mut addresses = self.addresses.lock();
        let wait = self.wait(&accounts, &addresses, &account, address, limits, now);
        if let Some(wait) = wait {
            return Err(wait);
        }
        let is_full = |under_way: u32, limit: u32, bound: u32| limit != 0 && under_way >= bound;
        if is_full(
            accounts.under_way(&account),
            limits.per_account,
            limits.account_at_once,
        ) || is_full(
            addresses.under_way(&address),
            limits.per_address,
            ADDRESS_AT_ONCE,
        ) {
            return Err(SOON);
        }
        accounts.begun(account.clone());
        addresses.begun(address);
        Ok(Attempt {
            attempts: self.clone(),
            account,
            address,
            limits: *limits,
        })
    }

    fn wait(
        &self,
        accounts: &Tries<(String, Option<IpAddr>)>,
        addresses: &Tries<IpAddr>,
        account: &(String, Option<IpAddr>),
        address: IpAddr,
        limits: &AttemptLimits,
        now: Instant,
    ) -> Option<Duration> {
        let (window, logins) = (limits.window, self.logins.lock());
        let failed = accounts
            .failed
            .wait(account, limits.per_account, window, now);
        failed
            .max(
                addresses
                    .failed
                    .wait(&address, limits.per_address, window, now),
            )
            .max(logins.wait(&account.0, limits.logins_per_minute, MINUTE, now))
    }
}

impl Attempt {
    /// Asked before anything is told that depends on the password's being right.
    ///
    /// # Errors
    /// How long to wait before the next try, which is all that may be told.
    pub fn may_tell(&self, now: Instant) -> Result<(), Duration> {
        let attempts = &self.attempts;
        let (accounts, addresses) = (attempts.accounts.lock(), attempts.addresses.lock());
        self.wait(&accounts, &addresses, now).map_or(Ok(()), Err)
    }

    fn wait(
        &self,
        accounts: &Tries<(String, Option<IpAddr>)>,
        addresses: &Tries<IpAddr>,
        now: Instant,
    ) -> Option<Duration> {
        let (attempts, limits) = (&self.attempts, &self.limits);
        attempts.wait(
            accounts,
            addresses,
            &self.account,
            self.address,
            limits,
            now,
        )
    }

    /// The password was wrong: asked before that is told.
    ///
    /// # Errors
    /// How long to wait before the next try, which is all that may be told.
    pub fn failed(self, now: Instant) -> Result<(), Duration> {
        let attempts = &self.attempts;
        let (mut accounts, mut addresses) = (attempts.accounts.lock(), attempts.addresses.lock());
        if let Some(wait) = self.wait(&accounts, &addresses, now) {
            // The locks are free before the try is dropped.
            drop((accounts, addresses));
            return Err(wait);
        }
        let window = self.limits.window;
        accounts.failed.count(self.account.clone(), window, now);
        addresses.failed.count(self.address, window, now);
        drop((accounts, addresses));
        Ok(())
    }

    /// Counts a login; its account's failed tries are forgotten.
    pub fn succeeded(self, now: Instant) {
        let account = &self.account.0;
        let mut accounts = self.attempts.accounts.lock();
        accounts.failed.entries.remove(&self.account);
        drop(accounts);
        if self.limits.logins_per_minute != 0 {
            let mut logins = self.attempts.logins.lock();
            logins.count(account.clone(), MINUTE, now);
        }
        let mut known = self.attempts.known.lock();
        known.entries.remove(&(account.clone(), self.address));
        known.count((account.clone(), self.address), KNOWN_TIME, now);
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.attempts.accounts.lock().ended(&self.account);
        self.attempts.addresses.lock().ended(&self.address);
    }
}

/// Tries by what they are counted by.
#[derive(Debug)]
struct Tries<K> {
    failed: Windows<K>,
    /// Bounded by the streams there are.
    under_way: HashMap<K, u32>,
}

impl<K> Default for Tries<K> {
    fn default() -> Self {
        Tries {
            failed: Windows::default(),
            under_way: HashMap::new(),
        }
    }
}

impl<K: Eq + Hash> Tries<K> {
    fn under_way(&self, key: &K) -> u32 {
        self.under_way.get(key).copied().unwrap_or_default()
    }

    fn begun(&mut self, key: K) {
        *self.under_way.entry(key).or_default() += 1;
    }

    fn ended(&mut self, key: &K) {
        if let Some(count) = self.under_way.get_mut(key) {
            *count -= 1;
            if *count == 0 {
                self.under_way.remove(key);
            }
        }
    }
}

/// Counters that start at their first event and end with their window.
#[derive(Debug)]
struct Windows<K> {
    entries: HashMap<K, (Instant, u32)>,
}

impl<K> Default for Windows<K> {
    fn default() -> Self {
        Windows {
            entries: HashMap::new(),
        }
    }
}

impl<K: Eq + Hash> Windows<K> {
    /// How long until the window ends, where the limit is reached.
    fn wait<Q>(&self, key: &Q, limit: u32, window: Duration, now: Instant) -> Option<Duration>
    where
        K: std::borrow::Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let (start, count) = self.entries.get(key)?;
        let left = window.checked_sub(now.saturating_duration_since(*start))?;
        (limit != 0 && *count >= limit && !left.is_zero()).then_some(left)
    }

    fn count(&mut self, key: K, window: Duration, now: Instant) {
        if self.entries.len() >= MAX_ENTRIES && !self.entries.contains_key(&key) {
            self.forget(window, now);
        }
        let entry = self.entries.entry(key).or_insert((now, 0));
        if now.saturating_duration_since(entry.0) >= window {
            *entry = (now, 0);
        }
        entry.1 = entry.1.saturating_add(1);
    }

    /// Drops what is over, and where that is little, the older half.
    fn forget(&mut self, window: Duration, now: Instant) {
        self.entries
            .retain(|_, (start, _)| now.saturating_duration_since(*start) < window);
        if self.entries.len() > MAX_ENTRIES / 2 {
            let mut starts: Vec<Instant> = self.entries.values().map(|(start, _)| *start).collect();
            let middle = starts.len() / 2;
            let (_, median, _) = starts.select_nth_unstable(middle);
            let median = *median;
            self.entries.retain(|_, (start, _)| *start > median);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: AttemptLimits = AttemptLimits {
        per_account: 3,
        per_address: 5,
        window: Duration::from_secs(300),
        logins_per_minute: 2,
        account_at_once: 10,
    };

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const THERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    fn tries(
        attempts: &Arc<Attempts>,
        account: &str,
        from: IpAddr,
        now: Instant,
    ) -> Result<(), Duration> {
        attempts.begin(account, from, &LIMITS, now).map(drop)
    }

    fn fails(attempts: &Arc<Attempts>, account: &str, from: IpAddr, now: Instant) {
        let attempt = attempts.begin(account, from, &LIMITS, now);
        let told = attempt.expect("allowed").failed(now);
        told.expect("not held back");
    }

    fn logs_in(attempts: &Arc<Attempts>, account: &str, from: IpAddr, now: Instant) {
        let attempt = attempts.begin(account, from, &LIMITS, now);
        attempt.expect("allowed").succeeded(now);
    }

    #[test]
    fn tries_are_limited_per_account_and_per_address() {
        let attempts = Arc::new(Attempts::default());
        let start = Instant::now();
        for second in 0..3 {
            fails(&attempts, "a@x", HERE, start + Duration::from_secs(second));
        }
        let later = start + Duration::from_secs(100);
        let wait = Err(Duration::from_secs(200));
        assert_eq!(tries(&attempts, "a@x", THERE, later), wait, "from anywhere");
        for _ in 0..2 {
            fails(&attempts, "b@x", HERE, later);
        }
        assert_eq!(
            tries(&attempts, "c@x", HERE, later),
            wait,
            "the address is full"
        );
        assert_eq!(tries(&attempts, "c@x", THERE, later), Ok(()));
        let over = start + Duration::from_secs(300);
        assert_eq!(tries(&attempts, "a@x", HERE, over), Ok(()));
    }

    #[test]
    fn many_tries_at_once_tell_no_more_than_one_after_another() {
        let attempts = Arc::new(Attempts::default());
        let now = Instant::now();
        let begin = || attempts.begin("a@x", HERE, &LIMITS, now);
        let parked: Vec<Attempt> = (0..8).map(|_| begin().expect("allowed")).collect();
        let right = begin().expect("allowed");
        assert_eq!(right.may_tell(now), Ok(()));
        let told: Vec<_> = parked.into_iter().map(|wrong| wrong.failed(now)).collect();
        let (told, held_back) = told.split_at(3);
        assert_eq!(told, [Ok(()); 3], "as many as there may be");
        assert_eq!(held_back, [Err(LIMITS.window); 5]);
        assert_eq!(
            right.may_tell(now),
            Err(LIMITS.window),
            "nor that one is right"
        );
        drop(right);
        assert_eq!(tries(&attempts, "a@x", HERE, now), Err(LIMITS.window));
        assert_eq!(
            tries(&attempts, "b@x", HERE, now),
            Ok(()),
            "what is held back is not counted"
        );
    }

    #[test]
    fn many_logins_at_once_are_not_failures() {
        let attempts = Arc::new(Attempts::default());
        let now = Instant::now();
        let begin = || attempts.begin("a@x", HERE, &LIMITS, now);
        let parked: Vec<Attempt> = (0..10).map(|_| begin().expect("allowed")).collect();
        assert_eq!(begin().map(drop), Err(SOON), "too many for one account");
        let one_by_one = |number| attempts.begin(&format!("{number}@x"), HERE, &LIMITS, now);
        let others: Vec<_> = (10..ADDRESS_AT_ONCE).map(one_by_one).collect();
        assert!(others.iter().all(Result::is_ok));
        assert_eq!(
            tries(&attempts, "b@x", HERE, now),
            Err(SOON),
            "too many from one address"
        );
        assert_eq!(tries(&attempts, "b@x", THERE, now), Ok(()));
        drop((parked, others));
        assert_eq!(tries(&attempts, "a@x", HERE, now), Ok(()));
        assert!(attempts.addresses.lock().under_way.is_empty());
        assert!(attempts.accounts.lock().under_way.is_empty());
    }

    #[test]
    fn strangers_do_not_keep_an_account_out_where_it_has_logged_in() {
        let attempts = Arc::new(Attempts::default());
        let now = Instant::now();
        logs_in(&attempts, "a@x", HERE, now);
        for _ in 0..3 {
            fails(&attempts, "a@x", THERE, now);
        }
        assert_eq!(tries(&attempts, "a@x", THERE, now), Err(LIMITS.window));
        assert_eq!(tries(&attempts, "a@x", HERE, now), Ok(()));
        for _ in 0..3 {
            fails(&attempts, "a@x", HERE, now);
        }
        assert_eq!(tries(&attempts, "a@x", HERE, now), Err(LIMITS.window));
    }

    #[test]
    fn success_forgets_the_account_and_logins_are_limited_too() {
        let attempts = Arc::new(Attempts::default());
        let now = Instant::now();
        fails(&attempts, "a@x", HERE, now);
        fails(&attempts, "a@x", HERE, now);
        logs_in(&attempts, "a@x", HERE, now);
        fails(&attempts, "a@x", HERE, now);
        assert_eq!(tries(&attempts, "a@x", HERE, now), Ok(()));
        logs_in(&attempts, "a@x", HERE, now);
        assert_eq!(tries(&attempts, "a@x", HERE, now), Err(MINUTE));
        let none = AttemptLimits {
            per_account: 0,
            per_address: 0,
            logins_per_minute: 0,
            ..LIMITS
        };
        assert!(attempts.begin("a@x", HERE, &none, now).is_ok());
    }

    #[test]
    fn memory_is_bounded() {
        let mut windows = Windows::default();
        let start = Instant::now();
        for count in 0..MAX_ENTRIES as u64 + 10 {
            let now = start + Duration::from_micros(count);
            windows.count(count, Duration::from_secs(300), now);
        }
        assert!(windows.entries.len() <= MAX_ENTRIES);
        assert!(windows.entries.contains_key(&(MAX_ENTRIES as u64)));
    }
}
