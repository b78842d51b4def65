//! What is taken, kept and forgotten.

use super::*;
use crate::entry::{Expect, Write};
use crate::ids::{BootNonce, Incarnation};
use crate::limits::Limits;

fn waiters() -> Waiters {
    Waiters::new(BootNonce(1), &Limits::format_1())
}

fn id(sequence: u64) -> ProposalId {
    let incarnation = Incarnation(1);
    ProposalId {
        incarnation,
        sequence,
    }
}

fn foreign(sequence: u64) -> Proposal {
    Proposal {
        id: id(sequence),
        lowest_unanswered: 0,
        op: Op::Nop,
    }
}

fn sequences(batch: &Batch) -> Vec<u64> {
    let sequences = batch.proposals.iter();
    sequences.map(|proposal| proposal.id.sequence).collect()
}

#[test]
fn a_call_is_sent_again_until_its_place_is_left() {
    let (queue, waiters) = (Queue::default(), waiters());
    let places: Vec<_> = (1..=3)
        .map(|n| queue.push(id(n), Op::Nop).expect("a place"))
        .collect();
    let batch = queue.take(&waiters, None).expect("three");
    assert_eq!(sequences(&batch), [1, 2, 3]);
    assert!(queue.take(&waiters, None).is_none());
    assert!(queue.never_sent(&batch).is_empty());
    queue.refused(&batch);
    assert_eq!(queue.never_sent(&batch), [1, 2, 3]);
    let batch = queue.take(&waiters, None).expect("three again");
    queue.unknown(&batch);
    let batch = queue.take(&waiters, None).expect("three again");
    queue.refused(&batch);
    assert!(
        queue.never_sent(&batch).is_empty(),
        "somebody may have it from before"
    );
    let fresh = queue.push(id(4), Op::Nop).expect("a place");
    assert!(!fresh.leave(), "nobody has it");
    assert!(places[0].leave());
    drop(places);
    assert!(queue.take(&waiters, None).is_none());
    assert_eq!(queue.lengths(), (0, 0, 0));
}

#[test]
fn who_asks_again_takes_the_place() {
    let (queue, waiters) = (Queue::default(), waiters());
    let write = Op::Write(Write {
        key: "key".into(),
        expect: Expect::Any,
        action: crate::entry::Action::Delete,
    });
    let first = queue.push(id(1), write).expect("a place");
    let second = queue.push(id(1), Op::Nop).expect("a place");
    drop(first);
    let batch = queue.take(&waiters, None).expect("the second");
    assert_eq!(sequences(&batch), [1]);
    assert_eq!(batch.proposals[0].op, Op::Nop);
    drop(second);
    queue.all_again();
    assert!(queue.take(&waiters, None).is_none());
}

#[test]
fn what_others_sent_goes_with_the_leadership() {
    let (queue, waiters) = (Queue::default(), waiters());
    let _own = queue.push(id(1), Op::Nop).expect("a place");
    queue
        .push_foreign(vec![foreign(7), foreign(8)])
        .expect("room");
    let dead = Close::Dead(Incarnation(3));
    queue.command(dead.clone()).expect("room");
    queue.command(dead.clone()).expect("the same");
    assert_eq!(queue.lengths(), (1, 2, 1));
    let batch = queue.take(&waiters, Some(1)).expect("all");
    assert_eq!(sequences(&batch), [1, 7, 8]);
    assert_eq!(batch.command, Some(dead));
    queue.push_foreign(vec![foreign(9)]).expect("room");
    queue.forget_foreign();
    queue.all_again();
    let batch = queue.take(&waiters, Some(1)).expect("its own");
    assert_eq!(sequences(&batch), [1]);
}

#[test]
fn what_waits_is_bounded() {
    let (queue, waiters) = (Queue::default(), waiters());
    let many: Vec<_> = (0..PROPOSALS_IN_FLIGHT as u64).map(foreign).collect();
    queue.push_foreign(many).expect("room");
    let more = queue.push_foreign(vec![foreign(1)]);
    assert!(matches!(more, Err(Error::Busy)));
    for number in 0..COMMANDS_WAITING as u64 {
        queue
            .command(Close::Dead(Incarnation(1 + number)))
            .expect("room");
    }
    let more = queue.command(Close::Format(2));
    assert!(matches!(more, Err(Error::Busy)));
    let batch = queue.take(&waiters, Some(1)).expect("full");
    assert_eq!(batch.proposals.len(), ENTRY_PROPOSALS);
    queue.hold(true);
    assert!(queue.take(&waiters, Some(1)).is_none());
    assert!(queue.push_foreign(vec![foreign(1)]).is_err());
    queue.hold(false);
    assert!(queue.take(&waiters, Some(1)).is_some());
}
