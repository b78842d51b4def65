//! Randomness as a parameter: the system's in production, a named stream of a seed in tests and simulation.

use parking_lot::Mutex;

/// A source of random bytes. Logic never asks the system itself, so that a run can be repeated from its seed.
pub trait Random: Send + Sync {
    /// Fills all of `bytes`.
    fn fill(&self, bytes: &mut [u8]);

    /// Any number is as likely as any other.
    fn u64(&self) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// Below `limit`, which is at least 1; the bias of the remainder is below 2⁻³² for limits below 2³².
    fn below(&self, limit: u64) -> u64 {
        self.u64() % limit.max(1)
    }
}

/// A reproducible stream. Streams of one seed and other names have nothing in common, so that one more draw in one
/// place shifts no other.
pub struct Seeded {
    stream: Mutex<blake3::OutputReader>,
}

impl Seeded {
    /// From the beginning of the stream `name` of `seed`.
    pub fn new(seed: u64, name: &str) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&seed.to_le_bytes());
        hasher.update(name.as_bytes());
        Self {
            stream: Mutex::new(hasher.finalize_xof()),
        }
    }
}

impl Random for Seeded {
    fn fill(&self, bytes: &mut [u8]) {
        self.stream.lock().fill(bytes);
    }
}

/// The operating system's randomness.
pub struct SystemRandom;

impl Random for SystemRandom {
    /// Panics when the system has none, which Linux does not do once it has started.
    fn fill(&self, bytes: &mut [u8]) {
        let mut filled = 0;
        while filled < bytes.len() {
            let rest = &mut bytes[filled..];
            match rustix::rand::getrandom(rest, rustix::rand::GetRandomFlags::empty()) {
                Ok(count) => filled += count,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => panic!("the system gives no randomness: {error}"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_its_seed_and_name() {
        let draw = |seed, name| Seeded::new(seed, name).u64();
        assert_eq!(draw(1, "disk"), draw(1, "disk"));
        assert_ne!(draw(1, "disk"), draw(2, "disk"));
        assert_ne!(draw(1, "disk"), draw(1, "net"));
        let stream = Seeded::new(1, "disk");
        assert_ne!(stream.u64(), stream.u64());
        assert!((0..100).all(|_| stream.below(3) < 3));
        assert_ne!(SystemRandom.u64(), SystemRandom.u64());
    }
}
