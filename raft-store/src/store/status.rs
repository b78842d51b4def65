//! What a member tells of itself and, while it leads, of all others.

use std::time::Duration;

use bytes::Bytes;

use super::Store;
use crate::error::Error;
use crate::founding::Belonging;
use crate::ids::{Incarnation, MemberId, Revision};
use crate::leases::Lease;
use crate::log;
use crate::state::State;

/// Prefixes of which keys and bytes are told.
const PREFIXES: usize = 64;

/// What a member knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    pub member: MemberId,
    pub incarnation: Option<Incarnation>,
    pub lease: Lease,
    pub belonging: Belonging,
    pub leading: bool,
    pub term: u64,
    /// As far as is known here.
    pub leader: Option<MemberId>,
    /// Of a leader: how long ago what a quorum has answered was sent.
    pub quorum_age: Option<Duration>,
    /// All registered members and those of the membership, by id.
    pub members: Vec<MemberStatus>,
    /// Ids that never come back.
    pub removed: usize,
    /// Of a leader: the next change of the membership and its reason, or what it waits for.
    pub next_step: Option<String>,
    pub cluster_format: u16,
    /// Registered members, dead ones too, that do not read the highest format which this build reads: the cluster's format
    /// rises when there are none. Whoever of them never comes back is to be removed.
    pub format_held_back_by: Vec<MemberId>,
    /// The index behind the last entry applied.
    pub applied_next: u64,
    pub revision: Revision,
    pub keys: usize,
    /// As charged against the limit.
    pub store_bytes: u64,
    /// Of the first prefixes, each up to and with the first `/`.
    pub prefixes: Vec<Prefix>,
    /// Those are all.
    pub prefixes_complete: bool,
    /// The same on all members at the same entry.
    pub state_hash: u128,
    /// Index of the last entry in the newest snapshot.
    pub snapshot: Option<u64>,
    /// Index of the last entry that is gone from the log, and of its last.
    pub log_purged: Option<u64>,
    pub log_last: Option<u64>,
    /// Frames, entries and bytes written since the start; a frame is a sync.
    pub log_written: log::Counters,
    pub watches: usize,
    /// Frames of channels that came from runs that were over, since the start.
    pub frames_dropped: u64,
}

/// What is known of one member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberStatus {
    pub member: MemberId,
    pub role: Role,
    /// Its last run, and whether that was not declared dead. `None`: it has not registered.
    pub run: Option<(Incarnation, bool)>,
    pub zone: String,
    pub addresses: Vec<String>,
    /// Cluster formats it reads.
    pub formats: (u16, u16),
    /// As its leader sees it; nobody else knows.
    pub seen: Option<SeenByLeader>,
}

/// What a leader knows of a member by asking it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenByLeader {
    pub answering: bool,
    /// Entries that it has not acknowledged; `None`: not known yet, or it is in no membership.
    pub behind_entries: Option<u64>,
    /// How long it has been answering and close behind.
    pub steady: Duration,
    /// It has lost what it had acknowledged, and is talked to no more.
    pub barred: bool,
}

/// What a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Leader,
    Voter,
    Learner,
    /// Registered, and in no membership yet.
    Joining,
    /// Its last run is dead, and it is in no membership.
    Dead,
    /// It has a tombstone and waits for being taken out of the membership.
    Removed,
}

/// Keys that begin alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prefix {
    pub prefix: Bytes,
    pub keys: usize,
    /// Of keys and values.
    pub payload_bytes: u64,
}

fn held_back_by(state: &State, known: u16) -> Vec<MemberId> {
    let rows = state.members().iter();
    let old = rows.filter(|(_, row)| row.info.formats.1 < known);
    old.map(|(id, _)| id).collect()
}

impl Store {
    /// Fails as a local read does.
    pub fn status(&self) -> Result<Status, Error> {
        let core = &self.0.core;
        let of_log = core.log().log_state();
        let progress = core.machine().progress();
        let leadership = core.leadership();
        let members = self.members();
        let now = core.clock().now();
        let quorum = core.quorum_clock();
        // The lease looks at the state too, and whoever reads it twice waits for a writer that waits for him.
        let (lease, next_step) = (self.lease().state(), self.0.reconciler.next());
        let state = self.state()?;
        let (prefixes, prefixes_complete) = state.usage(PREFIXES);
        let prefix = |(prefix, usage): (Bytes, crate::state::map::Usage)| Prefix {
            prefix,
            keys: usage.keys,
            payload_bytes: usage.payload_bytes,
        };
        Ok(Status {
            member: self.0.member,
            incarnation: self.incarnation(),
            lease,
            belonging: self.belonging(),
            leading: leadership.leading,
            term: leadership.term,
            leader: leadership.leader,
            quorum_age: quorum.map(|at| now.saturating_sub(at)),
            members,
            removed: state.members().tombstones().count(),
            next_step,
            cluster_format: state.cluster_format(),
            format_held_back_by: held_back_by(&state, self.0.limits.format_known),
            applied_next: progress.next,
            revision: state.revision(),
            keys: state.map().len(),
            store_bytes: state.store_bytes(),
            prefixes: prefixes.into_iter().map(prefix).collect(),
            prefixes_complete,
            state_hash: state.hash(),
            snapshot: core.snapshots().published().map(|snapshot| snapshot.index),
            log_purged: of_log.purged.map(|id| id.index),
            log_last: of_log.last.map(|id| id.index),
            log_written: core.log().counters(),
            watches: core.machine().hub().watches(),
            frames_dropped: core.link().dropped_frames(),
        })
    }

    fn members(&self) -> Vec<MemberStatus> {
        let core = &self.0.core;
        let rows = core.machine().members();
        let membership = core.membership();
        let leader = core.leader();
        let seen = self.0.reconciler.seen();
        let (matched, last) = (core.progress(), core.last().map_or(0, |last| last.index));
        let mut all = membership.members();
        all.extend(rows.iter().map(|(id, _)| id));
        let tell = |member| {
            let row = rows.get(member);
            let info = row.map(|row| row.info.clone()).unwrap_or_default();
            let role = match () {
                () if rows.is_removed(member) => Role::Removed,
                () if leader == Some(member) => Role::Leader,
                () if membership.is_voter(member) => Role::Voter,
                () if membership.learners.contains(&member) => Role::Learner,
                () if row.is_some_and(|row| row.live) => Role::Joining,
                () => Role::Dead,
            };
            let seen = seen.as_ref().and_then(|view| view.members.get(&member));
            let behind = matched.get(&member).copied().flatten();
            MemberStatus {
                member,
                role,
                run: row.map(|row| (row.incarnation, row.live)),
                zone: info.zone,
                addresses: info.addresses,
                formats: info.formats,
                seen: seen.map(|seen| SeenByLeader {
                    answering: seen.answering,
                    behind_entries: behind.map(|matched| last.saturating_sub(matched)),
                    steady: seen.steady,
                    barred: seen.barred,
                }),
            }
        };
        all.into_iter().map(tell).collect()
    }
}
