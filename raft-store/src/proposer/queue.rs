//! What waits to be proposed: calls of this run, kept until they are answered; and, while this member leads, forwards
//! of other members and commands of the store itself, which whoever sent them repeats.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::entry::{Close, Op, Proposal};
use crate::error::Error;
use crate::ids::ProposalId;
use crate::limits::{COMMANDS_WAITING, ENTRY_BYTES, ENTRY_PROPOSALS, PROPOSALS_IN_FLIGHT};
use crate::waiters::Waiters;

/// What a proposal's numbers may add when `lowest_unanswered` is filled in.
const NUMBERS_BYTES: usize = 10;

/// See the module's documentation. Clones are handles to the same.
#[derive(Clone, Default)]
pub(crate) struct Queue(Arc<Shared>);

#[derive(Default)]
struct Shared {
    inner: Mutex<Inner>,
    /// The proposer alone waits for it.
    added: Notify,
}

#[derive(Default)]
struct Inner {
    /// Calls of this run by sequence.
    own: BTreeMap<u64, Own>,
    waiting: VecDeque<Waiting>,
    /// Of `waiting`.
    foreign: usize,
    /// Those with a term close an entry of that term or none.
    commands: VecDeque<(Option<u64>, Close)>,
    /// Numbers places.
    places: u64,
    held: bool,
}

struct Own {
    place: u64,
    proposal: Proposal,
    bytes: usize,
    /// It is in `waiting`.
    waits: bool,
    /// Somebody may have it: before it was last taken, and now.
    sent_before: bool,
    sent: bool,
}

enum Waiting {
    Own(u64),
    Foreign(Proposal, usize),
}

/// What one entry is made of.
#[derive(Default)]
pub(crate) struct Batch {
    pub(crate) proposals: Vec<Proposal>,
    pub(crate) command: Option<Close>,
    /// Sequences of those of this run.
    own: Vec<u64>,
}

/// Keeps a proposal in the queue; dropping it takes it out.
pub(crate) struct Place {
    queue: Queue,
    sequence: u64,
    number: u64,
}

impl Place {
    /// Leaves; whether anybody may have it. Nobody new gets it.
    pub(crate) fn leave(&self) -> bool {
        let mut inner = self.queue.0.inner.lock();
        let own = inner.own.get(&self.sequence);
        // Left before, or another call has taken the place.
        let Some(own) = own.filter(|own| own.place == self.number) else {
            return true;
        };
        let (waits, sent) = (own.waits, own.sent);
        inner.own.remove(&self.sequence);
        if waits {
            let sequence = self.sequence;
            inner.waiting.retain(
                |waiting| !matches!(waiting, Waiting::Own(waiting) if *waiting == sequence),
            );
        }
        sent
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.leave();
    }
}

/// `TooLarge` if it does not fit into an entry.
fn size(proposal: &Proposal) -> Result<usize, Error> {
    let bytes = proposal.encoded_bytes() + NUMBERS_BYTES;
    if bytes > ENTRY_BYTES {
        let (what, limit_bytes) = ("a proposal", ENTRY_BYTES);
        return Err(Error::TooLarge { what, limit_bytes });
    }
    Ok(bytes)
}

impl Queue {
    /// Adds a call of this run, in place of one with the same id. `TooLarge` if it does not fit into an entry, `Busy`
    /// if too many wait.
    pub(crate) fn push(&self, id: ProposalId, op: Op) -> Result<Place, Error> {
        let proposal = Proposal {
            id,
            lowest_unanswered: 0,
            op,
        };
        let bytes = size(&proposal)?;
        let sequence = id.sequence;
        let mut inner = self.0.inner.lock();
        let before = inner.own.get(&sequence);
        let (waits, sent) = before.map_or((false, false), |own| (own.waits, own.sent));
        if before.is_none() && inner.own.len() >= PROPOSALS_IN_FLIGHT {
            return Err(Error::Busy);
        }
        let number = inner.places;
        inner.places += 1;
        let own = Own {
            place: number,
            proposal,
            bytes,
            waits: true,
            sent_before: sent,
            sent,
        };
        inner.own.insert(sequence, own);
        if !waits {
            inner.waiting.push_back(Waiting::Own(sequence));
        }
        drop(inner);
        self.0.added.notify_one();
        let queue = self.clone();
        Ok(Place {
            queue,
            sequence,
            number,
        })
    }

    /// Adds what another member forwards. `Busy` if too many wait.
    pub(crate) fn push_foreign(&self, proposals: Vec<Proposal>) -> Result<(), Error> {
        let sizes: Result<Vec<_>, _> = proposals.iter().map(size).collect();
        let sizes = sizes?;
        let mut inner = self.0.inner.lock();
        if inner.foreign + proposals.len() > PROPOSALS_IN_FLIGHT || inner.held {
            return Err(Error::Busy);
        }
        inner.foreign += proposals.len();
        let both = proposals.into_iter().zip(sizes);
        let both = both.map(|(proposal, bytes)| Waiting::Foreign(proposal, bytes));
        inner.waiting.extend(both);
        drop(inner);
        self.0.added.notify_one();
        Ok(())
    }

    /// Has the leader propose a command of the store itself. It may be lost with the leadership, so whoever wants it
    /// asks until it is applied; the same one is not added twice. `Busy` if too many wait.
    pub(crate) fn command(&self, command: Close) -> Result<(), Error> {
        self.add_command((None, command))
    }

    /// [`Queue::command`] for a decision that holds only while this member leads `term`.
    pub(crate) fn command_of(&self, term: u64, command: Close) -> Result<(), Error> {
        self.add_command((Some(term), command))
    }

    fn add_command(&self, command: (Option<u64>, Close)) -> Result<(), Error> {
        let mut inner = self.0.inner.lock();
        if inner.commands.contains(&command) {
            return Ok(());
        }
        if inner.commands.len() >= COMMANDS_WAITING {
            return Err(Error::Busy);
        }
        inner.commands.push_back(command);
        drop(inner);
        self.0.added.notify_one();
        Ok(())
    }

    /// Nothing is taken and nothing forwarded is let in until it is released: leadership is being handed over.
    pub(crate) fn hold(&self, held: bool) {
        self.0.inner.lock().held = held;
        self.0.added.notify_one();
    }

    /// As much as fits into one entry, with a command if this member leads `term`; `None` if nothing waits.
    pub(super) fn take(&self, waiters: &Waiters, term: Option<u64>) -> Option<Batch> {
        // Before the lock of the queue: a place and a ticket are taken together, in that order.
        let lowest = waiters.lowest_unanswered();
        let mut guard = self.0.inner.lock();
        let inner = &mut *guard;
        if inner.held {
            return None;
        }
        let (mut batch, mut bytes) = (Batch::default(), 0);
        while batch.proposals.len() < ENTRY_PROPOSALS {
            let more = match inner.waiting.front() {
                Some(Waiting::Own(sequence)) => inner.own.get(sequence).map_or(0, |own| own.bytes),
                Some(Waiting::Foreign(_, bytes)) => *bytes,
                None => break,
            };
            if bytes + more > ENTRY_BYTES {
                break;
            }
            bytes += more;
            match inner.waiting.pop_front() {
                Some(Waiting::Foreign(proposal, _)) => {
                    inner.foreign -= 1;
                    batch.proposals.push(proposal);
                }
                Some(Waiting::Own(sequence)) => {
                    let Some(own) = inner.own.get_mut(&sequence) else {
                        continue;
                    };
                    (own.waits, own.sent_before, own.sent) = (false, own.sent, true);
                    let mut proposal = own.proposal.clone();
                    proposal.lowest_unanswered = lowest.min(sequence);
                    batch.proposals.push(proposal);
                    batch.own.push(sequence);
                }
                None => break,
            }
        }
        if term.is_some() {
            // Decisions of other terms are void.
            let waits = |(of, _): &(Option<u64>, Close)| of.is_none() || *of == term;
            inner.commands.retain(waits);
            batch.command = inner.commands.pop_front().map(|(_, command)| command);
        }
        let empty = batch.proposals.is_empty() && batch.command.is_none();
        (!empty).then_some(batch)
    }

    /// [`Queue::take`] of a member that follows, when something waits.
    pub(super) async fn next(&self, waiters: &Waiters) -> Batch {
        loop {
            if let Some(batch) = self.take(waiters, None) {
                return batch;
            }
            self.added().await;
        }
    }

    /// Something was added.
    pub(super) async fn added(&self) {
        self.0.added.notified().await;
    }

    /// Nobody has a batch that was taken: it waits again, as if it had not been taken.
    pub(super) fn refused(&self, batch: &Batch) {
        let mut inner = self.0.inner.lock();
        for sequence in batch.own.iter().rev() {
            if let Some(own) = inner.own.get_mut(sequence) {
                own.sent = own.sent_before;
            }
        }
        inner.wait_again(&batch.own);
    }

    /// Nobody knows whether somebody has a batch that was taken: it waits again.
    pub(super) fn unknown(&self, batch: &Batch) {
        self.0.inner.lock().wait_again(&batch.own);
    }

    /// Of a batch that was refused, those calls that nobody ever had.
    pub(super) fn never_sent(&self, batch: &Batch) -> Vec<u64> {
        let inner = self.0.inner.lock();
        let never = |sequence: &&u64| inner.own.get(sequence).is_some_and(|own| !own.sent);
        batch.own.iter().filter(never).copied().collect()
    }

    /// Another leader, or another term: every call of this run that has no answer waits again.
    pub(super) fn all_again(&self) {
        let mut inner = self.0.inner.lock();
        let all: Vec<_> = inner.own.keys().copied().collect();
        inner.wait_again(&all);
    }

    /// This member leads no more: what others sent is repeated by them.
    pub(super) fn forget_foreign(&self) {
        let mut inner = self.0.inner.lock();
        inner.commands.clear();
        inner.foreign = 0;
        inner
            .waiting
            .retain(|waiting| matches!(waiting, Waiting::Own(_)));
    }

    /// Calls without an answer, forwards and commands that wait.
    pub(crate) fn lengths(&self) -> (usize, usize, usize) {
        let inner = self.0.inner.lock();
        (inner.own.len(), inner.foreign, inner.commands.len())
    }
}

impl Inner {
    fn wait_again(&mut self, sequences: &[u64]) {
        for sequence in sequences.iter().rev() {
            match self.own.get_mut(sequence) {
                Some(own) if !own.waits => own.waits = true,
                _ => continue,
            }
            self.waiting.push_front(Waiting::Own(*sequence));
        }
    }
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
