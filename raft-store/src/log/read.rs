//! Reading entries: from the tail cache, or from the frames behind a mark.

use super::frame::{self, HEAD_BYTES, Record};
use super::segment::Readable;
use super::shared::{Shared, State};
use super::{Entry, Error};
use std::ops::Range;
use std::sync::Arc;

/// Read at a time; frames that are longer are read whole.
const CHUNK_BYTES: usize = 64 << 10;

/// Where a stretch of entries lies.
enum Place {
    Nowhere,
    Cached(Vec<Entry>),
    OnDisk {
        segment: Arc<Readable>,
        offset: u64,
        /// Entries wanted from there.
        range: Range<u64>,
    },
}

/// Where the entries from `range.start` on lie; `goes_on`: they must have that index exactly.
fn place(state: &State, range: Range<u64>, goes_on: bool, limit_bytes: usize) -> Place {
    if goes_on && range.start < state.first_index() {
        return Place::Nowhere;
    }
    let start = range.start.max(state.first_index());
    let end = range.end.min(state.next_index());
    if start >= end {
        return Place::Nowhere;
    }
    if start >= state.tail.first() {
        let mut out = Output::new(limit_bytes);
        let cached = (start..end).map_while(|index| state.tail.get(index));
        cached
            .cloned()
            .take_while(|entry| out.push(entry.clone()))
            .for_each(drop);
        return Place::Cached(out.entries);
    }
    let Some((mark, next)) = state.marks.find(start) else {
        return Place::Nowhere;
    };
    let held = state
        .segments
        .iter()
        .find(|held| held.readable.header.id == mark.segment);
    let Some(held) = held else {
        return Place::Nowhere;
    };
    Place::OnDisk {
        segment: held.readable.clone(),
        offset: mark.offset,
        range: start..end.min(next).min(state.tail.first()),
    }
}

/// Entries up to a limit of bytes, at least one.
struct Output {
    entries: Vec<Entry>,
    left_bytes: usize,
}

impl Output {
    fn new(limit_bytes: usize) -> Self {
        Self {
            entries: Vec::new(),
            left_bytes: limit_bytes,
        }
    }

    /// Takes an entry unless it is one too many; says whether more are welcome.
    fn push(&mut self, entry: Entry) -> bool {
        let fits = entry.body.len() <= self.left_bytes;
        if !fits && !self.entries.is_empty() {
            return false;
        }
        self.left_bytes = self.left_bytes.saturating_sub(entry.body.len());
        self.entries.push(entry);
        fits
    }
}

/// The same as [`read`] if that needs no disk.
pub fn in_memory(
    state: &State,
    range: &Range<u64>,
    limit_bytes: usize,
    voided: Option<u64>,
) -> Option<Vec<Entry>> {
    if voided.is_some_and(|voided| voided != state.voided) {
        return Some(Vec::new());
    }
    match place(state, range.clone(), false, limit_bytes) {
        Place::Nowhere => Some(Vec::new()),
        Place::Cached(entries) => Some(entries),
        Place::OnDisk { .. } => None,
    }
}

/// Reads until the log is truncated, so that all entries were in it at one time: when it had been `voided` so often.
pub fn read(
    shared: &Shared,
    range: Range<u64>,
    limit_bytes: usize,
    voided: Option<u64>,
) -> Result<Vec<Entry>, Error> {
    let mut out = Output::new(limit_bytes);
    let mut start = range.start;
    let mut of = voided;
    loop {
        let state = shared.lock();
        if *of.get_or_insert(state.voided) != state.voided {
            return Ok(out.entries);
        }
        let goes_on = !out.entries.is_empty();
        let place = place(&state, start..range.end, goes_on, out.left_bytes);
        drop(state);
        let more = match place {
            Place::Nowhere => false,
            Place::Cached(entries) => {
                for entry in entries {
                    if !out.push(entry) {
                        break;
                    }
                }
                false
            }
            Place::OnDisk {
                segment,
                offset,
                range,
            } => scan(&segment, offset, range, &mut out)?,
        };
        if !more {
            return Ok(out.entries);
        }
        start = out.entries.last().map_or(start, |entry| entry.id.index + 1);
    }
}

/// Takes the entries of `range` from the frames at `offset` on; says whether more are welcome.
fn scan(
    segment: &Readable,
    mut offset: u64,
    range: Range<u64>,
    out: &mut Output,
) -> Result<bool, Error> {
    let mut next = range.start;
    let mut buffer = Vec::new();
    let mut buffer_at = offset;
    let nonce = &segment.header.nonce;
    while next < range.end {
        let have = &buffer[(offset - buffer_at) as usize..];
        let wanted = frame::claimed_bytes(have, nonce).unwrap_or(HEAD_BYTES);
        if have.len() < wanted {
            (buffer, buffer_at) = (fill(segment, offset, wanted)?, offset);
            let claimed = frame::claimed_bytes(&buffer, nonce).unwrap_or(usize::MAX);
            if claimed > buffer.len() {
                buffer = fill(segment, offset, claimed)?;
            }
        }
        let bytes = &buffer[(offset - buffer_at) as usize..];
        let corrupt = |what| Error::Corrupt {
            file: segment.path.clone(),
            offset,
            what,
        };
        let frame = frame::decode(bytes, nonce)
            .ok_or_else(|| corrupt("a frame that was good has gone bad"))?;
        for record in frame::records(frame.body).map_err(|_| corrupt("bad record"))? {
            let Record::Entries(entries) = record else {
                continue;
            };
            for entry in entries {
                if entry.id.index == next && next < range.end {
                    next += 1;
                    if !out.push(entry) {
                        return Ok(false);
                    }
                }
            }
        }
        offset += frame.bytes as u64;
    }
    Ok(true)
}

fn fill(segment: &Readable, offset: u64, wanted: usize) -> Result<Vec<u8>, Error> {
    let left = segment.header.length.saturating_sub(offset) as usize;
    let mut buffer = vec![0; wanted.max(CHUNK_BYTES).min(left)];
    let read = segment.file.read_at(&mut buffer, offset);
    let count = read.map_err(|error| Error::io(&segment.path, error))?;
    buffer.truncate(count);
    Ok(buffer)
}
