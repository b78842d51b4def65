//! What a start finds: all frames in order, and whether a bad one is a torn end or damage. See DESIGN §6.

use super::frame::{self, ALIGN_BYTES, Chain, Frame, HEAD_BYTES, Kind, Record, frame_bytes};
use super::keeper;
use super::segment::{self, FIRST_ID, FRAMES_AT, Header, Segment};
use super::shared::{Held, Spare, State};
use super::tail::{Mark, Marks, Tail};
use super::writer::Position;
use super::{Error, LogId, Settings, Vote};
use crate::disk::{Disk, read_exact_at};
use crate::random::Random;
use std::collections::VecDeque;
use std::io;

/// What the frames so far say.
struct Replay {
    /// Id before the first entry.
    purged: Option<LogId>,
    last: Option<LogId>,
    vote: Option<Vote>,
    committed: Option<LogId>,
    tail: Tail,
    marks: Marks,
    sequence: u64,
    chain: Chain,
    /// No frame was read yet.
    fresh: bool,
}

/// A segment while it is read.
struct Scanned {
    segment: Segment,
    bytes: Vec<u8>,
    /// Its last good frame.
    newest: u64,
    /// Behind that.
    end: u64,
    frames: u64,
    highest: Option<u64>,
}

impl Scanned {
    fn open(disk: &dyn Disk, settings: &Settings, id: u64) -> Result<Self, Error> {
        let header = Header::read(disk, settings, id)?;
        let segment = Segment::open(disk, &settings.dir, header)?;
        let mut bytes = vec![0; segment.length() as usize];
        let read = read_exact_at(&*segment.readable.file, &mut bytes, 0);
        read.map_err(|error| Error::io(&segment.readable.path, error))?;
        Ok(Self {
            segment,
            bytes,
            newest: FRAMES_AT,
            end: FRAMES_AT,
            frames: 0,
            highest: None,
        })
    }

    fn frame(&self, at: u64) -> Option<Frame<'_>> {
        let bytes = self.bytes.get(at as usize..)?;
        frame::decode(bytes, &self.segment.readable.header.nonce)
    }

    fn corrupt(&self, offset: u64, what: &'static str) -> Error {
        let file = self.segment.readable.path.clone();
        Error::Corrupt { file, offset, what }
    }

    /// Writes the last frame once more and syncs. After a kill it may be in the system's memory alone; after a sync that
    /// failed it may be there marked as written, so that a sync alone would say yes.
    fn make_durable(&mut self) -> io::Result<()> {
        let frame = self.newest as usize..self.end as usize;
        self.segment
            .file
            .write_at(&self.bytes[frame], self.newest)?;
        self.segment.file.sync_data()?;
        self.segment.file.wait_for_sync();
        Ok(())
    }

    /// Whether a frame of this sequence or a later one begins at `from` or behind it.
    fn has_later(&self, from: u64, sequence: u64) -> bool {
        let places = (from..self.segment.length()).step_by(ALIGN_BYTES);
        let mut found = places.filter_map(|at| self.frame(at));
        found.any(|frame| frame.sequence >= sequence)
    }

    /// Whether the place behind the last good frame looks as it was left: empty, or sealed.
    fn ends_well(&self) -> bool {
        let sealed = self
            .frame(self.end)
            .is_some_and(|frame| frame.kind == Kind::Seal);
        let rest = &self.bytes[self.end as usize..];
        sealed || rest.iter().take(HEAD_BYTES).all(|byte| *byte == 0)
    }
}

impl Replay {
    fn new(settings: &Settings) -> Self {
        Self {
            purged: None,
            last: None,
            vote: None,
            committed: None,
            tail: Tail::new(settings.tail_cache_bytes),
            marks: Marks::default(),
            sequence: 1,
            chain: Chain::default(),
            fresh: true,
        }
    }

    /// Whether this frame comes next.
    fn follows(&self, frame: &Frame<'_>, first_of_log: bool) -> bool {
        let next = frame.sequence == self.sequence && frame.previous == self.chain;
        let begins = self.fresh && !first_of_log;
        frame.kind == Kind::Batch && (next || begins)
    }

    /// Takes in all good frames of a segment, from its start.
    fn read(&mut self, scanned: &mut Scanned) -> Result<(), Error> {
        let id = scanned.segment.id();
        while let Some(frame) = scanned.frame(scanned.end) {
            if !self.follows(&frame, id == FIRST_ID) {
                break;
            }
            let offset = scanned.end;
            let records = frame::records(frame.body)
                .map_err(|_| scanned.corrupt(offset, "a good frame with a bad record"))?;
            (self.sequence, self.chain) = (frame.sequence + 1, frame.chain);
            let next = offset + frame.bytes as u64;
            for (number, record) in records.into_iter().enumerate() {
                let first = number == 0 && scanned.frames == 0;
                if first != matches!(record, Record::Begin { .. }) {
                    return Err(scanned.corrupt(offset, "a segment begins otherwise"));
                }
                let mark = Mark {
                    index: 0,
                    segment: id,
                    offset,
                };
                self.apply(record, mark, &mut scanned.highest)
                    .map_err(|what| scanned.corrupt(offset, what))?;
            }
            self.fresh = false;
            scanned.frames += 1;
            (scanned.newest, scanned.end) = (offset, next);
        }
        Ok(())
    }

    fn apply(
        &mut self,
        record: Record,
        mark: Mark,
        highest: &mut Option<u64>,
    ) -> Result<(), &'static str> {
        match record {
            Record::Begin {
                last,
                vote,
                committed,
            } => {
                if self.fresh {
                    (self.purged, self.last) = (last, last);
                    self.tail.restart(last.map_or(0, |id| id.index + 1));
                } else if last != self.last {
                    return Err("a segment goes on from another entry");
                }
                (self.vote, self.committed) = (vote, committed);
            }
            Record::Vote(vote) => self.vote = Some(vote),
            Record::Committed(committed) => self.committed = committed,
            Record::Truncate { after } => {
                let next = after.map_or(0, |id| id.index + 1);
                self.last = after;
                self.tail.truncate(next);
                self.marks.truncate(next);
                // Entries of segments that are gone were void.
                if self.purged.map(|id| id.index) > after.map(|id| id.index) {
                    self.purged = after;
                }
            }
            Record::Anew { at } => {
                (self.purged, self.last) = (Some(at), Some(at));
                self.tail.restart(at.index + 1);
                self.marks.truncate(0);
                *highest = None;
            }
            Record::Entries(entries) => {
                let index = entries.first().map_or(0, |entry| entry.id.index);
                self.marks.written(Mark { index, ..mark });
                for entry in entries {
                    if entry.id.index != self.last.map_or(0, |id| id.index + 1) {
                        return Err("an entry that does not follow the one before");
                    }
                    self.last = Some(entry.id);
                    self.tail.push(entry);
                }
                *highest = (*highest).max(self.last.map(|id| id.index));
                self.tail.evict(None);
            }
        }
        Ok(())
    }
}

/// Reads the log, or begins one, and syncs what it has read. Gives the state to serve and where to go on writing.
pub fn open(
    settings: &Settings,
    disk: &dyn Disk,
    random: &dyn Random,
) -> Result<(State, Position), Error> {
    // A segment holds at least two of the largest frames beside what is kept for votes.
    let largest = frame_bytes(settings.frame_bytes + 256) as u64;
    if settings.segment_bytes < FRAMES_AT + largest + settings.reserve_bytes()
        || !settings.segment_bytes.is_multiple_of(ALIGN_BYTES as u64)
    {
        return Err(Error::Settings {
            segment_bytes: settings.segment_bytes,
            frame_bytes: settings.frame_bytes,
        });
    }
    let dir = &settings.dir;
    disk.create_dir(dir)
        .map_err(|error| Error::io(dir, error))?;
    let ids = segment::list(disk, dir)?;
    if ids.is_empty() {
        if settings.must_exist || settings.published.is_some() {
            return Err(Error::Missing(dir.clone()));
        }
        let first = keeper::make(settings, disk, random, FIRST_ID)?;
        return Ok(state(
            Replay::new(settings),
            VecDeque::new(),
            first,
            Vec::new(),
        ));
    }
    let mut replay = Replay::new(settings);
    let (held, current, spares) = scan(disk, settings, &ids, &mut replay)?;
    check_gap(settings, &replay)?;
    let mut current = current;
    let made = current.make_durable();
    made.map_err(|error| Error::io(&current.segment.readable.path, error))?;
    let end = current.end;
    let begun = current.frames > 0;
    let (mut state, mut position) = state(replay, held, current.segment, spares);
    position.offset = end;
    position.begun = begun;
    state.next_segment = ids.last().map_or(FIRST_ID, |id| *id) + 1;
    Ok((state, position))
}

type Segments = (VecDeque<Held>, Scanned, Vec<Segment>);

/// Reads all segments: those with frames, the one to go on in, those that are spare.
fn scan(
    disk: &dyn Disk,
    settings: &Settings,
    ids: &[u64],
    replay: &mut Replay,
) -> Result<Segments, Error> {
    let mut held = VecDeque::new();
    let mut current = Scanned::open(disk, settings, ids[0])?;
    replay.read(&mut current)?;
    if current.frames == 0 && ids[0] != FIRST_ID {
        return Err(current.corrupt(FRAMES_AT, "the oldest segment has no good frame"));
    }
    let mut rest = ids[1..].iter();
    let mut spares = Vec::new();
    for id in rest.by_ref() {
        let mut next = Scanned::open(disk, settings, *id)?;
        if current.frames > 0 {
            replay.read(&mut next)?;
        }
        if next.frames == 0 {
            spares.push(next);
            break;
        }
        held.push_back(hold(&current));
        current = next;
    }
    for id in rest {
        spares.push(Scanned::open(disk, settings, *id)?);
    }
    refuse_damage(&current, &spares, replay)?;
    if current.frames > 0 {
        held.push_back(hold(&current));
    }
    let spares = spares.into_iter().map(|spare| spare.segment).collect();
    Ok((held, current, spares))
}

fn hold(scanned: &Scanned) -> Held {
    Held {
        readable: scanned.segment.readable.clone(),
        highest: scanned.highest,
    }
}

/// A good frame at or behind the first bad one proves that the bad one was durable; only a seal may stand there.
fn refuse_damage(current: &Scanned, spares: &[Scanned], replay: &Replay) -> Result<(), Error> {
    const WHAT: &str = "a bad frame before a good one";
    let sequence = replay.sequence;
    let seals = |frame: &Frame<'_>| {
        frame.kind == Kind::Seal && frame.sequence == sequence && frame.previous == replay.chain
    };
    let foreign = current
        .frame(current.end)
        .is_some_and(|frame| !seals(&frame));
    if foreign || current.has_later(current.end + ALIGN_BYTES as u64, sequence) {
        return Err(current.corrupt(current.end, WHAT));
    }
    let later = |spare: &Scanned| spare.has_later(FRAMES_AT, sequence);
    match spares.first() {
        Some(first) if spares.iter().any(later) => Err(match current.ends_well() {
            true => first.corrupt(FRAMES_AT, WHAT),
            false => current.corrupt(current.end, WHAT),
        }),
        _ => Ok(()),
    }
}

/// Entries between the published snapshot and the log must not be missing.
fn check_gap(settings: &Settings, replay: &Replay) -> Result<(), Error> {
    let snapshot = settings.published;
    match replay.purged {
        Some(begin) if snapshot.is_none_or(|snapshot| snapshot.index < begin.index) => {
            Err(Error::Gap { begin, snapshot })
        }
        _ => Ok(()),
    }
}

fn state(
    replay: Replay,
    segments: VecDeque<Held>,
    current: Segment,
    spares: Vec<Segment>,
) -> (State, Position) {
    let mut spares = VecDeque::from(spares);
    let spare = spares.pop_front();
    let state = State {
        purged: replay.purged,
        last: replay.last,
        vote: replay.vote,
        durable_vote: replay.vote,
        committed: replay.committed,
        published: None,
        anew_later: None,
        tail: replay.tail,
        voided: 0,
        asked: Some(VecDeque::new()),
        marks: replay.marks,
        segments,
        queue: VecDeque::new(),
        pending_bytes: 0,
        left_bytes: 0,
        spare: spare.map_or(Spare::Building, Spare::Ready),
        more_spares: spares,
        next_segment: current.id() + 1,
        failed: None,
        closing: false,
        ended: false,
        counters: super::Counters::default(),
    };
    let position = Position {
        segment: current,
        offset: FRAMES_AT,
        sequence: replay.sequence,
        chain: replay.chain,
        last: replay.last,
        vote: replay.vote,
        committed: replay.committed,
        begun: false,
    };
    (state, position)
}
