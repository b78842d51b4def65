//! Flipped bits, missing and shortened files: an error with file and offset, or the same entries.

use crate::support::{Member, disk, entry, id, is_durable, outcome, segment, small};
use crate::{indexes, open};
use raft_store::disk::{Disk, SimDisk};
use raft_store::log::Error;
use std::path::Path;

/// The log of the flipping tests: two segments, each kind of record.
fn little(sealed: bool) -> SimDisk {
    let member = open(&disk(1));
    member.append_all(1, 0..22, 120);
    member.save_vote(2);
    member.truncate(20);
    member.log.save_committed(Some(id(1, 10)));
    if sealed {
        member.append_all(2, 20..27, 60);
    } else {
        member.append_all(2, 20..26, 60);
        let (_, done) = outcome();
        member
            .log
            .append(vec![entry(2, 26, 60)], done)
            .expect("next");
        // One step writes and syncs; the seal would come with the next ones.
        member.jobs.step_once();
    }
    member.kill()
}

/// Everything a log says.
fn told(member: &Member) -> impl PartialEq + std::fmt::Debug + use<> {
    let log = &member.log;
    (log.log_state(), log.vote(), log.committed(), member.all())
}

/// Opens the log with each bit flipped; gives how many were refused, and the lengths of those that were not the same.
fn flip_every_bit(disk: &SimDisk) -> (usize, Vec<u64>) {
    let whole = told(&open(&disk.copy()));
    let (mut refused, mut shorter) = (0, Vec::new());
    for path in disk.list(Path::new("log")).expect("listed") {
        let file = disk
            .open(&path, raft_store::disk::Open::Read)
            .expect("open");
        let mut bytes = vec![0; file.len().expect("known") as usize];
        file.read_at(&mut bytes, 0).expect("read");
        for (at, byte) in bytes.iter().enumerate() {
            let near = at.saturating_sub(60)..bytes.len().min(at + 60);
            // Far from anything written, one bit of some bytes is enough.
            let blank = bytes[near].iter().all(|byte| *byte == 0);
            if blank && at % 16 != 5 {
                continue;
            }
            for bit in 0..if blank || *byte == 0 { 2 } else { 8 } {
                let damaged = disk.copy();
                assert!(damaged.flip(&path, at, 1 << bit));
                match Member::open(&damaged, small()) {
                    Err(Error::Corrupt { file, .. }) => {
                        assert_eq!(file, path, "byte {at}");
                        refused += 1;
                    }
                    Err(other) => panic!("{} byte {at}: {other}", path.display()),
                    Ok(member) => {
                        if told(&member) != whole {
                            shorter.push(member.log.log_state().last.expect("some").index);
                        }
                    }
                }
            }
        }
    }
    (refused, shorter)
}

#[test]
fn every_bit_flip() {
    let (refused, shorter) = flip_every_bit(&little(true));
    assert!(refused > 10_000, "{refused}");
    assert_eq!(shorter, [0; 0], "never silence");
}

/// Without its seal the last frame cannot be told from a torn one, but no other.
#[test]
fn every_bit_flip_without_a_seal() {
    let (refused, shorter) = flip_every_bit(&little(false));
    assert!(refused > 10_000 && !shorter.is_empty(), "{refused}");
    assert!(shorter.iter().all(|last| *last == 25), "{shorter:?}");
}

#[test]
fn missing_and_cut_segments_are_damage() {
    let full = || {
        let member = open(&disk(1));
        member.append_all(1, 0..100, 100);
        member.kill()
    };
    let disk = full();
    disk.remove(&segment(2)).expect("removed");
    let refused = Member::open(&disk, small()).err();
    assert!(
        matches!(refused, Some(Error::Corrupt { .. })),
        "{refused:?}"
    );
    let disk = full();
    disk.remove(&segment(1)).expect("removed");
    let refused = Member::open(&disk, small()).err();
    assert!(matches!(refused, Some(Error::Gap { .. })), "{refused:?}");
    for length in [0, 40, 5000, 9000] {
        let disk = full();
        assert!(disk.set_len(&segment(2), length));
        let refused = Member::open(&disk, small()).err();
        let named = matches!(&refused, Some(Error::Corrupt { file, .. }) if *file == segment(2));
        assert!(named, "{length}: {refused:?}");
    }
}

#[test]
fn rot_is_seen_by_readers_too() {
    let member = open(&disk(1));
    member.append_all(1, 0..100, 100);
    assert!(member.disk.flip(&segment(2), 4096 + 300, 1));
    let read = member.log.read(0..100, usize::MAX);
    assert!(matches!(read.err(), Some(Error::Corrupt { .. })));
    assert_eq!(indexes(&member.log, 60..70, usize::MAX).len(), 10);
}

/// What the core asks for while everything waits for it.
#[test]
fn ids_of_old_entries_need_no_disk() {
    let member = open(&disk(1));
    member.append_all(1, 0..50, 100);
    member.append_all(2, 50..100, 100);
    for number in 1..4 {
        assert!(member.disk.flip(&segment(number), 4096 + 300, 1));
    }
    member.log.purge(id(1, 2)).expect("a note");
    assert_eq!(member.log.log_state().last, Some(id(2, 99)));
    assert!(is_durable(&member.truncate(51)));
    assert_eq!(member.log.log_state().last, Some(id(2, 50)));
    assert!(is_durable(&member.truncate(50)));
    assert_eq!(member.log.log_state().last, Some(id(1, 49)));
    assert!(is_durable(&member.truncate(3)));
    let state = member.log.log_state();
    assert_eq!((state.purged, state.last), (Some(id(1, 2)), Some(id(1, 2))));
}
