//! What a member finds in its directory: log, snapshot, state (DESIGN §6).

use super::core::raft_error;
use super::types::{decode_meta, to_log_id};
use crate::config::{Parts, Settings};
use crate::error::OpenError;
use crate::ids::MemberId;
use crate::log::{self, Log};
use crate::observe::{Observer, Seen};
use crate::snapshot::publish::Snapshots;
use crate::state::State;

/// Frames hold an entry of the largest size and more; segments hold many.
pub(super) const FRAME_BYTES: u64 = 4 << 20;

/// What a member's directory holds.
pub(crate) struct Recovered {
    pub(crate) log: Log,
    pub(super) snapshots: Snapshots,
    pub(super) state: State,
    /// What lay beside the state in its snapshot.
    pub(super) meta: Option<Vec<u8>>,
}

impl Recovered {
    /// No vote, no entry, no snapshot: this member has promised nothing to anybody.
    pub(crate) fn is_empty(&self) -> bool {
        let of_log = self.log.log_state();
        of_log.last.is_none() && self.log.vote().is_none() && self.meta.is_none()
    }

    pub(super) fn show(&self, observer: &Observer) {
        let log = &self.log;
        let meta = self.meta.as_deref();
        let applied = meta.and_then(|meta| decode_meta(meta).ok()?.0);
        let mut entries = Vec::new();
        observer.see(|| {
            entries = log.read(0..u64::MAX, usize::MAX).unwrap_or_default();
            Seen::Opened {
                vote: log.vote(),
                purged: log.log_state().purged,
                entries: &entries,
                applied: applied.map(to_log_id),
                hash: self.state.hash(),
            }
        });
    }
}

/// Opens log and snapshots. `begun`: a log was there before.
pub(crate) fn recover(
    settings: &Settings,
    parts: &Parts,
    member: MemberId,
    begun: bool,
) -> Result<Recovered, OpenError> {
    let snapshots = settings.dir.join("snapshots");
    let opened = Snapshots::open(parts.disk.clone(), &snapshots, settings.limits)?;
    let (snapshots, loaded) = opened;
    let (state, meta) = match loaded {
        Some(loaded) => (loaded.state, Some(loaded.meta)),
        None => (State::new(settings.limits), None),
    };
    let published = match &meta {
        Some(meta) => decode_meta(meta).map_err(raft_error)?.0.map(to_log_id),
        None => None,
    };
    let mut of_log = log::Settings::new(settings.dir.join("log"), member.0);
    of_log.published = published;
    of_log.must_exist = begun || published.is_some();
    of_log.segment_bytes = settings.segment_bytes;
    of_log.frame_bytes = FRAME_BYTES.min(settings.segment_bytes / 4) as usize;
    of_log.tail_cache_bytes = settings.tail_cache_bytes;
    let (disk, random) = (parts.disk.clone(), parts.random.clone());
    let log = Log::open(of_log, disk, random, &*parts.spawner)?;
    Ok(Recovered {
        log,
        snapshots,
        state,
        meta,
    })
}
