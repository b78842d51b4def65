//! The bare disk: fdatasync of so many bytes at a time into a preallocated, zero-filled file.

use raft_store::disk::{Disk, FileDisk, Open};
use raft_store::random::{Random, SystemRandom};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const FILE_BYTES: u64 = 64 << 20;

/// A directory that is removed with its contents.
pub struct Directory(pub PathBuf);

impl Directory {
    pub fn new(within: &Path) -> Self {
        Self(within.join(format!("raft-store-bench-{:016x}", SystemRandom.u64())))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!("{}: {error}", self.0.display());
        }
    }
}

/// How long each of some operations took, and all together.
pub struct Times {
    pub each: Vec<Duration>,
    pub all: Duration,
}

impl Times {
    pub fn rate(&self) -> f64 {
        self.each.len() as f64 / self.all.as_secs_f64()
    }

    pub fn millis(&mut self, percent: usize) -> f64 {
        self.each.sort_unstable();
        let at = (self.each.len() * percent / 100).min(self.each.len().saturating_sub(1));
        self.each.get(at).map_or(0.0, Duration::as_secs_f64) * 1e3
    }

    pub fn print(&mut self, what: &str) {
        println!(
            "{what:<28} {:>10.0}/s   p50 {:>7.3} ms   p99 {:>7.3} ms",
            self.rate(),
            self.millis(50),
            self.millis(99)
        );
    }
}

/// Writes `bytes` and syncs, again and again for `time`.
pub fn bare(within: &Path, bytes: usize, time: Duration) -> Times {
    let directory = Directory::new(within);
    let disk = FileDisk::open(&directory.0).expect("a directory can be made");
    let mut file = disk
        .open(Path::new("bare"), Open::Create)
        .expect("a file can be made");
    file.allocate(FILE_BYTES).expect("there is space");
    let zeros = vec![0; 1 << 20];
    for at in (0..FILE_BYTES).step_by(zeros.len()) {
        file.write_at(&zeros, at).expect("it can be filled");
    }
    file.sync_data().expect("it can be synced");
    let content = vec![0xa5; bytes];
    let (mut each, begin, mut at) = (Vec::new(), Instant::now(), 4096);
    while begin.elapsed() < time {
        let start = Instant::now();
        file.write_at(&content, at).expect("written");
        file.sync_data().expect("synced");
        each.push(start.elapsed());
        at += bytes as u64;
        if at + bytes as u64 > FILE_BYTES {
            at = 4096;
        }
    }
    let all = begin.elapsed();
    Times { each, all }
}
