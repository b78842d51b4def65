//! One frame of the log: checksummed, chained to the one before, and what its body says.
//!
//! Little-endian: length of the body 4, kind 1, format 1, check of the head 2, sequence 8, chain value before 16, body,
//! chain value 16, CRC-32C 4, then zeros up to the next multiple of 8. The chain value is the first 16 bytes of BLAKE3 over the
//! chain value before, the first 16 bytes of the frame, and the body. The CRC is taken over the segment's nonce and
//! all bytes before it, so that no caller can place a valid frame inside the bytes of an entry; the check of the head,
//! 16 bits of another such CRC, spares a search through such bytes the long ones.

use super::{Entry, LogId, Vote};
use crate::codec::{Error, Reader, Writer};
use bytes::Bytes;

/// Bytes of a frame before its body.
pub const HEAD_BYTES: usize = 32;
/// Bytes of a frame behind its body, without padding.
const TAIL_BYTES: usize = 20;
/// Frames begin at multiples of this.
pub const ALIGN_BYTES: usize = 8;
const FORMAT: u8 = 1;

pub type Chain = [u8; 16];
pub type Nonce = [u8; 16];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A batch of records, synced before the next frame is written.
    Batch = 1,
    /// Says that all frames before it were synced. Not part of the chain; the next batch is written over it.
    Seal = 2,
}

/// Bytes on disk of a frame whose body has `body` bytes.
pub fn frame_bytes(body: usize) -> usize {
    (HEAD_BYTES + body + TAIL_BYTES).next_multiple_of(ALIGN_BYTES)
}

fn chain(previous: &Chain, head: &[u8], body: &[u8]) -> Chain {
    let mut hasher = blake3::Hasher::new();
    hasher.update(previous).update(&head[..16]).update(body);
    let mut value = Chain::default();
    value.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    value
}

/// Over the head but for the check itself.
fn head_check(nonce: &Nonce, head: &[u8]) -> [u8; 2] {
    let crc = crc32c::crc32c_append(crc32c::crc32c(nonce), &head[..6]);
    let crc = crc32c::crc32c_append(crc, &head[8..HEAD_BYTES]);
    [crc as u8, (crc >> 8) as u8]
}

/// Appends a frame to `into`; returns its chain value. The body is at most `u32::MAX` bytes.
pub fn encode(
    into: &mut Vec<u8>,
    nonce: &Nonce,
    kind: Kind,
    sequence: u64,
    previous: &Chain,
    body: &[&[u8]],
) -> Chain {
    let start = into.len();
    let length: usize = body.iter().map(|part| part.len()).sum();
    into.extend_from_slice(&(length as u32).to_le_bytes());
    into.extend_from_slice(&[kind as u8, FORMAT, 0, 0]);
    into.extend_from_slice(&sequence.to_le_bytes());
    into.extend_from_slice(previous);
    let check = head_check(nonce, &into[start..]);
    into[start + 6..start + 8].copy_from_slice(&check);
    body.iter().for_each(|part| into.extend_from_slice(part));
    let frame = &into[start..];
    let value = chain(previous, frame, &frame[HEAD_BYTES..]);
    into.extend_from_slice(&value);
    let crc = crc32c::crc32c_append(crc32c::crc32c(nonce), &into[start..]);
    into.extend_from_slice(&crc.to_le_bytes());
    into.resize(start + frame_bytes(length), 0);
    value
}

/// A frame that is valid in itself.
#[derive(Debug)]
pub struct Frame<'a> {
    pub kind: Kind,
    pub sequence: u64,
    pub previous: Chain,
    pub chain: Chain,
    pub body: &'a [u8],
    /// On disk, padding included.
    pub bytes: usize,
}

/// Bytes on disk that the frame beginning here claims to have, if its head is good.
pub fn claimed_bytes(head: &[u8], nonce: &Nonce) -> Option<usize> {
    let known = head.len() >= HEAD_BYTES
        && (head[4] == Kind::Batch as u8 || head[4] == Kind::Seal as u8)
        && head[5] == FORMAT
        && head[6..8] == head_check(nonce, head);
    let length = u32::from_le_bytes(head.get(..4)?.try_into().ok()?);
    known.then(|| frame_bytes(length as usize))
}

/// The frame at the start of `bytes`, if it is whole and its CRC and chain value fit.
pub fn decode<'a>(bytes: &'a [u8], nonce: &Nonce) -> Option<Frame<'a>> {
    let claimed = claimed_bytes(bytes, nonce)?;
    let mut reader = Reader::new(bytes.get(..claimed)?);
    let length = reader.u32("length").ok()? as usize;
    let kind = match reader.u8("kind").ok()? {
        1 => Kind::Batch,
        _ => Kind::Seal,
    };
    reader.take(3, "format").ok()?;
    let sequence = reader.u64("sequence").ok()?;
    let previous: Chain = reader.array("previous chain value").ok()?;
    let body = reader.take(length, "body").ok()?;
    let value: Chain = reader.array("chain value").ok()?;
    let covered = &bytes[..reader.position()];
    let crc = reader.u32("CRC").ok()?;
    let fits = crc == crc32c::crc32c_append(crc32c::crc32c(nonce), covered)
        && value == chain(&previous, bytes, body);
    fits.then_some(Frame {
        kind,
        sequence,
        previous,
        chain: value,
        body,
        bytes: claimed,
    })
}

/// One thing that a batch says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// First in each segment: where the log stood, so that earlier segments can go.
    Begin {
        last: Option<LogId>,
        vote: Option<Vote>,
        committed: Option<LogId>,
    },
    Vote(Vote),
    /// All entries behind this one are void.
    Truncate {
        after: Option<LogId>,
    },
    /// All entries are void; the next one follows this id.
    Anew {
        at: LogId,
    },
    Committed(Option<LogId>),
    /// Of consecutive indexes; at least one.
    Entries(Vec<Entry>),
}

fn put_id(writer: &mut Writer, id: LogId) {
    writer.varint(id.term);
    writer.u64(id.node);
    writer.varint(id.index);
}

fn put_optional_id(writer: &mut Writer, id: Option<LogId>) {
    writer.bool(id.is_some());
    if let Some(id) = id {
        put_id(writer, id);
    }
}

fn put_vote(writer: &mut Writer, vote: Vote) {
    writer.varint(vote.term);
    writer.u64(vote.node);
    writer.bool(vote.committed);
}

/// Upper bound of what an entry adds to a body.
pub fn entry_bytes(entry: &Entry) -> usize {
    entry.body.len() + 40
}

/// Appends a record of consecutive entries.
pub fn put_entries(writer: &mut Writer, entries: &[Entry]) {
    let Some(first) = entries.first() else { return };
    writer.u8(6);
    writer.varint(first.id.index);
    writer.varint(entries.len() as u64);
    for entry in entries {
        writer.varint(entry.id.term);
        writer.u64(entry.id.node);
        writer.bytes(&entry.body);
    }
}

impl Record {
    pub fn put(&self, writer: &mut Writer) {
        match self {
            Self::Begin {
                last,
                vote,
                committed,
            } => {
                writer.u8(1);
                put_optional_id(writer, *last);
                writer.bool(vote.is_some());
                if let Some(vote) = vote {
                    put_vote(writer, *vote);
                }
                put_optional_id(writer, *committed);
            }
            Self::Vote(vote) => {
                writer.u8(2);
                put_vote(writer, *vote);
            }
            Self::Truncate { after } => {
                writer.u8(3);
                put_optional_id(writer, *after);
            }
            Self::Anew { at } => {
                writer.u8(4);
                put_id(writer, *at);
            }
            Self::Committed(id) => {
                writer.u8(5);
                put_optional_id(writer, *id);
            }
            Self::Entries(entries) => put_entries(writer, entries),
        }
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, Error> {
        Ok(match reader.u8("record")? {
            1 => Self::Begin {
                last: take_optional_id(reader)?,
                vote: match reader.bool("vote")? {
                    true => Some(take_vote(reader)?),
                    false => None,
                },
                committed: take_optional_id(reader)?,
            },
            2 => Self::Vote(take_vote(reader)?),
            3 => Self::Truncate {
                after: take_optional_id(reader)?,
            },
            4 => Self::Anew {
                at: take_id(reader)?,
            },
            5 => Self::Committed(take_optional_id(reader)?),
            6 => Self::Entries(take_entries(reader)?),
            other => {
                return Err(Error::Unknown {
                    what: "record",
                    value: u64::from(other),
                });
            }
        })
    }
}

fn take_id(reader: &mut Reader<'_>) -> Result<LogId, Error> {
    Ok(LogId {
        term: reader.varint("term")?,
        node: reader.u64("node")?,
        index: reader.varint("index")?,
    })
}

fn take_optional_id(reader: &mut Reader<'_>) -> Result<Option<LogId>, Error> {
    Ok(match reader.bool("log id")? {
        true => Some(take_id(reader)?),
        false => None,
    })
}

fn take_vote(reader: &mut Reader<'_>) -> Result<Vote, Error> {
    Ok(Vote {
        term: reader.varint("term")?,
        node: reader.u64("node")?,
        committed: reader.bool("committed")?,
    })
}

fn take_entries(reader: &mut Reader<'_>) -> Result<Vec<Entry>, Error> {
    let first = reader.varint("first index")?;
    // Term, node and length take at least ten bytes.
    let count = reader.count(usize::MAX, 10, "entries")?;
    let mut entries = Vec::with_capacity(count);
    for offset in 0..count as u64 {
        let too_large = Error::TooLarge {
            what: "index",
            value: first,
            limit: u64::MAX,
        };
        let id = LogId {
            term: reader.varint("term")?,
            node: reader.u64("node")?,
            index: first.checked_add(offset).ok_or(too_large)?,
        };
        let body = Bytes::copy_from_slice(reader.bytes(usize::MAX, "entry")?);
        entries.push(Entry { id, body });
    }
    Ok(entries)
}

/// All records of a body.
pub fn records(body: &[u8]) -> Result<Vec<Record>, Error> {
    let mut reader = Reader::new(body);
    let mut records = Vec::new();
    while !reader.is_empty() {
        records.push(Record::take(&mut reader)?);
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONCE: Nonce = [7; 16];

    fn entry(index: u64) -> Entry {
        let id = LogId {
            term: 3,
            node: u64::MAX,
            index,
        };
        let body = Bytes::from(vec![index as u8; index as usize]);
        Entry { id, body }
    }

    #[test]
    fn records_come_back() {
        let id = Some(entry(300).id);
        let vote = Vote {
            term: 9,
            node: 1,
            committed: true,
        };
        let all = [
            Record::Begin {
                last: None,
                vote: Some(vote),
                committed: id,
            },
            Record::Vote(vote),
            Record::Truncate { after: id },
            Record::Anew { at: entry(5).id },
            Record::Committed(None),
            Record::Entries((0..50).map(entry).collect()),
        ];
        let mut writer = Writer::new(1 << 20);
        all.iter().for_each(|record| record.put(&mut writer));
        let body = writer.finish("body").expect("it fits");
        assert_eq!(records(&body).as_deref(), Ok(&all[..]));
        for cut in 0..body.len() {
            // Shorter bodies hold fewer records or are refused.
            let fewer = records(&body[..cut]);
            assert!(fewer.is_err() || fewer.is_ok_and(|fewer| all.starts_with(&fewer)));
        }
    }

    #[test]
    fn a_frame_is_good_only_as_it_was_written() {
        let mut bytes = Vec::new();
        let previous = [1; 16];
        let value = encode(
            &mut bytes,
            &NONCE,
            Kind::Batch,
            5,
            &previous,
            &[b"ab", b"cde"],
        );
        assert_eq!(bytes.len(), frame_bytes(5));
        let frame = decode(&bytes, &NONCE).expect("it is good");
        assert_eq!(
            (frame.sequence, frame.previous, frame.chain),
            (5, previous, value)
        );
        assert_eq!(
            (frame.kind, frame.body, frame.bytes),
            (Kind::Batch, &b"abcde"[..], 64)
        );
        assert!(decode(&bytes, &[8; 16]).is_none(), "another segment's");
        for bit in 0..8 * (HEAD_BYTES + 5 + TAIL_BYTES) {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&bytes, &NONCE).is_none(), "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        for cut in 0..bytes.len() {
            assert!(decode(&bytes[..cut], &NONCE).is_none());
        }
    }
}
