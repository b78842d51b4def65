//! What members ask each other and answer. All are safe to repeat and to arrive late.

use bytes::Bytes;

use crate::entry::{Proposal, Registration};
use crate::ids::{Incarnation, MemberId};
use crate::log::{Entry, LogId, Vote};

/// Requests of different lanes do not wait for each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lane {
    /// Consensus, in order.
    Raft,
    /// Everything that a caller of the store waits for, leases.
    Calls,
    /// Snapshots, on a connection of their own.
    Snapshot,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Request {
    /// AppendEntries; without entries a heartbeat. ≤ 512 KiB.
    Append {
        vote: Vote,
        previous: Option<LogId>,
        entries: Vec<Entry>,
        committed: Option<LogId>,
    },
    /// RequestVote.
    Vote { vote: Vote, last: Option<LogId> },
    /// Would you vote for me? Changes nothing.
    PreVote { term: u64, last: Option<LogId> },
    /// Are you there? Of a leader that has gone mute, under its vote.
    Ping { vote: Vote },
    /// Hand-over: if you still follow `leader`, store `vote` (DESIGN §7).
    TakeVote { leader: Vote, vote: Vote },
    /// Hand-over: you are the target; a majority has stored `vote`. Elect yourself if you still follow `leader`.
    Elect { leader: Vote, vote: Vote },
    /// Proposals of the sender, for the leader's queue; one request at a time.
    Forward(Vec<Proposal>),
    /// The sender's registration.
    Register(Registration),
    /// The index that a linearizable read begun now must see.
    ReadIndex,
    /// Renews the lease of a run of the sender.
    Renew { incarnation: Incarnation },
    /// A snapshot follows. `id` is the BLAKE3 in its last block, `meta` what lies beside the state.
    SnapshotOffer {
        vote: Vote,
        id: [u8; 32],
        bytes: u64,
        meta: Bytes,
    },
    /// ≤ 256 KiB of it at `offset`, with their CRC-32C.
    SnapshotChunk {
        vote: Vote,
        id: [u8; 32],
        offset: u64,
        crc: u32,
        chunk: Bytes,
    },
    /// All was sent: verify, publish, install.
    SnapshotInstall { vote: Vote, id: [u8; 32] },
    /// The hash of the sender's state behind the entry at `index`.
    StateHash { index: u64, hash: u128 },
    /// `member` shall be removed; asked again until it is.
    Remove { member: MemberId },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reply {
    Append(Appended),
    Vote {
        vote: Vote,
        granted: bool,
        last: Option<LogId>,
    },
    /// Whether this member would vote for the sender.
    PreVote(bool),
    /// The vote that this member holds; whether its disk has no space for another segment of the log.
    Pong {
        vote: Option<Vote>,
        full: bool,
    },
    /// Whether the vote was stored, durably; whether the election was begun.
    Taken(bool),
    Forwarded(Forwarded),
    ReadIndex(Result<u64, NotServed>),
    Renewed(Renewed),
    /// How much of the snapshot is here; the next chunk begins there.
    SnapshotHave {
        offset: u64,
    },
    /// Installed, or not needed any more. The vote that this member holds now.
    SnapshotInstalled {
        vote: Vote,
    },
    /// What came is not what was offered: begin again.
    SnapshotBad,
    /// Whether it is the hash here; `None`: it is not known here.
    StateHash {
        agrees: Option<bool>,
    },
    Removing(Removing),
    /// The member is not ready for this request, or does not know it.
    Unfit,
}

/// What became of AppendEntries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Appended {
    All,
    /// Up to here.
    Some(Option<LogId>),
    /// `previous` is not in the log.
    Conflict,
    Higher(Vote),
    /// A newer request of the same sender has taken its place while both waited.
    Superseded,
}

/// Why the asked one does not serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotServed {
    /// With the leader as it is known here.
    NotLeader(Option<MemberId>),
    NoQuorum,
    Busy,
}

/// What became of a forward: early refusals only, results come from apply on the sender (DESIGN §4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Forwarded {
    Queued,
    Not(NotServed),
    /// The sender was removed.
    Removed,
    /// There are as many members as may be.
    Full,
    /// The sender's build does not read the cluster's format, this one.
    Format(u16),
}

/// How far a removal has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Removing {
    /// It has its tombstone.
    Removed,
    /// The leader has it in mind for a while.
    Wanted,
    /// There is no such member.
    Unknown,
    Not(NotServed),
}

/// What became of a renewal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Renewed {
    /// A quorum round that began after its receipt has succeeded.
    Granted,
    Not(NotServed),
    /// This run is dead.
    Lost,
}

impl Request {
    pub(crate) fn lane(&self) -> Lane {
        match self {
            Self::Append { .. }
            | Self::Vote { .. }
            | Self::PreVote { .. }
            | Self::Ping { .. }
            | Self::TakeVote { .. }
            | Self::Elect { .. } => Lane::Raft,
            Self::Forward(_)
            | Self::Register(_)
            | Self::ReadIndex
            | Self::Renew { .. }
            | Self::StateHash { .. }
            | Self::Remove { .. } => Lane::Calls,
            Self::SnapshotOffer { .. }
            | Self::SnapshotChunk { .. }
            | Self::SnapshotInstall { .. } => Lane::Snapshot,
        }
    }
}
