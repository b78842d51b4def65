//! Small values that every topic uses.

use std::fmt;

/// An account's key. Given once, never used again for another account, also after its removal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AccountId(pub i64);

impl fmt::Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Microseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// The time `seconds` earlier, never below the epoch's own range.
    pub fn minus_seconds(self, seconds: u64) -> Timestamp {
        let micros = i64::try_from(seconds)
            .unwrap_or(i64::MAX)
            .saturating_mul(1_000_000);
        Timestamp(self.0.saturating_sub(micros))
    }

    /// From a system time; times before the epoch become the epoch.
    pub fn from_system(time: std::time::SystemTime) -> Timestamp {
        let since = time
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default();
        Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
    }

    /// As a system time; times before the epoch become the epoch.
    pub fn to_system(self) -> std::time::SystemTime {
        std::time::UNIX_EPOCH + std::time::Duration::from_micros(self.0.max(0) as u64)
    }
}

/// Says on whose behalf a write is made. A write under the fence of a member that was declared dead is refused
/// inside its transaction with [`crate::Error::Fenced`]. A single node's fence is always valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fence {
    token: Option<i64>,
}

impl Fence {
    /// The fence of a node that is its own cluster: always valid, costs nothing.
    pub const fn single() -> Fence {
        Fence { token: None }
    }

    /// The fence of a member under the incarnation `token` (the log index of the entry that registered it).
    pub const fn member(token: i64) -> Fence {
        Fence { token: Some(token) }
    }

    /// The incarnation to check inside the transaction, if any.
    pub const fn token(self) -> Option<i64> {
        self.token
    }
}
