//! How long something took, many times.

use std::time::Duration;

#[derive(Debug, Default)]
pub struct Times(Vec<Duration>);

impl Times {
    pub fn add(&mut self, time: Duration) {
        self.0.push(time);
    }

    /// The time that so many percent do not exceed.
    pub fn percentile(&self, percent: usize) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let rank = (sorted.len() * percent).div_ceil(100).max(1);
        sorted.get(rank - 1).copied().unwrap_or_default()
    }

    pub fn print(&self, what: &str) {
        let [half, most, all] =
            [50, 99, 100].map(|percent| self.percentile(percent).as_secs_f64() * 1e3);
        println!(
            "{what}: {} times, p50 {half:.1} ms, p99 {most:.1} ms, longest {all:.1} ms",
            self.0.len()
        );
    }
}
