//! What became of commits whose callers stopped waiting.

use std::collections::HashMap;

use crate::{Error, Position};

/// Tickets kept; a caller asks about each once, so that only callers that died leave any.
const TICKETS_MAX: usize = 4096;

#[derive(Debug, Clone)]
enum Fate {
    Pending,
    Committed(Vec<Position>),
    Absent,
}

/// Fates by ticket.
#[derive(Debug, Default)]
pub(crate) struct CommitLedger {
    fates: HashMap<u64, Fate>,
}

impl CommitLedger {
    /// A commit's caller is about to be told "unknown".
    pub(crate) fn open(&mut self, ticket: u64) {
        if self.fates.len() >= TICKETS_MAX {
            let oldest = self
                .fates
                .iter()
                .filter(|(_, f)| !matches!(f, Fate::Pending))
                .map(|(t, _)| *t)
                .min();
            if let Some(oldest) = oldest {
                self.fates.remove(&oldest);
            }
        }
        self.fates.insert(ticket, Fate::Pending);
    }

    /// The caller learnt the outcome after all.
    pub(crate) fn forget(&mut self, ticket: u64) {
        self.fates.remove(&ticket);
    }

    /// `None`: surely not stored.
    pub(crate) fn settle(&mut self, ticket: u64, stored: Option<Vec<Position>>) {
        if let Some(fate) = self.fates.get_mut(&ticket) {
            *fate = stored.map_or(Fate::Absent, Fate::Committed);
        }
    }

    /// The answer of `archive_resolve`.
    pub(crate) fn ask(&mut self, ticket: u64) -> Result<Option<Vec<Position>>, Error> {
        match self.fates.get(&ticket) {
            None => {
                return Err(Error::Other(
                    "this commit's outcome was asked for before".into(),
                ));
            }
            Some(Fate::Pending) => {
                return Err(Error::Unavailable(
                    "the commit's outcome is not known yet".into(),
                ));
            }
            Some(_) => {}
        }
        match self.fates.remove(&ticket) {
            Some(Fate::Committed(positions)) => Ok(Some(positions)),
            _ => Ok(None),
        }
    }
}
