//! The handle through which a log is used.

use super::frame::entry_bytes;
use super::keeper::Keeper;
use super::read::{in_memory, read};
use super::reader::{Asked, Reader};
use super::recover;
use super::shared::{Operation, Queued, RECORD_BYTES, Shared, Spare, State};
use super::writer::Writer;
use super::{Counters, Done, Entry, Error, LogId, LogState, Settings, Vote};
use crate::disk::Disk;
use crate::random::Random;
use crate::spawner::{Spawned, Spawner};
use parking_lot::{Mutex, MutexGuard};
use std::ops::Range;
use std::sync::Arc;
use tokio::sync::oneshot;

/// An open log. Clones are handles to the same one; when the last is gone, the log is closed.
#[derive(Clone)]
pub struct Log {
    owner: Arc<Owner>,
}

struct Owner {
    shared: Arc<Shared>,
    jobs: Mutex<Vec<Spawned>>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        close(&self.shared);
    }
}

fn close(shared: &Shared) {
    shared.lock().closing = true;
    shared.wake_writer();
    shared.wake_keeper();
    shared.wake_reader();
}

impl Log {
    /// Recovers the log in `settings.dir`, or begins one, and starts its jobs. When the published snapshot is ahead of
    /// the log or contradicts it, the log is started anew behind it, durably, before this returns.
    pub fn open(
        settings: Settings,
        disk: Arc<dyn Disk>,
        random: Arc<dyn Random>,
        spawner: &dyn Spawner,
    ) -> Result<Self, Error> {
        let dir = settings.dir.clone();
        let (state, position) = recover::open(&settings, &*disk, &*random)?;
        let shared = Arc::new(Shared::new(settings, disk, random, state));
        let mut writer = Writer::new(shared.clone(), position);
        let log = Self {
            owner: Arc::new(Owner {
                shared: shared.clone(),
                jobs: Mutex::default(),
            }),
        };
        if let Some(published) = shared.settings.published {
            log.meet(published)?;
        }
        writer
            .write_all_now()
            .map_err(|error| Error::io(&dir, error))?;
        let io = |error| Error::io(&dir, error);
        let writer = spawner.spawn("log", Box::new(writer)).map_err(io)?;
        shared.writer.get_or_init(|| writer.waker.clone());
        let keeper = Box::new(Keeper::new(shared.clone()));
        let keeper = spawner.spawn("log-segments", keeper).map_err(io)?;
        shared.keeper.get_or_init(|| keeper.waker.clone());
        let reader = Box::new(Reader(shared.clone()));
        let reader = spawner.spawn("log-reads", reader).map_err(io)?;
        shared.reader.get_or_init(|| reader.waker.clone());
        log.owner.jobs.lock().extend([writer, keeper, reader]);
        Ok(log)
    }

    /// Starts anew behind a snapshot that the log does not lead to.
    fn meet(&self, published: LogId) -> Result<(), Error> {
        let purged = self.log_state().purged;
        let behind = purged.is_none_or(|purged| purged.index < published.index);
        if behind && self.owner.shared.lock().id_at(published.index) != Some(published) {
            self.purge(published)?;
        }
        self.publish(published);
        Ok(())
    }

    /// Writes what is queued and ends. Waits for the jobs if they have threads.
    pub fn close(self) {
        close(&self.owner.shared);
        let jobs = std::mem::take(&mut *self.owner.jobs.lock());
        jobs.into_iter().for_each(Spawned::join);
    }

    fn state(&self) -> Result<MutexGuard<'_, State>, Error> {
        let state = self.owner.shared.lock();
        match &state.failed {
            Some((_, message)) => Err(Error::Failed(message.clone())),
            None => Ok(state),
        }
    }

    fn queue(&self, state: &mut State, operation: Operation, bytes: usize, done: Option<Done>) {
        state.pending_bytes += bytes;
        state.queue.push_back(Queued {
            operation,
            bytes,
            done,
        });
    }

    /// What is purged and what is last.
    pub fn log_state(&self) -> LogState {
        let state = self.owner.shared.lock();
        LogState {
            purged: state.purged,
            last: state.last,
        }
    }

    /// The newest vote saved, durable or not.
    pub fn vote(&self) -> Option<Vote> {
        self.owner.shared.lock().vote
    }

    /// The newest vote that a start would find: what may be told to others.
    pub fn durable_vote(&self) -> Option<Vote> {
        self.owner.shared.lock().durable_vote
    }

    /// The newest index noted by `save_committed`; after a restart the newest that a frame has carried.
    pub fn committed(&self) -> Option<LogId> {
        self.owner.shared.lock().committed
    }

    pub fn counters(&self) -> Counters {
        self.owner.shared.lock().counters
    }

    /// Bytes of the tail cache: bodies and what their entries take beside.
    pub fn tail_bytes(&self) -> usize {
        self.owner.shared.lock().tail.bytes()
    }

    /// Whether new proposals should be refused: there is no space for another segment. What is under way still fits.
    pub fn is_full(&self) -> bool {
        matches!(self.owner.shared.lock().spare, Spare::Failed)
    }

    /// Whether entries of so many bytes would be taken now; without space for another segment, in this one.
    pub(crate) fn has_room(&self, bytes: usize) -> bool {
        self.owner.shared.lock().has_room(bytes)
    }

    /// Most that the entries of one append may take, each by [`super::entry_bytes`].
    pub(crate) fn append_bytes(&self) -> usize {
        self.owner.shared.settings.frame_bytes - RECORD_BYTES
    }

    /// Appends entries with consecutive indexes behind the last one. They can be read on return; `done` is called when
    /// they are durable. On an error nothing was appended and `done` is dropped.
    pub fn append(&self, entries: Vec<Entry>, done: Done) -> Result<(), Error> {
        let mut state = self.state()?;
        if let Some(at) = state.anew_later {
            return Err(Error::Unpublished(at));
        }
        let next = state.next_index();
        for (expected, entry) in (next..).zip(&entries) {
            let got = entry.id.index;
            if got != expected {
                return Err(Error::Order { expected, got });
            }
        }
        let Some(last) = entries.last() else {
            drop(state);
            done(Ok(()));
            return Ok(());
        };
        let bytes = RECORD_BYTES + entries.iter().map(entry_bytes).sum::<usize>();
        let limit_bytes = self.owner.shared.settings.frame_bytes;
        if bytes > limit_bytes {
            return Err(Error::TooLarge { bytes, limit_bytes });
        }
        if !state.has_room(bytes) {
            return Err(Error::Full);
        }
        state.last = Some(last.id);
        for entry in &entries {
            state.tail.push(entry.clone());
        }
        self.queue(&mut state, Operation::Entries(entries), bytes, Some(done));
        drop(state);
        self.owner.shared.wake_writer();
        Ok(())
    }

    /// Saves a vote; `done` is called when it is durable.
    pub fn save_vote(&self, vote: Vote, done: Done) -> Result<(), Error> {
        let mut state = self.state()?;
        state.vote = Some(vote);
        self.queue(&mut state, Operation::Vote(vote), RECORD_BYTES, Some(done));
        drop(state);
        self.owner.shared.wake_writer();
        Ok(())
    }

    /// Notes what is committed; it travels inside the next frame.
    pub fn save_committed(&self, committed: Option<LogId>) {
        self.owner.shared.lock().committed = committed;
    }

    /// Drops entries from index `since` on; `done` is called when that is durable. What is appended later comes behind
    /// it on disk in any case.
    pub fn truncate(&self, since: u64, done: Done) -> Result<(), Error> {
        let mut state = self.state()?;
        if since >= state.next_index() {
            drop(state);
            done(Ok(()));
            return Ok(());
        }
        if let Some(purged) = state.purged.filter(|purged| since <= purged.index) {
            return Err(Error::Purged {
                purged: purged.index,
                got: since,
            });
        }
        let after = since.checked_sub(1).and_then(|index| state.id_at(index));
        state.last = after;
        state.voided += 1;
        state.tail.truncate(since);
        self.queue(
            &mut state,
            Operation::Truncate { after },
            RECORD_BYTES,
            Some(done),
        );
        drop(state);
        self.owner.shared.wake_writer();
        Ok(())
    }

    /// Notes that nobody reads entries up to `upto` any more; no I/O. Files go when a published snapshot covers them.
    /// When the log has no such entry it is started anew behind `upto`: at once if a published snapshot covers it,
    /// otherwise when one does, and until then nothing can be appended.
    pub fn purge(&self, upto: LogId) -> Result<(), Error> {
        let mut state = self.state()?;
        if state
            .purged
            .is_some_and(|purged| purged.index >= upto.index)
        {
            return Ok(());
        }
        let known = state.id_at(upto.index);
        state.purged = Some(upto);
        if known == Some(upto) {
            state.tail.forget_below(upto.index + 1);
        } else {
            state.last = Some(upto);
            state.voided += 1;
            state.tail.restart(upto.index + 1);
            state.anew_later = Some(upto);
        }
        self.start_anew_if_covered(&mut state);
        drop(state);
        self.owner.shared.wake_writer();
        self.owner.shared.wake_keeper();
        Ok(())
    }

    /// Tells that a snapshot that ends at `upto` is published: durable, and found by the next start.
    pub fn publish(&self, upto: LogId) {
        let mut state = self.owner.shared.lock();
        if state.published.is_none_or(|old| old.index < upto.index) {
            state.published = Some(upto);
        }
        self.start_anew_if_covered(&mut state);
        drop(state);
        self.owner.shared.wake_writer();
        self.owner.shared.wake_keeper();
    }

    fn start_anew_if_covered(&self, state: &mut State) {
        let covered = state.published.map(|id| id.index);
        if let Some(at) = state.anew_later.filter(|at| Some(at.index) <= covered) {
            state.anew_later = None;
            self.queue(state, Operation::Anew { at }, RECORD_BYTES, None);
        }
    }

    /// Entries of a range in order, those that are purged or do not exist left out; at least one if there is one, and
    /// no more when their bodies have reached `limit_bytes`, or when the log is truncated meanwhile. Reads files when
    /// they are no longer cached.
    pub fn read(&self, range: Range<u64>, limit_bytes: usize) -> Result<Vec<Entry>, Error> {
        read(&self.owner.shared, range, limit_bytes, None)
    }

    /// The same for whoever must not wait for a disk: told at once if all is in memory, else by a job; never told when
    /// the log has ended. Nothing at all is read when entries were taken back since [`Log::voided`] was `voided`: others
    /// may stand there.
    pub fn ask(
        &self,
        range: Range<u64>,
        limit_bytes: usize,
        voided: Option<u64>,
    ) -> oneshot::Receiver<Result<Vec<Entry>, Error>> {
        let (tell, told) = oneshot::channel();
        let mut state = self.owner.shared.lock();
        if let Some(entries) = in_memory(&state, &range, limit_bytes, voided) {
            // `told` is here.
            let _ = tell.send(Ok(entries));
        } else if let Some(asked) = &mut state.asked {
            asked.retain(|asked| !asked.tell.is_closed());
            asked.push_back(Asked {
                range,
                limit_bytes,
                voided,
                tell,
            });
            drop(state);
            self.owner.shared.wake_reader();
        }
        told
    }

    /// How often entries were taken back since the log was opened.
    pub fn voided(&self) -> u64 {
        self.owner.shared.lock().voided
    }
}
