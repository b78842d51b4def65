//! The persistent map: sorted chunks of records behind `Arc`, gathered in branches, gathered in one vector.
//!
//! Cloning copies one vector of pointers, a hundred or so for a million records; a writer copies a branch and a chunk
//! only while a clone holds them. Chunk borders have no meaning: equal maps may differ in them.

use super::record::Record;
use crate::ids::Incarnation;
use border::Border;
use chunk::owner_bit;
use row::{Child, Row};
use std::sync::Arc;

mod border;
mod chunk;
mod difference;
mod iter;
mod row;

pub(crate) use chunk::Chunk;
pub use difference::{Change, difference};
pub use iter::Iter;

/// Most records of a chunk, and most chunks of a branch.
pub(crate) const FULL: usize = 128;
/// Below this, one joins its neighbour if both together are at most [`JOINED`].
const SPARSE: usize = 32;
const JOINED: usize = 96;

#[derive(Clone)]
struct Branch {
    chunks: Row<Chunk>,
}

/// Records by key.
#[derive(Clone, Default)]
pub struct Map {
    branches: Row<Branch>,
    records: usize,
    payload_bytes: u64,
    hash: u128,
}

/// Keys and bytes below a prefix.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Usage {
    pub keys: usize,
    /// Of keys and values.
    pub payload_bytes: u64,
}

impl Map {
    pub fn new() -> Self {
        Self::default()
    }

    /// Records in it.
    pub fn len(&self) -> usize {
        self.records
    }

    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Bytes of all keys and values.
    pub fn payload_bytes(&self) -> u64 {
        self.payload_bytes
    }

    /// The sum of all records' hashes.
    pub fn hash(&self) -> u128 {
        self.hash
    }

    /// The record under `key`.
    pub fn get(&self, key: &[u8]) -> Option<&Record> {
        let branch = &self.branches.get(self.branches.place(key))?.node;
        let chunk = &branch.chunks[branch.chunks.place(key)].node;
        chunk.find(key).map(|at| &chunk.records[at])
    }

    /// Puts a record under its key and returns the one it replaces.
    pub fn put(&mut self, record: Record) -> Option<Record> {
        let (bytes, hash) = (record.payload_bytes() as u64, record.hash());
        self.payload_bytes += bytes;
        self.hash = self.hash.wrapping_add(hash);
        if self.branches.is_empty() {
            self.append_chunk(Chunk::of(vec![record]));
            return None;
        }
        let at_branch = self.branches.place(record.key());
        let branch = self.branches.node_mut(at_branch);
        let at_chunk = branch.chunks.place(record.key());
        let chunk = branch.chunks.node_mut(at_chunk);
        chunk.payload_bytes += bytes;
        chunk.hash = chunk.hash.wrapping_add(hash);
        chunk.owners |= owner_bit(record.owner());
        match chunk.find(record.key()) {
            Some(at) => {
                let old = std::mem::replace(&mut chunk.records[at], record);
                let (bytes, hash) = (old.payload_bytes() as u64, old.hash());
                chunk.payload_bytes -= bytes;
                chunk.hash = chunk.hash.wrapping_sub(hash);
                self.payload_bytes -= bytes;
                self.hash = self.hash.wrapping_sub(hash);
                Some(old)
            }
            None => {
                self.records += 1;
                let at = chunk.place(record.key());
                chunk.insert(at, record);
                if chunk.records.len() > FULL {
                    self.split(at_branch, at_chunk, at);
                }
                None
            }
        }
    }

    fn split(&mut self, at_branch: usize, at_chunk: usize, inserted: usize) {
        let branch = self.branches.node_mut(at_branch);
        let lower = branch.chunks.node_mut(at_chunk);
        let upper = lower.split(inserted);
        let from = Border::between(lower.last_key(), upper.first_key());
        let child = Child {
            from,
            node: Arc::new(upper),
        };
        branch.chunks.insert(at_chunk + 1, child);
        if branch.chunks.len() <= FULL {
            return;
        }
        let last = at_chunk + 2 == branch.chunks.len();
        let half = if last {
            at_chunk + 1
        } else {
            branch.chunks.len() / 2
        };
        let upper = branch.chunks.split_off(half);
        let from = upper[0].from.clone();
        let node = Arc::new(Branch { chunks: upper });
        self.branches.insert(at_branch + 1, Child { from, node });
    }

    /// Puts a chunk behind all others; its keys must be above all in the map.
    fn append_chunk(&mut self, chunk: Chunk) {
        self.records += chunk.records.len();
        let from = match self.last_chunk() {
            Some(last) => Border::between(last.last_key(), chunk.first_key()),
            None => Border::least(),
        };
        let child = Child {
            from: from.clone(),
            node: Arc::new(chunk),
        };
        match self.branches.len().checked_sub(1) {
            Some(last) if self.branches[last].node.chunks.len() < FULL => {
                let chunks = &mut self.branches.node_mut(last).chunks;
                chunks.insert(chunks.len(), child);
            }
            _ => {
                let chunks = Row::of(vec![child]);
                let node = Arc::new(Branch { chunks });
                let at = self.branches.len();
                self.branches.insert(at, Child { from, node });
            }
        }
    }

    fn last_chunk(&self) -> Option<&Chunk> {
        let branch = &self.branches.last()?.node;
        branch.chunks.last().map(|child| &*child.node)
    }

    /// As [`Map::append_chunk`] with all sums; `false`, and nothing done, unless the keys rise from the map's last on.
    pub(crate) fn append(&mut self, records: Vec<Record>) -> bool {
        let Some(first) = records.first() else {
            return true;
        };
        let rising = records.windows(2).all(|two| two[0].key() < two[1].key());
        let behind = self
            .last_chunk()
            .is_none_or(|last| last.last_key() < first.key());
        if !rising || !behind || records.len() > FULL {
            return false;
        }
        let chunk = Chunk::of(records);
        self.payload_bytes += chunk.payload_bytes;
        self.hash = self.hash.wrapping_add(chunk.hash);
        self.append_chunk(chunk);
        true
    }

    /// Removes and returns the record under `key`.
    pub fn remove(&mut self, key: &[u8]) -> Option<Record> {
        self.get(key)?;
        let at_branch = self.branches.place(key);
        let branch = self.branches.node_mut(at_branch);
        let at_chunk = branch.chunks.place(key);
        let chunk = branch.chunks.node_mut(at_chunk);
        let at = chunk.find(key)?;
        let old = chunk.remove(at);
        let (bytes, hash) = (old.payload_bytes() as u64, old.hash());
        chunk.payload_bytes -= bytes;
        chunk.hash = chunk.hash.wrapping_sub(hash);
        let sparse = chunk.records.len() < SPARSE;
        self.records -= 1;
        self.payload_bytes -= bytes;
        self.hash = self.hash.wrapping_sub(hash);
        if sparse {
            branch.join_chunk(at_chunk);
            self.join_branch(at_branch);
        }
        Some(old)
    }

    /// Drops an empty branch, joins one with few chunks to a neighbour.
    fn join_branch(&mut self, at: usize) {
        let size = |at: usize| self.branches.get(at).map_or(FULL, |b| b.node.chunks.len());
        if size(at) == 0 {
            self.branches.remove(at);
            return;
        }
        let Some(left) = neighbour(at, size) else {
            return;
        };
        let right = self.branches.remove(left + 1);
        let into = self.branches.node_mut(left);
        into.chunks.join(&right.node.chunks, right.from);
    }

    /// All records from `key` on, in order.
    pub fn iter_from(&self, key: &[u8]) -> Iter<'_> {
        Iter::new(self, key)
    }

    /// All records in order.
    pub fn iter(&self) -> Iter<'_> {
        self.iter_from(&[])
    }

    /// The records whose keys begin with `prefix`, those after the key `after` if one is given, in order.
    pub fn scan<'a>(
        &'a self,
        prefix: &'a [u8],
        after: Option<&[u8]>,
    ) -> impl Iterator<Item = &'a Record> {
        let mut iter = self.iter_from(after.map_or(prefix, |after| after.max(prefix)));
        if after.is_some_and(|after| iter.peek().is_some_and(|first| first.key() == after)) {
            iter.next();
        }
        iter.take_while(move |record| record.key().starts_with(prefix))
    }

    /// Keys and bytes below `prefix`; whole chunks are not walked.
    pub fn usage(&self, prefix: &[u8]) -> Usage {
        let mut iter = self.iter_from(prefix);
        let mut usage = Usage::default();
        loop {
            if let Some(chunk) = iter.chunk_begun()
                && chunk.last_key().starts_with(prefix)
            {
                usage.keys += chunk.records.len();
                usage.payload_bytes += chunk.payload_bytes;
                iter.skip_chunk();
                continue;
            }
            match iter.next() {
                Some(record) if record.key().starts_with(prefix) => {
                    usage.keys += 1;
                    usage.payload_bytes += record.payload_bytes() as u64;
                }
                _ => return usage,
            }
        }
    }

    /// At most `limit` records of one owner, after the key `after`, in order. Chunks that never saw the owner are skipped.
    pub fn owned_after(&self, owner: Incarnation, after: &[u8], limit: usize) -> Vec<Record> {
        let mut found = Vec::new();
        let mut iter = self.iter_from(after);
        let bit = owner_bit(Some(owner));
        while found.len() < limit {
            if iter
                .chunk_begun()
                .is_some_and(|chunk| chunk.owners & bit == 0)
            {
                iter.skip_chunk();
                continue;
            }
            match iter.next() {
                Some(record) if record.owner() == Some(owner) && record.key() > after => {
                    found.push(record.clone());
                }
                Some(_) => {}
                None => break,
            }
        }
        found
    }

    /// The chunk at a place, a number of a branch and of a chunk in it, and the place behind it; the first is (0, 0).
    pub(crate) fn chunk_at(
        &self,
        (branch, chunk): (usize, usize),
    ) -> Option<(&Chunk, (usize, usize))> {
        let chunks = &self.branches.get(branch)?.node.chunks;
        let found = &chunks.get(chunk)?.node;
        let behind = match chunk + 1 == chunks.len() {
            true => (branch + 1, 0),
            false => (branch, chunk + 1),
        };
        Some((found, behind))
    }
}

/// The left one of two neighbours that `at` joins, if it is sparse and one of them has room.
fn neighbour(at: usize, size: impl Fn(usize) -> usize) -> Option<usize> {
    if size(at) >= SPARSE {
        return None;
    }
    let fits = |left: usize| size(left) + size(left + 1) <= JOINED;
    let left = at.checked_sub(1);
    left.filter(|left| fits(*left)).or(fits(at).then_some(at))
}

impl Branch {
    /// Drops an empty chunk, joins a sparse one to a neighbour.
    fn join_chunk(&mut self, at: usize) {
        let size = |at: usize| self.chunks.get(at).map_or(FULL, |c| c.node.records.len());
        if size(at) == 0 {
            self.chunks.remove(at);
            return;
        }
        let Some(left) = neighbour(at, size) else {
            return;
        };
        let right = self.chunks.remove(left + 1);
        self.chunks.node_mut(left).join(&right.node);
    }
}

#[cfg(test)]
mod tests;
