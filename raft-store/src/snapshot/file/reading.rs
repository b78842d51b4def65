//! A snapshot read block by block, so that whoever reads it can pause between them.

use super::blocks::Source;
use super::parts::Parts;
use super::*;

/// A state on its way from `from`.
pub(crate) struct Reading<R> {
    source: Source<R>,
    parts: Parts,
    limits: Limits,
    block: Vec<u8>,
    /// The last block was read.
    hash: Option<[u8; 32]>,
}

impl<R: Read> Reading<R> {
    pub(crate) fn begin(from: R, limits: Limits) -> Result<Self, Error> {
        Ok(Self {
            source: Source::begin(from)?,
            parts: Parts::default(),
            limits,
            block: Vec::new(),
            hash: None,
        })
    }

    /// Reads the next block; says whether more are left.
    pub(crate) fn block(&mut self) -> Result<bool, Error> {
        self.hash = self.source.next(&mut self.block)?;
        if self.hash.is_some() {
            return Ok(false);
        }
        let mut items = Reader::new(&self.block);
        while !items.is_empty() {
            let tag = items.u8("item")?;
            let content = items.bytes(ITEM_BYTES, "content of an item")?;
            self.parts.take(tag, content, self.limits)?;
        }
        Ok(true)
    }

    /// Bytes read so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.source.bytes
    }

    /// What was read, when no block is left.
    pub(crate) fn finish(self) -> Result<Loaded, Error> {
        let hash = self.hash.ok_or(Error::Content("no end"))?;
        let bytes = self.source.bytes;
        let (state, meta) = self.parts.finish()?;
        Ok(Loaded {
            state,
            meta,
            bytes,
            hash,
        })
    }
}
