//! One chunk: a sorted vector of records with its sums.

use super::super::record::Record;
use super::FULL;
use crate::ids::Incarnation;

/// Room made when a vector is full: doubling would cost ten bytes a record.
pub(super) const ROOM: usize = 16;

/// Neighbouring records, never empty within a map.
#[derive(Clone)]
pub(crate) struct Chunk {
    /// A byte of each key's hash, in the order of the records: finds one without touching the others, each of which is
    /// an allocation of its own and so a cache miss.
    tags: [u8; FULL + 1],
    pub(super) records: Vec<Record>,
    pub(super) payload_bytes: u64,
    pub(super) hash: u128,
    /// A bit for each owner ever seen here ([`owner_bit`]): a clear one proves absence.
    pub(super) owners: u64,
}

/// The bit of an owner in [`Chunk::owners`]; none for no owner.
pub(super) fn owner_bit(owner: Option<Incarnation>) -> u64 {
    let spread = |owner: Incarnation| owner.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 58;
    owner.map_or(0, |owner| 1 << spread(owner))
}

/// Inserts without doubling the allocation.
pub(super) fn insert_at<T>(row: &mut Vec<T>, at: usize, item: T) {
    if row.len() == row.capacity() {
        row.reserve_exact(ROOM);
    }
    row.insert(at, item);
}

/// A byte that differs between most keys.
fn tag(key: &[u8]) -> u8 {
    const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut hash = key.len() as u64;
    for word in key.chunks(8) {
        let mut whole = [0; 8];
        whole[..word.len()].copy_from_slice(word);
        hash = (hash.rotate_left(23) ^ u64::from_le_bytes(whole)).wrapping_mul(SPREAD);
    }
    (hash >> 56) as u8
}

impl Chunk {
    /// Of at most [`FULL`] records in order.
    pub(crate) fn of(records: Vec<Record>) -> Self {
        let mut chunk = Self {
            tags: [0; FULL + 1],
            records,
            payload_bytes: 0,
            hash: 0,
            owners: 0,
        };
        for (record, place) in chunk.records.iter().zip(&mut chunk.tags) {
            *place = tag(record.key());
            chunk.payload_bytes += record.payload_bytes() as u64;
            chunk.hash = chunk.hash.wrapping_add(record.hash());
            chunk.owners |= owner_bit(record.owner());
        }
        chunk
    }

    pub(crate) fn records(&self) -> &[Record] {
        &self.records
    }

    /// Where the record of `key` is.
    pub(super) fn find(&self, key: &[u8]) -> Option<usize> {
        let tags = &self.tags[..self.records.len()];
        let mut likely = memchr::memchr_iter(tag(key), tags);
        likely.find(|at| self.records[*at].key() == key)
    }

    /// Where the first record not below `key` is.
    pub(super) fn place(&self, key: &[u8]) -> usize {
        self.records.partition_point(|record| record.key() < key)
    }

    /// Inserts without doubling the allocation; the sums are the caller's.
    pub(super) fn insert(&mut self, at: usize, record: Record) {
        self.tags.copy_within(at..self.records.len(), at + 1);
        self.tags[at] = tag(record.key());
        insert_at(&mut self.records, at, record);
    }

    /// Removes a record; the sums are the caller's.
    pub(super) fn remove(&mut self, at: usize) -> Record {
        self.tags.copy_within(at + 1..self.records.len(), at);
        let record = self.records.remove(at);
        if self.records.capacity() > self.records.len() + 2 * ROOM {
            self.records.shrink_to(self.records.len() + ROOM);
        }
        record
    }

    pub(super) fn first_key(&self) -> &[u8] {
        self.records.first().expect("no chunk is empty").key()
    }

    pub(super) fn last_key(&self) -> &[u8] {
        self.records.last().expect("no chunk is empty").key()
    }

    /// Takes the upper half away, or only `last` if that came at the very end: rising keys fill chunks.
    pub(super) fn split(&mut self, last: usize) -> Self {
        let at = if last + 1 == self.records.len() {
            last
        } else {
            self.records.len() / 2
        };
        let mut upper = self.records.split_off(at);
        self.records.shrink_to(at + ROOM);
        upper.shrink_to(ROOM);
        let upper = Self::of(upper);
        self.payload_bytes -= upper.payload_bytes;
        self.hash = self.hash.wrapping_sub(upper.hash);
        upper
    }

    pub(super) fn join(&mut self, other: &Self) {
        let (mine, others) = (self.records.len(), other.records.len());
        self.tags[mine..mine + others].copy_from_slice(&other.tags[..others]);
        self.records.reserve_exact(others);
        self.records.extend_from_slice(&other.records);
        self.payload_bytes += other.payload_bytes;
        self.hash = self.hash.wrapping_add(other.hash);
        self.owners |= other.owners;
    }
}
