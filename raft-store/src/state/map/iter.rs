//! Walking a map in order, record by record or chunk by chunk.

use super::super::record::Record;
use super::{Chunk, Map};
use std::sync::Arc;

/// Records in order from some key on. Its position is always at a record or at the end.
#[derive(Clone)]
pub struct Iter<'a> {
    map: &'a Map,
    branch: usize,
    chunk: usize,
    record: usize,
}

impl<'a> Iter<'a> {
    pub(super) fn new(map: &'a Map, key: &[u8]) -> Self {
        let branch = map.branches.place(key);
        let mut iter = Self {
            map,
            branch,
            chunk: 0,
            record: 0,
        };
        if let Some(found) = map.branches.get(branch) {
            iter.chunk = found.node.chunks.place(key);
            let chunk = &found.node.chunks[iter.chunk].node;
            iter.record = chunk.place(key);
            if iter.record == chunk.records.len() {
                iter.skip_chunk();
            }
        }
        iter
    }

    fn node(&self) -> Option<&'a Arc<Chunk>> {
        let branch = self.map.branches.get(self.branch)?;
        branch.node.chunks.get(self.chunk).map(|child| &child.node)
    }

    /// The record that `next` will return.
    pub fn peek(&self) -> Option<&'a Record> {
        self.node()?.records.get(self.record)
    }

    /// The chunk here, if none of its records has been passed.
    pub(super) fn chunk_begun(&self) -> Option<&'a Arc<Chunk>> {
        self.node().filter(|_| self.record == 0)
    }

    /// Passes what is left of this chunk.
    pub(super) fn skip_chunk(&mut self) {
        self.record = 0;
        self.chunk += 1;
        let branch = self.map.branches.get(self.branch);
        if branch.is_some_and(|branch| self.chunk == branch.node.chunks.len()) {
            self.chunk = 0;
            self.branch += 1;
        }
    }

    /// Passes the branch here and in `other`, if both stand at the beginning of the very same one.
    pub(super) fn skip_same_branch(&mut self, other: &mut Self) -> bool {
        let at_begin = |iter: &Self| iter.chunk == 0 && iter.record == 0;
        let branch = |iter: &Self| iter.map.branches.get(iter.branch).map(|child| &child.node);
        let (Some(here), Some(there)) = (branch(self), branch(other)) else {
            return false;
        };
        let same = at_begin(self) && at_begin(other) && Arc::ptr_eq(here, there);
        if same {
            self.branch += 1;
            other.branch += 1;
        }
        same
    }
}

impl<'a> Iterator for Iter<'a> {
    type Item = &'a Record;

    fn next(&mut self) -> Option<&'a Record> {
        let chunk = self.node()?;
        let record = chunk.records.get(self.record)?;
        self.record += 1;
        if self.record == chunk.records.len() {
            self.skip_chunk();
        }
        Some(record)
    }
}
