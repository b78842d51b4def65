//! Delivery debts of one account while it has sessions (DESIGN §1, §6).
//!
//! A debt is an archive row above the account's acknowledged watermark. The ledger
//! knows which session holds which of them right now, and how far the watermark may move.

use std::collections::{BTreeMap, BTreeSet};

use smallvec::SmallVec;

/// Debts held in memory per account; beyond it the ledger stops counting and the next
/// catch-up reads the archive again.
const OUTSTANDING_MAX: usize = 16_384;

/// The keys of the sessions that hold a debt.
pub type Holders = SmallVec<[u64; 1]>;

/// What was acknowledged: all up to `up_to`, and the listed ranges above it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Acknowledged {
    /// Every debt at or below this position is paid.
    pub up_to: i64,
    /// Paid debts above `up_to`, as inclusive ranges in order.
    pub above: Vec<(i64, i64)>,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Ledger {
    base: Acknowledged,
    /// Unpaid debts known, with who holds each.
    outstanding: BTreeMap<i64, Holders>,
    /// Paid before the archive was read to its end; empty once complete.
    paid_early: BTreeSet<i64>,
    /// Highest position seen, paid or not.
    known_to: i64,
    /// Whether `outstanding` holds every unpaid debt up to `known_to`.
    complete: bool,
    /// How often debts were dropped because there were too many: a catch-up that began before may have read past them.
    drops: u64,
    dirty: bool,
}

impl Ledger {
    /// Starts from what storage knows; incomplete until a catch-up has read the archive.
    pub fn new(stored: Acknowledged) -> Ledger {
        let known_to = stored
            .above
            .last()
            .map_or(stored.up_to, |range| range.1.max(stored.up_to));
        Ledger {
            base: stored,
            outstanding: BTreeMap::new(),
            paid_early: BTreeSet::new(),
            known_to,
            complete: false,
            drops: 0,
            dirty: false,
        }
    }

    /// Notes a committed debt that `holders` have taken (nobody: it is owed), unless it is paid already.
    pub fn add(&mut self, position: i64, holders: Holders) {
        if position <= self.known_to && self.is_paid(position) {
            return;
        }
        self.known_to = self.known_to.max(position);
        self.outstanding
            .entry(position)
            .or_default()
            .extend(holders);
        if self.outstanding.len() > OUTSTANDING_MAX {
            self.complete = false;
            self.drops += 1;
            self.outstanding.retain(|_, holders| !holders.is_empty());
        }
    }

    /// What a catch-up that begins now hands to [`Ledger::caught_up`].
    pub fn drops(&self) -> u64 {
        self.drops
    }

    /// Whether the session need not be given a debt that comes live: a catch-up read it between its
    /// commit and now, so that the session holds it or it is paid.
    pub fn spares(&self, position: i64, session: u64) -> bool {
        position <= self.known_to
            && match self.outstanding.get(&position) {
                Some(holders) => holders.contains(&session),
                None => self.is_paid(position),
            }
    }

    /// The ledger for the account's next session: what was owed meanwhile is not in it yet.
    pub fn reopened(mut self) -> Ledger {
        if self.complete {
            self.base = self.acknowledged();
        }
        self.complete = false;
        self
    }

    /// Takes a debt for a session; false where it is paid or held already.
    pub fn claim(&mut self, position: i64, session: u64) -> bool {
        let held = self.outstanding.get(&position);
        if held.is_some_and(|holders| !holders.is_empty()) || self.is_paid(position) {
            return false;
        }
        self.add(position, SmallVec::from([session]));
        true
    }

    /// The debt is paid: a client acknowledged it, or it was written to one without stream management.
    pub fn pay(&mut self, position: i64) {
        let was_owed = self.outstanding.remove(&position).is_some();
        self.dirty |= was_owed;
        if was_owed && !self.complete && self.paid_early.len() < OUTSTANDING_MAX {
            self.paid_early.insert(position);
        }
    }

    /// A session has ended: what it held is owed. True where there may be debts that nobody holds.
    pub fn release(&mut self, session: u64) -> bool {
        let mut unheld = !self.complete;
        for holders in self.outstanding.values_mut() {
            holders.retain(|holder| *holder != session);
            unheld |= holders.is_empty();
        }
        unheld
    }

    /// The archive was read to its end: every unpaid debt is known now. False where debts were dropped since that began,
    /// which may lie behind what was read then: it has to be read again.
    pub fn caught_up(&mut self, last_position: i64, drops_at_start: u64) -> bool {
        if drops_at_start != self.drops {
            return false;
        }
        self.known_to = self.known_to.max(last_position);
        self.dirty |= !self.complete;
        self.complete = true;
        self.paid_early.clear();
        true
    }

    /// Whether surely nothing is owed.
    pub fn is_settled(&self) -> bool {
        self.complete && self.outstanding.is_empty()
    }

    /// Whether this debt was paid.
    fn is_paid(&self, position: i64) -> bool {
        position <= self.base.up_to
            || self.paid_early.contains(&position)
            || self
                .base
                .above
                .iter()
                .any(|(from, to)| (*from..=*to).contains(&position))
            || (self.complete
                && position <= self.known_to
                && !self.outstanding.contains_key(&position))
    }

    /// What to write to storage if anything changed since the last call.
    pub fn take_dirty(&mut self) -> Option<Acknowledged> {
        if !self.dirty {
            return None;
        }
        self.dirty = false;
        self.base = if self.complete {
            self.acknowledged()
        } else {
            self.acknowledged_early()
        };
        Some(self.base.clone())
    }

    /// What storage knows, and what was paid since: also before the archive was read to its end a
    /// client that comes back after a drain gets nothing twice.
    fn acknowledged_early(&mut self) -> Acknowledged {
        let base = std::mem::take(&mut self.base);
        let early = std::mem::take(&mut self.paid_early);
        let singles = early.into_iter().map(|position| (position, position));
        let mut ranges: Vec<(i64, i64)> = base.above.into_iter().chain(singles).collect();
        ranges.sort_unstable();
        let mut above: Vec<(i64, i64)> = Vec::with_capacity(ranges.len());
        for (from, to) in ranges {
            match above.last_mut() {
                Some(last) if from <= last.1 + 1 => last.1 = last.1.max(to),
                _ => above.push((from, to)),
            }
        }
        above.truncate(OUTSTANDING_MAX);
        Acknowledged {
            up_to: base.up_to,
            above,
        }
    }

    fn acknowledged(&self) -> Acknowledged {
        let Some((&first, _)) = self.outstanding.first_key_value() else {
            return Acknowledged {
                up_to: self.known_to,
                above: Vec::new(),
            };
        };
        let mut above = Vec::new();
        let mut from = first + 1;
        for &unpaid in self
            .outstanding
            .keys()
            .skip(1)
            .chain([&(self.known_to + 1)])
        {
            if unpaid > from {
                above.push((from, unpaid - 1));
            }
            from = unpaid + 1;
        }
        Acknowledged {
            up_to: first - 1,
            above,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held_by(session: u64) -> Holders {
        SmallVec::from([session])
    }

    #[test]
    fn the_watermark_stops_below_the_first_unpaid_debt() {
        let mut ledger = Ledger::new(Acknowledged {
            up_to: 4,
            above: vec![],
        });
        for position in 5..=9 {
            ledger.add(position, held_by(1));
        }
        assert!(ledger.caught_up(9, 0));
        ledger.pay(5);
        ledger.pay(7);
        ledger.pay(9);
        let acknowledged = ledger.take_dirty();
        assert_eq!(
            acknowledged,
            Some(Acknowledged {
                up_to: 5,
                above: vec![(7, 7), (9, 9)]
            })
        );
        ledger.pay(6);
        ledger.pay(8);
        assert_eq!(
            ledger.take_dirty(),
            Some(Acknowledged {
                up_to: 9,
                above: vec![]
            })
        );
        assert_eq!(ledger.take_dirty(), None);
    }

    #[test]
    fn a_debt_is_claimed_once_and_again_after_release() {
        let mut ledger = Ledger::new(Acknowledged::default());
        assert!(ledger.claim(3, 1));
        assert!(!ledger.claim(3, 2));
        assert!(ledger.caught_up(3, 0));
        assert!(!ledger.release(2));
        assert!(ledger.release(1));
        assert!(ledger.claim(3, 2));
        ledger.pay(3);
        assert!(!ledger.claim(3, 1));
    }

    #[test]
    fn what_is_paid_before_the_archive_was_read_to_its_end_is_written_too() {
        let mut ledger = Ledger::new(Acknowledged {
            up_to: 4,
            above: vec![(9, 9)],
        });
        for position in [5, 7, 8, 12] {
            assert!(ledger.claim(position, 1));
            ledger.pay(position);
        }
        let acknowledged = Acknowledged {
            up_to: 4,
            above: vec![(5, 5), (7, 9), (12, 12)],
        };
        assert_eq!(ledger.take_dirty(), Some(acknowledged));
        assert_eq!(ledger.take_dirty(), None);
        assert!(!ledger.claim(8, 1));
        assert!(ledger.claim(6, 1));
        assert!(ledger.caught_up(12, 0));
        let acknowledged = Acknowledged {
            up_to: 5,
            above: vec![(7, 12)],
        };
        assert_eq!(ledger.take_dirty(), Some(acknowledged));
    }

    #[test]
    fn a_reopened_ledger_remembers_what_is_paid_and_nothing_else() {
        let mut ledger = Ledger::new(Acknowledged::default());
        ledger.add(1, held_by(1));
        assert!(ledger.caught_up(1, 0));
        ledger.pay(1);
        let mut ledger = ledger.reopened();
        // 2 was committed while nobody was there; 3 comes live before 2 is read.
        ledger.add(3, held_by(1));
        assert!(!ledger.claim(1, 2));
        assert!(ledger.claim(2, 2));
    }

    #[test]
    fn the_watermark_stays_before_the_archive_was_read() {
        let mut ledger = Ledger::new(Acknowledged {
            up_to: 1,
            above: vec![],
        });
        ledger.add(8, held_by(1));
        ledger.pay(8);
        let acknowledged = Acknowledged {
            up_to: 1,
            above: vec![(8, 8)],
        };
        assert_eq!(ledger.take_dirty(), Some(acknowledged));
    }

    #[test]
    fn a_debt_that_nobody_took_counts_as_free_when_any_session_ends() {
        let mut ledger = Ledger::new(Acknowledged::default());
        assert!(ledger.caught_up(0, 0));
        ledger.add(1, Holders::new());
        assert!(ledger.release(7));
        assert!(ledger.claim(1, 8));
        assert!(!ledger.release(7));
    }

    #[test]
    fn what_a_catch_up_took_before_it_came_live_is_neither_given_nor_noted_again() {
        let mut ledger = Ledger::new(Acknowledged::default());
        assert!(ledger.claim(1, 1));
        assert!(ledger.spares(1, 1));
        assert!(!ledger.spares(1, 2));
        assert!(!ledger.spares(2, 1));
        assert!(ledger.caught_up(1, 0));
        ledger.pay(1);
        assert!(ledger.spares(1, 2));
        ledger.add(1, Holders::new());
        assert!(ledger.is_settled());
    }

    #[test]
    fn what_was_dropped_behind_a_catch_up_is_not_paid() {
        let mut ledger = Ledger::new(Acknowledged::default());
        ledger.add(1, held_by(1));
        let drops = ledger.drops();
        assert!(!ledger.claim(1, 2), "read past, because another has it");
        ledger.release(1);
        let last = OUTSTANDING_MAX as i64 + 1;
        for position in 2..=last {
            ledger.add(position, held_by(2));
        }
        assert!(!ledger.caught_up(last, drops));
        assert!(ledger.claim(1, 2), "it is owed");
        assert!(ledger.caught_up(last, ledger.drops()));
    }
}
