//! One chunk: a sorted vector of records with its sums.

use super::super::record::Record;
use crate::ids::Incarnation;

/// Room made when a vector is full: doubling would cost ten bytes a record.
pub(super) const ROOM: usize = 16;

/// Neighbouring records, never empty within a map.
#[derive(Clone, Default)]
pub(crate) struct Chunk {
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

impl Chunk {
    pub(crate) fn of(records: Vec<Record>) -> Self {
        let mut chunk = Self {
            records,
            ..Self::default()
        };
        chunk.sum();
        chunk
    }

    fn sum(&mut self) {
        self.payload_bytes = 0;
        self.hash = 0;
        self.owners = 0;
        for record in &self.records {
            self.payload_bytes += record.payload_bytes() as u64;
            self.hash = self.hash.wrapping_add(record.hash());
            self.owners |= owner_bit(record.owner());
        }
    }

    pub(crate) fn records(&self) -> &[Record] {
        &self.records
    }

    pub(super) fn find(&self, key: &[u8]) -> Result<usize, usize> {
        self.records
            .binary_search_by(|record| record.key().cmp(key))
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
        self.records.reserve_exact(other.records.len());
        self.records.extend_from_slice(&other.records);
        self.payload_bytes += other.payload_bytes;
        self.hash = self.hash.wrapping_add(other.hash);
        self.owners |= other.owners;
    }
}
