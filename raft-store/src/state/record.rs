//! One record of the store in one allocation: revision, owner, key, value. The same bytes are hashed and written to snapshots.
//!
//! `[header 2][revision 1–8][owner 0–7][key][value]`, little-endian; the header holds the key's length (10 bits), the
//! bytes of the revision less one (3 bits) and of the owner (3 bits, 0 = none). Numbers take as few bytes as they need.

use super::hash;
use crate::ids::{Incarnation, Revision};
use crate::limits::KEY_BYTES_CEILING;
use bytes::{Buf, Bytes};
use std::sync::Arc;

const HEADER: usize = 2;
const KEY_BITS: u16 = 10;
/// The longest part before the key.
pub(crate) const RECORD_HEAD_BYTES: usize = HEADER + 8 + 7;

/// Shared and never changed; cloning is one reference count.
#[derive(Clone, PartialEq, Eq)]
pub struct Record(Arc<[u8]>);

struct Shape {
    revision: usize,
    owner: usize,
    key: usize,
}

impl Shape {
    fn of(header: [u8; 2]) -> Self {
        let header = u16::from_le_bytes(header);
        Self {
            revision: usize::from(header >> KEY_BITS & 7) + 1,
            owner: usize::from(header >> (KEY_BITS + 3)),
            key: usize::from(header) & KEY_BYTES_CEILING,
        }
    }
}

fn bytes_needed(value: u64) -> usize {
    (64 - value.leading_zeros() as usize).div_ceil(8)
}

fn number(bytes: &[u8]) -> u64 {
    let mut whole = [0; 8];
    whole[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(whole)
}

impl Record {
    /// `key` of 1 to [`KEY_BYTES_CEILING`] bytes, `owner` in 1 ..= [`Incarnation::CEILING`]: checked by whoever lets them in.
    pub fn new(key: &[u8], value: &[u8], revision: Revision, owner: Option<Incarnation>) -> Self {
        assert!(
            !key.is_empty() && key.len() <= KEY_BYTES_CEILING,
            "a key of {} bytes",
            key.len()
        );
        let owner = owner.map_or(0, |owner| owner.0);
        assert!(owner <= Incarnation::CEILING, "owner {owner}");
        let (for_revision, for_owner) = (bytes_needed(revision.0).max(1), bytes_needed(owner));
        let header = key.len() as u16
            | (for_revision as u16 - 1) << KEY_BITS
            | (for_owner as u16) << (KEY_BITS + 3);
        let mut head = [0; RECORD_HEAD_BYTES];
        head[..2].copy_from_slice(&header.to_le_bytes());
        head[2..10].copy_from_slice(&revision.0.to_le_bytes());
        let at = HEADER + for_revision;
        head[at..at + for_owner].copy_from_slice(&owner.to_le_bytes()[..for_owner]);
        let head = &head[..at + for_owner];
        let mut whole =
            Arc::<[u8]>::from_iter(std::iter::repeat_n(0, head.len() + key.len() + value.len()));
        let into = Arc::get_mut(&mut whole).expect("nobody else has it yet");
        let (into_head, rest) = into.split_at_mut(head.len());
        let (into_key, into_value) = rest.split_at_mut(key.len());
        into_head.copy_from_slice(head);
        into_key.copy_from_slice(key);
        into_value.copy_from_slice(value);
        Self(whole)
    }

    /// A record as [`Record::as_bytes`] gave it; `None` when it is none, or not in its one shortest form.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let header = *bytes.first_chunk::<HEADER>()?;
        let shape = Shape::of(header);
        let body = HEADER + shape.revision + shape.owner;
        if shape.key == 0 || bytes.len() < body + shape.key {
            return None;
        }
        let revision = number(&bytes[HEADER..HEADER + shape.revision]);
        let owner = number(&bytes[HEADER + shape.revision..body]);
        let shortest =
            bytes_needed(revision).max(1) == shape.revision && bytes_needed(owner) == shape.owner;
        shortest.then(|| Self(Arc::from(bytes)))
    }

    fn shape(&self) -> Shape {
        Shape::of([self.0[0], self.0[1]])
    }

    /// All of it, in the form above.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub fn key(&self) -> &[u8] {
        let shape = self.shape();
        let at = HEADER + shape.revision + shape.owner;
        &self.0[at..at + shape.key]
    }

    pub fn value(&self) -> &[u8] {
        let shape = self.shape();
        &self.0[HEADER + shape.revision + shape.owner + shape.key..]
    }

    pub fn revision(&self) -> Revision {
        Revision(number(&self.0[HEADER..HEADER + self.shape().revision]))
    }

    /// The run whose death orphans this key.
    pub fn owner(&self) -> Option<Incarnation> {
        let shape = self.shape();
        let at = HEADER + shape.revision;
        let owner = number(&self.0[at..at + shape.owner]);
        (owner != 0).then_some(Incarnation(owner))
    }

    /// Bytes of key and value.
    pub fn payload_bytes(&self) -> usize {
        let shape = self.shape();
        self.0.len() - HEADER - shape.revision - shape.owner
    }

    /// Key and value without copying them.
    pub fn parts(&self) -> (Bytes, Bytes) {
        let (key, value) = (self.key().len(), self.value().len());
        let whole = Bytes::from_owner(Shared(self.clone()));
        let value_at = whole.len() - value;
        (
            whole.slice(value_at - key..value_at),
            whole.slice(value_at..),
        )
    }

    /// The value without copying it.
    pub fn shared_value(&self) -> Bytes {
        let before = self.0.len() - self.value().len();
        let mut whole = Bytes::from_owner(Shared(self.clone()));
        whole.advance(before);
        whole
    }

    /// What it adds to the state hash.
    pub(crate) fn hash(&self) -> u128 {
        hash::item(&self.0)
    }

    /// The same allocation, not only the same content.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

struct Shared(Record);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.0.0
    }
}

impl std::fmt::Debug for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Record")
            .field("key", &self.key().escape_ascii().to_string())
            .field("value_bytes", &self.value().len())
            .field("revision", &self.revision().0)
            .field("owner", &self.owner())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_sizes_come_back() {
        for revision in [0, 1, 255, 256, (1 << 24) - 1, 1 << 32, u64::MAX] {
            for owner in [None, Some(1), Some(1 << 20), Some(Incarnation::CEILING)] {
                for key in [1, 2, 512, KEY_BYTES_CEILING] {
                    let (key, value) = (vec![7; key], vec![9; key % 5]);
                    let owner = owner.map(Incarnation);
                    let record = Record::new(&key, &value, Revision(revision), owner);
                    assert_eq!(record.key(), key);
                    assert_eq!(record.value(), value);
                    assert_eq!(record.revision(), Revision(revision));
                    assert_eq!(record.owner(), owner);
                    assert_eq!(record.payload_bytes(), key.len() + value.len());
                    assert_eq!(record.shared_value(), value);
                    assert_eq!(record.parts(), (key.clone().into(), value.into()));
                    assert_eq!(Record::from_bytes(record.as_bytes()), Some(record));
                }
            }
        }
    }

    #[test]
    fn a_record_has_one_form() {
        // Key length 1, revision in two bytes of which the second is not needed.
        assert_eq!(Record::from_bytes(&[1, 0b100, 5, 0, b'k']), None);
        assert!(Record::from_bytes(&[1, 0, 5, b'k']).is_some());
        assert_eq!(Record::from_bytes(&[2, 0, 5, b'k']), None, "cut");
        assert_eq!(Record::from_bytes(&[0, 0, 5, b'k']), None, "no key");
        assert_eq!(Record::from_bytes(&[1]), None);
        assert_eq!(Record::from_bytes(&[]), None);
    }
}
