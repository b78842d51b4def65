//! Who is answered what, and that nobody who waits loses a result.

use super::*;
use crate::entry::{Action, Expect, MemberInfo, Op, Proposal, Registration, Write};
use crate::ids::MemberId;
use crate::state::test_random::Random;
use crate::state::test_world::small_limits;
use crate::state::{Answer, Outcome};

fn registered() -> Waiters {
    registered_with(Limits::format_1()).0
}

/// With the state that registered them.
fn registered_with(limits: Limits) -> (Waiters, State) {
    let waiters = Waiters::new(BootNonce(3), &limits);
    assert!(matches!(waiters.begin(1), Err(Error::NotReady)));
    let mut state = State::new(limits);
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
    (waiters, state)
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
    let mut first = waiters.begin(1).expect("a place");
    let second = waiters.begin(1).expect("a place");
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
    let mut third = waiters.begin(1).expect("a place");
    waiters.close();
    assert_eq!(third.fate().await, None);
    assert!(matches!(waiters.begin(1), Err(Error::Closed)));
}

/// Whoever gave a call up and asks while there is no quorum asks again later: the window must have it then.
#[tokio::test]
async fn who_is_told_of_no_quorum_may_ask_again() {
    let waiters = registered();
    let given_up = waiters.begin(1).expect("a place");
    let id = given_up.id;
    drop(given_up);
    let mut asked = waiters.again(id).expect("a place");
    waiters.refuse(&[id.sequence]);
    assert_eq!(asked.fate().await, Some(Told::NoQuorum));
    drop(asked);
    assert_eq!(waiters.lowest_unanswered(), id.sequence);
    // A call that nobody ever took is over with that.
    let mut never = waiters.begin(1).expect("a place");
    waiters.refuse(&[never.id.sequence]);
    assert_eq!(never.fate().await, Some(Told::NoQuorum));
    never.forget();
    let mut again = waiters.again(id).expect("a place");
    answer(&waiters, id);
    assert!(again.fate().await.is_some());
    assert_eq!(waiters.lowest_unanswered(), id.sequence + 2);
}

/// Entries that a snapshot jumps over are never applied here: who waits for them is answered from its window.
#[tokio::test]
async fn an_install_answers_as_its_window_says() {
    let (waiters, mut state) = registered_with(Limits::format_1());
    let mut tickets: Vec<_> = (0..4).map(|_| waiters.begin(1).expect("a place")).collect();
    let mut apply = |index, sequence, lowest_unanswered, close| {
        let id = ProposalId {
            incarnation: Incarnation(4),
            sequence,
        };
        let proposal = Proposal {
            id,
            lowest_unanswered,
            op: Op::Nop,
        };
        let body = EntryBody {
            proposals: vec![proposal],
            close,
        };
        state.apply(index, &body).expect("in order");
        state.clone()
    };
    let told = |ticket: &mut Ticket| ticket.told.try_recv().ok();
    let nop = Some(Told::Fate(Fate::Known(Outcome::Nop)));
    waiters.installed(&apply(5, 1, 1, None));
    assert_eq!(told(&mut tickets[0]), nop);
    assert_eq!(told(&mut tickets[1]), None);
    waiters.installed(&apply(6, 3, 3, None));
    assert_eq!(told(&mut tickets[1]), Some(Told::Fate(Fate::Stale)));
    assert_eq!(told(&mut tickets[2]), nop);
    assert!(!waiters.is_dead() && told(&mut tickets[3]).is_none());
    let dead = Some(Close::Dead(Incarnation(4)));
    waiters.installed(&apply(7, 9, 3, dead));
    assert!(waiters.is_dead());
    assert_eq!(told(&mut tickets[3]), Some(Told::Fate(Fate::Dead)));
}

#[test]
fn what_waits_is_bounded_in_number_and_span() {
    let waiters = registered();
    let mut tickets: Vec<_> = (0..PROPOSALS_IN_FLIGHT)
        .map(|_| waiters.begin(1).expect("a place"))
        .collect();
    assert!(matches!(waiters.begin(1), Err(Error::Busy)));
    drop(tickets.pop());
    assert!(
        matches!(waiters.begin(1), Err(Error::Busy)),
        "too far apart"
    );
    drop(tickets.remove(0));
    assert!(waiters.begin(1).is_ok());
}

#[test]
fn large_batches_leave_room_for_fewer() {
    let waiters = registered();
    let limits = Limits::format_1();
    let fit = limits.window_writes / limits.batch_writes;
    let mut tickets: Vec<_> = (0..fit)
        .map(|_| waiters.begin(limits.batch_writes).expect("a place"))
        .collect();
    assert!(matches!(waiters.begin(1), Err(Error::Busy)));
    // Given up it may go.
    let first = tickets.remove(0).id;
    assert_eq!(waiters.lowest_unanswered(), first.sequence);
    tickets.push(waiters.begin(1).expect("a place"));
    assert_eq!(waiters.lowest_unanswered(), first.sequence + 1);
    // Who asks for it all the same holds nobody up.
    let _late = waiters.again(first).expect("a place");
    assert!(waiters.begin(limits.batch_writes).is_err());
    assert!(waiters.begin(limits.batch_writes - 1).is_ok());
}

/// Calls of a run whose proposals are lost, repeated, late and in any order.
struct Calls {
    random: Random,
    waiters: Waiters,
    state: State,
    /// Sent, and perhaps applied.
    sent: Vec<Proposal>,
    /// With whether the window must have what it asks for.
    waiting: Vec<(Ticket, bool)>,
    given_up: Vec<ProposalId>,
    /// By sequence, the entry that did its writes.
    done: BTreeMap<u64, u64>,
    busy: u32,
    stale: u32,
    known: u32,
}

impl Calls {
    fn new(seed: u64) -> Self {
        let (waiters, state) = registered_with(small_limits());
        Self {
            random: Random::new(seed),
            waiters,
            state,
            sent: Vec::new(),
            waiting: Vec::new(),
            given_up: Vec::new(),
            done: BTreeMap::new(),
            busy: 0,
            stale: 0,
            known: 0,
        }
    }

    fn send(&mut self, id: ProposalId, op: Op) {
        let lowest = self.waiters.lowest_unanswered();
        self.sent.push(Proposal {
            id,
            lowest_unanswered: lowest.min(id.sequence),
            op,
        });
    }

    fn call(&mut self) {
        let writes = 1 + self.random.below(4) as usize;
        let Ok(ticket) = self.waiters.begin(writes) else {
            self.busy += 1;
            return;
        };
        let write = Write {
            key: ticket.id.sequence.to_be_bytes().to_vec().into(),
            expect: Expect::Any,
            action: Action::Put {
                value: Default::default(),
                owner: None,
            },
        };
        self.send(ticket.id, Op::Batch(vec![write; writes]));
        self.waiting.push((ticket, true));
    }

    fn give_up(&mut self) {
        if !self.waiting.is_empty() {
            let at = self.random.below(self.waiting.len() as u64) as usize;
            self.given_up.push(self.waiting.swap_remove(at).0.id);
        }
    }

    fn resolve(&mut self) {
        if !self.given_up.is_empty() {
            let at = self.random.below(self.given_up.len() as u64) as usize;
            let id = self.given_up.swap_remove(at);
            let floor = self.waiters.0.inner.lock().made.floor();
            let ticket = self.waiters.again(id).expect("a place");
            self.send(id, Op::Nop);
            self.waiting.push((ticket, id.sequence >= floor));
        }
    }

    fn arrive(&mut self) {
        if self.sent.is_empty() {
            return;
        }
        let at = self.random.below(self.sent.len() as u64) as usize;
        let proposals = match self.random.below(3) {
            0 => self.sent[at].clone(),
            _ => self.sent.swap_remove(at),
        };
        let sequence = proposals.id.sequence;
        let body = EntryBody {
            proposals: vec![proposals],
            close: None,
        };
        let index = self.state.applied() + 1;
        let applied = self.state.apply(index, &body).expect("in order");
        if !applied.events.is_empty() {
            let before = self.done.insert(sequence, index);
            assert_eq!(before, None, "{sequence} was applied twice");
        }
        let window = self.state.window(Incarnation(4)).expect("it lives");
        assert!(window.writes() <= small_limits().window_writes);
        match self.random.below(4) {
            0 => self.waiters.installed(&self.state),
            _ => self.waiters.applied(&body, applied),
        }
        self.look();
    }

    fn look(&mut self) {
        for (mut ticket, kept) in std::mem::take(&mut self.waiting) {
            match ticket.told.try_recv() {
                Ok(Told::Fate(Fate::Known(_))) => self.known += 1,
                Ok(Told::Fate(Fate::Stale)) => {
                    assert!(!kept, "{} waits and is stale", ticket.id);
                    self.stale += 1;
                }
                Ok(other) => panic!("{other:?}"),
                Err(_) => self.waiting.push((ticket, kept)),
            }
        }
    }
}

#[test]
fn nobody_who_waits_loses_a_result_and_nothing_is_applied_twice() {
    let (mut busy, mut stale, mut known) = (0, 0, 0);
    for seed in 0..40 {
        let mut calls = Calls::new(seed);
        for _ in 0..1000 {
            match calls.random.below(9) {
                0..=2 => calls.call(),
                3 => calls.give_up(),
                4 => calls.resolve(),
                _ => calls.arrive(),
            }
        }
        busy += calls.busy;
        stale += calls.stale;
        known += calls.known;
    }
    assert!(
        busy > 1000 && stale > 100 && known > 1000,
        "{busy} {stale} {known}"
    );
}

/// The deadline passes in the moment in which the answer comes.
#[test]
fn an_answer_that_nobody_read_is_kept() {
    let waiters = registered();
    let ticket = waiters.begin(1).expect("a place");
    let id = ticket.id;
    answer(&waiters, id);
    drop(ticket);
    assert_eq!(waiters.lowest_unanswered(), id.sequence);
    let never = waiters.begin(1).expect("a place");
    waiters.refuse(&[never.id.sequence]);
    never.forget();
    let asked = waiters.again(id).expect("a place");
    answer(&waiters, id);
    asked.forget();
    assert_eq!(waiters.lowest_unanswered(), 3);
}
