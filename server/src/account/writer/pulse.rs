//! Whether the archive writer lives and writes: told to readiness and to the supervisor's watchdog.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// A writer whose loop has not turned for so long hangs: each of its waits is shorter.
const STUCK: Duration = Duration::from_secs(10);

/// How the last commit ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Durable.
    Written,
    /// Surely not stored.
    Failed,
    /// Not known yet; being asked for.
    Unknown,
}

#[derive(Debug)]
struct State {
    turned: Instant,
    last: (Outcome, Instant),
    ended: bool,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Pulse(Mutex<State>);

/// Why messages are not being stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// Its task is gone.
    #[error("the archive writer has ended")]
    Ended,
    /// Its loop does not turn.
    #[error("the archive writer has stood still for {} s", .0.as_secs())]
    Stuck(Duration),
    /// The last commit failed.
    #[error("the last commit failed {} s ago", .0.as_secs())]
    Failed(Duration),
    /// The outcome of the last commit is not known.
    #[error("the outcome of a commit has been unknown for {} s", .0.as_secs())]
    Unknown(Duration),
}

impl Pulse {
    pub(super) fn new(now: Instant) -> Pulse {
        Pulse(Mutex::new(State {
            turned: now,
            last: (Outcome::Written, now),
            ended: false,
        }))
    }

    /// The writer's loop turns.
    pub(super) fn turn(&self, now: Instant) {
        self.0.lock().turned = now;
    }

    /// A commit has come to this. Of an outcome that stays the same the first time counts.
    pub(super) fn note(&self, outcome: Outcome, now: Instant) {
        let mut state = self.0.lock();
        state.turned = now;
        if state.last.0 != outcome || outcome == Outcome::Written {
            state.last = (outcome, now);
        }
    }

    pub(super) fn end(&self) {
        self.0.lock().ended = true;
    }

    /// A write by another way has succeeded after a commit that failed.
    pub fn recovered(&self, now: Instant) {
        let mut state = self.0.lock();
        if state.last.0 == Outcome::Failed {
            state.last = (Outcome::Written, now);
        }
    }

    /// Whether the writer's loop turns.
    pub fn beats(&self, now: Instant) -> bool {
        let state = self.0.lock();
        !state.ended && now.saturating_duration_since(state.turned) < STUCK
    }

    /// What keeps messages from being stored, if anything.
    pub fn trouble(&self, now: Instant) -> Option<Trouble> {
        let state = self.0.lock();
        let since = |then| now.saturating_duration_since(then);
        let (outcome, at) = state.last;
        match outcome {
            _ if state.ended => Some(Trouble::Ended),
            _ if since(state.turned) >= STUCK => Some(Trouble::Stuck(since(state.turned))),
            Outcome::Written => None,
            Outcome::Failed => Some(Trouble::Failed(since(at))),
            Outcome::Unknown => Some(Trouble::Unknown(since(at))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_writer_that_stands_still_or_fails_is_in_trouble() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let pulse = Pulse::new(start);
        assert_eq!(pulse.trouble(at(9)), None);
        assert!(pulse.beats(at(9)) && !pulse.beats(at(10)));
        assert_eq!(pulse.trouble(at(12)), Some(Trouble::Stuck(at(12) - start)));
        pulse.note(Outcome::Unknown, at(12));
        pulse.note(Outcome::Unknown, at(14));
        let unknown = Trouble::Unknown(Duration::from_secs(3));
        assert_eq!(pulse.trouble(at(15)), Some(unknown));
        pulse.recovered(at(15));
        assert!(
            pulse.trouble(at(15)).is_some(),
            "a lookup decides, nothing else"
        );
        pulse.note(Outcome::Failed, at(15));
        assert!(matches!(pulse.trouble(at(16)), Some(Trouble::Failed(_))));
        assert!(pulse.beats(at(16)), "it goes on trying");
        pulse.recovered(at(16));
        assert_eq!(pulse.trouble(at(16)), None);
        pulse.end();
        assert_eq!(pulse.trouble(at(16)), Some(Trouble::Ended));
        assert!(!pulse.beats(at(16)));
    }
}
