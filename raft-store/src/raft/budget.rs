//! How many bytes of entries a peer is sent at once: as many as it makes durable within a heartbeat (DESIGN §8).

use std::time::Duration;

/// Most bytes of entries in one AppendEntries.
pub(super) const APPEND_BYTES: usize = 512 << 10;
const LEAST_BYTES: usize = 16 << 10;
/// An answer that takes longer makes the budget smaller; one that takes half of it, greater.
const SLOW: Duration = Duration::from_millis(150);

/// Of one peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Budget(usize);

impl Default for Budget {
    fn default() -> Self {
        Self(APPEND_BYTES)
    }
}

impl Budget {
    pub(super) fn bytes(self) -> usize {
        self.0
    }

    /// An append with entries was answered after this time.
    pub(super) fn took(&mut self, time: Duration) {
        if time > SLOW {
            self.0 = (self.0 / 2).max(LEAST_BYTES);
        } else if time < SLOW / 2 {
            self.0 = (self.0 * 2).min(APPEND_BYTES);
        }
    }
}

/// How many of entries with these sizes fit; one at least, if there is one.
pub(super) fn fitting(sizes: impl Iterator<Item = usize>, budget: usize) -> usize {
    let mut bytes = 0;
    let mut count = 0;
    for size in sizes {
        bytes += size;
        if count > 0 && bytes > budget {
            break;
        }
        count += 1;
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_peer_gets_less_at_once() {
        let mut budget = Budget::default();
        for _ in 0..20 {
            budget.took(Duration::from_millis(151));
        }
        assert_eq!(budget.bytes(), LEAST_BYTES);
        budget.took(Duration::from_millis(100));
        assert_eq!(budget.bytes(), LEAST_BYTES);
        for _ in 0..20 {
            budget.took(Duration::from_millis(10));
        }
        assert_eq!(budget.bytes(), APPEND_BYTES);
    }

    #[test]
    fn entries_are_cut_at_the_budget() {
        let fits = |sizes: &[usize], budget| fitting(sizes.iter().copied(), budget);
        assert_eq!(fits(&[], 10), 0);
        assert_eq!(fits(&[11, 1], 10), 1, "one goes in any case");
        assert_eq!(fits(&[4, 6, 1], 10), 2);
        assert_eq!(fits(&[4, 6], 10), 2);
    }
}
