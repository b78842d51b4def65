//! What a simulation is shown of a member while it runs, so that it can check what must always hold. Nobody looks in
//! production.

use std::fmt;
use std::sync::Arc;

use crate::log::{Entry, LogId, Vote};

/// One thing that has happened inside a member.
#[derive(Debug)]
pub enum Seen<'a> {
    /// A process start: what was recovered, before anything runs.
    Opened {
        vote: Option<Vote>,
        /// Behind it the log begins.
        purged: Option<LogId>,
        entries: &'a [Entry],
        /// Where the state of its snapshot ends, and its hash.
        applied: Option<LogId>,
        hash: u128,
    },
    /// Entries are in the log, perhaps not on disk yet.
    Appended(&'a [Entry]),
    /// Entries up to this one are on disk, if they are still in the log: whoever asked for them is about to be told so.
    Durable(LogId),
    /// Entries from here on are gone.
    Truncated { since: u64 },
    /// Entries up to here may go, or are replaced by a snapshot.
    Purged(LogId),
    /// The vote is durable.
    Voted(Vote),
    /// Known as committed, and with the state machine.
    Committed(LogId),
    /// Applied, with the state's hash behind it.
    Applied { id: LogId, hash: u128 },
    /// A snapshot has taken the state's place.
    Installed { id: LogId, hash: u128 },
}

/// Is shown everything. It must not call the store.
pub trait Observe: Send + Sync {
    fn seen(&self, what: Seen<'_>);
}

/// Who looks on, if anybody.
#[derive(Clone, Default)]
pub struct Observer(Option<Arc<dyn Observe>>);

impl Observer {
    pub fn new(observe: Arc<dyn Observe>) -> Self {
        Self(Some(observe))
    }

    /// Makes what is shown only if somebody looks on.
    pub(crate) fn see<'a>(&self, what: impl FnOnce() -> Seen<'a>) {
        if let Some(observe) = &self.0 {
            observe.seen(what());
        }
    }
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() {
            "somebody"
        } else {
            "nobody"
        })
    }
}
