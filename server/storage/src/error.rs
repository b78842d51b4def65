//! What can go wrong when something is kept or read; absence is never an error but `None`.

/// The outcome classes a caller has to tell apart (DESIGN §6: requests that surely failed may be refused at once).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Surely not done: pool time-out, connection refused, read-only server, any failure before the commit was sent.
    #[error("database unavailable: {0}")]
    Unavailable(String),
    /// A write was sent and its commit may have happened. Look it up, or repeat it where it is idempotent.
    #[error("outcome unknown: {0}")]
    Unknown(String),
    /// Surely not done: something else exists already or has changed since it was read.
    #[error("conflict: {0}")]
    Conflict(&'static str),
    /// Surely not done: it would pass a bound in bytes.
    #[error("full: {0}")]
    Full(&'static str),
    /// Surely not done: this member has been declared dead (`Fence`); it must serve nobody.
    #[error("this member's incarnation has been declared dead")]
    Fenced,
    /// Stored data that cannot be read as what it should be.
    #[error("stored data is corrupt: {0}")]
    Corrupt(String),
    /// The database holds a part of a copy of what is named: the same copy or restore has to be run to its end.
    #[error(
        "the database holds an unfinished copy of {0}: run the same copy or restore again, it goes on"
    )]
    Unfinished(String),
    /// Another server uses the database; what the database knows of it.
    #[error(
        "another server uses this database ({0}): stop that one, or give this one a database of its own"
    )]
    InUse(String),
    /// Surely not done: anything else (disk full, a refused statement, a bad path).
    #[error("storage failure: {0}")]
    Other(String),
}

impl Error {
    /// True where the database is expected to come back by itself, so that trying again later makes sense.
    pub fn is_transient(&self) -> bool {
        matches!(self, Error::Unavailable(_) | Error::Unknown(_))
    }
}
