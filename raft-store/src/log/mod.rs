//! The log: votes and entries in one stream of checksummed, chained frames, one sync a batch. See DESIGN §6.
//!
//! It knows nothing of who uses it. Calls change what can be read at once and queue what must become durable; one job
//! owns the file, takes all that is queued, writes one frame, syncs, and calls back. A second job makes segments ahead
//! and removes those that are not needed, a third reads entries that are no longer in memory. Order of calls is order on
//! disk.

mod batch;
mod error;
mod frame;
#[cfg(test)]
mod fuzz;
mod handle;
mod keeper;
mod read;
mod reader;
mod recover;
mod segment;
mod shared;
mod tail;
mod writer;

pub use error::Error;
pub(crate) use frame::entry_bytes;
pub use handle::Log;

use bytes::Bytes;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// An entry's place, and who appended it when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct LogId {
    pub term: u64,
    pub node: u64,
    pub index: u64,
}

/// What a member promised, or that a quorum did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Vote {
    pub term: u64,
    pub node: u64,
    pub committed: bool,
}

/// An entry with its bytes. Cloning shares them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub id: LogId,
    pub body: Bytes,
}

/// Called once, when what was asked for is durable or never will be; on the log's own thread: it must not block.
/// After an error the log accepts nothing any more.
pub type Done = Box<dyn FnOnce(io::Result<()>) + Send>;

/// What a log is opened with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Directory of its own, relative to the disk's root.
    pub dir: PathBuf,
    /// Whose log it is; a log of another member is refused.
    pub member: u64,
    /// Where the newest published snapshot ends.
    pub published: Option<LogId>,
    /// Refuse to begin a log where none is: this member has had one.
    pub must_exist: bool,
    /// Length of a segment file in bytes.
    pub segment_bytes: u64,
    /// Most that one frame's body may hold, and so one call's entries with 40 bytes for each.
    pub frame_bytes: usize,
    /// Entries on disk are kept in memory up to this many bytes.
    pub tail_cache_bytes: usize,
    /// Idle time after a sync before a seal is written.
    pub seal_after: Duration,
}

/// What entries cannot use while there is no spare segment, so that votes still fit: some hundreds.
pub const VOTE_RESERVE_BYTES: u64 = 64 << 10;

impl Settings {
    /// The defaults for a member's log in `dir`.
    pub fn new(dir: impl Into<PathBuf>, member: u64) -> Self {
        Self {
            dir: dir.into(),
            member,
            published: None,
            must_exist: false,
            segment_bytes: 64 << 20,
            frame_bytes: 4 << 20,
            tail_cache_bytes: 32 << 20,
            seal_after: Duration::from_millis(50),
        }
    }

    /// What entries cannot use in the segments of this log.
    fn reserve_bytes(&self) -> u64 {
        VOTE_RESERVE_BYTES.min(self.segment_bytes / 8)
    }
}

/// Where the log stands, queued calls included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogState {
    /// Entries up to here are purged: nobody reads them any more.
    pub purged: Option<LogId>,
    /// The last entry, or what is purged when there is none.
    pub last: Option<LogId>,
}

/// What has been written since the log was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Frames of a batch; each was followed by one sync.
    pub frames: u64,
    pub entries: u64,
    /// Bytes of those frames.
    pub bytes: u64,
}
