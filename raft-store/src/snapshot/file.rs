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

mod blocks;
mod parts;
mod reading;
mod writing;

pub(crate) use reading::Reading;
pub(crate) use writing::Writing;

/// The one format of snapshots that this build writes and reads.
pub const SNAPSHOT_FORMAT: u16 = 1;
/// Most bytes that the layer above puts beside the state.
pub const META_BYTES: usize = 64 * 1024;

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
    #[error("the cluster format is {found}; this build knows up to {known}")]
    ClusterFormat { found: u16, known: u16 },
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
    let mut writing = Writing::begin(state.clone(), meta, to)?;
    while writing.slice()? {}
    Ok(writing.finish()?.0)
}

/// Reads what [`write`] wrote, to its very end, and verifies blocks, hash, order and state hash. Holds one block besides
/// the state that grows.
pub fn read(from: &mut impl Read, limits: Limits) -> Result<Loaded, Error> {
    let mut reading = Reading::begin(from, limits)?;
    while reading.block()? {}
    reading.finish()
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

#[cfg(test)]
mod tests;
