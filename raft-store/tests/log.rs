//! The log over a simulated disk: what it keeps and what it refuses; in `damage`, what damage does to it.

#[path = "log/damage.rs"]
mod damage;
mod support;
#[path = "log/threads.rs"]
mod threads;

use raft_store::disk::{Disk, Fault, SimDisk};
use raft_store::log::{Error, Log, LogState};
use std::path::Path;
use support::{Member, disk, entry, has_failed, id, is_durable, outcome, segment, small, vote};

fn open(disk: &SimDisk) -> Member {
    Member::open(disk, small()).expect("it opens")
}

fn indexes(log: &Log, range: std::ops::Range<u64>, limit_bytes: usize) -> Vec<u64> {
    let read = log.read(range, limit_bytes).expect("readable");
    read.iter().map(|entry| entry.id.index).collect()
}

fn published(index: u64) -> raft_store::log::Settings {
    let mut settings = small();
    settings.published = Some(id(1, index));
    settings
}

#[test]
fn everything_comes_back() {
    let member = open(&disk(1));
    assert_eq!(member.log.log_state(), LogState::default());
    assert_eq!((member.log.vote(), member.log.committed()), (None, None));
    assert!(is_durable(&member.save_vote(3)));
    member.append_all(3, 0..100, 120);
    member.log.save_committed(Some(id(3, 90)));
    member.append_all(4, 100..101, 0);
    member.log.save_committed(Some(id(4, 100)));
    let before = member.all();
    assert_eq!(before.len(), 101);
    assert_eq!(before[40], entry(3, 40, 120));
    let member = member.restart(small()).expect("it opens");
    assert_eq!(member.all(), before);
    assert_eq!(member.log.vote(), Some(vote(3)));
    assert_eq!(member.log.log_state().last, Some(id(4, 100)));
    assert_eq!(member.log.committed(), Some(id(3, 90)), "in a frame");
    member.append_all(4, 101..102, 10);
    let member = member.restart(small()).expect("it opens");
    assert_eq!(member.all().len(), 102);
    assert_eq!(member.log.committed(), Some(id(3, 90)));
}

#[test]
fn all_that_is_queued_is_one_frame() {
    let member = open(&disk(1));
    let outcomes: Vec<_> = (0..5)
        .map(|index| member.append(1, index, 20).expect("next"))
        .collect();
    let vote = {
        let (outcome, done) = outcome();
        member.log.save_vote(vote(1), done).expect("open");
        outcome
    };
    assert_eq!(member.all().len(), 5, "readable before they are durable");
    assert!(!is_durable(&outcomes[0]));
    member.jobs.run();
    assert!(outcomes.iter().all(is_durable) && is_durable(&vote));
    let counters = member.log.counters();
    assert_eq!((counters.frames, counters.entries), (1, 5));
}

#[test]
fn reads_are_bounded_and_begin_where_asked() {
    let member = open(&disk(1));
    member.append_all(1, 0..100, 100);
    assert!(
        member.log.tail_bytes() <= 500,
        "older ones are read from files"
    );
    assert_eq!(indexes(&member.log, 0..1000, 350), [0, 1, 2]);
    assert_eq!(indexes(&member.log, 5..1000, 0), [5], "one at least");
    assert_eq!(indexes(&member.log, 20..24, 9999), [20, 21, 22, 23]);
    assert_eq!(
        indexes(&member.log, 94..1000, 9999),
        [94, 95, 96, 97, 98, 99]
    );
    assert_eq!(indexes(&member.log, 100..1000, 9999), [0; 0]);
    assert_eq!(indexes(&member.log, 0..1000, usize::MAX).len(), 100);
}

#[test]
fn what_is_not_on_disk_stays_in_memory() {
    let member = open(&disk(1));
    let outcomes: Vec<_> = (0..20)
        .map(|index| member.append(1, index, 100).expect("next"))
        .collect();
    while !is_durable(&outcomes[19]) {
        let durable = outcomes
            .iter()
            .filter(|outcome| is_durable(outcome))
            .count();
        assert_eq!(member.all().len(), 20, "{durable} on disk");
        member.jobs.step_once();
    }
    assert!(member.log.counters().frames > 2, "in several frames");
    assert!(member.log.tail_bytes() <= 500);
}

#[test]
fn reader_of_purged_range() {
    let member = open(&disk(1));
    member.append_all(1, 0..30, 100);
    member.log.purge(id(1, 9)).expect("a note");
    assert_eq!(indexes(&member.log, 0..10, usize::MAX), [0; 0]);
    assert_eq!(indexes(&member.log, 10..12, usize::MAX), [10, 11]);
    assert_eq!(member.all().len(), 20, "what is left of a range");
    assert_eq!(member.log.log_state().purged, Some(id(1, 9)));
    member.log.purge(id(1, 29)).expect("a note");
    let state = member.log.log_state();
    assert_eq!(
        (state.purged, state.last),
        (Some(id(1, 29)), Some(id(1, 29)))
    );
    assert!(member.all().is_empty());
    member.append_all(1, 30..31, 10);
    assert_eq!(member.all().len(), 1);
    let refused = member.log.truncate(20, outcome().1);
    assert!(matches!(
        refused,
        Err(Error::Purged {
            purged: 29,
            got: 20
        })
    ));
}

#[test]
fn files_go_when_a_published_snapshot_covers_them() {
    let member = open(&disk(1));
    member.append_all(1, 0..200, 100);
    let dir = Path::new("log");
    let files = |member: &Member| member.disk.list(dir).expect("listed").len();
    let before = files(&member);
    assert!(before > 5, "{before} segments");
    member.log.purge(id(1, 150)).expect("a note");
    member.jobs.run();
    assert_eq!(files(&member), before, "purge is a note");
    member.log.publish(id(1, 100));
    member.jobs.run();
    let after = files(&member);
    assert!(after < before, "{after} of {before}");
    assert!(
        member
            .disk
            .open(&segment(1), raft_store::disk::Open::Read)
            .is_err()
    );
    let state = member.log.log_state();
    let member = member.restart(published(100)).expect("it opens");
    let again = member.log.log_state();
    assert_eq!(again.last, state.last);
    let purged = again.purged.expect("segments are gone").index;
    assert!((50..=100).contains(&purged), "{purged}");
    assert_eq!(indexes(&member.log, 101..200, usize::MAX).len(), 99);
    let lost = member.restart(small());
    assert!(matches!(lost.err(), Some(Error::Gap { .. })), "no snapshot");
}

#[test]
fn a_truncated_tail_stays_away() {
    let member = open(&disk(1));
    member.append_all(1, 0..60, 100);
    assert!(is_durable(&member.truncate(20)));
    assert_eq!(member.log.log_state().last, Some(id(1, 19)));
    let member = member.restart(small()).expect("it opens");
    assert_eq!(member.all().len(), 20);
    member.append_all(2, 20..25, 100);
    assert!(is_durable(&member.truncate(23)));
    assert!(is_durable(&member.truncate(99)), "nothing to do");
    member.append_all(3, 23..60, 100);
    let read = member.all();
    let member = member.restart(small()).expect("it opens");
    assert_eq!(member.all(), read);
    let terms: Vec<u64> = read[19..24].iter().map(|entry| entry.id.term).collect();
    assert_eq!(terms, [1, 2, 2, 2, 3]);
    assert!(is_durable(&member.truncate(0)));
    assert_eq!(member.log.log_state(), LogState::default());
    member.append_all(4, 0..1, 10);
    let member = member.restart(small()).expect("it opens");
    assert_eq!(member.all(), [entry(4, 0, 10)]);
}

/// Truncate and append are queued together with what they void.
#[test]
fn truncation_of_what_is_still_queued() {
    let member = open(&disk(1));
    let first = member.append(1, 0, 50).expect("next");
    let second = member.append(1, 1, 50).expect("next");
    member.log.truncate(1, outcome().1).expect("in range");
    let third = member.append(2, 1, 50).expect("next");
    assert!(matches!(
        member.append(2, 3, 50),
        Err(Error::Order {
            expected: 2,
            got: 3
        })
    ));
    member.jobs.run();
    assert!([first, second, third].iter().all(is_durable));
    let expected = [entry(1, 0, 50), entry(2, 1, 50)];
    assert_eq!(member.all(), expected);
    let member = member.restart(small()).expect("it opens");
    assert_eq!(member.all(), expected);
}

#[test]
fn start_anew_behind_a_snapshot() {
    for (at, what) in [(500, "past the end"), (50, "another id")] {
        let member = open(&disk(1));
        member.append_all(1, 0..100, 100);
        member.save_vote(5);
        let snapshot = id(9, at);
        member.log.purge(snapshot).expect("a note");
        assert_eq!(member.log.log_state().last, Some(snapshot), "{what}");
        let early = member.append(9, at + 1, 10);
        assert!(matches!(early, Err(Error::Unpublished(_))), "{what}");
        // Not published: a power cut now must leave the old log.
        member.jobs.run();
        let old = Member::open(&member.disk.copy(), small()).expect("it opens");
        assert_eq!(old.all().len(), 100, "{what}");
        member.log.publish(snapshot);
        member.append_all(9, at + 1..at + 40, 100);
        let mut settings = small();
        settings.published = Some(snapshot);
        let read = member.all();
        let member = member.restart(settings.clone()).expect("it opens");
        assert_eq!(member.all(), read, "{what}");
        assert_eq!(member.log.log_state().purged, Some(snapshot), "{what}");
        assert_eq!(member.log.vote(), Some(vote(5)), "{what}");
    }
}

#[test]
fn opening_meets_the_published_snapshot() {
    let member = open(&disk(1));
    member.append_all(1, 0..50, 100);
    let behind = member.restart(published(20)).expect("it opens");
    assert_eq!(behind.all().len(), 50, "still there for others to read");
    let ahead = behind.restart(published(80)).expect("it opens");
    let state = ahead.log.log_state();
    assert_eq!(
        (state.purged, state.last),
        (Some(id(1, 80)), Some(id(1, 80)))
    );
    ahead.append_all(1, 81..83, 10);
    let mut other = small();
    other.published = Some(id(2, 81));
    let member = ahead.restart(other.clone()).expect("it opens");
    assert_eq!(member.log.log_state().last, Some(id(2, 81)), "contradicted");
    let member = member.restart(other).expect("it opens");
    assert!(member.all().is_empty());
}

#[test]
fn a_log_that_should_be_there_is_missed() {
    let mut settings = small();
    settings.must_exist = true;
    let refused = Member::open(&disk(1), settings).err();
    assert!(matches!(refused, Some(Error::Missing(_))), "{refused:?}");
    let refused = Member::open(&disk(1), published(5)).err();
    assert!(matches!(refused, Some(Error::Missing(_))), "{refused:?}");
    let member = open(&disk(1));
    let mut settings = small();
    settings.member += 1;
    let refused = member.restart(settings).err();
    assert!(
        matches!(refused, Some(Error::Foreign { .. })),
        "{refused:?}"
    );
    let mut settings = small();
    settings.frame_bytes = 8 << 10;
    let refused = Member::open(&disk(1), settings).err();
    assert!(
        matches!(refused, Some(Error::Settings { .. })),
        "{refused:?}"
    );
}

#[test]
fn calls_over_the_limit_are_refused() {
    let member = open(&disk(1));
    let refused = member.append(1, 0, 2000);
    assert!(matches!(
        refused,
        Err(Error::TooLarge {
            limit_bytes: 1024,
            ..
        })
    ));
    member.append_all(1, 0..1, 900);
    assert!(member.append(1, 2, 1).is_err(), "a gap");
    let (empty, done) = outcome();
    member.log.append(Vec::new(), done).expect("nothing to do");
    assert!(is_durable(&empty));
}

#[test]
fn a_failing_sync_poisons() {
    for fault in [Fault::FailedSync, Fault::ShortWrite, Fault::Refused] {
        let member = open(&disk(1));
        member.jobs.run();
        member.append_all(1, 0..3, 50);
        // The next operation is the write of the frame, then its sync.
        let sync = u64::from(fault == Fault::FailedSync);
        member.disk.fail_at(member.disk.operations() + sync, fault);
        let outcome = member.append(1, 3, 50).expect("next");
        let waiting = member.append(1, 4, 50).expect("next");
        member.jobs.run();
        assert!(has_failed(&outcome) && has_failed(&waiting), "{fault:?}");
        let later = member.append(1, 5, 50);
        assert!(matches!(later, Err(Error::Failed(_))), "{fault:?}");
        let (vote, done) = support::outcome();
        assert!(member.log.save_vote(support::vote(1), done).is_err());
        assert!(!is_durable(&vote));
        let disk = member.kill();
        disk.power_cut();
        let left = open(&disk).all().len();
        assert!((3..=5).contains(&left), "{fault:?}: {left}");
    }
}

#[test]
fn a_vote_is_shown_when_it_is_durable() {
    let member = open(&disk(1));
    member.jobs.run();
    let (outcome, done) = support::outcome();
    member.log.save_vote(support::vote(3), done).expect("open");
    assert_eq!(member.log.durable_vote(), None, "it is not written yet");
    member.jobs.run();
    assert!(is_durable(&outcome));
    assert_eq!(member.log.durable_vote(), Some(support::vote(3)));
    let sync = member.disk.operations() + 1;
    member.disk.fail_at(sync, Fault::FailedSync);
    let (outcome, done) = support::outcome();
    member.log.save_vote(support::vote(4), done).expect("open");
    member.jobs.run();
    assert!(has_failed(&outcome));
    assert_eq!(member.log.vote(), Some(support::vote(4)));
    assert_eq!(member.log.durable_vote(), Some(support::vote(3)));
    let disk = member.kill();
    let again = open(&disk);
    assert_eq!(again.log.durable_vote(), again.log.vote());
}

#[test]
fn a_killed_writer_tells_who_waits() {
    let member = open(&disk(1));
    let outcome = member.append(1, 0, 50).expect("next");
    member.jobs.kill();
    assert!(has_failed(&outcome));
    assert!(member.append(1, 1, 50).is_err());
}

#[test]
fn votes_fit_on_a_full_disk() {
    let disk = disk(1);
    let member = open(&disk);
    member.jobs.run();
    disk.set_capacity_bytes(16 << 10);
    let mut next = 0;
    let refused = loop {
        match member.append(1, next, 100) {
            Ok(outcome) => {
                member.jobs.run();
                assert!(is_durable(&outcome), "accepted and lost: {next}");
                next += 1;
            }
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, Error::Full), "{refused}");
    assert!(member.log.is_full() && next > 20);
    (1..13).for_each(|term| assert!(is_durable(&member.save_vote(term)), "{term}"));
    let member = member.restart(small()).expect("it opens");
    member.jobs.run();
    assert!(member.log.is_full() && member.append(1, next, 100).is_err());
    assert!(is_durable(&member.save_vote(20)));
    disk.set_capacity_bytes(1 << 20);
    member.jobs.run();
    member.append_all(1, next..next + 100, 100);
    let none = Member::open(&support::disk(2), small()).expect("there was space");
    none.disk.set_capacity_bytes(100);
    assert!(Member::open(&none.disk, small()).is_ok());
    let empty = support::disk(3);
    empty.set_capacity_bytes(100);
    let refused = Member::open(&empty, small()).err();
    assert!(matches!(refused, Some(Error::Io { .. })), "{refused:?}");
}
