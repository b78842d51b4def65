//! The state against a plain model of what DESIGN says, and its properties one by one.

use super::test_world::{World, small_limits};
use super::*;
use crate::entry::{
    Action, Close, EntryBody, Expect, MemberInfo, Op, Proposal, Registration, Write,
};
use crate::ids::{BootNonce, MemberId, ProposalId};
use std::collections::BTreeMap;

mod model;

fn register(state: &mut State, index: u64, member: u64, nonce: u64) -> Closed {
    let latest = state
        .members()
        .get(MemberId(member))
        .map(|row| row.incarnation);
    register_knowing(state, index, member, nonce, latest)
}

fn register_knowing(
    state: &mut State,
    index: u64,
    member: u64,
    nonce: u64,
    latest: Option<Incarnation>,
) -> Closed {
    let close = Close::Register(Registration {
        member: MemberId(member),
        nonce: BootNonce(nonce),
        latest,
        info: MemberInfo::default(),
    });
    closing(state, index, close).closed.expect("a registration")
}

fn register_reading(state: &mut State, index: u64, member: u64, formats: (u16, u16)) -> Registered {
    let row = state.members().get(MemberId(member));
    let close = Close::Register(Registration {
        member: MemberId(member),
        nonce: BootNonce(index),
        latest: row.map(|row| row.incarnation),
        info: MemberInfo {
            formats,
            ..MemberInfo::default()
        },
    });
    match closing(state, index, close).closed {
        Some(Closed::Registered { outcome, .. }) => outcome,
        other => panic!("{other:?}"),
    }
}

fn closing(state: &mut State, index: u64, close: Close) -> Applied {
    let body = EntryBody {
        proposals: Vec::new(),
        close: Some(close),
    };
    state.apply(index, &body).expect("in order")
}

fn proposal(run: u64, sequence: u64, lowest_unanswered: u64, op: Op) -> Proposal {
    let id = ProposalId {
        incarnation: Incarnation(run),
        sequence,
    };
    Proposal {
        id,
        lowest_unanswered,
        op,
    }
}

fn put(key: &str, value: &str, expect: Expect, owner: Option<u64>) -> Write {
    Write {
        key: key.to_owned().into(),
        expect,
        action: Action::Put {
            value: value.to_owned().into(),
            owner: owner.map(Incarnation),
        },
    }
}

fn apply(state: &mut State, index: u64, proposals: Vec<Proposal>) -> Applied {
    let close = None;
    let body = EntryBody { proposals, close };
    state.apply(index, &body).expect("in order")
}

fn fates(applied: &Applied) -> Vec<Fate> {
    applied
        .answers
        .iter()
        .map(|answer| answer.fate.clone())
        .collect()
}

fn wrote(revision: u64) -> Fate {
    Fate::Known(Outcome::Write(WriteOutcome::Written(Revision(revision))))
}

/// One member, 1, registered by entry 1.
fn alone() -> State {
    let mut state = State::new(Limits::default());
    register(&mut state, 1, 1, 1);
    state
}

#[test]
fn it_is_the_model() {
    let mut seen = model::Seen::default();
    for seed in 0..60 {
        let mut world = World::new(seed, small_limits());
        let mut model = model::Model::new(small_limits());
        for _ in 0..400 {
            let (index, body, applied) = world.step();
            let expected = model.apply(index, &body);
            assert_eq!(applied, expected, "seed {seed} entry {index}");
            seen.note(&applied);
            model.assert_same(&world.state);
        }
    }
    seen.assert_all();
}

#[test]
fn two_proposals_of_one_entry_have_two_revisions() {
    let mut state = alone();
    let write = |value, expect| Op::Write(put("k", value, expect, None));
    let applied = apply(
        &mut state,
        2,
        vec![
            proposal(1, 1, 1, write("a", Expect::Absent)),
            proposal(1, 2, 1, write("b", Expect::Revision(Revision(1)))),
            proposal(1, 3, 1, write("c", Expect::Revision(Revision(1)))),
        ],
    );
    let conflict = Outcome::Write(WriteOutcome::Conflict(Some(Revision(2))));
    assert_eq!(fates(&applied), [wrote(1), wrote(2), Fate::Known(conflict)]);
    let told: Vec<_> = applied
        .events
        .iter()
        .map(|event| event.revision().0)
        .collect();
    assert_eq!(told, [1, 2]);
    assert_eq!(state.get(b"k").expect("there").revision, Revision(2));
}

#[test]
fn a_proposal_is_applied_once_and_answered_alike() {
    let mut state = alone();
    let one = proposal(1, 1, 1, Op::Write(put("k", "a", Expect::Any, None)));
    let twice = apply(&mut state, 2, vec![one.clone(), one.clone()]);
    assert_eq!(fates(&twice), [wrote(1), wrote(1)]);
    assert_eq!(twice.events.len(), 1);
    apply(
        &mut state,
        3,
        vec![proposal(
            1,
            2,
            1,
            Op::Write(put("k", "b", Expect::Any, None)),
        )],
    );
    assert_eq!(fates(&apply(&mut state, 4, vec![one.clone()])), [wrote(1)]);
    assert_eq!(state.get(b"k").expect("there").value, "b");
    // Its answer is no longer wanted: whatever comes of it now is Stale, and nothing is done.
    let stale = apply(&mut state, 5, vec![proposal(1, 3, 2, Op::Nop), one]);
    assert_eq!(fates(&stale), [Fate::Known(Outcome::Nop), Fate::Stale]);
    assert!(stale.events.is_empty());
}

#[test]
fn a_nop_takes_the_place_of_the_lost() {
    let mut state = alone();
    let lost = proposal(1, 1, 1, Op::Write(put("k", "a", Expect::Any, None)));
    let nop = proposal(1, 1, 1, Op::Nop);
    let fate = apply(&mut state, 2, vec![nop.clone(), lost]);
    assert_eq!(
        fates(&fate),
        [Fate::Known(Outcome::Nop), Fate::Known(Outcome::Nop)]
    );
    assert!(state.get(b"k").is_none() && fate.events.is_empty());
    let applied = proposal(1, 2, 1, Op::Write(put("k", "a", Expect::Any, None)));
    let nop = proposal(1, 2, 1, Op::Nop);
    assert_eq!(
        fates(&apply(&mut state, 3, vec![applied, nop])),
        [wrote(1), wrote(1)]
    );
}

#[test]
fn the_dead_and_the_unknown_write_nothing() {
    let mut state = alone();
    register(&mut state, 2, 2, 1);
    let write = |run| {
        vec![proposal(
            run,
            1,
            1,
            Op::Write(put("k", "a", Expect::Any, None)),
        )]
    };
    assert_eq!(fates(&apply(&mut state, 3, write(3))), [Fate::Dead]);
    assert_eq!(
        closing(&mut state, 4, Close::Dead(Incarnation(2))).closed,
        Some(Closed::Dead(true))
    );
    assert_eq!(fates(&apply(&mut state, 5, write(2))), [Fate::Dead]);
    let again = closing(&mut state, 6, Close::Dead(Incarnation(2)));
    assert_eq!(
        (again.closed, again.events.len()),
        (Some(Closed::Dead(false)), 0)
    );
    // Nor does anybody write for them.
    let owned = Op::Write(put("k", "a", Expect::Any, Some(2)));
    let refused = apply(&mut state, 7, vec![proposal(1, 1, 1, owned)]);
    let refusal = WriteOutcome::Refused(WriteRefusal::OwnerDead);
    assert_eq!(fates(&refused), [Fate::Known(Outcome::Write(refusal))]);
    assert!(state.map().is_empty());
}

#[test]
fn registrations() {
    let mut state = State::new(small_limits());
    let registered = |run, member| Closed::Registered {
        member: MemberId(member),
        outcome: Registered::As(Incarnation(run)),
    };
    assert_eq!(register(&mut state, 3, 1, 10), registered(3, 1));
    // Asked twice, told alike, whatever it knew; another run comes after it.
    assert_eq!(
        register_knowing(&mut state, 4, 1, 10, None),
        registered(3, 1)
    );
    assert_eq!(register(&mut state, 5, 1, 11), registered(5, 1));
    assert!(state.window(Incarnation(3)).is_none());
    // One that was long on its way ends nobody.
    let late = register_knowing(&mut state, 6, 1, 10, None);
    let superseded = Registered::Superseded(Some(Incarnation(5)));
    assert_eq!(
        late,
        Closed::Registered {
            member: MemberId(1),
            outcome: superseded
        }
    );
    assert!(state.window(Incarnation(5)).is_some());
    // The dead register anew, under the nonce that they had.
    closing(&mut state, 7, Close::Dead(Incarnation(5)));
    assert_eq!(register(&mut state, 8, 1, 11), registered(8, 1));
    for member in 2..=5 {
        register(&mut state, 10 + member, member, 1);
    }
    let outcome = |closed| match closed {
        Closed::Registered { outcome, .. } => outcome,
        other => panic!("{other:?}"),
    };
    assert_eq!(outcome(register(&mut state, 20, 6, 1)), Registered::Full);
    let removed = closing(&mut state, 21, Close::Remove(MemberId(1)));
    assert_eq!(removed.closed, Some(Closed::Removed(true)));
    assert_eq!(removed.events.len(), 1, "its run died");
    assert_eq!(
        outcome(register(&mut state, 22, 1, 12)),
        Registered::Removed
    );
    assert_eq!(
        outcome(register(&mut state, 23, 6, 1)),
        Registered::As(Incarnation(23))
    );
}

#[test]
fn a_death_is_one_event_and_orphans_at_once() {
    let mut state = alone();
    register(&mut state, 2, 2, 1);
    let many = 2500u64;
    for at in 0..many {
        let owner = if at % 2 == 0 { 2 } else { 1 };
        let write = Op::Write(put(&format!("k/{at:05}"), "v", Expect::Any, Some(owner)));
        apply(&mut state, 3 + at, vec![proposal(1, at + 1, at, write)]);
    }
    assert_eq!(state.owned_keys(Incarnation(2)), many / 2);
    let dead = closing(&mut state, 5000, Close::Dead(Incarnation(2)));
    assert_eq!(dead.events.len(), 1);
    assert!(state.get(b"k/00000").expect("there").orphaned);
    assert!(!state.get(b"k/00001").expect("there").orphaned);
    // Taken over by the living: no longer orphaned, not removed.
    let taken = Op::Write(put("k/00000", "mine", Expect::Any, Some(1)));
    apply(&mut state, 5001, vec![proposal(1, 9000, 9000, taken)]);
    let mut removed = Vec::new();
    for index in 5002.. {
        let cleaned = closing(&mut state, index, Close::CleanUp(Incarnation(2)));
        let Some(Closed::CleanedUp {
            removed: count,
            left,
        }) = cleaned.closed
        else {
            panic!("a clean-up");
        };
        assert_eq!(cleaned.events.len(), count);
        removed.push(count);
        if left == 0 {
            break;
        }
    }
    assert_eq!(removed, [1000, 249]);
    assert_eq!(state.orphaned_owners().count(), 0);
    assert_eq!(state.map().len() as u64, many / 2 + 1);
    let nothing = closing(&mut state, 6000, Close::CleanUp(Incarnation(1)));
    assert_eq!(
        nothing.closed,
        Some(Closed::CleanedUp {
            removed: 0,
            left: 0
        }),
        "it lives"
    );
}

#[test]
fn limits_hold_at_their_edges() {
    let limits = Limits {
        store_bytes: 3 * (1 + 60 + 72),
        ..small_limits()
    };
    let mut state = State::new(limits);
    register(&mut state, 1, 1, 1);
    let mut index = 1;
    let mut outcome = |key: &str, value: usize| {
        index += 1;
        let write = Op::Write(put(key, &"v".repeat(value), Expect::Any, None));
        let applied = apply(&mut state, index, vec![proposal(1, index, index, write)]);
        match &applied.answers[0].fate {
            Fate::Known(Outcome::Write(WriteOutcome::Written(_))) => None,
            Fate::Known(Outcome::Write(WriteOutcome::Refused(refusal))) => Some(*refusal),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(outcome("", 0), Some(WriteRefusal::KeyBytes));
    assert_eq!(outcome(&"k".repeat(41), 0), Some(WriteRefusal::KeyBytes));
    assert_eq!(outcome("a", 61), Some(WriteRefusal::ValueBytes));
    assert_eq!(outcome("a", 60), None);
    assert_eq!(outcome("b", 60), None);
    assert_eq!(outcome("c", 59), None);
    assert_eq!(outcome("d", 0), Some(WriteRefusal::StoreBytes));
    assert_eq!(outcome("c", 60), None, "exactly full");
    assert_eq!(outcome("c", 60), None, "no larger than it was");
    assert_eq!(outcome("a", 0), None);
    assert_eq!(outcome("b", 60), None);
    assert_eq!(state.store_bytes(), 3 * 133 - 60);
    let batch = |writes: usize, value: usize| {
        let write = put("a", &"v".repeat(value), Expect::Any, None);
        Op::Batch(vec![write; writes])
    };
    let too_large = Fate::Known(Outcome::TooLarge);
    let over = vec![
        proposal(1, 100, 1, batch(5, 0)),
        proposal(1, 101, 1, batch(4, 50)),
        proposal(1, 102, 1, batch(4, 49)),
    ];
    let applied = apply(&mut state, 100, over);
    assert_eq!(fates(&applied)[..2], [too_large.clone(), too_large]);
    assert_eq!(applied.events.len(), 4);
}

#[test]
fn entries_out_of_order_and_formats_unknown_stop_it() {
    let mut state = alone();
    let empty = EntryBody::default();
    let order = Err(Error::Order {
        index: 1,
        applied: 1,
    });
    assert_eq!(state.apply(1, &empty), order);
    assert_eq!(
        state.pass(0),
        Err(Error::Order {
            index: 0,
            applied: 1
        })
    );
    assert_eq!(state.pass(5), Ok(()));
    // Nobody reads it: nothing is raised.
    let raised = closing(&mut state, 6, Close::Format(2)).closed;
    assert_eq!(raised, Some(Closed::Format(1)));
    // All others do, this build does not.
    let mut state = State::new(Limits::format_1());
    register_reading(&mut state, 1, 1, (1, 2));
    let close = Some(Close::Format(2));
    let proposals = Vec::new();
    let raised = state.apply(2, &EntryBody { proposals, close });
    assert_eq!(raised, Err(Error::Format { found: 2, known: 1 }));
}

#[test]
fn the_format_rises_when_all_read_it_and_shuts_out_who_does_not() {
    let mut state = State::new(small_limits());
    let registered = |run| Registered::As(Incarnation(run));
    assert_eq!(register_reading(&mut state, 1, 1, (1, 2)), registered(1));
    assert_eq!(register_reading(&mut state, 2, 2, (1, 1)), registered(2));
    let raise = |state: &mut State, index| closing(state, index, Close::Format(2)).closed;
    assert_eq!(raise(&mut state, 3), Some(Closed::Format(1)));
    let hash = state.hash();
    assert_eq!(register_reading(&mut state, 4, 2, (1, 2)), registered(4));
    assert_eq!(raise(&mut state, 5), Some(Closed::Format(2)));
    assert_ne!(state.hash(), hash);
    let refused = Registered::Format(2);
    assert_eq!(register_reading(&mut state, 6, 2, (1, 1)), refused);
    assert_eq!(register_reading(&mut state, 7, 3, (1, 1)), refused);
    assert_eq!(register_reading(&mut state, 8, 3, (2, 3)), registered(8));
    // It never falls.
    let lower = closing(&mut state, 9, Close::Format(1)).closed;
    assert_eq!(lower, Some(Closed::Format(2)));
}

#[test]
fn usage_by_first_segment() {
    let mut state = alone();
    let keys = ["a/1", "a/22", "b", "b/1", "b0", "c\u{ff}/x", "lone"];
    for (at, key) in keys.iter().enumerate() {
        let write = Op::Write(put(key, "vv", Expect::Any, None));
        apply(
            &mut state,
            2 + at as u64,
            vec![proposal(1, 1 + at as u64, 1, write)],
        );
    }
    let (usage, all) = state.usage(100);
    let told = |(prefix, usage): &(Bytes, Usage)| {
        let prefix = String::from_utf8(prefix.to_vec()).expect("text");
        (prefix, usage.keys, usage.payload_bytes)
    };
    let told: Vec<_> = usage.iter().map(told).collect();
    let expected = [
        ("a/", 2, 11),
        ("b", 1, 3),
        ("b/", 1, 5),
        ("b0", 1, 4),
        ("c\u{ff}/", 1, 7),
        ("lone", 1, 6),
    ];
    assert_eq!(told, expected.map(|(p, k, b)| (p.to_owned(), k, b)));
    assert!(all);
    assert_eq!(state.usage(2), (usage[..2].to_vec(), false));
}

#[test]
fn a_clone_is_not_changed_by_what_follows() {
    let mut world = World::new(4, small_limits());
    let mut clones = Vec::new();
    for _ in 0..300 {
        world.step();
        clones.push((
            world.state.clone(),
            world.state.hash(),
            world.state.revision(),
        ));
    }
    for (state, hash, revision) in clones {
        assert_eq!((state.hash(), state.revision()), (hash, revision));
    }
}
