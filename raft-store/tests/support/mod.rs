//! A member's log over a simulated disk.

// Each test binary uses its part of it.
#![allow(dead_code)]

use bytes::Bytes;
use parking_lot::Mutex;
use raft_store::disk::SimDisk;
use raft_store::log::{Done, Entry, Error, Log, LogId, Settings, Vote};
use raft_store::random::Seeded;
use raft_store::spawner::Inline;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub const NODE: u64 = 7;
const DIR: &str = "log";

pub fn id(term: u64, index: u64) -> LogId {
    LogId {
        term,
        node: NODE,
        index,
    }
}

pub fn vote(term: u64) -> Vote {
    Vote {
        term,
        node: NODE,
        committed: term.is_multiple_of(2),
    }
}

/// An entry whose bytes tell which one it is.
pub fn entry(term: u64, index: u64, bytes: usize) -> Entry {
    let text = format!("{term}/{index} ").into_bytes();
    let body: Vec<u8> = text.into_iter().cycle().take(bytes).collect();
    Entry {
        id: id(term, index),
        body: Bytes::from(body),
    }
}

/// Segments of 8 KiB, hardly any cache.
pub fn small() -> Settings {
    let mut settings = Settings::new(DIR, NODE);
    settings.segment_bytes = 8 << 10;
    settings.frame_bytes = 1 << 10;
    settings.tail_cache_bytes = 500;
    settings
}

pub fn disk(seed: u64) -> SimDisk {
    SimDisk::new(Arc::new(Seeded::new(seed, "disk")))
}

pub fn segment(number: u64) -> PathBuf {
    Path::new(DIR).join(format!("{number:016x}.segment"))
}

/// What became of a call: `None` while it is under way.
pub type Outcome = Arc<Mutex<Option<io::Result<()>>>>;

pub fn outcome() -> (Outcome, Done) {
    let outcome = Outcome::default();
    let into = outcome.clone();
    (outcome, Box::new(move |result| *into.lock() = Some(result)))
}

pub fn is_durable(outcome: &Outcome) -> bool {
    matches!(*outcome.lock(), Some(Ok(())))
}

pub fn has_failed(outcome: &Outcome) -> bool {
    matches!(*outcome.lock(), Some(Err(_)))
}

/// An open log and its jobs, run by hand.
pub struct Member {
    pub disk: SimDisk,
    pub jobs: Inline,
    pub log: Log,
}

impl Member {
    pub fn open(disk: &SimDisk, settings: Settings) -> Result<Self, Error> {
        let jobs = Inline::default();
        let random = Arc::new(Seeded::new(1, "log"));
        let log = Log::open(settings, Arc::new(disk.clone()), random, &jobs)?;
        let disk = disk.clone();
        Ok(Self { disk, jobs, log })
    }

    /// Appends one entry without waiting.
    pub fn append(&self, term: u64, index: u64, bytes: usize) -> Result<Outcome, Error> {
        let (outcome, done) = outcome();
        self.log.append(vec![entry(term, index, bytes)], done)?;
        Ok(outcome)
    }

    /// Appends entries one a frame, durably.
    pub fn append_all(&self, term: u64, indexes: std::ops::Range<u64>, bytes: usize) {
        for index in indexes {
            let outcome = self.append(term, index, bytes).expect("it is next");
            self.jobs.run();
            assert!(is_durable(&outcome), "entry {index}");
        }
    }

    pub fn save_vote(&self, term: u64) -> Outcome {
        let (outcome, done) = outcome();
        self.log.save_vote(vote(term), done).expect("it works");
        self.jobs.run();
        outcome
    }

    pub fn truncate(&self, since: u64) -> Outcome {
        let (outcome, done) = outcome();
        self.log.truncate(since, done).expect("it is not purged");
        self.jobs.run();
        outcome
    }

    pub fn all(&self) -> Vec<Entry> {
        self.log.read(0..u64::MAX, usize::MAX).expect("readable")
    }

    /// Ends as a kill does; nothing is lost from the disk.
    pub fn kill(self) -> SimDisk {
        self.jobs.kill();
        self.disk.kill();
        self.disk
    }

    pub fn restart(self, settings: Settings) -> Result<Self, Error> {
        Self::open(&self.kill(), settings)
    }
}
