//! Blocks: gathered and written with their sums, read and verified.

use super::{Error, ITEM_BYTES, SNAPSHOT_FORMAT, Written};
use crate::codec::{self, Reader, Writer};
use crate::limits::SNAPSHOT_BLOCK_BYTES;
use std::io::{self, Read, Write};

pub(super) const MAGIC: [u8; 8] = *b"raftsnap";
const HEADER: usize = 9;
const DATA: u8 = 0;
const END: u8 = 1;

/// Gathers items into blocks.
pub(super) struct Blocks<W> {
    to: W,
    /// The block begun: room for its header, then items.
    block: Vec<u8>,
    number: u32,
    bytes: u64,
    hasher: blake3::Hasher,
}

impl<W: Write> Blocks<W> {
    pub(super) fn begin(to: W) -> Result<Self, Error> {
        let mut blocks = Self {
            to,
            block: vec![0; HEADER],
            number: 0,
            bytes: 0,
            hasher: blake3::Hasher::new(),
        };
        let mut first = MAGIC.to_vec();
        first.extend(SNAPSHOT_FORMAT.to_le_bytes());
        blocks.out(&first)?;
        Ok(blocks)
    }

    fn out(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.to.write_all(bytes)?;
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    pub(super) fn item(&mut self, tag: u8, content: &[u8]) -> Result<(), Error> {
        if content.len() > ITEM_BYTES {
            return Err(Error::Content("an item over its limit"));
        }
        let needed = 1 + codec::varint_bytes(content.len() as u64) + content.len();
        if self.block.len() - HEADER + needed > SNAPSHOT_BLOCK_BYTES {
            self.flush(DATA)?;
        }
        let mut to = Writer::with_buffer(std::mem::take(&mut self.block), usize::MAX);
        to.u8(tag);
        to.bytes(content);
        self.block = to.finish("block").expect("no limit");
        Ok(())
    }

    fn flush(&mut self, kind: u8) -> Result<(), Error> {
        let mut block = std::mem::take(&mut self.block);
        let length = (block.len() - HEADER) as u32;
        block[..4].copy_from_slice(&length.to_le_bytes());
        block[4..8].copy_from_slice(&self.number.to_le_bytes());
        block[8] = kind;
        let crc = crc32c::crc32c(&block);
        block.extend(crc.to_le_bytes());
        self.out(&block)?;
        block.clear();
        block.resize(HEADER, 0);
        self.block = block;
        self.number += 1;
        Ok(())
    }

    pub(super) fn to(&mut self) -> &mut W {
        &mut self.to
    }

    /// Gives back what was written to.
    pub(super) fn finish(mut self) -> Result<(Written, W), Error> {
        self.flush(DATA)?;
        let hash = *self.hasher.finalize().as_bytes();
        self.block.extend(hash);
        self.flush(END)?;
        let bytes = self.bytes;
        Ok((Written { bytes, hash }, self.to))
    }
}

/// Takes blocks apart.
pub(super) struct Source<R> {
    from: R,
    number: u32,
    /// Taken so far.
    pub(super) bytes: u64,
    hasher: blake3::Hasher,
}

impl<R: Read> Source<R> {
    pub(super) fn begin(from: R) -> Result<Self, Error> {
        let mut source = Self {
            from,
            number: 0,
            bytes: 0,
            hasher: blake3::Hasher::new(),
        };
        let mut first = [0; MAGIC.len() + 2];
        source.fill(&mut first)?;
        if first[..MAGIC.len()] != MAGIC {
            return Err(source.damaged("no snapshot"));
        }
        let found = u16::from_le_bytes([first[8], first[9]]);
        if found != SNAPSHOT_FORMAT {
            return Err(Error::Format { found });
        }
        source.passed(&first);
        Ok(source)
    }

    fn damaged(&self, what: &'static str) -> Error {
        let at = self.bytes;
        Error::Damaged { what, at }
    }

    fn fill(&mut self, into: &mut [u8]) -> Result<(), Error> {
        self.from
            .read_exact(into)
            .map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => self.damaged("cut short"),
                _ => Error::Io(error),
            })
    }

    fn passed(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
    }

    /// The next block of items into `body`, or the hash if this was the last block and nothing follows.
    pub(super) fn next(&mut self, body: &mut Vec<u8>) -> Result<Option<[u8; 32]>, Error> {
        let mut header = [0; HEADER];
        self.fill(&mut header)?;
        let mut fields = Reader::new(&header);
        let length = fields.u32("length of a block")? as usize;
        let number = fields.u32("number of a block")?;
        let kind = fields.u8("kind of a block")?;
        if length > SNAPSHOT_BLOCK_BYTES {
            return Err(self.damaged("a block over its limit"));
        }
        body.clear();
        body.resize(length, 0);
        self.fill(body)?;
        let mut crc = [0; 4];
        self.fill(&mut crc)?;
        let sum = crc32c::crc32c_append(crc32c::crc32c(&header), body);
        if sum != u32::from_le_bytes(crc) {
            return Err(self.damaged("a block whose CRC is wrong"));
        }
        if number != self.number {
            return Err(self.damaged("a block out of order"));
        }
        self.number = number.wrapping_add(1);
        let hash = (kind == END).then(|| *self.hasher.finalize().as_bytes());
        self.passed(&header);
        self.passed(body);
        self.passed(&crc);
        match (kind, hash) {
            (DATA, _) => Ok(None),
            (END, Some(hash)) if hash[..] == body[..] => {
                self.nothing_follows().map(|()| Some(hash))
            }
            _ => Err(self.damaged("a hash that is wrong")),
        }
    }

    fn nothing_follows(&mut self) -> Result<(), Error> {
        let mut more = [0];
        match self.fill(&mut more) {
            Err(Error::Damaged { .. }) => Ok(()),
            Err(error) => Err(error),
            Ok(()) => Err(self.damaged("more after the end")),
        }
    }
}
