//! openraft's log over [`Log`]: what it may rely on, and what is only noted, stands in DESIGN §3, §5 and §6.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, Range, RangeBounds};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use openraft::storage::{LogFlushed, RaftLogStorage};
use openraft::{AnyError, LogState, OptionalSend, RaftLogReader, StorageIOError};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::pacing::Pacing;
use super::types::{
    Entry, LogId, StorageError, Types, Vote, from_log_id, from_logged, from_vote, to_log_id,
    to_logged, to_vote,
};
use crate::log::{self, Done, Log};
use crate::observe::{Observer, Seen};

/// Most bytes read for one peer at a time; one entry at least.
const READ_BYTES: usize = 512 << 10;
/// A stream that waits longer for the disk sends a heartbeat before it asks again: else its peer hears no leader, and
/// the leader takes it for stuck.
const PATIENCE: Duration = Duration::from_millis(200);
/// So many of these in a row, and then it waits: a disk that hangs holds up the core as well, and heartbeats without a
/// core would keep the peer from looking for a leader that can write.
const PATIENT: u32 = 5;

/// Local reads are open when all entries found at the start are applied: what was read before it was among them.
#[derive(Default)]
pub(super) struct Opening {
    /// The index behind the last of them.
    next: AtomicU64,
}

impl Opening {
    pub(super) fn at(last: Option<log::LogId>) -> Self {
        let next = AtomicU64::new(last.map_or(0, |id| id.index + 1));
        Self { next }
    }

    /// `index` and what follows was never committed.
    fn truncated(&self, index: u64) {
        self.next.fetch_min(index, Ordering::AcqRel);
    }

    /// Entries below this index must be applied.
    pub(super) fn next(&self) -> u64 {
        self.next.load(Ordering::Acquire)
    }
}

/// Clones are handles to the same log.
#[derive(Clone)]
pub(super) struct LogStore {
    log: Log,
    pacing: Arc<Pacing>,
    opening: Arc<Opening>,
    observer: Observer,
    /// Of a stream to a peer: how often the log had been truncated when its reign began. openraft does not wait for the
    /// end of a stream whose reign is over (`core/raft_core.rs:860`): behind what the peer has of this leader it would
    /// send, in this leader's name, what a later one has written there.
    voided: Option<u64>,
    /// Reads in a row that took longer than [`PATIENCE`].
    waited: u32,
}

impl LogStore {
    pub(super) fn new(
        log: Log,
        pacing: Arc<Pacing>,
        opening: Arc<Opening>,
        observer: Observer,
    ) -> Self {
        Self {
            log,
            pacing,
            opening,
            observer,
            voided: None,
            waited: 0,
        }
    }

    /// Never waits for a disk on this thread.
    async fn read(
        &self,
        range: Range<u64>,
        limit_bytes: usize,
    ) -> Result<Vec<log::Entry>, AnyError> {
        let told = self.log.ask(range, limit_bytes, self.voided);
        told.await.map_err(|_| error(ended()))?.map_err(error)
    }
}

fn error(error: impl std::error::Error + 'static) -> AnyError {
    AnyError::new(&error)
}

fn ended() -> io::Error {
    io::Error::other("the log has ended")
}

/// Calls `ask` and waits until what it asked for is durable.
async fn durable(ask: impl FnOnce(Done) -> Result<(), log::Error>) -> Result<(), AnyError> {
    let (tell, told) = oneshot::channel();
    let done = Box::new(move |result: io::Result<()>| {
        // Nobody waits for it when the core has ended.
        let _ = tell.send(result);
    });
    ask(done).map_err(error)?;
    told.await.unwrap_or_else(|_| Err(ended())).map_err(error)
}

/// Cut before the limit of one call; one part at least, with no entries if there are none.
fn in_parts(entries: Vec<log::Entry>, limit_bytes: usize) -> Vec<Vec<log::Entry>> {
    let (mut parts, mut bytes) = (vec![Vec::new()], 0);
    for entry in entries {
        let more = log::entry_bytes(&entry);
        if bytes + more > limit_bytes && bytes > 0 {
            parts.push(Vec::new());
            bytes = 0;
        }
        bytes += more;
        if let Some(part) = parts.last_mut() {
            part.push(entry);
        }
    }
    parts
}

fn decoded(entries: Vec<log::Entry>) -> Result<Vec<Entry>, StorageError> {
    let decode = |entry: log::Entry| {
        let index = entry.id.index;
        from_logged(entry)
            .map_err(|why| StorageIOError::read_log_at_index(index, error(why)).into())
    };
    entries.into_iter().map(decode).collect()
}

impl RaftLogReader<Types> for LogStore {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> Result<Vec<Entry>, StorageError>
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let start = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(before) => before.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(last) => last.saturating_add(1),
            Bound::Excluded(end) => *end,
            Bound::Unbounded => u64::MAX,
        };
        if start >= end {
            return Ok(Vec::new());
        }
        let read = self.read(start..end, usize::MAX).await;
        decoded(read.map_err(StorageIOError::read_logs)?)
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, StorageError> {
        if start >= end {
            return Ok(Vec::new());
        }
        let read = self.read(start..end, READ_BYTES);
        let read = if self.waited < PATIENT {
            timeout(PATIENCE, read).await.ok()
        } else {
            Some(read.await)
        };
        let Some(read) = read else {
            self.waited += 1;
            // Nothing is taken for a heartbeat (`replication/mod.rs:399`).
            return Ok(Vec::new());
        };
        self.waited = 0;
        let mut entries = read.map_err(StorageIOError::read_logs)?;
        // `start` was purged: what is left does not follow what the peer has.
        if entries.first().is_some_and(|entry| entry.id.index != start) {
            entries.clear();
        }
        decoded(entries)
    }
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, StorageError> {
        let state = self.log.log_state();
        Ok(LogState {
            last_purged_log_id: state.purged.map(from_log_id),
            last_log_id: state.last.map(from_log_id),
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        let voided = Some(self.log.voided());
        Self {
            voided,
            ..self.clone()
        }
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        let saved = durable(|done| self.log.save_vote(to_vote(vote), done)).await;
        saved.map_err(StorageIOError::write_vote)?;
        self.observer.see(|| Seen::Voted(to_vote(vote)));
        Ok(())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        Ok(self.log.vote().map(from_vote))
    }

    /// Only noted; it travels in the next frame.
    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), StorageError> {
        self.log.save_committed(committed.map(to_log_id));
        if let Some(committed) = committed {
            self.pacing.committed(committed.index);
            let committed = to_log_id(committed);
            self.observer.see(|| Seen::Committed(committed));
        }
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, StorageError> {
        Ok(self.log.committed().map(from_log_id))
    }

    async fn append<I>(&mut self, entries: I, done: LogFlushed<Types>) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        // An iterator need not be `Send` at an await.
        let logged = entries.into_iter().map(|entry| to_logged(&entry));
        let logged = logged.collect::<Result<Vec<_>, _>>();
        let logged = logged.map_err(|why| StorageIOError::write_logs(error(why)))?;
        if !self.pacing.near().await {
            let ended = AnyError::error("the state machine has ended");
            return Err(StorageIOError::write_logs(ended).into());
        }
        let sizes: Vec<_> = logged
            .iter()
            .map(|entry| (entry.id.index, entry.body.len()))
            .collect();
        self.observer.see(|| Seen::Appended(&logged));
        let (observer, last) = (self.observer.clone(), logged.last().map(|entry| entry.id));
        // What one peer sends may be more than a frame here holds. Order of calls is order on disk, so the last tells
        // of all.
        let limit = self.log.append_bytes();
        let mut parts = in_parts(logged, limit).into_iter().peekable();
        let mut done = Some(done);
        while let Some(part) = parts.next() {
            let done = done.take_if(|_| parts.peek().is_none());
            let observer = observer.clone();
            let tell: Done = Box::new(move |result| {
                if let Some(done) = done {
                    if let (Some(last), Ok(())) = (last, &result) {
                        observer.see(|| Seen::Durable(last));
                    }
                    done.log_io_completed(result);
                }
            });
            let appended = self.log.append(part, tell);
            appended.map_err(|why| StorageIOError::write_logs(error(why)))?;
        }
        for (index, bytes) in sizes {
            self.pacing.appended(index, bytes);
        }
        Ok(())
    }

    async fn truncate(&mut self, since: LogId) -> Result<(), StorageError> {
        let since = since.index;
        self.observer.see(|| Seen::Truncated { since });
        let truncated = durable(|done| self.log.truncate(since, done)).await;
        truncated.map_err(StorageIOError::write_logs)?;
        self.pacing.truncated(since);
        self.opening.truncated(since);
        Ok(())
    }

    /// Only noted: openraft purges before the snapshot that allows it is installed.
    async fn purge(&mut self, upto: LogId) -> Result<(), StorageError> {
        let upto = to_log_id(upto);
        self.observer.see(|| Seen::Purged(upto));
        let noted = self.log.purge(upto);
        Ok(noted.map_err(|why| StorageIOError::write_logs(error(why)))?)
    }
}
