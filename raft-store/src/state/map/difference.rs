//! What changed between two maps: for watches, when a snapshot is installed over what they had seen.

use super::super::record::Record;
use super::{Chunk, Iter, Map};
use bytes::Bytes;
use std::cmp::Ordering;
use std::sync::Arc;

/// One key that differs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// New, or another record than before.
    Put(Record),
    /// The key is no longer there.
    Removed(Bytes),
}

/// How to get from `old` to `new`, in the order of keys; `None` when that takes more than `limit` changes.
/// Equal chunks that begin at the same key are skipped, by pointer or by hash.
pub fn difference(old: &Map, new: &Map, limit: usize) -> Option<Vec<Change>> {
    let (mut before, mut after) = (old.iter(), new.iter());
    let mut changes = Vec::new();
    loop {
        if before.skip_same_branch(&mut after) || skip_equal(&mut before, &mut after) {
            continue;
        }
        let change = match (before.peek(), after.peek()) {
            (None, None) => return Some(changes),
            (was, is) => step(&mut before, &mut after, was, is),
        };
        if let Some(change) = change {
            if changes.len() == limit {
                return None;
            }
            changes.push(change);
        }
    }
}

fn skip_equal(before: &mut Iter<'_>, after: &mut Iter<'_>) -> bool {
    let equal = match (before.chunk_begun(), after.chunk_begun()) {
        (Some(was), Some(is)) => Arc::ptr_eq(was, is) || is_equal(was, is),
        _ => false,
    };
    if equal {
        before.skip_chunk();
        after.skip_chunk();
    }
    equal
}

fn is_equal(was: &Chunk, is: &Chunk) -> bool {
    was.hash == is.hash
        && was.payload_bytes == is.payload_bytes
        && was.records.len() == is.records.len()
        && was.first_key() == is.first_key()
        && was.last_key() == is.last_key()
}

/// Passes the lower key, or both if they are one.
fn step(
    before: &mut Iter<'_>,
    after: &mut Iter<'_>,
    was: Option<&Record>,
    is: Option<&Record>,
) -> Option<Change> {
    let order = match (was, is) {
        (Some(was), Some(is)) => was.key().cmp(is.key()),
        (Some(_), None) => Ordering::Less,
        _ => Ordering::Greater,
    };
    if order.is_le() {
        before.next();
    }
    if order.is_ge() {
        after.next();
    }
    match (order, was, is) {
        (Ordering::Less, Some(was), _) => Some(Change::Removed(was.parts().0)),
        (Ordering::Equal, Some(was), Some(is)) if was.is_same(is) || was == is => None,
        (_, _, is) => is.cloned().map(Change::Put),
    }
}
