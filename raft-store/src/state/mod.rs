//! The replicated state: a pure function of the entries applied. No clock, no randomness, no I/O.

mod apply;
mod hash;
pub mod map;
mod members;
mod owners;
pub mod record;
mod restore;
#[cfg(test)]
pub(crate) mod test_random;
#[cfg(test)]
pub(crate) mod test_world;
mod window;

pub use apply::{Answer, Applied, Closed, Event, Fate};
pub use members::{Member, Members, Registered};
pub use window::{Outcome, Window, WriteOutcome, WriteRefusal};

pub(crate) use members::MEMBER_BYTES;
pub(crate) use restore::{Head, Restore};
pub(crate) use window::OUTCOME_BYTES;

use crate::ids::{Incarnation, Revision};
use crate::limits::{CLUSTER_FORMAT_FIRST, Limits};
use bytes::Bytes;
use hash::Item as Summand;
use map::{Map, Usage};
use owners::Owners;
use record::Record;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Why an entry cannot be applied. The member stops: passing over it would part it from the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("entry {index} was to be applied after entry {applied}")]
    Order { index: u64, applied: u64 },
    #[error("the cluster format is raised to {found}; this build knows up to {known}")]
    Format { found: u16, known: u16 },
    #[error("entry {index} is above the highest incarnation")]
    Index { index: u64 },
}

/// A value with what is known of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Versioned {
    pub value: Bytes,
    /// Of the write that put it.
    pub revision: Revision,
    pub owner: Option<Incarnation>,
    /// The owner is dead; the key waits for its removal.
    pub orphaned: bool,
}

/// One key of a scan.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Item {
    pub key: Bytes,
    pub versioned: Versioned,
}

/// Everything replicated. Cloning shares all records: a hundred or so reference counts for a million of them.
#[derive(Clone)]
pub struct State {
    map: Map,
    owners: Owners,
    /// Of live incarnations, and of no other.
    windows: BTreeMap<Incarnation, Arc<Window>>,
    members: Arc<Members>,
    revision: Revision,
    /// The index of the last entry applied.
    applied: u64,
    cluster_format: u16,
    limits: Limits,
}

impl State {
    /// Before the first entry. The limits are those of the cluster's format, equal on all members.
    pub fn new(limits: Limits) -> Self {
        Self {
            map: Map::new(),
            owners: Owners::default(),
            windows: BTreeMap::new(),
            members: Arc::default(),
            revision: Revision(0),
            applied: 0,
            cluster_format: CLUSTER_FORMAT_FIRST,
            limits,
        }
    }

    /// What is under `key`.
    pub fn get(&self, key: &[u8]) -> Option<Versioned> {
        self.map.get(key).map(|record| self.versioned(record))
    }

    /// At most `limit` keys that begin with `prefix`, after the key `after`, in order.
    pub fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Vec<Item> {
        let records = self.map.scan(prefix, after).take(limit);
        let item = |record: &Record| Item {
            key: record.parts().0,
            versioned: self.versioned(record),
        };
        records.map(item).collect()
    }

    fn versioned(&self, record: &Record) -> Versioned {
        let owner = record.owner();
        Versioned {
            value: record.shared_value(),
            revision: record.revision(),
            owner,
            orphaned: owner.is_some_and(|owner| self.owners.is_orphaned(owner)),
        }
    }

    /// As if it had been put.
    #[cfg(test)]
    pub(crate) fn plant(&mut self, record: Record) {
        self.map.put(record);
    }

    /// The revision of the last event.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The index of the last entry applied; 0 before the first.
    pub fn applied(&self) -> u64 {
        self.applied
    }

    pub fn cluster_format(&self) -> u16 {
        self.cluster_format
    }

    pub fn members(&self) -> &Members {
        &self.members
    }

    /// [`State::members`]; the pointer changes with the content.
    pub(crate) fn shared_members(&self) -> &Arc<Members> {
        &self.members
    }

    /// The window of a live incarnation.
    pub fn window(&self, incarnation: Incarnation) -> Option<&Window> {
        self.windows.get(&incarnation).map(|window| &**window)
    }

    /// The records.
    pub fn map(&self) -> &Map {
        &self.map
    }

    /// Keys owned by an incarnation, live or dead.
    pub fn owned_keys(&self, owner: Incarnation) -> u64 {
        self.owners.keys(owner)
    }

    /// Dead incarnations whose keys wait for [`crate::entry::Close::CleanUp`].
    pub fn orphaned_owners(&self) -> impl Iterator<Item = Incarnation> {
        self.owners.orphans().map(|(owner, _)| owner)
    }

    /// Bytes charged against `store_bytes`.
    pub fn store_bytes(&self) -> u64 {
        apply::store_bytes(&self.map)
    }

    /// Keys and bytes of each prefix up to and with the first `/` (keys without one: the whole key), in order, at most
    /// `limit` of them; whether that is all.
    pub fn usage(&self, limit: usize) -> (Vec<(Bytes, Usage)>, bool) {
        let mut found = Vec::new();
        let mut from = Vec::new();
        while let Some(first) = self.map.iter_from(&from).peek() {
            if found.len() == limit {
                return (found, false);
            }
            let key = first.key();
            let slash = key.iter().position(|byte| *byte == b'/');
            let prefix = slash.map_or(key, |at| &key[..=at]);
            let (usage, next) = match slash {
                Some(_) => (self.map.usage(prefix), above(prefix)),
                None => (single(first), Some([key, &[0]].concat())),
            };
            found.push((Bytes::copy_from_slice(prefix), usage));
            match next {
                Some(next) => from = next,
                None => break,
            }
        }
        (found, true)
    }

    /// The sum modulo 2^128 over all items. Members that applied the same entries have the same, however their maps are cut.
    pub fn hash(&self) -> u128 {
        let windows = self.windows.iter();
        let windows = windows.map(|(incarnation, window)| window.hash(*incarnation));
        let head = Summand::new(b'h').number(self.revision.0);
        let head = head.number(u64::from(self.cluster_format)).hash();
        let rest = [
            self.map.hash(),
            self.owners.hash(),
            self.members.hash(),
            head,
        ];
        windows.chain(rest).fold(0, u128::wrapping_add)
    }
}

/// The least key above all that begin with `prefix`.
fn above(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut above = prefix.to_vec();
    while let Some(last) = above.pop() {
        if last < u8::MAX {
            above.push(last + 1);
            return Some(above);
        }
    }
    None
}

fn single(record: &Record) -> Usage {
    Usage {
        keys: 1,
        payload_bytes: record.payload_bytes() as u64,
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("applied", &self.applied)
            .field("revision", &self.revision.0)
            .field("records", &self.map.len())
            .field("incarnations", &self.windows.keys())
            .finish()
    }
}

#[cfg(test)]
mod tests;
