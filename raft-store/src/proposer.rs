//! Group commit: everything that waits becomes one entry, at most two of which are unfinished, so that the sync of the
//! second overlaps the commit of the first (DESIGN §4). A member that follows forwards instead, one batch at a time.
//!
//! Answers come from apply. Whatever has none when leader or term change is sent again under the same id: the window
//! makes that safe.

mod queue;
mod register;

pub(crate) use queue::{Place, Queue};
pub(crate) use register::Registrar;

use std::collections::VecDeque;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;

use tokio::time::Duration;

use crate::entry::EntryBody;
use crate::ids::MemberId;
use crate::link::messages::{Forwarded, NotServed, Reply, Request};
use crate::link::{Link, LinkError};
use crate::raft::Command;
use crate::raft::core::{Core, Leadership, Receipt, Receiver};
use crate::waiters::Waiters;
use queue::Batch;

/// Entries handed to the core and not yet applied.
const ENTRIES_IN_FLIGHT: usize = 2;
/// Between two attempts while nobody takes what waits.
const PAUSE: Duration = Duration::from_millis(20);
/// For space on the disk.
const FULL_PAUSE: Duration = Duration::from_millis(100);
/// For the answer to a forward, which is early: it only says that the leader has it.
const FORWARD_LIMIT: Duration = Duration::from_secs(1);

/// The task behind a [`Queue`].
pub(crate) struct Proposer {
    pub(crate) core: Core,
    pub(crate) waiters: Waiters,
    pub(crate) queue: Queue,
    pub(crate) link: Arc<dyn Link>,
}

type Over<'a> = Pin<&'a mut (dyn Future<Output = ()> + Send)>;

impl Proposer {
    /// Proposes and forwards until the store has closed.
    pub(crate) async fn run(self) {
        while !self.waiters.is_closed() {
            let now = self.core.leadership();
            self.queue.all_again();
            let mut over = pin!(self.over(now));
            match now.leader {
                _ if now.leading => {
                    self.lead(now.term, over).await;
                    self.queue.forget_foreign();
                }
                Some(leader) => self.follow(leader, over).await,
                None => over.as_mut().await,
            }
        }
    }

    /// Waits until leader or term are not `now`'s any more, or the store has closed.
    async fn over(&self, now: Leadership) {
        let ready = || {
            let same = self.core.leadership() == now;
            (!same || self.waiters.is_closed()).then_some(())
        };
        self.core.wait_leadership(ready).await;
    }

    async fn lead(&self, term: u64, mut over: Over<'_>) {
        let mut unfinished = VecDeque::new();
        loop {
            let no_space = self.core.log().is_full();
            while unfinished.len() < ENTRIES_IN_FLIGHT && !no_space {
                let Some(batch) = self.queue.take(&self.waiters, Some(term)) else {
                    break;
                };
                match self.hand_over(batch).await {
                    Some(receiver) => unfinished.push_back(receiver),
                    // The end of the store follows.
                    None => return over.await,
                }
            }
            let full = unfinished.len() == ENTRIES_IN_FLIGHT;
            let receipt = tokio::select! {
                biased;
                () = &mut over => return,
                receipt = first(&mut unfinished) => receipt,
                () = tokio::time::sleep(FULL_PAUSE), if no_space => continue,
                () = self.queue.added(), if !full => continue,
            };
            unfinished.pop_front();
            match receipt {
                Receipt::Applied => {}
                Receipt::NotLeader => return tokio::time::sleep(PAUSE).await,
                // The end of the store follows, which is told to everybody.
                Receipt::Ended => return over.await,
            }
        }
    }

    async fn hand_over(&self, batch: Batch) -> Option<Receiver> {
        let body = EntryBody {
            proposals: batch.proposals,
            close: batch.command,
        };
        match Command::new(body) {
            Ok(command) => self.core.propose(command).await,
            Err(error) => {
                // The queue lets nothing in that an entry cannot hold.
                tracing::error!(%error, "an entry cannot be encoded");
                None
            }
        }
    }

    async fn follow(&self, leader: MemberId, mut over: Over<'_>) {
        loop {
            let batch = tokio::select! {
                biased;
                () = &mut over => return,
                batch = self.queue.next(&self.waiters) => batch,
            };
            let request = Request::Forward(batch.proposals.clone());
            let reply = tokio::select! {
                biased;
                () = &mut over => return,
                reply = self.link.call(leader, request, FORWARD_LIMIT) => reply,
            };
            match reply {
                Ok(Reply::Forwarded(Forwarded::Queued)) => continue,
                Ok(Reply::Forwarded(why)) => {
                    self.queue.refused(&batch);
                    if why == Forwarded::Not(NotServed::NoQuorum) {
                        self.waiters.refuse(&self.queue.never_sent(&batch));
                    }
                }
                Ok(Reply::Unfit) | Err(LinkError::Unreachable) => self.queue.refused(&batch),
                // Refused: the connection was, and the leader may have had the batch before.
                Ok(_) | Err(LinkError::NoReply | LinkError::Refused(_)) => {
                    self.queue.unknown(&batch);
                }
            }
            tokio::select! {
                biased;
                () = &mut over => return,
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
    }
}

/// The receipt of the oldest entry; waits for ever if there is none.
async fn first(unfinished: &mut VecDeque<Receiver>) -> Receipt {
    match unfinished.front_mut() {
        Some(first) => first.receipt().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
