//! A run's own lease: what it may believe at a time, from what it was granted. Pure; times are of its own clock.

use std::time::Duration;

use crate::limits::{LEASE, LEASE_MARGIN};

/// What a run may believe of its lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lease {
    /// Not yet: this run is not registered, or its first renewal is under way.
    Awaited,
    /// Until this time of the member's [`crate::clock::Clock`]; by then it was renewed or it is lost.
    Held { until: Duration },
    /// For ever: what this run owns, others may take. It should end and begin again as another incarnation.
    Lost,
}

/// See the module's documentation. Times given to one holder never go back.
#[derive(Debug, Clone)]
pub(super) struct Holder(Lease);

impl Holder {
    pub(super) fn new() -> Self {
        Self(Lease::Awaited)
    }

    /// What holds at `now`. A lease that was lapsed when somebody looked never comes back.
    pub(super) fn at(&mut self, now: Duration) -> Lease {
        if let Lease::Held { until } = self.0
            && until <= now
        {
            self.0 = Lease::Lost;
        }
        self.0
    }

    /// A renewal that was sent at `sent` has been granted. One whose time is over already changes nothing.
    pub(super) fn granted(&mut self, sent: Duration, now: Duration) {
        self.at(now);
        let until = sent + LEASE - LEASE_MARGIN;
        if until > now {
            self.extend(until);
        }
    }

    /// This member leads, and a quorum has answered what it sent at `sent`. Unlike a grant this holds for all the time
    /// from `sent` on, also when nobody looked meanwhile.
    pub(super) fn proven(&mut self, sent: Duration, now: Duration) {
        match self.0 {
            Lease::Awaited => self.granted(sent, now),
            Lease::Held { .. } | Lease::Lost => self.extend(sent + LEASE - LEASE_MARGIN),
        }
    }

    fn extend(&mut self, upto: Duration) {
        match self.0 {
            Lease::Held { until } if upto <= until => {}
            Lease::Awaited | Lease::Held { .. } => self.0 = Lease::Held { until: upto },
            Lease::Lost => {}
        }
    }

    /// Whether it is awaited, held, or lost.
    pub(super) fn tells(&self) -> std::mem::Discriminant<Lease> {
        std::mem::discriminant(&self.0)
    }

    /// This run is dead, or has ended.
    pub(super) fn lose(&mut self) {
        self.0 = Lease::Lost;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(time: u64) -> Duration {
        Duration::from_millis(time)
    }

    fn granted(holder: &mut Holder, sent: u64, now: u64) -> Lease {
        holder.granted(ms(sent), ms(now));
        holder.at(ms(now))
    }

    #[test]
    fn a_lease_counts_from_the_sending() {
        let mut holder = Holder::new();
        assert_eq!(holder.at(ms(900)), Lease::Awaited);
        let held = Lease::Held { until: ms(6500) };
        assert_eq!(granted(&mut holder, 1000, 3000), held);
        assert_eq!(holder.at(ms(6499)), held);
        let later = Lease::Held { until: ms(8500) };
        assert_eq!(granted(&mut holder, 3000, 6499), later);
        let late = "an older answer came late";
        assert_eq!(granted(&mut holder, 2000, 6499), later, "{late}");
        assert_eq!(holder.at(ms(8499)), later);
        assert_eq!(holder.at(ms(8500)), Lease::Lost);
    }

    #[test]
    fn what_is_lost_stays_lost() {
        let mut holder = Holder::new();
        granted(&mut holder, 0, 10);
        // Nobody looked meanwhile (the process was stopped): the answer comes too late all the same.
        assert_eq!(granted(&mut holder, 5000, 5500), Lease::Lost);
        assert_eq!(granted(&mut holder, 6000, 6001), Lease::Lost);
        holder.proven(ms(6001), ms(6001));
        assert_eq!(holder.at(ms(6001)), Lease::Lost);
        let mut dead = Holder::new();
        dead.lose();
        assert_eq!(granted(&mut dead, 1, 2), Lease::Lost);
    }

    #[test]
    fn a_first_grant_that_is_over_is_none() {
        let mut holder = Holder::new();
        assert_eq!(granted(&mut holder, 0, 5500), Lease::Awaited);
        let held = Lease::Held { until: ms(10_600) };
        assert_eq!(granted(&mut holder, 5100, 5600), held);
    }

    #[test]
    fn what_a_quorum_proves_holds_for_the_past() {
        let mut holder = Holder::new();
        let mut proven = |sent, now| {
            holder.proven(ms(sent), ms(now));
            holder.at(ms(now))
        };
        assert_eq!(proven(0, 5500), Lease::Awaited);
        assert_eq!(proven(5501, 5600), Lease::Held { until: ms(11_001) });
        let held = Lease::Held { until: ms(65_500) };
        assert_eq!(proven(60_000, 60_000), held, "nobody has looked since");
        assert_eq!(proven(59_000, 65_499), held);
        assert_eq!(proven(59_000, 65_500), Lease::Lost);
    }
}
