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
use crate::limits::PROPOSALS_IN_FLIGHT;
use crate::state::{Applied, Closed, Event, Fate, Registered, State};

/// All who wait. Clones are handles to the same.
#[derive(Clone)]
pub(crate) struct Waiters(Arc<Shared>);

struct Shared {
    nonce: BootNonce,
    /// Sequences may be so far apart, or the window would drop the lowest.
    window_results: u64,
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
    next: u64,
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
    pub(crate) fn new(nonce: BootNonce, window_results: usize) -> Self {
        let inner = Inner {
            registered: None,
            dead: false,
            draining: false,
            closed: false,
            next: 1,
            waiting: BTreeMap::new(),
            count: 0,
            ticket: 0,
            unresolved: BTreeSet::new(),
        };
        Self(Arc::new(Shared {
            nonce,
            window_results: window_results as u64,
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

    /// A place for a new proposal.
    pub(crate) fn begin(&self) -> Result<Ticket, Error> {
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
        let lowest = inner.waiting.first_key_value().map(|(lowest, _)| *lowest);
        let span = inner.next - lowest.unwrap_or(inner.next);
        if inner.count >= PROPOSALS_IN_FLIGHT || span >= self.0.window_results {
            return Err(Error::Busy);
        }
        let sequence = inner.next;
        inner.next += 1;
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
        if inner.incarnation() != Some(id.incarnation) || id.sequence >= inner.next {
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
        let floor = inner.next.saturating_sub(self.0.window_results);
        inner.unresolved = inner.unresolved.split_off(&floor);
        let waiting = inner.waiting.first_key_value().map(|(lowest, _)| *lowest);
        let unresolved = inner.unresolved.first().copied();
        let lowest = [waiting, unresolved].into_iter().flatten().min();
        lowest.unwrap_or(inner.next)
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
mod tests {
    use super::*;
    use crate::entry::{MemberInfo, Registration};
    use crate::ids::MemberId;
    use crate::limits::Limits;
    use crate::state::{Answer, Outcome};

    fn registered() -> Waiters {
        let waiters = Waiters::new(BootNonce(3), Limits::format_1().window_results);
        assert!(matches!(waiters.begin(), Err(Error::NotReady)));
        let mut state = State::new(Limits::format_1());
        let asked = Registration {
            member: MemberId(1),
            nonce: BootNonce(3),
            latest: None,
            info: MemberInfo::default(),
        };
        let body = EntryBody {
            proposals: Vec::new(),
            close: Some(Close::Register(asked)),
        };
        let applied = state.apply(4, &body).expect("applied");
        waiters.applied(&body, applied);
        assert_eq!(waiters.incarnation(), Some(Incarnation(4)));
        waiters
    }

    fn answer(waiters: &Waiters, id: ProposalId) {
        let fate = Fate::Known(Outcome::Nop);
        let applied = Applied {
            answers: vec![Answer { id, fate }],
            ..Applied::default()
        };
        waiters.applied(&EntryBody::default(), applied);
    }

    #[tokio::test]
    async fn each_is_answered_once_and_the_lowest_is_known() {
        let waiters = registered();
        let mut first = waiters.begin().expect("a place");
        let second = waiters.begin().expect("a place");
        assert_eq!(waiters.lowest_unanswered(), 1);
        let id = first.id;
        let mut other = waiters.again(id).expect("a place");
        answer(&waiters, id);
        let nop = Some(Told::Fate(Fate::Known(Outcome::Nop)));
        assert_eq!(first.fate().await, nop);
        assert_eq!(other.fate().await, nop);
        assert_eq!(waiters.lowest_unanswered(), 2);
        let id = second.id;
        drop(second);
        assert_eq!(waiters.lowest_unanswered(), 2, "somebody may still ask");
        answer(&waiters, id);
        assert_eq!(waiters.lowest_unanswered(), 2, "nobody was told");
        let mut asked = waiters.again(id).expect("a place");
        answer(&waiters, id);
        assert!(asked.fate().await.is_some());
        assert_eq!(waiters.lowest_unanswered(), 3);
        let mut third = waiters.begin().expect("a place");
        waiters.close();
        assert_eq!(third.fate().await, None);
        assert!(matches!(waiters.begin(), Err(Error::Closed)));
    }

    /// Whoever gave a call up and asks while there is no quorum asks again later: the window must have it then.
    #[tokio::test]
    async fn who_is_told_of_no_quorum_may_ask_again() {
        let waiters = registered();
        let given_up = waiters.begin().expect("a place");
        let id = given_up.id;
        drop(given_up);
        let mut asked = waiters.again(id).expect("a place");
        waiters.refuse(&[id.sequence]);
        assert_eq!(asked.fate().await, Some(Told::NoQuorum));
        drop(asked);
        assert_eq!(waiters.lowest_unanswered(), id.sequence);
        // A call that nobody ever took is over with that.
        let mut never = waiters.begin().expect("a place");
        waiters.refuse(&[never.id.sequence]);
        assert_eq!(never.fate().await, Some(Told::NoQuorum));
        never.forget();
        let mut again = waiters.again(id).expect("a place");
        answer(&waiters, id);
        assert!(again.fate().await.is_some());
        assert_eq!(waiters.lowest_unanswered(), id.sequence + 2);
    }

    #[test]
    fn what_waits_is_bounded_in_number_and_span() {
        let waiters = registered();
        let mut tickets: Vec<_> = (0..PROPOSALS_IN_FLIGHT)
            .map(|_| waiters.begin().expect("a place"))
            .collect();
        assert!(matches!(waiters.begin(), Err(Error::Busy)));
        drop(tickets.pop());
        assert!(matches!(waiters.begin(), Err(Error::Busy)), "too far apart");
        drop(tickets.remove(0));
        assert!(waiters.begin().is_ok());
    }
}
