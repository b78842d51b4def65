//! Which cluster an empty directory belongs to: one it founds, or one it joins (DESIGN §9 "Founding").
//!
//! Clusters are told apart by a UUID that the founder mints. A record outside the cluster ([`FoundingRecord`]) has room
//! for one row, so that of many who start at once one founds. Reading it leads at most to joining or waiting: founding
//! follows from the answer of [`FoundingRecord::create`] alone, so a stale reading never makes a second cluster.

mod belong;
mod decide;
mod keep;
mod records;
mod settle;
mod standing;

use crate::ids::{ClusterId, MemberId};
use crate::transport::BoxFuture;

pub(crate) use belong::Belong;
pub use records::{Alone, FileRecord};
pub(crate) use settle::Settling;
pub(crate) use standing::Standing;
pub use standing::{Belonging, Waiting};

/// The row of the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Founding {
    pub uuid: ClusterId,
    /// Who minted the UUID, and alone may found under it. [`NOBODY`] once there is a leader.
    pub founder: MemberId,
}

/// The founder in the row of a cluster whose founding is over.
pub const NOBODY: MemberId = MemberId(0);

/// Why the record has given no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// What was asked for may have happened, or may still happen.
    #[error("the founding record's answer is unknown: {0}")]
    Unknown(String),
    /// Nothing has happened.
    #[error("the founding record cannot be asked: {0}")]
    Unavailable(String),
}

/// What became of [`FoundingRecord::create`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    /// The row was not there and is now.
    Yes,
    /// This row is there, which may be the caller's own.
    Exists(Founding),
}

/// One row that all who may found a cluster share: in a database, in an object store, in a file. `create` and `replace`
/// are atomic and see each other; `read` may be late. Calls have no time limit of their own: the caller gives up.
pub trait FoundingRecord: Send + Sync {
    /// The row, or one that was there a while ago.
    fn read(&self) -> BoxFuture<'_, Result<Option<Founding>, RecordError>>;

    /// Puts the row if there is none.
    fn create(&self, founding: Founding) -> BoxFuture<'_, Result<Created, RecordError>>;

    /// Puts `new` in the place of the row of the cluster `old`; `false`: another row is there, or none.
    fn replace(&self, old: ClusterId, new: Founding) -> BoxFuture<'_, Result<bool, RecordError>>;
}
