//! The one job that writes frames: takes all that is queued, writes one frame, syncs, calls back.

use super::batch::{self, Batch};
use super::frame::{self, Chain, Kind, Record, frame_bytes};
use super::segment::{FRAMES_AT, Segment};
use super::shared::{Held, Operation, Shared, Spare, State};
use super::tail::Mark;
use super::{Done, LogId, Vote};
use crate::codec;
use crate::spawner::{Job, Next};
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// Where the next frame goes, and what all frames before it say.
pub struct Position {
    pub segment: Segment,
    pub offset: u64,
    pub sequence: u64,
    pub chain: Chain,
    pub last: Option<LogId>,
    pub vote: Option<Vote>,
    pub committed: Option<LogId>,
    /// The current segment has its `Begin`.
    pub begun: bool,
}

/// A batch that is written and synced.
struct Written {
    batch: Batch,
    mark: Mark,
    bytes: u64,
}

#[derive(PartialEq, Eq)]
enum Seal {
    /// The last frame has one, or there is none to seal.
    Done,
    Due,
    /// The time to wait for other work has begun.
    Waiting,
}

pub struct Writer {
    shared: Arc<Shared>,
    at: Position,
    /// Waits for a spare segment.
    held: Option<Batch>,
    /// Waits for the time that a simulated sync takes.
    in_flight: Option<Written>,
    buffer: Vec<u8>,
    seal: Seal,
}

/// Outcome of finding room for a frame.
enum Room {
    Here,
    /// In a segment that is still being made.
    Later,
}

impl Writer {
    pub fn new(shared: Arc<Shared>, at: Position) -> Self {
        let writer = Self {
            shared,
            at,
            held: None,
            in_flight: None,
            buffer: Vec::new(),
            seal: Seal::Due,
        };
        writer.shared.lock().left_bytes = writer.left_for_entries();
        writer
    }

    /// Writes all that is queued, without regard to what a simulated sync takes. For the start.
    pub fn write_all_now(&mut self) -> io::Result<()> {
        while let Some(batch) = Batch::take(&self.shared, self.at.committed) {
            match self.room(&batch)? {
                Room::Here => {
                    let (mark, bytes, _time) = self.write(&batch)?;
                    self.at.segment.file.wait_for_sync();
                    self.complete(Written { batch, mark, bytes });
                }
                Room::Later => return Err(io::ErrorKind::StorageFull.into()),
            }
        }
        Ok(())
    }

    fn left_for_entries(&self) -> u64 {
        let reserve = self.shared.settings.reserve_bytes();
        let length = self.at.segment.length();
        length
            .saturating_sub(self.at.offset)
            .saturating_sub(reserve)
    }

    /// What the first frame of a segment says before its batch.
    fn begin(&self) -> Vec<u8> {
        let mut writer = codec::Writer::new(256);
        let begin = Record::Begin {
            last: self.at.last,
            vote: self.at.vote,
            committed: self.at.committed,
        };
        begin.put(&mut writer);
        writer.finish("begin").expect("it is shorter than that")
    }

    /// Moves on to the spare segment when the batch does not fit here.
    fn room(&mut self, batch: &Batch) -> io::Result<Room> {
        let reserve = match batch.has_entries {
            true => self.shared.settings.reserve_bytes(),
            false => 0,
        };
        let begin = if self.at.begun { 0 } else { self.begin().len() };
        let needed = frame_bytes(begin + batch.body.len()) as u64;
        if self.at.offset + needed + reserve <= self.at.segment.length() {
            return Ok(Room::Here);
        }
        let mut state = self.shared.lock();
        match std::mem::replace(&mut state.spare, Spare::Building) {
            Spare::Building => return Ok(Room::Later),
            Spare::Failed => {
                state.spare = Spare::Failed;
                return Err(io::ErrorKind::StorageFull.into());
            }
            Spare::Ready(segment) => self.at.segment = segment,
        }
        drop(state);
        self.at.offset = FRAMES_AT;
        self.at.begun = false;
        self.seal = Seal::Done;
        self.shared.wake_keeper();
        Ok(Room::Here)
    }

    /// Writes and syncs a frame: where it is, its bytes, and the time that a simulated sync takes.
    fn write(&mut self, batch: &Batch) -> io::Result<(Mark, u64, Duration)> {
        let begin = if self.at.begun {
            Vec::new()
        } else {
            self.begin()
        };
        let nonce = self.at.segment.readable.header.nonce;
        self.buffer.clear();
        let chain = frame::encode(
            &mut self.buffer,
            &nonce,
            Kind::Batch,
            self.at.sequence,
            &self.at.chain,
            &[&begin, &batch.body],
        );
        self.at
            .segment
            .file
            .write_at(&self.buffer, self.at.offset)?;
        let time = self.at.segment.file.sync_data()?;
        let bytes = self.buffer.len() as u64;
        let mark = Mark {
            index: batch::first_index(&batch.queued).unwrap_or_default(),
            segment: self.at.segment.id(),
            offset: self.at.offset,
        };
        self.at.offset += bytes;
        self.at.sequence += 1;
        self.at.chain = chain;
        self.at.begun = true;
        self.at.committed = batch.committed;
        self.seal = Seal::Due;
        Ok((mark, bytes, time))
    }

    /// Tells that a batch is durable.
    fn complete(&mut self, written: Written) {
        let mut done: Vec<Done> = Vec::new();
        let mut state = self.shared.lock();
        self.hold_segment(&mut state);
        for queued in written.batch.queued {
            state.pending_bytes -= queued.bytes;
            match queued.operation {
                Operation::Vote(vote) => {
                    self.at.vote = Some(vote);
                    state.durable_vote = Some(vote);
                }
                Operation::Truncate { after } => {
                    self.at.last = after;
                    state.marks.truncate(after.map_or(0, |id| id.index + 1));
                }
                Operation::Anew { at } => {
                    self.at.last = Some(at);
                    state.marks.truncate(0);
                    state
                        .segments
                        .iter_mut()
                        .for_each(|held| held.highest = None);
                }
                Operation::Entries(entries) => {
                    self.at.last = entries.last().map(|entry| entry.id).or(self.at.last);
                    state.counters.entries += entries.len() as u64;
                }
            }
            done.extend(queued.done);
        }
        if written.batch.has_entries {
            state.marks.written(written.mark);
            raise(&mut state, self.at.last);
        }
        state.counters.frames += 1;
        state.counters.bytes += written.bytes;
        state.left_bytes = self.left_for_entries();
        let unwritten = batch::first_index(state.queue.make_contiguous());
        state.tail.evict(unwritten);
        drop(state);
        done.into_iter().for_each(|done| done(Ok(())));
    }

    /// From the first durable frame on a segment counts: those before it may go.
    fn hold_segment(&self, state: &mut State) {
        let readable = &self.at.segment.readable;
        let newest = state.segments.back().map(|held| held.readable.header.id);
        if newest != Some(readable.header.id) {
            state.segments.push_back(Held {
                readable: readable.clone(),
                highest: None,
            });
            self.shared.wake_keeper();
        }
    }

    /// Ends the log after an error; what was being written fails with the rest.
    fn fail(&mut self, batch: Option<Batch>, error: &io::Error) -> Next {
        self.shared.fail(error);
        for queued in batch.into_iter().flat_map(|batch| batch.queued) {
            if let Some(done) = queued.done {
                done(Err(io::Error::new(error.kind(), error.to_string())));
            }
        }
        Next::Done
    }

    /// Nothing is queued: waits, and seals the last frame when nothing comes for a while.
    fn idle(&mut self) -> Next {
        if self.shared.lock().closing {
            if self.seal != Seal::Done {
                // The last frame is durable; without its seal it is only less protected against damage.
                let _ = self.write_seal();
            }
            self.shared.lock().ended = true;
            self.shared.wake_keeper();
            return Next::Done;
        }
        match self.seal {
            Seal::Done => Next::Wait(None),
            Seal::Due => {
                self.seal = Seal::Waiting;
                Next::Wait(Some(self.shared.settings.seal_after))
            }
            Seal::Waiting => {
                self.seal = Seal::Done;
                match self.write_seal() {
                    Ok(()) => Next::Wait(None),
                    Err(error) => self.fail(None, &error),
                }
            }
        }
    }

    /// Not synced and not counted: the next frame goes to the same place.
    fn write_seal(&mut self) -> io::Result<()> {
        let fits = self.at.offset + frame_bytes(0) as u64 <= self.at.segment.length();
        if !fits || !self.at.begun {
            return Ok(());
        }
        let nonce = self.at.segment.readable.header.nonce;
        let (sequence, chain) = (self.at.sequence, self.at.chain);
        self.buffer.clear();
        frame::encode(&mut self.buffer, &nonce, Kind::Seal, sequence, &chain, &[]);
        self.at.segment.file.write_at(&self.buffer, self.at.offset)
    }
}

/// The current segment holds entries up to `last`.
fn raise(state: &mut State, last: Option<LogId>) {
    if let (Some(held), Some(last)) = (state.segments.back_mut(), last) {
        held.highest = held.highest.max(Some(last.index));
    }
}

impl Job for Writer {
    fn step(&mut self) -> Next {
        if let Some(written) = self.in_flight.take() {
            self.complete(written);
            return Next::Again;
        }
        let Some(batch) = self
            .held
            .take()
            .or_else(|| Batch::take(&self.shared, self.at.committed))
        else {
            return self.idle();
        };
        match self.room(&batch) {
            Ok(Room::Here) => {}
            Ok(Room::Later) => {
                self.held = Some(batch);
                return Next::Wait(None);
            }
            Err(error) => return self.fail(Some(batch), &error),
        }
        let (mark, bytes, time) = match self.write(&batch) {
            Ok(written) => written,
            Err(error) => return self.fail(Some(batch), &error),
        };
        let written = Written { batch, mark, bytes };
        if time.is_zero() {
            self.complete(written);
            return Next::Again;
        }
        self.in_flight = Some(written);
        Next::After(time)
    }
}

impl Drop for Writer {
    /// Whoever waits is told, also when the job was dropped or has panicked.
    fn drop(&mut self) {
        if self.shared.lock().ended {
            return;
        }
        let gone = io::Error::other("nobody writes the log any more");
        let batch = self
            .held
            .take()
            .or(self.in_flight.take().map(|written| written.batch));
        self.fail(batch, &gone);
    }
}
