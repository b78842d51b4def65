//! Limits on tries to log in, per account and per address, with the time to wait

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::counted_address;
use crate::config::Login;

/// Accounts and addresses remembered each; beyond, who was counted longest ago is
/// forgotten.
const MAX_ENTRIES: usize = 100_000;
const MINUTE: Duration = Duration::from_secs(60);

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
    accounts: Mutex<Windows<String>>,
    addresses: Mutex<Windows<IpAddr>>,
    logins: Mutex<Windows<String>>,
}

impl Attempts {
    /// Asked before a password is looked at.
    ///
    /// # Errors
    /// How long to wait before the next try.
    pub fn check(
        &self,
        account: &str,
        address: IpAddr,
        limits: &AttemptLimits,
        now: Instant,
    ) -> Result<(), Duration> {
        let address = counted_address(address);
        let accounts = self
            .accounts
            .lock()
            .wait(account, limits.per_account, limits.window, now);
        let addresses =
            self.addresses
                .lock()
                .wait(&address, limits.per_address, limits.window, now);
        let logins = self
            .logins
            .lock()
            .wait(account, limits.logins_per_minute, MINUTE, now);
        match accounts.max(addresses).max(logins) {
            Some(wait) => Err(wait),
            None => Ok(()),
        }
    }

    /// Counts a failed try.
    pub fn failed(&self, account: &str, address: IpAddr, limits: &AttemptLimits, now: Instant) {
        self.accounts
            .lock()
            .count(account.to_owned(), limits.window, now);
        self.addresses
            .lock()
            .count(counted_address(address), limits.window, now);
    }

    /// Counts a login; its account's failed tries are forgotten.
    pub fn succeeded(&self, account: &str, limits: &AttemptLimits, now: Instant) {
        self.accounts.lock().entries.remove(account);
        if limits.logins_per_minute != 0 {
            self.logins.lock().count(account.to_owned(), MINUTE, now);
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
    };

    #[test]
    fn tries_are_limited_per_account_and_per_address() {
        let attempts = Attempts::default();
        let (here, there) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        let start = Instant::now();
        for second in 0..3 {
            let now = start + Duration::from_secs(second);
            assert_eq!(attempts.check("a@x", here, &LIMITS, now), Ok(()));
            attempts.failed("a@x", here, &LIMITS, now);
        }
        let later = start + Duration::from_secs(100);
        let wait = Err(Duration::from_secs(200));
        assert_eq!(
            attempts.check("a@x", there, &LIMITS, later),
            wait,
            "from anywhere"
        );
        assert_eq!(attempts.check("b@x", here, &LIMITS, later), Ok(()));
        for _ in 0..2 {
            attempts.failed("b@x", here, &LIMITS, later);
        }
        assert_eq!(
            attempts.check("c@x", here, &LIMITS, later),
            wait,
            "the address is full"
        );
        assert_eq!(attempts.check("c@x", there, &LIMITS, later), Ok(()));
        let over = start + Duration::from_secs(300);
        assert_eq!(attempts.check("a@x", here, &LIMITS, over), Ok(()));
    }

    #[test]
    fn success_forgets_the_account_and_logins_are_limited_too() {
        let attempts = Attempts::default();
        let (address, now) = (IpAddr::from([192, 0, 2, 1]), Instant::now());
        attempts.failed("a@x", address, &LIMITS, now);
        attempts.failed("a@x", address, &LIMITS, now);
        attempts.succeeded("a@x", &LIMITS, now);
        attempts.failed("a@x", address, &LIMITS, now);
        assert_eq!(attempts.check("a@x", address, &LIMITS, now), Ok(()));
        attempts.succeeded("a@x", &LIMITS, now);
        assert_eq!(attempts.check("a@x", address, &LIMITS, now), Err(MINUTE));
        let none = AttemptLimits {
            per_account: 0,
            per_address: 0,
            logins_per_minute: 0,
            ..LIMITS
        };
        assert_eq!(attempts.check("a@x", address, &none, now), Ok(()));
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
