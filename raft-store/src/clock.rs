//! Time as a parameter: leases count on it, so it goes on while the machine sleeps.

use std::time::Duration;

/// A clock of one member. It never goes back; its zero means nothing, and no two members compare theirs.
pub trait Clock: Send + Sync {
    /// Since some moment before the start of the process.
    fn now(&self) -> Duration;

    /// How long the runtime has to sleep so that `time` passes on this clock: the same, but for simulated clocks that
    /// are too fast or too slow.
    fn wait(&self, time: Duration) -> Duration {
        time
    }
}

/// `CLOCK_BOOTTIME`: counts while the machine is suspended, and nobody sets it.
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Duration {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        // Neither is negative: the clock starts at zero.
        Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs() as u32)
    }
}

/// What people call the time. Only certificates have dates; nothing else asks.
pub trait WallClock: Send + Sync {
    /// Seconds since 1970.
    fn unix_seconds(&self) -> i64;
}

impl WallClock for SystemClock {
    fn unix_seconds(&self) -> i64 {
        rustix::time::clock_gettime(rustix::time::ClockId::Realtime).tv_sec
    }
}

/// tokio's clock from a fixed beginning, faster or slower by `rate_ppm` millionths: for simulation.
pub struct RuntimeClock {
    start: tokio::time::Instant,
    rate_ppm: i32,
}

impl RuntimeClock {
    /// Needs a tokio runtime around it. `rate_ppm`: 10,000 is one percent too fast.
    pub fn new(rate_ppm: i32) -> Self {
        let start = tokio::time::Instant::now();
        Self { start, rate_ppm }
    }

    fn rate(&self) -> f64 {
        1.0 + f64::from(self.rate_ppm) / 1e6
    }
}

impl Clock for RuntimeClock {
    fn now(&self) -> Duration {
        self.start.elapsed().mul_f64(self.rate())
    }

    fn wait(&self, time: Duration) -> Duration {
        time.div_f64(self.rate())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_clock_has_its_rate() {
        let (exact, fast) = (RuntimeClock::new(0), RuntimeClock::new(10_000));
        tokio::time::sleep(Duration::from_secs(100)).await;
        assert_eq!(exact.now(), Duration::from_secs(100));
        assert_eq!(fast.now(), Duration::from_secs(101));
        assert!(fast.wait(Duration::from_secs(1)) < Duration::from_secs(1));
    }

    #[test]
    fn the_system_clock_goes_on() {
        let before = SystemClock.now();
        assert!(SystemClock.now() >= before);
        assert!(before > Duration::ZERO);
    }
}
