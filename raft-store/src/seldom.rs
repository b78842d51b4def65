//! What is said in the log once a minute, however often others make it happen.

use std::time::Duration;

use parking_lot::Mutex;

const EVERY: Duration = Duration::from_secs(60);

/// See the module's documentation. One for each thing that is said.
#[derive(Default)]
pub(crate) struct Seldom(Mutex<Option<Duration>>);

impl Seldom {
    /// Whether it may be said now. The first time it may.
    pub(crate) fn may(&self, now: Duration) -> bool {
        let mut said = self.0.lock();
        let may = said.is_none_or(|at| now.saturating_sub(at) >= EVERY);
        if may {
            *said = Some(now);
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn once_a_minute() {
        let seldom = Seldom::default();
        let said = (0..600).filter(|second| seldom.may(Duration::from_secs(*second)));
        assert_eq!(
            said.collect::<Vec<_>>(),
            (0..10).map(|minute| minute * 60).collect::<Vec<_>>()
        );
    }
}
