//! What a caller of the store is told when a call did not do what it asks.

use crate::ids::{ClusterId, MemberId, ProposalId};
use crate::state;

pub use crate::state::WriteRefusal as Refusal;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// As many proposals as may be are under way. Nothing was proposed.
    #[error("too many proposals are under way")]
    Busy,
    /// No leader, or no quorum that answers it, before the deadline.
    #[error("no quorum answers")]
    NoQuorum,
    /// The deadline passed, or the store ended: the write may have been applied, or may be applied later.
    /// [`crate::Store::resolve`] tells.
    #[error("nobody knows yet what became of proposal {0}")]
    Unknown(ProposalId),
    /// So many later proposals, or so large ones, were made that nobody knows any more whether it was applied.
    #[error("a proposal below the window")]
    Stale,
    /// [`crate::Store::resolve`] has taken its place: it never was and never will be applied.
    #[error("the proposal was withdrawn")]
    Withdrawn,
    /// [`crate::Store::drain`] was called: what is under way is finished, and nothing new is taken.
    #[error("the store is being drained")]
    Draining,
    /// This run was declared dead; it can propose nothing any more. A write that was under way may have been applied
    /// before.
    #[error("this run was declared dead")]
    Dead,
    /// This member was removed from the cluster, or the one that was named; its id never comes back.
    #[error("the member was removed")]
    Removed,
    #[error("there is no member {0}")]
    NoMember(MemberId),
    /// At the deadline: nobody can take its place yet, or nobody leads.
    #[error("member {0} is not removed yet")]
    NotRemoved(MemberId),
    /// The cluster's format is above what this build reads: it cannot be a member.
    #[error("the cluster format is {found}; this build knows up to {known}")]
    Format { found: u16, known: u16 },
    /// Keys that begin with [`crate::transport::registry::RESERVED_PREFIX`] are the store's own.
    #[error("the key is one of the store's own")]
    Reserved,
    #[error("the write was refused: {0:?}")]
    Refused(Refusal),
    #[error("{what} over the limit of {limit_bytes} bytes")]
    TooLarge {
        what: &'static str,
        limit_bytes: usize,
    },
    #[error("{what} over the limit of {limit}")]
    TooMany { what: &'static str, limit: usize },
    /// Local reads are not open yet, or this run is not registered yet.
    #[error("the store is not ready")]
    NotReady,
    /// There is no space for another segment of the log.
    #[error("the disk is full")]
    DiskFull,
    /// A proposal of another run: it alone can resolve it while it lives.
    #[error("proposal {0} is of another run")]
    Foreign(ProposalId),
    /// The founding record names this other cluster: a person must decide ([`crate::Store::belonging`]).
    #[error("the founding record names another cluster, {0}")]
    OtherCluster(ClusterId),
    #[error("the store is closed")]
    Closed,
    /// The store did not open.
    #[error(transparent)]
    Open(#[from] OpenError),
}

/// Why a store did not open. Nothing was changed on disk that a later start would miss.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("{what}: {source}")]
    Io {
        what: &'static str,
        source: std::io::Error,
    },
    #[error("the member's identity: {0}")]
    Identity(&'static str),
    #[error("the log: {0}")]
    Log(#[from] crate::log::Error),
    #[error("the snapshot: {0}")]
    Snapshot(#[from] crate::snapshot::file::Error),
    #[error("the state: {0}")]
    State(#[from] state::Error),
    #[error("consensus did not start: {0}")]
    Raft(String),
}

/// The store has ended by itself, and the process should too: what it knew is on disk, and a new start heals it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the store has failed: {reason}")]
pub struct Fatal {
    pub reason: String,
}
