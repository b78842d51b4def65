//! Who waits for which proposal of this run. Results come from apply (DESIGN §4), so every call of this run is
//! answered here, on the member that made it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::bell::Bell;
use crate::entry::{Close, EntryBody};
use crate::error::Error;
use crate::ids::{BootNonce, Incarnation, ProposalId};
use crate::limits::{Limits, PROPOSALS_IN_FLIGHT};
use crate::state::{Applied, Closed, Event, Fate, Registered, State};

mod made;

use made::Made;

/// All who wait. Clones are handles to the same.
#[derive(Clone)]
pub(crate) struct Waiters(Arc<Shared>);

struct Shared {
    nonce: BootNonce,
    inner: Mutex<Inner>,
    changed: Bell,
}

struct Inner {
    registered: Option<Registered>,
    /// This run was declared dead.
    dead: bool,
    /// No new calls are taken.
    draining: bool,
    closed: bool,
    made: Made,
    waiting: BTreeMap<u64, Vec<(u64, oneshot::Sender<Told>)>>,
    /// Waiters, not sequences.
    count: usize,
    /// Numbers waiters.
    ticket: u64,
    /// Given up by their callers without a result: somebody may still ask.
    unresolved: BTreeSet<u64>,
}

/// A place in the queue for one result. Dropping it leaves.
pub(crate) struct Ticket {
    waiters: Waiters,
    pub(crate) id: ProposalId,
    number: u64,
    told: oneshot::Receiver<Told>,
}

/// What a waiter is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Told {
    Fate(Fate),
    /// Nobody has taken it, and nobody will: the leader has no quorum.
    NoQuorum,
}

impl Waiters {
    pub(crate) fn new(nonce: BootNonce, limits: &Limits) -> Self {
        let inner = Inner {
            registered: None,
            dead: false,
            draining: false,
            closed: false,
            made: Made::new(limits),
            waiting: BTreeMap::new(),
            count: 0,
            ticket: 0,
            unresolved: BTreeSet::new(),
        };
        Self(Arc::new(Shared {
            nonce,
            inner: Mutex::new(inner),
            changed: Bell::default(),
        }))
    }

    pub(crate) fn nonce(&self) -> BootNonce {
        self.0.nonce
    }

    /// This run's, once it is registered.
    pub(crate) fn incarnation(&self) -> Option<Incarnation> {
        self.0.inner.lock().incarnation()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.0.inner.lock().closed
    }

    /// Whether this run was declared dead: it can propose nothing any more.
    pub(crate) fn is_dead(&self) -> bool {
        self.0.inner.lock().dead
    }

    /// Takes no new calls from now on.
    pub(crate) fn drain(&self) {
        self.0.inner.lock().draining = true;
    }

    /// Whether nobody waits for anything.
    pub(crate) fn is_idle(&self) -> bool {
        self.0.inner.lock().count == 0
    }

    /// Waits until this run was declared dead, or the store has ended.
    pub(crate) async fn ended(&self) {
        let ended = || (self.is_dead() || self.is_closed()).then_some(());
        self.0.changed.wait(ended).await;
    }

    /// Waits until this run is registered.
    pub(crate) async fn run(&self) -> Incarnation {
        self.0.changed.wait(|| self.incarnation()).await
    }

    /// Waits until the store has ended.
    pub(crate) async fn closed(&self) {
        self.0.changed.wait(|| self.is_closed().then_some(())).await;
    }

    /// What the registration of this run came to; `None` when the store has closed.
    pub(crate) async fn registered(&self) -> Option<Registered> {
        let ready = || {
            let inner = self.0.inner.lock();
            match inner.registered {
                Some(outcome) => Some(Some(outcome)),
                None => inner.closed.then_some(None),
            }
        };
        self.0.changed.wait(ready).await
    }

    /// Forgets an outcome, so that another registration can be waited for.
    pub(crate) fn register_again(&self) {
        self.0.inner.lock().registered = None;
    }

    /// A place for a new proposal of so many writes. `Busy` if too many wait, or the window would drop the result of one
    /// that waits.
    pub(crate) fn begin(&self, writes: usize) -> Result<Ticket, Error> {
        let mut inner = self.0.inner.lock();
        if inner.closed {
            return Err(Error::Closed);
        }
        let incarnation = inner.incarnation().ok_or(Error::NotReady)?;
        if inner.dead {
            return Err(Error::Dead);
        }
        if inner.draining {
            return Err(Error::Draining);
        }
        // What is asked for again from below the floor may be gone already, and holds nobody up.
        let lowest = inner.waiting.range(inner.made.floor()..).next();
        let lowest = lowest.map_or(inner.made.next(), |(lowest, _)| *lowest);
        if inner.count >= PROPOSALS_IN_FLIGHT || !inner.made.has_room(lowest, writes) {
            return Err(Error::Busy);
        }
        let sequence = inner.made.add(writes);
        let id = ProposalId {
            incarnation,
            sequence,
        };
        Ok(self.wait_for(&mut inner, id))
    }

    /// Another place for a proposal made before.
    pub(crate) fn again(&self, id: ProposalId) -> Result<Ticket, Error> {
        let mut inner = self.0.inner.lock();
        if inner.closed {
            return Err(Error::Closed);
        }
        if inner.incarnation() != Some(id.incarnation) || id.sequence >= inner.made.next() {
            return Err(Error::Foreign(id));
        }
        if inner.count >= PROPOSALS_IN_FLIGHT {
            return Err(Error::Busy);
        }
        Ok(self.wait_for(&mut inner, id))
    }

    fn wait_for(&self, inner: &mut Inner, id: ProposalId) -> Ticket {
        let (tell, told) = oneshot::channel();
        let number = inner.ticket;
        inner.ticket += 1;
        inner.count += 1;
        inner
            .waiting
            .entry(id.sequence)
            .or_default()
            .push((number, tell));
        Ticket {
            waiters: self.clone(),
            id,
            number,
            told,
        }
    }

    /// The lowest sequence whose result somebody may still ask for.
    pub(crate) fn lowest_unanswered(&self) -> u64 {
        let mut inner = self.0.inner.lock();
        // Below that the window has dropped it.
        let floor = inner.made.floor();
        inner.unresolved = inner.unresolved.split_off(&floor);
        let waiting = inner.waiting.first_key_value().map(|(lowest, _)| *lowest);
        let unresolved = inner.unresolved.first().copied();
        let lowest = [waiting, unresolved].into_iter().flatten().min();
        lowest.unwrap_or(inner.made.next())
    }

    /// Answers what an entry has settled.
    pub(crate) fn applied(&self, body: &EntryBody, applied: Applied) {
        let mut inner = self.0.inner.lock();
        let asked = match &body.close {
            Some(Close::Register(asked)) if asked.nonce == self.0.nonce => applied.closed,
            _ => None,
        };
        if let Some(Closed::Registered { outcome, .. }) = asked
            && inner.incarnation().is_none()
        {
            // A question that was asked twice says nothing new.
            inner.registered = Some(outcome);
        }
        let own = inner.incarnation();
        for answer in applied.answers {
            if Some(answer.id.incarnation) == own {
                inner.answer(answer.id.sequence, &answer.fate);
            }
        }
        // A run dies by a command, and its death is an event of its own.
        let died = applied.closed.is_some() && own.is_some_and(|own| ends(&applied.events, own));
        if died {
            inner.die();
        }
        drop(inner);
        if asked.is_some() || died {
            self.0.changed.ring();
        }
    }

    /// Answers what a snapshot has settled that was installed over its entries.
    pub(crate) fn installed(&self, state: &State) {
        let mut inner = self.0.inner.lock();
        let Some(own) = inner.incarnation() else {
            return;
        };
        let Some(window) = state.window(own) else {
            inner.die();
            drop(inner);
            return self.0.changed.ring();
        };
        let sequences: Vec<_> = inner.waiting.keys().copied().collect();
        for sequence in sequences {
            let fate = match sequence < window.floor() {
                true => Some(Fate::Stale),
                false => window.result(sequence).cloned().map(Fate::Known),
            };
            if let Some(fate) = fate {
                inner.answer(sequence, &fate);
            }
        }
    }

    /// Tells those who wait for these that nobody has taken them.
    pub(crate) fn refuse(&self, sequences: &[u64]) {
        let mut inner = self.0.inner.lock();
        for sequence in sequences {
            inner.tell(*sequence, &Told::NoQuorum);
        }
    }

    /// Answers everybody that nobody knows: the store has ended.
    pub(crate) fn close(&self) {
        let mut inner = self.0.inner.lock();
        inner.closed = true;
        inner.waiting.clear();
        inner.count = 0;
        drop(inner);
        self.0.changed.ring();
    }
}

fn ends(events: &[Event], run: Incarnation) -> bool {
    let is_death = |event: &Event| matches!(event, Event::Orphaned { owner, .. } if *owner == run);
    events.iter().any(is_death)
}

impl Inner {
    fn incarnation(&self) -> Option<Incarnation> {
        match self.registered {
            Some(Registered::As(incarnation)) => Some(incarnation),
            _ => None,
        }
    }

    /// Whoever still waits waits for what no entry can do any more: what was applied was answered.
    fn die(&mut self) {
        self.dead = true;
        let sequences: Vec<_> = self.waiting.keys().copied().collect();
        for sequence in sequences {
            self.answer(sequence, &Fate::Dead);
        }
    }

    fn answer(&mut self, sequence: u64, fate: &Fate) {
        self.tell(sequence, &Told::Fate(fate.clone()));
    }

    fn tell(&mut self, sequence: u64, what: &Told) {
        // Without a waiter it stays unresolved: who gave it up may still ask, and the window must have it then.
        let Some(waiting) = self.waiting.remove(&sequence) else {
            return;
        };
        // That nobody took a repetition says nothing of what was proposed before it.
        if let Told::Fate(_) = what {
            self.unresolved.remove(&sequence);
        }
        self.count -= waiting.len();
        for (_, tell) in waiting {
            // Its caller may have gone in this moment.
            let _ = tell.send(what.clone());
        }
    }
}

impl Ticket {
    /// What became of it; `None` when the store has ended.
    pub(crate) async fn fate(&mut self) -> Option<Told> {
        (&mut self.told).await.ok()
    }

    /// Leaves without a trace: nothing was proposed.
    pub(crate) fn forget(self) {
        let (waiters, sequence) = (self.waiters.clone(), self.id.sequence);
        drop(self);
        waiters.0.inner.lock().unresolved.remove(&sequence);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut inner = self.waiters.0.inner.lock();
        // Told in the moment in which it is given up: its caller does not know.
        if self.told.try_recv().is_ok() {
            inner.unresolved.insert(self.id.sequence);
        }
        let Some(waiting) = inner.waiting.get_mut(&self.id.sequence) else {
            return;
        };
        let before = waiting.len();
        waiting.retain(|(number, _)| *number != self.number);
        let (left, empty) = (before - waiting.len(), waiting.is_empty());
        inner.count -= left;
        if empty {
            inner.waiting.remove(&self.id.sequence);
        }
        if left > 0 {
            inner.unresolved.insert(self.id.sequence);
        }
    }
}

#[cfg(test)]
mod tests;
