//! A snapshot written in slices, so that whoever writes it can pause between them.

use super::blocks::Blocks;
use super::*;

/// Bytes of records that one slice writes at least, if so many are left.
const SLICE_BYTES: usize = SNAPSHOT_BLOCK_BYTES;

/// A state on its way to `to`.
pub(crate) struct Writing<W> {
    state: State,
    blocks: Blocks<W>,
    /// The place of the map's chunk that comes next.
    at: (usize, usize),
}

impl<W: Write> Writing<W> {
    /// Writes all that comes before the records.
    pub(crate) fn begin(state: State, meta: &[u8], to: W) -> Result<Self, Error> {
        if meta.len() > META_BYTES {
            return Err(Error::Content("meta over its limit"));
        }
        let mut blocks = Blocks::begin(to)?;
        blocks.item(HEAD, &encoded(|to| encode_head(to, state.head())))?;
        blocks.item(META, meta)?;
        for (id, member) in state.members().iter() {
            let content = encoded(|to| {
                to.u64(id.0);
                member.encode(to);
            });
            blocks.item(MEMBER, &content)?;
        }
        for id in state.members().tombstones() {
            blocks.item(TOMBSTONE, &id.0.to_le_bytes())?;
        }
        for (incarnation, window) in state.windows() {
            let content = encoded(|to| {
                to.varint(incarnation.0);
                to.u64(window.member().0);
                to.u64(window.floor());
            });
            blocks.item(WINDOW, &content)?;
            for (sequence, outcome) in window.results() {
                let content = encoded(|to| {
                    to.u64(sequence);
                    outcome.encode(to);
                });
                blocks.item(RESULT, &content)?;
            }
        }
        Ok(Self {
            state,
            blocks,
            at: (0, 0),
        })
    }

    /// Writes some records; says whether more are left.
    pub(crate) fn slice(&mut self) -> Result<bool, Error> {
        let mut written = 0;
        while let Some((chunk, behind)) = self.state.map().chunk_at(self.at) {
            if written >= SLICE_BYTES {
                return Ok(true);
            }
            for (at, record) in chunk.records().iter().enumerate() {
                let tag = if at == 0 { CHUNK } else { RECORD };
                self.blocks.item(tag, record.as_bytes())?;
                written += record.as_bytes().len();
            }
            self.at = behind;
        }
        Ok(false)
    }

    /// Writes what comes behind the records. Gives `to` back.
    pub(crate) fn finish(mut self) -> Result<(Written, W), Error> {
        for (owner, upto) in self.state.orphans() {
            let content = encoded(|to| {
                to.varint(owner.0);
                to.raw(upto);
            });
            self.blocks.item(ORPHAN, &content)?;
        }
        self.blocks.finish()
    }

    pub(crate) fn to(&mut self) -> &mut W {
        self.blocks.to()
    }
}
