//! Which of the proposals made the window still has when all of them are applied: it drops the lowest when their results,
//! or the writes that these are of, become too many.

use std::collections::VecDeque;

use crate::limits::Limits;

/// All that this run has made.
pub(super) struct Made {
    window_results: usize,
    window_writes: u64,
    /// The sequence of the next one.
    next: u64,
    /// Of all.
    writes: u64,
    /// Of the newest, which the window has: the writes of all before each.
    before: VecDeque<u64>,
}

impl Made {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            window_results: limits.window_results,
            window_writes: limits.window_writes as u64,
            next: 1,
            writes: 0,
            before: VecDeque::new(),
        }
    }

    /// The sequence of the next one.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// The lowest sequence that the window has.
    pub(super) fn floor(&self) -> u64 {
        self.next - self.before.len() as u64
    }

    /// Whether the window still has `lowest`, which is not below the floor, when another one of `writes` is made.
    pub(super) fn has_room(&self, lowest: u64, writes: usize) -> bool {
        let at = (lowest - self.floor()) as usize;
        let before = self.before.get(at).copied().unwrap_or(self.writes);
        self.before.len() - at < self.window_results
            && self.writes - before + writes as u64 <= self.window_writes
    }

    /// Makes another one; its sequence.
    pub(super) fn add(&mut self, writes: usize) -> u64 {
        while self.floor() < self.next && !self.has_room(self.floor(), writes) {
            self.before.pop_front();
        }
        self.before.push_back(self.writes);
        self.writes += writes as u64;
        self.next += 1;
        self.next - 1
    }
}
