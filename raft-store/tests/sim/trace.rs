//! What happened in a run, in order: a hash over all of it, and its last lines for a person.

use std::collections::VecDeque;
use std::fmt::Arguments;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Lines kept.
const LINES: usize = 250;

/// Clones write to the same trace.
#[derive(Clone)]
pub struct Trace(Arc<Mutex<Inner>>);

struct Inner {
    hasher: blake3::Hasher,
    began: Instant,
    steps: u64,
    lines: VecDeque<String>,
    /// The first thing that must never happen and did.
    violation: Option<String>,
    /// Lines go to standard output as well.
    loud: bool,
}

impl Trace {
    /// Needs a runtime around it.
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(Inner {
            hasher: blake3::Hasher::new(),
            began: Instant::now(),
            steps: 0,
            lines: VecDeque::new(),
            violation: None,
            loud: std::env::var_os("SIM_LOUD").is_some(),
        })))
    }

    /// One thing that happened, for people too.
    pub fn note(&self, what: Arguments<'_>) {
        let mut inner = self.0.lock();
        let at = inner.began.elapsed();
        let line = format!("{:>8}.{:03} {what}", at.as_secs(), at.subsec_millis());
        inner.steps += 1;
        inner.hasher.update(line.as_bytes());
        if inner.loud {
            println!("{line}");
        }
        if inner.lines.len() == LINES {
            inner.lines.pop_front();
        }
        inner.lines.push_back(line);
    }

    /// One thing that happened, for the hash alone.
    pub fn bytes(&self, what: &[u8]) {
        let mut inner = self.0.lock();
        inner.steps += 1;
        let at = inner.began.elapsed().as_micros() as u64;
        inner.hasher.update(&at.to_le_bytes());
        inner.hasher.update(what);
    }

    pub fn hash(&self) -> blake3::Hash {
        self.0.lock().hasher.finalize()
    }

    pub fn steps(&self) -> u64 {
        self.0.lock().steps
    }

    /// Something must never happen and did. The first is kept.
    pub fn violated(&self, what: String) {
        self.note(format_args!("VIOLATION {what}"));
        self.0.lock().violation.get_or_insert(what);
    }

    pub fn violation(&self) -> Option<String> {
        self.0.lock().violation.clone()
    }

    /// What a person gets of a failed run.
    pub fn tail(&self) -> String {
        let inner = self.0.lock();
        let lines: Vec<_> = inner.lines.iter().map(String::as_str).collect();
        lines.join("\n")
    }
}
