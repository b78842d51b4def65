//! What a log refuses or fails with.

use super::LogId;
use std::io;
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Damage that is not a torn last frame. Nothing was changed.
    #[error("{}: corrupt at byte {offset}: {what}", file.display())]
    Corrupt {
        file: PathBuf,
        offset: u64,
        what: &'static str,
    },
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{}: the log of member {member:016x}", file.display())]
    Foreign { file: PathBuf, member: u64 },
    #[error("{}: no log here, though this member has had one", .0.display())]
    Missing(PathBuf),
    /// Entries between the snapshot and the log are gone.
    #[error("the log begins behind {begin:?}, the snapshot ends at {snapshot:?}")]
    Gap {
        begin: LogId,
        snapshot: Option<LogId>,
    },
    #[error("segments of {segment_bytes} bytes cannot hold frames of {frame_bytes}")]
    Settings {
        segment_bytes: u64,
        frame_bytes: usize,
    },
    /// An entry that does not follow the last one.
    #[error("index {got} where {expected} is next")]
    Order { expected: u64, got: u64 },
    /// A change of what is purged.
    #[error("entries up to {purged} are purged, {got} cannot be truncated")]
    Purged { purged: u64, got: u64 },
    /// More in one call than a frame holds.
    #[error("entries of {bytes} bytes are over the limit of {limit_bytes}")]
    TooLarge { bytes: usize, limit_bytes: usize },
    /// No space for entries; votes still fit.
    #[error("the disk is full")]
    Full,
    /// The log was purged to an index that no published snapshot covers yet; nothing can follow it.
    #[error("purged to {0:?}, which no published snapshot covers")]
    Unpublished(LogId),
    /// An earlier error ended this log.
    #[error("the log has failed: {0}")]
    Failed(String),
}

impl Error {
    pub(super) fn io(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        Self::Io { path, source }
    }
}
