//! The encoding of a whole state: a stream of bounded blocks, each with a CRC-32C, and a BLAKE3 over all of it.
//!
//! `[magic 8][format 2]`, blocks `[length 4][number 4][kind 1][body][CRC-32C 4]`, the CRC over all of the block before it.
//! The last block holds the hash of everything before that block; nothing follows it. The others hold items `[tag 1][length]
//! [bytes]` in a fixed order: head, meta, members, tombstones, windows each with its results, records, orphaned owners.

use crate::codec::{self, Reader, Writer};
use crate::entry;
use crate::ids::{Incarnation, MemberId, Revision};
use crate::limits::{Limits, SNAPSHOT_BLOCK_BYTES};
use crate::state::record::Record;
use crate::state::{Head, MEMBER_BYTES, Member, OUTCOME_BYTES, Outcome, Restore, State, map};
use std::io::{self, Read, Write};

/// The one format of snapshots that this build writes and reads.
pub const SNAPSHOT_FORMAT: u16 = 1;
/// Most bytes that the layer above puts beside the state.
pub const META_BYTES: usize = 64 * 1024;

const MAGIC: [u8; 8] = *b"raftsnap";
const HEADER: usize = 9;
const DATA: u8 = 0;
const END: u8 = 1;
/// Most bytes of an item's content: a tag and a length fit before it.
const ITEM_BYTES: usize = SNAPSHOT_BLOCK_BYTES - 1 - codec::VARINT_BYTES;

const HEAD: u8 = 1;
const META: u8 = 2;
const MEMBER: u8 = 3;
const TOMBSTONE: u8 = 4;
const WINDOW: u8 = 5;
const RESULT: u8 = 6;
/// The first record of a chunk of the writer's map: whoever reads cuts there too, so that equal parts are found equal.
const CHUNK: u8 = 7;
const RECORD: u8 = 8;
const ORPHAN: u8 = 9;

/// Why a snapshot was not written or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("reading or writing a snapshot: {0}")]
    Io(#[from] io::Error),
    #[error("a snapshot of format {found}; this build reads format {SNAPSHOT_FORMAT}")]
    Format { found: u16 },
    /// `at`: bytes before the block in question.
    #[error("a damaged snapshot: {what} at {at}")]
    Damaged { what: &'static str, at: u64 },
    #[error("a snapshot that cannot be read: {0}")]
    Codec(#[from] codec::Error),
    #[error("a snapshot that does not hold together: {0}")]
    Content(&'static str),
}

/// A snapshot as written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Written {
    /// All bytes.
    pub bytes: u64,
    /// The BLAKE3 in the last block.
    pub hash: [u8; 32],
}

/// A snapshot as read, with all of it verified.
#[derive(Debug)]
pub struct Loaded {
    pub state: State,
    pub meta: Vec<u8>,
    pub bytes: u64,
    pub hash: [u8; 32],
}

/// Writes a state and `meta` (≤ [`META_BYTES`]). `to` gets whole blocks of at most [`SNAPSHOT_BLOCK_BYTES`] and 13 bytes.
pub fn write(state: &State, meta: &[u8], to: &mut impl Write) -> Result<Written, Error> {
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
    for chunk in state.map().chunks() {
        for (at, record) in chunk.records().iter().enumerate() {
            let tag = if at == 0 { CHUNK } else { RECORD };
            blocks.item(tag, record.as_bytes())?;
        }
    }
    for (owner, upto) in state.orphans() {
        let content = encoded(|to| {
            to.varint(owner.0);
            to.raw(upto);
        });
        blocks.item(ORPHAN, &content)?;
    }
    blocks.finish()
}

/// Reads what [`write`] wrote, to its very end, and verifies blocks, hash, order and state hash. Holds one block besides
/// the state that grows.
pub fn read(from: &mut impl Read, limits: Limits) -> Result<Loaded, Error> {
    let mut source = Source::begin(from)?;
    let mut parts = Parts::default();
    let mut block = Vec::new();
    let hash = loop {
        if let Some(hash) = source.next(&mut block)? {
            break hash;
        }
        let mut items = Reader::new(&block);
        while !items.is_empty() {
            let tag = items.u8("item")?;
            let content = items.bytes(ITEM_BYTES, "content of an item")?;
            parts.take(tag, content, limits)?;
        }
    };
    let bytes = source.bytes;
    let (state, meta) = parts.finish()?;
    Ok(Loaded {
        state,
        meta,
        bytes,
        hash,
    })
}

fn encoded(fill: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut to = Writer::new(usize::MAX);
    fill(&mut to);
    to.finish("item").expect("no limit")
}

fn encode_head(to: &mut Writer, head: Head) {
    to.u64(head.revision.0);
    to.u64(head.applied);
    to.u16(head.cluster_format);
    to.u64(head.records);
    to.u128(head.hash);
}

fn decode_head(mut from: Reader<'_>) -> Result<Head, codec::Error> {
    let head = Head {
        revision: Revision(from.u64("revision")?),
        applied: from.u64("applied index")?,
        cluster_format: from.u16("cluster format")?,
        records: from.u64("records")?,
        hash: from.u128("state hash")?,
    };
    from.finish("head").map(|()| head)
}

/// Gathers items into blocks.
struct Blocks<'a, W> {
    to: &'a mut W,
    /// The block begun: room for its header, then items.
    block: Vec<u8>,
    number: u32,
    bytes: u64,
    hasher: blake3::Hasher,
}

impl<'a, W: Write> Blocks<'a, W> {
    fn begin(to: &'a mut W) -> Result<Self, Error> {
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

    fn item(&mut self, tag: u8, content: &[u8]) -> Result<(), Error> {
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

    fn finish(mut self) -> Result<Written, Error> {
        self.flush(DATA)?;
        let hash = *self.hasher.finalize().as_bytes();
        self.block.extend(hash);
        self.flush(END)?;
        let bytes = self.bytes;
        Ok(Written { bytes, hash })
    }
}

/// Takes blocks apart.
struct Source<'a, R> {
    from: &'a mut R,
    number: u32,
    bytes: u64,
    hasher: blake3::Hasher,
}

impl<'a, R: Read> Source<'a, R> {
    fn begin(from: &'a mut R) -> Result<Self, Error> {
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
    fn next(&mut self, body: &mut Vec<u8>) -> Result<Option<[u8; 32]>, Error> {
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

/// The state as far as it was read.
#[derive(Default)]
struct Parts {
    restore: Option<Restore>,
    meta: Option<Vec<u8>>,
    /// The tag of the last item, those of one kind as one.
    last: u8,
    window: Option<Incarnation>,
    /// Of one chunk.
    records: Vec<Record>,
}

impl Parts {
    fn take(&mut self, tag: u8, content: &[u8], limits: Limits) -> Result<(), Error> {
        let rank = match tag {
            RESULT => WINDOW,
            CHUNK => RECORD,
            other => other,
        };
        let once = matches!(rank, HEAD | META);
        let expected = match self.last {
            0 => rank == HEAD,
            HEAD => rank == META,
            last => rank >= last && !once,
        };
        if !expected {
            return Err(Error::Content("items out of order"));
        }
        self.last = rank;
        if rank == HEAD {
            let head = decode_head(Reader::new(content))?;
            self.restore = Some(Restore::new(head, limits).map_err(Error::Content)?);
            return Ok(());
        }
        if rank > RECORD {
            self.flush()?;
        }
        self.part(tag, content)
    }

    fn part(&mut self, tag: u8, content: &[u8]) -> Result<(), Error> {
        let mut from = Reader::new(content);
        let restore = self.restore.as_mut().ok_or(Error::Content("no head"))?;
        let done = match tag {
            META => {
                self.meta = Some(from.take(content.len().min(META_BYTES), "meta")?.to_vec());
                Ok(())
            }
            MEMBER => {
                let id = MemberId(from.u64("member")?);
                let limited = content.len() <= MEMBER_BYTES;
                let member = Member::decode(&mut from)?;
                if limited {
                    restore.member(id, member)
                } else {
                    Err("a member over its limit")
                }
            }
            TOMBSTONE => restore.tombstone(MemberId(from.u64("tombstone")?)),
            WINDOW => {
                let incarnation = entry::incarnation(&mut from, "incarnation of a window")?;
                self.window = Some(incarnation);
                let member = MemberId(from.u64("member of a window")?);
                restore.window(incarnation, member, from.u64("floor of a window")?)
            }
            RESULT => {
                let window = self.window.ok_or(Error::Content("a result of no window"))?;
                let sequence = from.u64("sequence of a result")?;
                let limited = content.len() <= OUTCOME_BYTES;
                let outcome = Outcome::decode(&mut from)?;
                if limited {
                    restore.result(window, sequence, outcome)
                } else {
                    Err("a result over its limit")
                }
            }
            CHUNK | RECORD => {
                if tag == CHUNK || self.records.len() == map::FULL {
                    self.flush()?;
                }
                let record = Record::from_bytes(from.rest());
                self.records
                    .push(record.ok_or(Error::Content("no record"))?);
                Ok(())
            }
            ORPHAN => {
                let owner = entry::incarnation(&mut from, "orphaned owner")?;
                restore.orphan(owner, from.rest())
            }
            _ => Err("an unknown item"),
        };
        done.map_err(Error::Content)?;
        Ok(from.finish("item")?)
    }

    fn flush(&mut self) -> Result<(), Error> {
        let restore = self.restore.as_mut().ok_or(Error::Content("no head"))?;
        let mut records = Vec::with_capacity(self.records.len());
        records.append(&mut self.records);
        restore.records(records).map_err(Error::Content)
    }

    fn finish(mut self) -> Result<(State, Vec<u8>), Error> {
        self.flush()?;
        let restore = self.restore.ok_or(Error::Content("no head"))?;
        let meta = self.meta.ok_or(Error::Content("no meta"))?;
        Ok((restore.finish().map_err(Error::Content)?, meta))
    }
}

#[cfg(test)]
mod tests;
