//! What consensus has on a disk, without running it: a whole log applied, and the beginnings of a new one.

use std::collections::BTreeSet;
use std::path::Path;

use openraft::EntryPayload;
use tokio::sync::oneshot;

use super::core::raft_error;
use super::recovered::{FRAME_BYTES, Recovered};
use super::types::{Membership, StoredMembership, encode_meta, from_log_id, from_logged};
use crate::config::{Parts, Settings};
use crate::error::OpenError;
use crate::ids::MemberId;
use crate::log::{self, Log, LogId, Vote};
use crate::state::State;

/// Entries read at once.
const READ_BYTES: usize = 4 << 20;
/// Of the log of a cluster begun from a state: no member has voted before.
const TERM: u64 = 1;

/// A survivor's state behind all of its log.
pub(crate) struct Replayed {
    pub(crate) state: State,
    /// Entries at the end of which the log does not say that they were committed.
    pub(crate) uncertain: u64,
}

/// Applies all that the log holds.
pub(crate) fn replay(recovered: Recovered) -> Result<Replayed, OpenError> {
    let Recovered { log, mut state, .. } = recovered;
    let of_log = log.log_state();
    let end = of_log.last.map_or(0, |id| id.index + 1);
    // Index 0 is the entry that founds a cluster.
    let mut next = of_log.purged.map_or(0, |id| id.index + 1);
    next = next.max(state.applied() + u64::from(state.applied() > 0));
    while next < end {
        let entries = log.read(next..end, READ_BYTES)?;
        if entries.is_empty() {
            return Err(OpenError::Raft(format!("entry {next} is not in the log")));
        }
        for entry in entries {
            let entry = from_logged(entry).map_err(raft_error)?;
            match &entry.payload {
                EntryPayload::Normal(command) => {
                    state.apply(entry.log_id.index, command.body())?;
                }
                EntryPayload::Blank | EntryPayload::Membership(_) => {
                    state.pass(entry.log_id.index)?;
                }
            }
            next = entry.log_id.index + 1;
        }
    }
    let committed = log.committed().map_or(0, |id| id.index + 1);
    let uncertain = end.saturating_sub(committed);
    log.close();
    Ok(Replayed { state, uncertain })
}

/// What lies beside a state whose only voter is `member`, at `index`.
pub(crate) fn meta_of_one(member: MemberId, index: u64) -> Result<Vec<u8>, OpenError> {
    let last = from_log_id(LogId {
        term: TERM,
        node: member.0,
        index,
    });
    let alone = BTreeSet::from([member.0]);
    let membership = Membership::new(vec![alone.clone()], alone);
    let stored = StoredMembership::new(Some(last), membership);
    encode_meta(Some(last), &stored).map_err(raft_error)
}

/// Begins a log that goes on behind a snapshot with that beside it.
pub(crate) async fn begin_log(
    settings: &Settings,
    parts: &Parts,
    dir: &Path,
    member: MemberId,
) -> Result<(), OpenError> {
    let mut of_log = log::Settings::new(dir.join("log"), member.0);
    of_log.segment_bytes = settings.segment_bytes;
    of_log.frame_bytes = FRAME_BYTES.min(settings.segment_bytes / 4) as usize;
    let (disk, random) = (parts.disk.clone(), parts.random.clone());
    let log = Log::open(of_log, disk, random, &*parts.spawner)?;
    let vote = Vote {
        term: TERM,
        node: member.0,
        committed: false,
    };
    let (tell, told) = oneshot::channel();
    let done = Box::new(move |result| {
        // Nobody waits: this call was given up.
        let _ = tell.send(result);
    });
    log.save_vote(vote, done)?;
    let saved = told
        .await
        .unwrap_or_else(|_| Err(std::io::ErrorKind::Other.into()));
    let what = "the log of the new cluster";
    saved.map_err(|source| OpenError::Io { what, source })?;
    log.close();
    Ok(())
}
