//! Recover, save and restore.

use std::path::Path;

use raft_store::disk::{Disk, Fault, SimDisk};
use raft_store::founding::{Founding, NOBODY};
use raft_store::ids::ClusterId;
use raft_store::offline::{Anew, OfflineError, recover, restore};
use raft_store::{Action, Error, Expect, Refusal, Write};

use super::member::{Date, Member, after, disk, is_bare, parts, settings};
use super::record::Record;

async fn recover_into(
    disk: &SimDisk,
    record: &Record,
    into: &str,
    seed: u64,
) -> Result<Anew, OfflineError> {
    let (parts, _gate) = parts(disk, record, seed);
    recover(
        &settings("member"),
        (&parts, &Date(1)),
        Path::new(into),
        None,
    )
    .await
}

async fn restore_into(
    disk: &SimDisk,
    record: &Record,
    into: &str,
    replaces: Option<ClusterId>,
) -> Result<Anew, OfflineError> {
    restore_at(disk, record, into, (replaces, Date(1))).await
}

async fn restore_at(
    disk: &SimDisk,
    record: &Record,
    into: &str,
    (replaces, date): (Option<ClusterId>, Date),
) -> Result<Anew, OfflineError> {
    let (parts, _gate) = parts(disk, record, 9);
    let file = Path::new("saved/one");
    restore(&settings(into), (&parts, &date), file, replaces).await
}

/// With keys in a snapshot and behind it.
async fn survivor(record: &Record) -> SimDisk {
    let disk = disk(1);
    let (parts, gate) = parts(&disk, record, 1);
    let mut small = settings("member");
    small.snapshot_log_bytes = 3 << 10;
    let (store, fatal) = raft_store::open(small, parts).await.expect("it opens");
    let disk = disk.clone();
    let member = Member {
        disk,
        gate,
        store,
        _fatal: fatal,
    };
    member.store.ready(after(10)).await.expect("registered");
    member.put_all(0..150).await;
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    member.put_all(150..200).await;
    let status = member.store.status().expect("open");
    let (snapshot, last) = (status.snapshot, status.log_last);
    assert!(
        snapshot.is_some() && snapshot < last,
        "{snapshot:?} {last:?}"
    );
    member.kill()
}

#[tokio::test(start_paused = true)]
async fn a_survivor_becomes_a_cluster_of_its_own() {
    let record = Record::default();
    let disk = survivor(&record).await;
    let old = record.row().expect("founded").uuid;
    let anew = recover_into(&disk, &record, "new", 2).await;
    let anew = anew.expect("recovered");
    assert_eq!(anew.keys, 200);
    let (uuid, founder) = (anew.cluster, NOBODY);
    assert_eq!(record.row(), Some(Founding { uuid, founder }));
    let member = Member::ready(&disk, &record, "new", 3).await;
    member.has_all(0..200);
    assert_eq!((member.cluster(), member.id()), (uuid, anew.member));
    assert!(member.incarnation().0 > 1 << 40, "fencing tokens rise");
    member.put("key/200", "200").await;
    let disk = member.kill();
    Member::ready(&disk, &record, "new", 4)
        .await
        .has_all(0..201);
    // The old directory is as it was, and not ready.
    let member = Member::open(&disk, &record, "member", 5).await;
    let member = member.expect("it opens");
    let ready = member.store.ready(after(60)).await;
    assert!(matches!(ready, Err(Error::OtherCluster(other)) if other == uuid));
    member.has_all(0..200);
    assert_eq!(member.cluster(), old);
}

#[tokio::test(start_paused = true)]
async fn of_two_survivors_one_recovers() {
    let record = Record::default();
    let disk = survivor(&record).await;
    let other = disk.copy();
    recover_into(&disk, &record, "new", 2).await.expect("first");
    let row = record.row();
    let second = recover_into(&other, &record, "new", 3).await;
    assert!(
        matches!(second, Err(OfflineError::Replaces(_))),
        "{second:?}"
    );
    assert_eq!(record.row(), row);
    assert!(is_bare(&other, "new"), "nothing was written");
    record.set(None);
    let again = recover_into(&disk, &record, "new", 4).await;
    assert!(matches!(again, Err(OfflineError::NotEmpty(_))), "{again:?}");
}

#[tokio::test(start_paused = true)]
async fn whoever_lived_before_is_dead_and_owns_nothing() {
    let record = Record::default();
    let member = Member::ready(&disk(1), &record, "member", 1).await;
    let owner = member.incarnation();
    let owned = member
        .store
        .put_if(b"owned", "x".into(), Expect::Any, Some(owner), after(10));
    owned.await.expect("written");
    member.put_all(0..10).await;
    let disk = member.kill();
    recover_into(&disk, &record, "new", 2)
        .await
        .expect("recovered");
    let member = Member::ready(&disk, &record, "new", 3).await;
    member.has_all(0..10);
    let write = Write {
        key: "other".into(),
        expect: Expect::Any,
        action: Action::Put {
            value: "y".into(),
            owner: Some(owner),
        },
    };
    let results = member.store.batch(vec![write], after(10)).await;
    assert_eq!(results.expect("answered"), [Err(Refusal::OwnerDead)]);
    let (found, _) = member.store.get(b"owned").expect("open");
    assert!(found.is_none_or(|found| found.orphaned));
}

/// What a start in `dir` comes to within a minute.
async fn starts(disk: &SimDisk, record: &Record, dir: &str) -> Option<Member> {
    let member = Member::open(disk, record, dir, 7).await.ok()?;
    match member.store.ready(after(60)).await {
        Ok(_) => Some(member),
        Err(_) => {
            member.kill();
            None
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_power_cut_at_each_write_of_recover_loses_nothing() {
    let first = Record::default();
    let survivor = survivor(&first).await;
    let row = first.row();
    for operation in 0.. {
        let (disk, record) = (survivor.copy(), Record::default());
        record.set(row);
        disk.fail_at(operation, Fault::PowerCut);
        let cut = recover_into(&disk, &record, "new", operation).await;
        let done = disk.operations() <= operation;
        assert_eq!(cut.is_ok(), record.row() != row, "operation {operation}");
        disk.forgive();
        disk.power_cut();
        if let Some(member) = starts(&disk, &record, "new").await {
            member.has_all(0..200);
            let uuid = record.row().map(|row| row.uuid);
            assert_eq!(uuid, Some(member.cluster()), "operation {operation}");
            member.kill();
        } else {
            assert!(
                cut.is_err(),
                "operation {operation}: what was recovered starts"
            );
            let again = recover_into(&disk, &record, "another", 1000 + operation).await;
            again.expect("the survivor is as it was");
            let member = Member::ready(&disk, &record, "another", 8).await;
            member.has_all(0..200);
            member.kill();
        }
        if done {
            assert!(cut.is_ok() && operation > 20, "{operation}");
            return;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_reply_lost_while_recovering_is_asked_for_again() {
    for (replies, readings) in [(1, 0), (2, 1), (3, 2)] {
        let record = Record::default();
        let disk = survivor(&record).await;
        record.lose_replies(replies);
        record.read_old(readings);
        let anew = recover_into(&disk, &record, "new", 2).await;
        let uuid = anew.expect("recovered").cluster;
        assert_eq!(record.row().map(|row| row.uuid), Some(uuid));
    }
}

#[tokio::test(start_paused = true)]
async fn there_is_nothing_to_recover_where_no_log_is() {
    let (disk, record) = (disk(1), Record::default());
    let nothing = recover_into(&disk, &record, "new", 1).await;
    assert!(
        matches!(nothing, Err(OfflineError::NoMember(_))),
        "{nothing:?}"
    );
    record.set_down(true);
    let waiting = Member::open(&disk, &record, "member", 1).await;
    let disk = waiting.expect("it opens").kill();
    let nothing = recover_into(&disk, &record, "new", 2).await;
    assert!(
        matches!(nothing, Err(OfflineError::NoMember(_))),
        "{nothing:?}"
    );
    assert!(is_bare(&disk, "new"));
}

#[tokio::test(start_paused = true)]
async fn what_was_saved_is_restored_as_a_new_cluster() {
    let record = Record::default();
    let member = Member::ready(&disk(1), &record, "member", 1).await;
    let old = member.cluster();
    member.put_all(0..100).await;
    let path = Path::new("saved/one");
    let (saved, ()) =
        tokio::join!(biased; member.store.save_snapshot(path), member.put_all(100..200));
    let saved = saved.expect("saved");
    let twice = member.store.save_snapshot(path).await;
    assert!(twice.is_err(), "nothing is overwritten");
    member.has_all(0..200);
    let incarnation = member.incarnation();
    let disk = member.kill();
    assert!(saved.bytes > 0 && saved.index > 0);

    let taken = restore_into(&disk, &record, "new", None).await;
    assert!(matches!(taken, Err(OfflineError::Replaces(is)) if is == old));
    assert!(is_bare(&disk, "new"), "nothing was written");
    let anew = restore_into(&disk, &record, "new", Some(old)).await;
    let anew = anew.expect("restored");
    let full = restore_into(&disk, &record, "new", Some(anew.cluster)).await;
    assert!(matches!(full, Err(OfflineError::NotEmpty(_))), "{full:?}");
    let member = Member::ready(&disk, &record, "new", 3).await;
    assert_eq!(member.cluster(), anew.cluster);
    member.has_all(0..100);
    assert!(member.store.get(b"key/150").expect("open").0.is_none());
    assert!(member.incarnation() > incarnation);
}

/// One snapshot, of which clusters are made one after the other: none counts what one before it may have counted.
#[tokio::test(start_paused = true)]
async fn what_is_restored_twice_counts_on() {
    let record = Record::default();
    let member = Member::ready(&disk(1), &record, "member", 1).await;
    member.put_all(0..5).await;
    let saved = member.store.save_snapshot(Path::new("saved/one")).await;
    saved.expect("saved");
    let disk = member.kill();
    let mut highest = (0, 0);
    for (turn, seconds) in [1_800_000_000, 1_800_000_060].into_iter().enumerate() {
        let (into, old) = (format!("new/{turn}"), record.row().map(|row| row.uuid));
        let anew = restore_at(&disk, &record, &into, (old, Date(seconds))).await;
        anew.expect("restored");
        let member = Member::ready(&disk, &record, &into, 10 + turn as u64).await;
        let run = member.incarnation().0;
        assert!(run > highest.0, "{run} after {highest:?}");
        member.has_all(0..5);
        member.put_all(5..60).await;
        let status = member.store.status().expect("open");
        assert!(status.revision.0 > highest.1);
        highest = (status.applied_next, status.revision.0);
        member.kill();
    }
}

#[tokio::test(start_paused = true)]
async fn a_damaged_file_is_not_restored() {
    let record = Record::default();
    let member = Member::ready(&disk(1), &record, "member", 1).await;
    member.put_all(0..20).await;
    let path = Path::new("saved/one");
    member.store.save_snapshot(path).await.expect("saved");
    let disk = member.kill();
    let length = disk.open(path, raft_store::disk::Open::Read);
    let length = length.and_then(|file| file.len()).expect("there");
    for at in (0..length as usize).step_by(7) {
        let damaged = disk.copy();
        assert!(damaged.flip(path, at, 16));
        let restored = restore_into(&damaged, &Record::default(), "new", None).await;
        assert!(restored.is_err(), "byte {at}");
        assert!(is_bare(&damaged, "new"), "byte {at}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_save_that_fails_leaves_no_file_that_could_be_restored() {
    for operation in 0.. {
        let record = Record::default();
        let member = Member::ready(&disk(1), &record, "member", 1).await;
        member.put_all(0..5).await;
        let disk = member.disk.clone();
        let first = disk.operations();
        disk.fail_at(first + operation, Fault::PowerCut);
        let saved = member.store.save_snapshot(Path::new("saved/one")).await;
        let done = disk.operations() <= first + operation;
        member.kill();
        disk.forgive();
        disk.power_cut();
        let restored = restore_into(&disk, &Record::default(), "new", None).await;
        match saved {
            Ok(_) => assert_eq!(restored.expect("it is whole").keys, 5),
            // Whole or not there: its name may have come before the failure.
            Err(_) => assert!(restored.is_err() || restored.is_ok_and(|anew| anew.keys == 5)),
        }
        if done {
            assert!(operation > 3);
            return;
        }
    }
}
