//! What a log must hold after a number of calls, and the comparison.

use crate::support::{Outcome, outcome};
use raft_store::log::{Entry, Error, Log, LogId, Vote};
use std::collections::BTreeMap;

/// What a log must hold after a number of calls.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Model {
    /// With those that may be purged.
    pub entries: BTreeMap<u64, Entry>,
    pub last: Option<LogId>,
    pub vote: Option<Vote>,
    /// Where the published snapshot ends.
    pub published: Option<LogId>,
}

#[derive(Clone, Debug)]
pub enum Call {
    Append(Vec<Entry>),
    Vote(Vote),
    Truncate(u64),
    /// A snapshot up to here is published, then the log purged.
    Snapshot(LogId),
}

impl Model {
    pub fn next(&self) -> u64 {
        self.last.map_or(0, |id| id.index + 1)
    }

    pub fn apply(&mut self, call: &Call) {
        match call {
            Call::Append(entries) => {
                for entry in entries {
                    self.last = Some(entry.id);
                    self.entries.insert(entry.id.index, entry.clone());
                }
            }
            Call::Vote(vote) => self.vote = Some(*vote),
            Call::Truncate(since) => {
                self.entries.split_off(since);
                let before = self.entries.last_key_value().map(|(_, entry)| entry.id);
                let published = self.published.filter(|id| id.index < *since);
                self.last = [before, published]
                    .into_iter()
                    .flatten()
                    .max_by_key(|id| id.index);
            }
            Call::Snapshot(upto) => {
                let known = self.entries.get(&upto.index).map(|entry| entry.id);
                if known != Some(*upto) {
                    self.entries.clear();
                    self.last = Some(*upto);
                }
                self.published = Some(*upto);
            }
        }
    }

    /// As a log is that was opened with this snapshot.
    pub fn meet(&mut self, published: Option<LogId>) {
        let known = self.published.map(|id| id.index);
        if let Some(at) = published.filter(|at| known < Some(at.index)) {
            self.apply(&Call::Snapshot(at));
        }
    }

    /// What differs from the log, if anything does.
    pub fn compare(&self, log: &Log) -> Result<(), String> {
        let state = log.log_state();
        if (state.last, log.vote()) != (self.last, self.vote) {
            return Err(format!(
                "last {:?} and vote {:?}, not {:?} and {:?}",
                state.last,
                log.vote(),
                self.last,
                self.vote
            ));
        }
        let first = state.purged.map_or(0, |id| id.index + 1);
        if first > self.published.map_or(0, |id| id.index + 1) {
            return Err(format!("purged {:?}, {:?}", state.purged, self.published));
        }
        let read = log.read(0..u64::MAX, usize::MAX);
        let read = read.map_err(|error| error.to_string())?;
        if read
            .iter()
            .ne(self.entries.range(first..).map(|(_, entry)| entry))
        {
            return Err(format!("{} entries read, other ones", read.len()));
        }
        Ok(())
    }
}

/// Makes a call of a log. `Err`: refused, nothing was done. A snapshot is never answered.
pub fn make(log: &Log, call: &Call) -> Result<Outcome, Error> {
    let (outcome, done) = outcome();
    match call {
        Call::Append(entries) => log.append(entries.clone(), done)?,
        Call::Vote(vote) => log.save_vote(*vote, done)?,
        Call::Truncate(since) => log.truncate(*since, done)?,
        Call::Snapshot(upto) => {
            log.publish(*upto);
            log.purge(*upto)?;
        }
    }
    Ok(outcome)
}
