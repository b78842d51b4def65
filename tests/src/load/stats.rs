//! Latencies: collected per task, merged, asked for percentiles.

use std::time::Duration;

/// Latencies in nanoseconds.
#[derive(Debug, Default, Clone)]
pub struct Latencies(Vec<u64>);

impl Latencies {
    /// Adds one.
    pub fn add(&mut self, nanoseconds: u64) {
        self.0.push(nanoseconds);
    }

    /// Adds all of another collection.
    pub fn merge(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// The `percent`-th percentile in milliseconds.
    pub fn percentile_ms(&mut self, percent: f64) -> Option<f64> {
        let last = self.0.len().checked_sub(1)?;
        let rank = (last as f64 * percent / 100.0).round() as usize;
        let (_, value, _) = self.0.select_nth_unstable(rank);
        Some(*value as f64 / 1e6)
    }
}

/// Microseconds per operation.
pub fn per_op_us(time: Duration, operations: u64) -> f64 {
    time.as_secs_f64() * 1e6 / operations.max(1) as f64
}
