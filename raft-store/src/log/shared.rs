//! What callers, the writer and the keeper of segments share, behind one lock that is never held over I/O.

use super::reader::Asked;
use super::segment::{Readable, Segment};
use super::tail::{Marks, Tail};
use super::{Counters, Done, Entry, LogId, Settings, Vote};
use crate::disk::Disk;
use crate::random::Random;
use parking_lot::{Mutex, MutexGuard};
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, OnceLock};
use std::task::Waker;

/// What a record other than entries takes at most in a frame's body.
pub const RECORD_BYTES: usize = 64;

/// Something that must become durable.
pub enum Operation {
    Vote(Vote),
    Entries(Vec<Entry>),
    Truncate { after: Option<LogId> },
    Anew { at: LogId },
}

pub struct Queued {
    pub operation: Operation,
    /// Upper bound of its bytes in a frame's body.
    pub bytes: usize,
    pub done: Option<Done>,
}

/// The segment to write in next.
pub enum Spare {
    Building,
    Ready(Segment),
    /// There is no space for it, or another error; tried again each second.
    Failed,
}

/// A segment that holds frames; the last one is being written.
pub struct Held {
    pub readable: Arc<Readable>,
    /// Highest index of any entry ever written in it, void ones included.
    pub highest: Option<u64>,
}

pub struct State {
    pub purged: Option<LogId>,
    pub last: Option<LogId>,
    /// The newest, durable or not.
    pub vote: Option<Vote>,
    pub durable_vote: Option<Vote>,
    pub committed: Option<LogId>,
    pub published: Option<LogId>,
    /// Purged to here; written when a published snapshot covers it.
    pub anew_later: Option<LogId>,
    pub tail: Tail,
    /// How often entries were taken back since the start.
    pub voided: u64,
    /// What the reader is asked for, at most one thing by each who waits; `None` when it has ended.
    pub asked: Option<VecDeque<Asked>>,
    /// Of what is on disk.
    pub marks: Marks,
    pub segments: VecDeque<Held>,
    pub queue: VecDeque<Queued>,
    /// Bytes of all operations that are not durable yet.
    pub pending_bytes: usize,
    /// Bytes that entries may still use in the current segment.
    pub left_bytes: u64,
    pub spare: Spare,
    /// Spares found at start beside that one.
    pub more_spares: VecDeque<Segment>,
    /// Id of the next segment to be made.
    pub next_segment: u64,
    pub failed: Option<(io::ErrorKind, String)>,
    pub closing: bool,
    /// Nothing is written any more.
    pub ended: bool,
    pub counters: Counters,
}

impl State {
    /// Index that the next entry must have.
    pub fn next_index(&self) -> u64 {
        self.last.map_or(0, |id| id.index + 1)
    }

    /// First index that can be read.
    pub fn first_index(&self) -> u64 {
        self.purged.map_or(0, |id| id.index + 1)
    }

    /// Id of the entry at `index`, or of what is purged when it was the last of that.
    pub fn id_at(&self, index: u64) -> Option<LogId> {
        if let Some(purged) = self.purged.filter(|purged| purged.index >= index) {
            return (purged.index == index).then_some(purged);
        }
        let written = index < self.next_index();
        written.then(|| self.tail.id_at(index)).flatten()
    }

    /// Whether a call of so many bytes fits: in the current segment, when there is no space for another.
    pub fn has_room(&self, bytes: usize) -> bool {
        // Each frame has its own head and tail, and there are at most as many frames as calls.
        let wanted = self.pending_bytes + bytes + 2 * RECORD_BYTES * (self.queue.len() + 2);
        !matches!(self.spare, Spare::Failed) || wanted as u64 <= self.left_bytes
    }

    /// Takes the first segment off when nobody needs it: purged, and covered by a published snapshot.
    pub fn take_removable(&mut self) -> Option<Held> {
        let covered = self.purged.min_by_index(self.published)?;
        let oldest = self.segments.front()?;
        let needed = oldest.highest.is_some_and(|highest| highest > covered);
        if needed || self.segments.len() < 2 {
            return None;
        }
        let taken = self.segments.pop_front();
        let first = self
            .segments
            .front()
            .map_or(0, |held| held.readable.header.id);
        self.marks.forget_segments_below(first);
        taken
    }

    /// What the caller gets once the log has failed.
    pub fn failure(&self) -> Option<io::Error> {
        let (kind, message) = self.failed.as_ref()?;
        Some(io::Error::new(*kind, message.clone()))
    }
}

trait MinByIndex {
    fn min_by_index(self, other: Self) -> Option<u64>;
}

impl MinByIndex for Option<LogId> {
    /// The lower index of both; `None` when either is missing.
    fn min_by_index(self, other: Self) -> Option<u64> {
        Some(self?.index.min(other?.index))
    }
}

pub struct Shared {
    pub settings: Settings,
    pub disk: Arc<dyn Disk>,
    pub random: Arc<dyn Random>,
    state: Mutex<State>,
    pub writer: OnceLock<Waker>,
    pub keeper: OnceLock<Waker>,
    pub reader: OnceLock<Waker>,
}

impl Shared {
    pub fn new(
        settings: Settings,
        disk: Arc<dyn Disk>,
        random: Arc<dyn Random>,
        state: State,
    ) -> Self {
        Self {
            settings,
            disk,
            random,
            state: Mutex::new(state),
            writer: OnceLock::new(),
            keeper: OnceLock::new(),
            reader: OnceLock::new(),
        }
    }

    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    pub fn wake_writer(&self) {
        self.writer.get().inspect(|waker| waker.wake_by_ref());
    }

    pub fn wake_keeper(&self) {
        self.keeper.get().inspect(|waker| waker.wake_by_ref());
    }

    pub fn wake_reader(&self) {
        self.reader.get().inspect(|waker| waker.wake_by_ref());
    }

    /// Ends the log: what waits fails, and so does everything from now on. The first error stays.
    pub fn fail(&self, error: &io::Error) {
        let mut state = self.lock();
        state.ended = true;
        if state.failed.is_none() {
            state.failed = Some((error.kind(), error.to_string()));
        }
        let queue = std::mem::take(&mut state.queue);
        let failures: Vec<_> = queue
            .into_iter()
            .filter_map(|queued| Some((queued.done?, state.failure()?)))
            .collect();
        drop(state);
        for (done, failure) in failures {
            done(Err(failure));
        }
        self.wake_keeper();
    }
}
