//! Group commit: everything that waits becomes one entry, at most two of which are unfinished, so that the sync of the
//! second overlaps the commit of the first (DESIGN §4). It also registers this run.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Duration;

use crate::entry::{Close, EntryBody, MemberInfo, Op, Proposal, Registration};
use crate::error::Error;
use crate::ids::{MemberId, ProposalId};
use crate::limits::{ENTRY_BYTES, ENTRY_PROPOSALS, PROPOSALS_IN_FLIGHT};
use crate::raft::Command;
use crate::raft::core::{Core, Receipt, Receiver};
use crate::state::Registered;
use crate::waiters::Waiters;

/// Entries handed to the core and not yet applied.
const ENTRIES_IN_FLIGHT: usize = 2;
/// A run that others keep overtaking gives up: its directory is used twice.
const REGISTRATIONS: usize = 8;
/// Between two attempts while nobody leads.
const PAUSE: Duration = Duration::from_millis(20);
/// What a proposal's numbers may add when `lowest_unanswered` is filled in.
const NUMBERS_BYTES: usize = 10;

/// Proposals that wait for an entry. Clones are handles to the same.
#[derive(Clone, Default)]
pub(crate) struct Queue(Arc<Shared>);

#[derive(Default)]
struct Shared {
    waiting: Mutex<VecDeque<(Proposal, usize)>>,
    /// The proposer alone waits for it.
    added: Notify,
}

impl Queue {
    /// `TooLarge` if it does not fit into an entry, `Busy` if too many wait.
    pub(crate) fn push(&self, id: ProposalId, op: Op) -> Result<(), Error> {
        let proposal = Proposal {
            id,
            lowest_unanswered: 0,
            op,
        };
        let bytes = proposal.encoded_bytes() + NUMBERS_BYTES;
        if bytes > ENTRY_BYTES {
            let (what, limit_bytes) = ("a proposal", ENTRY_BYTES);
            return Err(Error::TooLarge { what, limit_bytes });
        }
        let mut waiting = self.0.waiting.lock();
        if waiting.len() >= PROPOSALS_IN_FLIGHT {
            return Err(Error::Busy);
        }
        waiting.push_back((proposal, bytes));
        drop(waiting);
        self.0.added.notify_one();
        Ok(())
    }

    /// As many as fit into one entry.
    fn take(&self) -> Vec<Proposal> {
        let mut waiting = self.0.waiting.lock();
        let (mut taken, mut bytes) = (Vec::new(), 0);
        while taken.len() < ENTRY_PROPOSALS {
            match waiting.front() {
                Some((_, more)) if bytes + more <= ENTRY_BYTES => bytes += more,
                _ => break,
            }
            taken.extend(waiting.pop_front().map(|(proposal, _)| proposal));
        }
        taken
    }

    /// Those of an entry that was not appended come first again.
    fn put_back(&self, proposals: &[Proposal]) {
        let mut waiting = self.0.waiting.lock();
        for proposal in proposals.iter().rev() {
            let bytes = proposal.encoded_bytes() + NUMBERS_BYTES;
            waiting.push_front((proposal.clone(), bytes));
        }
    }
}

/// The task behind a [`Queue`].
pub(crate) struct Proposer {
    pub(crate) core: Core,
    pub(crate) waiters: Waiters,
    pub(crate) queue: Queue,
    pub(crate) member: MemberId,
    pub(crate) info: MemberInfo,
}

/// An entry that the core has.
struct Unfinished {
    receiver: Receiver,
    proposals: Vec<Proposal>,
}

impl Proposer {
    /// Registers this run, then proposes until the store has closed.
    pub(crate) async fn run(self) {
        if let Err(reason) = self.register().await {
            tracing::error!(reason, "this run is not registered");
            return;
        }
        let mut unfinished = VecDeque::new();
        let mut closed = pin!(self.waiters.closed());
        loop {
            while unfinished.len() < ENTRIES_IN_FLIGHT {
                let proposals = self.queue.take();
                if proposals.is_empty() {
                    break;
                }
                match self.send(proposals).await {
                    Some(sent) => unfinished.push_back(sent),
                    None => return,
                }
            }
            let full = unfinished.len() == ENTRIES_IN_FLIGHT;
            let receipt = tokio::select! {
                biased;
                () = &mut closed => return,
                receipt = first(&mut unfinished) => receipt,
                () = self.queue.0.added.notified(), if !full => continue,
            };
            let finished = unfinished.pop_front();
            match (receipt, finished) {
                (Receipt::NotLeader, Some(finished)) => {
                    self.queue.put_back(&finished.proposals);
                    tokio::time::sleep(PAUSE).await;
                    if !self.core.wait_leading(&self.waiters).await {
                        return;
                    }
                }
                (Receipt::Ended, _) => return,
                (Receipt::Applied | Receipt::NotLeader, _) => {}
            }
        }
    }

    async fn send(&self, mut proposals: Vec<Proposal>) -> Option<Unfinished> {
        let lowest = self.waiters.lowest_unanswered();
        for proposal in &mut proposals {
            proposal.lowest_unanswered = lowest;
        }
        let body = EntryBody {
            proposals: proposals.clone(),
            close: None,
        };
        let receiver = self.hand_over(body).await?;
        Some(Unfinished {
            receiver,
            proposals,
        })
    }

    async fn hand_over(&self, body: EntryBody) -> Option<Receiver> {
        match Command::new(body) {
            Ok(command) => self.core.propose(command).await,
            Err(error) => {
                // The store lets nothing in that an entry cannot hold.
                tracing::error!(%error, "an entry cannot be encoded");
                None
            }
        }
    }

    /// Asks for an incarnation, behind a round: the latest one must be known, or the answer is another's.
    async fn register(&self) -> Result<(), &'static str> {
        const ENDED: &str = "the store has closed";
        for _ in 0..REGISTRATIONS {
            self.waiters.register_again();
            let latest = loop {
                if !self.core.wait_leading(&self.waiters).await {
                    return Err(ENDED);
                }
                match self.core.read_index().await {
                    Ok(index) if self.core.machine().wait_applied(index).await => {}
                    Ok(_) => return Err(ENDED),
                    Err(_) => {
                        tokio::time::sleep(PAUSE).await;
                        continue;
                    }
                }
                if let Some(state) = self.core.machine().read() {
                    break state.members().get(self.member).map(|row| row.incarnation);
                }
            };
            let asked = Registration {
                member: self.member,
                nonce: self.waiters.nonce(),
                latest,
                info: self.info.clone(),
            };
            let body = EntryBody {
                proposals: Vec::new(),
                close: Some(Close::Register(asked)),
            };
            let mut receiver = self.hand_over(body).await.ok_or(ENDED)?;
            match receiver.receipt().await {
                Receipt::Applied => {}
                Receipt::NotLeader => continue,
                Receipt::Ended => return Err(ENDED),
            }
            match self.waiters.registered().await {
                Some(Registered::As(_)) => return Ok(()),
                Some(Registered::Superseded(_)) => {}
                Some(Registered::Removed) => return Err("this member was removed"),
                Some(Registered::Format(_)) => {
                    return Err("this build does not read the cluster's format");
                }
                Some(Registered::Full) => return Err("there are as many members as may be"),
                None => return Err(ENDED),
            }
        }
        Err("another run of this member registers at the same time")
    }
}

/// The receipt of the oldest entry; waits for ever if there is none.
async fn first(unfinished: &mut VecDeque<Unfinished>) -> Receipt {
    match unfinished.front_mut() {
        Some(first) => first.receiver.receipt().await,
        None => std::future::pending().await,
    }
}
