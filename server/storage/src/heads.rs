//! The newest position and time of each owner, kept by the one writer so that a commit needs no read.

use std::collections::HashMap;

use crate::{AccountId, Position, Timestamp};

/// Owners held; the least recently used are forgotten and read again when needed.
const OWNERS_MAX: usize = 200_000;

/// An owner's newest row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    pub pos: i64,
    pub at: i64,
}

/// Two generations: what was used since the last turn, and what was used before it.
#[derive(Default)]
pub(crate) struct Heads {
    recent: HashMap<AccountId, Head>,
    older: HashMap<AccountId, Head>,
}

impl Heads {
    /// The owner's head, if held.
    fn find(&mut self, owner: AccountId) -> Option<&mut Head> {
        if !self.recent.contains_key(&owner)
            && let Some(head) = self.older.remove(&owner)
        {
            self.insert(owner, head);
        }
        self.recent.get_mut(&owner)
    }

    pub(crate) fn contains(&mut self, owner: AccountId) -> bool {
        self.find(owner).is_some()
    }

    pub(crate) fn insert(&mut self, owner: AccountId, head: Head) {
        if self.recent.len() >= OWNERS_MAX / 2 {
            self.older = std::mem::take(&mut self.recent);
        }
        self.recent.insert(owner, head);
    }

    /// The next position and the time to store for a row received at `at`; `None`: the owner is not held.
    pub(crate) fn advance(
        &mut self,
        owner: AccountId,
        at: Timestamp,
    ) -> Option<(Position, Timestamp)> {
        let head = self.find(owner)?;
        head.pos += 1;
        head.at = head.at.max(at.0);
        Some((Position(head.pos), Timestamp(head.at)))
    }

    pub(crate) fn forget(&mut self, owner: AccountId) {
        self.recent.remove(&owner);
        self.older.remove(&owner);
    }

    /// After a commit that failed: what was given in memory is not what is stored.
    pub(crate) fn clear(&mut self) {
        self.recent.clear();
        self.older.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_grow_and_time_never_goes_back() {
        let mut heads = Heads::default();
        assert_eq!(heads.advance(AccountId(1), Timestamp(5)), None);
        heads.insert(AccountId(1), Head { pos: 3, at: 100 });
        assert_eq!(
            heads.advance(AccountId(1), Timestamp(90)),
            Some((Position(4), Timestamp(100)))
        );
        assert_eq!(
            heads.advance(AccountId(1), Timestamp(110)),
            Some((Position(5), Timestamp(110)))
        );
    }

    #[test]
    fn memory_is_bounded_and_used_owners_stay() {
        let mut heads = Heads::default();
        for owner in 0..OWNERS_MAX as i64 * 2 {
            heads.insert(AccountId(owner), Head { pos: owner, at: 0 });
            assert!(heads.contains(AccountId(0)));
        }
        assert!(heads.recent.len() + heads.older.len() <= OWNERS_MAX);
    }
}
