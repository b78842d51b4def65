//! Windows: what is kept, what is dropped, what it adds to the hash.

use super::*;
use crate::state::test_random::Random;
use std::collections::BTreeMap;

const RUN: Incarnation = Incarnation(7);

fn written(revision: u64) -> Outcome {
    Outcome::Write(WriteOutcome::Written(Revision(revision)))
}

fn batch(revision: u64, writes: usize) -> Outcome {
    let outcome = WriteOutcome::Written(Revision(revision));
    Outcome::Batch(vec![outcome; writes].into())
}

/// The same results put together again.
fn again(window: &Window, limits: &Limits) -> Window {
    let mut other = Window::new(window.member, window.floor);
    for (sequence, outcome) in window.results() {
        other.keep(RUN, sequence, outcome.clone(), limits);
    }
    other
}

#[test]
fn it_keeps_what_is_not_below_its_floor() {
    for seed in 0..40 {
        let mut random = Random::new(seed);
        let limits = Limits {
            window_results: 1 + random.below(20) as usize,
            window_writes: 5 + random.below(20) as usize,
            ..Limits::format_1()
        };
        let mut window = Window::new(MemberId(1), 1);
        let (mut model, mut floor) = (BTreeMap::new(), 1);
        for at in 0..400 {
            let sequence = (floor + random.below(30)).saturating_sub(5);
            if random.below(4) == 0 {
                window.raise(RUN, sequence);
                floor = floor.max(sequence);
            } else {
                let known = match model.get(&sequence) {
                    _ if sequence < floor => Known::Stale,
                    Some(outcome) => Known::Stored(outcome),
                    None => Known::New,
                };
                assert_eq!(window.known(sequence), known);
                if known == Known::New {
                    let outcome = batch(at, random.below(6) as usize);
                    window.keep(RUN, sequence, outcome.clone(), &limits);
                    model.insert(sequence, outcome);
                    let results = limits.window_results as u64;
                    floor = floor.max((sequence + 1).saturating_sub(results));
                }
            }
            model = model.split_off(&floor);
            while model.values().map(Outcome::writes).sum::<usize>() > limits.window_writes {
                model.remove(&floor);
                floor += 1;
            }
            assert_eq!(window.floor(), floor);
            let results = window.results().map(|(at, outcome)| (at, outcome.clone()));
            assert!(results.eq(model.clone()));
            assert!(window.results.len() <= limits.window_results);
            let other = again(&window, &limits);
            assert_eq!(other, window);
            assert_eq!(other.hash(RUN), window.hash(RUN), "hash by parts");
        }
    }
}

#[test]
fn far_jumps_are_cheap_and_right() {
    let mut window = Window::new(MemberId(1), 1);
    let limits = Limits::format_1();
    window.keep(RUN, 5, written(1), &limits);
    window.keep(RUN, u64::MAX - 1, written(2), &limits);
    assert_eq!(window.known(5), Known::Stale);
    assert_eq!(window.known(u64::MAX - 1), Known::Stored(&written(2)));
    assert_eq!(window.results.len(), 4096);
    window.raise(RUN, u64::MAX);
    assert_eq!(window.known(u64::MAX - 1), Known::Stale);
    assert_eq!(window.known(u64::MAX), Known::New);
    let empty = Window::new(MemberId(1), u64::MAX);
    assert_eq!(window, empty);
    window.keep(RUN, u64::MAX, written(3), &limits);
    assert!(window.results().eq([(u64::MAX, &written(3))]));
}

/// Nobody reads an answer, and every call is as large as may be.
#[test]
fn results_of_large_batches_are_few() {
    let limits = Limits::format_1();
    let mut window = Window::new(MemberId(1), 1);
    for sequence in 1..=limits.window_results as u64 {
        window.keep(RUN, sequence, batch(sequence, limits.batch_writes), &limits);
    }
    let kept = limits.window_writes / limits.batch_writes;
    assert_eq!(window.results().count(), kept);
    assert_eq!(size_of::<WriteOutcome>(), 16);
    // A late one that has no room is answered, and known to be over.
    let late = window.floor();
    let mut behind = Window::new(MemberId(1), late);
    for (sequence, outcome) in window.results().skip(1) {
        behind.keep(RUN, sequence, outcome.clone(), &limits);
    }
    behind.keep(
        RUN,
        late + limits.window_results as u64 / 2,
        written(1),
        &limits,
    );
    behind.keep(RUN, late, batch(1, limits.batch_writes), &limits);
    assert_eq!(behind.known(late), Known::Stale);
    assert_eq!(
        behind.writes(),
        limits.window_writes - limits.batch_writes + 1
    );
}

#[test]
fn outcomes_come_back() {
    let all = [
        WriteOutcome::Written(Revision(u64::MAX)),
        WriteOutcome::Conflict(None),
        WriteOutcome::Conflict(Some(Revision(3))),
        WriteOutcome::Refused(WriteRefusal::KeyBytes),
        WriteOutcome::Refused(WriteRefusal::ValueBytes),
        WriteOutcome::Refused(WriteRefusal::StoreBytes),
        WriteOutcome::Refused(WriteRefusal::OwnerDead),
    ];
    let mut outcomes = vec![Outcome::Nop, Outcome::TooLarge, Outcome::Batch(all.into())];
    outcomes.extend(all.map(Outcome::Write));
    outcomes.push(Outcome::Batch([all[0]; 512].into()));
    for outcome in outcomes {
        let mut to = Writer::new(OUTCOME_BYTES);
        outcome.encode(&mut to);
        let bytes = to.finish("outcome").expect("within its limit");
        let mut from = Reader::new(&bytes);
        assert_eq!(Outcome::decode(&mut from), Ok(outcome));
        assert_eq!(from.finish("outcome"), Ok(()));
        for cut in 0..bytes.len() {
            assert!(Outcome::decode(&mut Reader::new(&bytes[..cut])).is_err());
        }
    }
    for unknown in [[4, 0], [2, 7]] {
        assert!(Outcome::decode(&mut Reader::new(&unknown)).is_err());
    }
}
