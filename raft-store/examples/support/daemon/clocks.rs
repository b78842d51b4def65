//! Clocks that are wrong, for tests: too fast or too slow by a rate, and a date that steps while the daemon runs.

use std::path::PathBuf;
use std::time::Duration;

use raft_store::clock::{Clock, SystemClock, WallClock};

/// The machine's clock, faster by so many millionths, or slower.
pub struct Skewed(pub i32);

impl Skewed {
    fn rate(&self) -> f64 {
        1.0 + f64::from(self.0) / 1e6
    }
}

impl Clock for Skewed {
    fn now(&self) -> Duration {
        SystemClock.now().mul_f64(self.rate())
    }

    fn wait(&self, time: Duration) -> Duration {
        time.div_f64(self.rate())
    }
}

/// The machine's date and as many seconds as a file says at that moment; none without a file.
pub struct Stepped(pub Option<PathBuf>);

impl WallClock for Stepped {
    fn unix_seconds(&self) -> i64 {
        let text = self.0.as_ref().map(std::fs::read_to_string);
        let text = text.and_then(Result::ok).unwrap_or_default();
        SystemClock.unix_seconds() + text.trim().parse().unwrap_or(0)
    }
}
