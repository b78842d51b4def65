//! The leader's side of leases: when it last heard from each run, and who may be called dead. Pure; times are of its
//! own clock.
//!
//! A holder counts `LEASE - LEASE_MARGIN` from the moment it sent the renewal that was granted. A grant needs a quorum
//! that answered the leader after its receipt, so whoever leads next began to lead after the sending as well. Each
//! leader waits `LEASE + LEASE_MARGIN` from the later of its beginning and the last receipt: the holder has stopped by
//! then, at any two rates within one percent.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::ids::Incarnation;
use crate::limits::{LEASE, LEASE_MARGIN};

/// Who did not look for so long was stopped itself, and could not receive what was sent to it.
const STOPPED: Duration = Duration::from_secs(2);

/// What becomes of a renewal at its receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Noted {
    /// To be granted once a quorum has answered after the receipt and the run is seen to live.
    Received,
    /// It is being declared dead.
    Condemned,
    /// Of a term that is over.
    Over,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    term: u64,
    /// Each election is a beginning, and each time that this member went on after it had been stopped.
    began: Duration,
    looked: Duration,
    heard: BTreeMap<Incarnation, Duration>,
    /// By this leader, in this term: never granted anything again, whether or not an entry that ends it is committed, or
    /// proposed, yet.
    condemned: BTreeSet<Incarnation>,
}

impl Ledger {
    /// This member leads `term` at `now`. Whether that term is not over.
    fn lead(&mut self, term: u64, now: Duration) -> bool {
        if term < self.term {
            return false;
        }
        if term > self.term {
            *self = Self {
                term,
                began: now,
                ..Self::default()
            };
        } else if now.saturating_sub(self.looked) >= STOPPED {
            self.began = now;
        }
        self.looked = now;
        true
    }

    /// A renewal has come.
    pub(super) fn received(&mut self, term: u64, incarnation: Incarnation, now: Duration) -> Noted {
        if !self.lead(term, now) {
            return Noted::Over;
        }
        if self.condemned.contains(&incarnation) {
            return Noted::Condemned;
        }
        self.heard.insert(incarnation, now);
        Noted::Received
    }

    /// A run is granted nothing any more, and declared dead when what it was granted before is over.
    pub(super) fn condemn(&mut self, term: u64, incarnation: Incarnation, now: Duration) {
        if self.lead(term, now) && self.condemned.insert(incarnation) {
            tracing::info!(%incarnation, term, "a run is to end");
        }
    }

    /// Whether a run is being declared dead by this leader.
    pub(super) fn condemns(&self, term: u64, incarnation: Incarnation) -> bool {
        self.term == term && self.condemned.contains(&incarnation)
    }

    /// Looked at several times a second. Which of the `live` are to be declared dead: the same ones again until they are.
    pub(super) fn dead(
        &mut self,
        term: u64,
        live: &BTreeSet<Incarnation>,
        now: Duration,
    ) -> Vec<Incarnation> {
        if !self.lead(term, now) {
            return Vec::new();
        }
        self.heard.retain(|known, _| live.contains(known));
        self.condemned.retain(|known| live.contains(known));
        let mut dead = Vec::new();
        for incarnation in live {
            // A run that has just registered begins now.
            let heard = *self.heard.entry(*incarnation).or_insert(now);
            if now < heard.max(self.began) + LEASE + LEASE_MARGIN {
                continue;
            }
            if self.condemned.insert(*incarnation) {
                tracing::info!(%incarnation, term, "a run renews its lease no more");
            }
            dead.push(*incarnation);
        }
        dead
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Incarnation = Incarnation(4);
    const B: Incarnation = Incarnation(9);

    fn ms(time: u64) -> Duration {
        Duration::from_millis(time)
    }

    /// Looks each 250 ms from `from` up to and with `upto`; when each was first called dead.
    fn look(
        ledger: &mut Ledger,
        term: u64,
        live: &[Incarnation],
        (from, upto): (u64, u64),
    ) -> BTreeMap<Incarnation, u64> {
        let live: BTreeSet<_> = live.iter().copied().collect();
        let mut found = BTreeMap::new();
        for now in (from..=upto).step_by(250) {
            for dead in ledger.dead(term, &live, ms(now)) {
                found.entry(dead).or_insert(now);
            }
        }
        found
    }

    #[test]
    fn the_silent_die_after_lease_and_margin() {
        let mut ledger = Ledger::default();
        assert!(look(&mut ledger, 3, &[A, B], (1000, 4000)).is_empty());
        assert_eq!(ledger.received(3, A, ms(4000)), Noted::Received);
        let found = look(&mut ledger, 3, &[A, B], (4000, 10_750));
        let expected = [(B, 1000 + 6500), (A, 4000 + 6500)];
        assert_eq!(found, expected.into_iter().collect());
        assert_eq!(ledger.received(3, A, ms(10_800)), Noted::Condemned);
        assert_eq!(look(&mut ledger, 3, &[B], (11_000, 11_000)).len(), 1);
    }

    #[test]
    fn each_term_is_a_beginning() {
        let mut ledger = Ledger::default();
        look(&mut ledger, 3, &[A], (0, 6250));
        assert_eq!(look(&mut ledger, 4, &[A], (6500, 12_750)).len(), 0);
        assert_eq!(ledger.received(3, A, ms(12_800)), Noted::Over);
        assert!(ledger.dead(3, &BTreeSet::from([A]), ms(12_800)).is_empty());
        assert_eq!(look(&mut ledger, 4, &[A], (13_000, 13_000)).len(), 1);
        // Another leader's term lay between: who was condemned before may have been renewed by it.
        assert_eq!(ledger.received(6, A, ms(13_100)), Noted::Received);
    }

    #[test]
    fn who_is_to_end_ends_when_its_lease_is_over() {
        let mut ledger = Ledger::default();
        look(&mut ledger, 3, &[A], (0, 4000));
        assert_eq!(ledger.received(3, A, ms(4000)), Noted::Received);
        ledger.condemn(3, A, ms(4100));
        assert_eq!(ledger.received(3, A, ms(5000)), Noted::Condemned);
        let found = look(&mut ledger, 3, &[A], (5000, 11_000));
        assert_eq!(found.get(&A), Some(&10_500), "behind the last receipt");
        // Another leader knows nothing of it.
        assert_eq!(ledger.received(4, A, ms(11_100)), Noted::Received);
        ledger.condemn(3, A, ms(11_200));
        assert_eq!(ledger.received(4, A, ms(11_300)), Noted::Received);
    }

    #[test]
    fn who_was_stopped_begins_again() {
        let mut ledger = Ledger::default();
        look(&mut ledger, 3, &[A], (0, 6000));
        let found = look(&mut ledger, 3, &[A], (16_000, 25_000));
        assert_eq!(found.get(&A), Some(&22_500));
        // It may be a renewal that sees it first.
        let mut ledger = Ledger::default();
        look(&mut ledger, 3, &[A, B], (0, 6000));
        assert_eq!(ledger.received(3, B, ms(16_000)), Noted::Received);
        assert!(look(&mut ledger, 3, &[A, B], (16_000, 22_250)).is_empty());
    }

    #[test]
    fn a_run_begins_when_it_is_first_seen() {
        let mut ledger = Ledger::default();
        look(&mut ledger, 3, &[A], (0, 5000));
        assert_eq!(ledger.received(3, A, ms(5000)), Noted::Received);
        let found = look(&mut ledger, 3, &[A, B], (5250, 12_000));
        assert_eq!(found, [(A, 11_500), (B, 11_750)].into_iter().collect());
    }
}
