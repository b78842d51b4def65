//! Removing members for ever, this one too.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::Store;
use crate::error::Error;
use crate::ids::MemberId;
use crate::link::messages::{Removing, Reply, Request};
use crate::link::{LinkError, Refused};

/// Between two requests: the leader forgets one that is not repeated.
const AGAIN: Duration = Duration::from_millis(300);
/// For one answer.
const ANSWER: Duration = Duration::from_secs(1);

impl Store {
    /// Removes `member` for ever: another takes its place among the voters first, then it gets a tombstone, and its id
    /// never comes back. [`Error::NotRemoved`] at the deadline, with nothing undone that was done; a leader's
    /// [`super::Status::next_step`] tells what it waits for. Harmless when repeated.
    pub async fn remove(&self, member: MemberId, deadline: Instant) -> Result<(), Error> {
        loop {
            let begun = Instant::now();
            match self.ask_removal(member).await {
                Some(Removing::Removed) => return Ok(()),
                Some(Removing::Unknown) => return Err(Error::NoMember(member)),
                Some(Removing::Wanted | Removing::Not(_)) | None => {}
            }
            if self.0.waiters.is_closed() {
                return Err(Error::Closed);
            }
            let again = begun + self.0.core.clock().wait(AGAIN);
            if again >= deadline {
                return Err(Error::NotRemoved(member));
            }
            sleep_until(again).await;
        }
    }

    /// [`Store::remove`] of this member. Its lease is lost first, and some seconds later, when what it was
    /// granted is over, it ends with [`crate::Fatal`], since it is none any more.
    pub async fn leave(&self, deadline: Instant) -> Result<(), Error> {
        self.0.leaving.store(true, Ordering::Relaxed);
        match self.remove(self.0.member, deadline).await {
            // It was told while it asked.
            Err(Error::Closed) if self.0.removed.is_removed() => Ok(()),
            other => other,
        }
    }

    /// Whether this run was asked to leave: if its lease is lost, that may be why.
    pub fn is_leaving(&self) -> bool {
        self.0.leaving.load(Ordering::Relaxed)
    }

    /// Whether this member was removed, which ends it with [`crate::Fatal`]: its directory is of no use any more.
    pub fn is_removed(&self) -> bool {
        self.0.removed.is_removed()
    }

    /// `None`: nobody was there to ask.
    async fn ask_removal(&self, member: MemberId) -> Option<Removing> {
        let core = &self.0.core;
        if core.is_leading() || core.machine().members().is_removed(member) {
            return Some(self.0.reconciler.remove(member));
        }
        let request = Request::Remove { member };
        match core.link().call(core.leader()?, request, ANSWER).await {
            Ok(Reply::Removing(removing)) => Some(removing),
            Err(LinkError::Refused(Refused::Removed)) if member == self.0.member => {
                Some(Removing::Removed)
            }
            Ok(_) | Err(_) => None,
        }
    }
}
