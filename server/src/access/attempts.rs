//! Limits on tries to log in, per account and per address, with the time to wait

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::counted_address;
use crate::config::Login;

/// Accounts and addresses remembered each; beyond, who was counted longest ago is
/// forgotten.
const MAX_ENTRIES: usize = 100_000;
const MINUTE: Duration = Duration::from_secs(60);
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
}

impl From<&Login> for AttemptLimits {
    fn from(login: &Login) -> Self {
        AttemptLimits {
            per_account: login.attempts_per_account,
            per_address: login.attempts_per_address,
            window: Duration::from_secs(u64::from(login.attempts_window_seconds.max(1))),
            logins_per_minute: login.logins_per_account_per_minute,
        }
    }
}

/// Counts tries over all streams.
#[derive(Debug, Default)]
pub struct Attempts {
    /// By account; tries from an address where it has logged in lately are counted apart, so that
    /// strangers who guess do not keep its owner out.
    accounts: Mutex<Windows<(String, Option<IpAddr>)>>,
    addresses: Mutex<Windows<IpAddr>>,
    logins: Mutex<Windows<String>>,
    /// Where accounts have logged in lately.
    known: Mutex<Windows<(String, IpAddr)>>,
}

/// A try under way. It counts as failed from its beginning, so that many at once are not more than
/// one after another; given back when dropped without having failed.
#[derive(Debug)]
pub struct Attempt {
    attempts: Arc<Attempts>,
    account: (String, Option<IpAddr>),
    address: IpAddr,
    limits: AttemptLimits,
    failed: bool,
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
        let account_key = (here.0, is_known.then_some(address));
        let mut accounts = self.accounts.lock();
        let mut addresses = self.addresses.lock();
        let wait = accounts
            .wait(&account_key, limits.per_account, limits.window, now)
            .max(addresses.wait(&address, limits.per_address, limits.window, now))
            .max(
                self.logins
                    .lock()
                    .wait(account, limits.logins_per_minute, MINUTE, now),
            );
        if let Some(wait) = wait {
            return Err(wait);
        }
        accounts.count(account_key.clone(), limits.window, now);
        addresses.count(address, limits.window, now);
        Ok(Attempt {
            attempts: self.clone(),
            account: account_key,
            address,
            limits: *limits,
            failed: false,
        })
    }
}

impl Attempt {
    /// The password was wrong.
    pub fn failed(mut self) {
        self.failed = true;
    }

    /// Counts a login; its account's failed tries are forgotten.
    pub fn succeeded(self, now: Instant) {
        let account = &self.account.0;
        self.attempts.accounts.lock().entries.remove(&self.account);
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
        if !self.failed {
            self.attempts.accounts.lock().take_back(&self.account);
            self.attempts.addresses.lock().take_back(&self.address);
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

    /// One counted is not one after all.
    fn take_back(&mut self, key: &K) {
        if let Some((_, count)) = self.entries.get_mut(key) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.entries.remove(key);
            }
        }
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
        attempt.expect("allowed").failed();
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
    fn many_tries_at_once_are_not_more_than_one_after_another() {
        let attempts = Arc::new(Attempts::default());
        let now = Instant::now();
        let parked: Vec<Attempt> = (0..3)
            .map(|_| attempts.begin("a@x", HERE, &LIMITS, now).expect("allowed"))
            .collect();
        assert_eq!(tries(&attempts, "a@x", THERE, now), Err(LIMITS.window));
        drop(parked);
        assert_eq!(
            tries(&attempts, "a@x", THERE, now),
            Ok(()),
            "none has failed"
        );
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
