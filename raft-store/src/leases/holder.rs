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
    pub(super) fn granted(&mut self, sent: Duration, now: Duration) -> Lease {
        let from_sent = sent + LEASE - LEASE_MARGIN;
        match self.at(now) {
            Lease::Held { until } if until < from_sent => self.0 = Lease::Held { until: from_sent },
            Lease::Awaited if now < from_sent => self.0 = Lease::Held { until: from_sent },
            Lease::Awaited | Lease::Held { .. } | Lease::Lost => {}
        }
        self.0
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

    #[test]
    fn a_lease_counts_from_the_sending() {
        let mut holder = Holder::new();
        assert_eq!(holder.at(ms(900)), Lease::Awaited);
        let held = Lease::Held { until: ms(6500) };
        assert_eq!(holder.granted(ms(1000), ms(3000)), held);
        assert_eq!(holder.at(ms(6499)), held);
        let later = Lease::Held { until: ms(8500) };
        assert_eq!(holder.granted(ms(3000), ms(6499)), later);
        assert_eq!(
            holder.granted(ms(2000), ms(6499)),
            later,
            "an older answer came late"
        );
        assert_eq!(holder.at(ms(8499)), later);
        assert_eq!(holder.at(ms(8500)), Lease::Lost);
    }

    #[test]
    fn what_is_lost_stays_lost() {
        let mut holder = Holder::new();
        holder.granted(ms(0), ms(10));
        // Nobody looked meanwhile (the process was stopped): the answer comes too late all the same.
        assert_eq!(holder.granted(ms(5000), ms(5500)), Lease::Lost);
        assert_eq!(holder.granted(ms(6000), ms(6001)), Lease::Lost);
        let mut dead = Holder::new();
        dead.lose();
        assert_eq!(dead.granted(ms(1), ms(2)), Lease::Lost);
    }

    #[test]
    fn a_first_grant_that_is_over_is_none() {
        let mut holder = Holder::new();
        assert_eq!(holder.granted(ms(0), ms(5500)), Lease::Awaited);
        let held = Lease::Held { until: ms(10_600) };
        assert_eq!(holder.granted(ms(5100), ms(5600)), held);
    }
}
