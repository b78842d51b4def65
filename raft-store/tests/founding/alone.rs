//! One member and a record that others could share.

use std::time::Duration;

use raft_store::Error;
use raft_store::disk::Fault;
use raft_store::founding::{Founding, NOBODY};
use raft_store::ids::{ClusterId, MemberId};
use tokio::time::sleep;

use super::member::{Member, after, disk, parts, settings};
use super::record::Record;

const OTHER: ClusterId = ClusterId([7; 16]);

fn row(uuid: ClusterId) -> Option<Founding> {
    let founder = NOBODY;
    Some(Founding { uuid, founder })
}

#[tokio::test(start_paused = true)]
async fn a_power_cut_at_each_write_of_founding_leaves_one_cluster_to_be_founded() {
    for operation in 0.. {
        let (disk, record) = (disk(operation), Record::default());
        disk.fail_at(operation, Fault::PowerCut);
        let cut = Member::open(&disk, &record, "member", 1).await;
        if let Ok(member) = cut {
            let _ = member.store.ready(after(5)).await;
            member.kill();
        }
        let done = disk.operations() <= operation;
        disk.forgive();
        disk.power_cut();
        let before = record.row();
        let member = Member::ready(&disk, &record, "member", 2).await;
        let uuid = record.row().map(|row| row.uuid);
        assert_eq!(uuid, Some(member.cluster()), "operation {operation}");
        if let Some(before) = before {
            assert_eq!(before.uuid, member.cluster(), "operation {operation}");
        }
        assert_eq!(record.created(), 1, "operation {operation}");
        member.put("key", "value").await;
        if done {
            assert!(operation > 20, "founding writes: {operation}");
            return;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_reply_lost_after_it_took_effect_is_asked_for_again() {
    let (disk, record) = (disk(1), Record::default());
    record.lose_replies(3);
    record.read_old(5);
    let member = Member::ready(&disk, &record, "member", 1).await;
    assert_eq!(record.row().map(|row| row.uuid), Some(member.cluster()));
    assert_eq!(record.created(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_empty_disk_waits_while_the_record_is_down_and_says_so() {
    let (disk, record) = (disk(1), Record::default());
    record.set_down(true);
    let member = Member::open(&disk, &record, "member", 1).await;
    let member = member.expect("it opens");
    let ready = member.store.ready(after(600)).await;
    assert!(matches!(ready, Err(Error::NoQuorum)), "{ready:?}");
    let belonging = member.store.belonging();
    assert_eq!((belonging.cluster, record.row()), (None, None));
    let waiting = belonging.waiting.expect("it says what for");
    assert!(waiting.what.contains("record"), "{waiting:?}");
    assert!(waiting.time >= Duration::from_secs(590), "{waiting:?}");
    record.set_down(false);
    member.store.ready(after(10)).await.expect("it founds");
    assert_eq!(member.store.belonging().waiting, None);
}

#[tokio::test(start_paused = true)]
async fn a_restart_needs_no_record() {
    let (disk, record) = (disk(1), Record::default());
    let member = Member::ready(&disk, &record, "member", 1).await;
    let cluster = member.cluster();
    let disk = member.kill();
    record.set_down(true);
    let member = Member::ready(&disk, &record, "member", 2).await;
    assert_eq!(member.cluster(), cluster);
    member.put("key", "value").await;
}

#[tokio::test(start_paused = true)]
async fn a_row_that_is_missing_is_put_again_within_a_minute() {
    let (disk, record) = (disk(1), Record::default());
    let member = Member::ready(&disk, &record, "member", 1).await;
    sleep(Duration::from_secs(61)).await;
    assert_eq!(
        record.row(),
        row(member.cluster()),
        "nobody founds any more"
    );
    for _ in 0..3 {
        record.set(None);
        sleep(Duration::from_secs(61)).await;
        assert_eq!(record.row(), row(member.cluster()));
        assert_eq!(member.store.belonging().other, None);
    }
}

#[tokio::test(start_paused = true)]
async fn another_uuid_in_the_record_is_an_alarm_and_never_a_change() {
    let (disk, record) = (disk(1), Record::default());
    let member = Member::ready(&disk, &record, "member", 1).await;
    let own = member.cluster();
    record.set(row(OTHER));
    sleep(Duration::from_secs(61)).await;
    let belonging = member.store.belonging();
    assert_eq!(
        (belonging.cluster, belonging.other),
        (Some(own), Some(OTHER))
    );
    let ready = member.store.ready(after(5)).await;
    assert!(
        matches!(ready, Err(Error::OtherCluster(OTHER))),
        "{ready:?}"
    );
    member.put("key", "it goes on for those who ask").await;
    // So it is after a restart.
    let disk = member.kill();
    let member = Member::open(&disk, &record, "member", 2).await;
    let member = member.expect("it opens");
    let ready = member.store.ready(after(60)).await;
    assert!(
        matches!(ready, Err(Error::OtherCluster(OTHER))),
        "{ready:?}"
    );
    assert_eq!(member.cluster(), own);
    assert_eq!(record.row(), row(OTHER), "it is a person's to change");
    record.set(row(own));
    member.store.ready(after(10)).await.expect("all is well");
}

#[tokio::test(start_paused = true)]
async fn one_old_reading_is_no_alarm() {
    let (disk, record) = (disk(1), Record::default());
    record.set(row(OTHER));
    record.set(None);
    let member = Member::ready(&disk, &record, "member", 1).await;
    record.set(row(OTHER));
    record.set(row(member.cluster()));
    for _ in 0..20 {
        record.read_old(1);
        sleep(Duration::from_secs(59)).await;
        assert_eq!(member.store.belonging().other, None);
    }
    // Nor is one at a start, before this member leads and could ask the record.
    record.read_old(1);
    let disk = member.kill();
    let member = Member::open(&disk, &record, "member", 2).await;
    let member = member.expect("it opens");
    for _ in 0..1000 {
        assert_eq!(member.store.belonging().other, None);
        sleep(Duration::from_millis(10)).await;
    }
    member.store.ready(after(1)).await.expect("all is well");
}

#[tokio::test(start_paused = true)]
async fn the_disk_of_a_lone_founder_is_lost() {
    let record = Record::default();
    let lost = Member::ready(&disk(1), &record, "member", 1).await;
    let (old, founder) = (lost.cluster(), lost.id());
    lost.kill();
    let disk = disk(2);
    let member = Member::open(&disk, &record, "member", 2).await;
    let member = member.expect("it opens");
    let ready = member.store.ready(after(600)).await;
    assert!(matches!(ready, Err(Error::NoQuorum)), "{ready:?}");
    let waiting = member.store.belonging().waiting.expect("it says what for");
    assert!(waiting.what.contains(&old.to_string()), "{waiting:?}");
    let disk = member.kill();
    let refound = |old| {
        let (disk, record) = (disk.clone(), record.clone());
        async move {
            let (parts, _gate) = parts(&disk, &record, 3);
            raft_store::offline::refound(&settings("member"), &parts, old).await
        }
    };
    let wrong = refound(OTHER).await;
    assert!(wrong.is_err(), "{wrong:?}");
    assert_eq!(record.row().map(|row| row.uuid), Some(old));
    record.lose_replies(1);
    let new = refound(old).await.expect("replaced");
    assert_eq!(refound(old).await.expect("harmless"), new);
    assert_eq!(record.row(), Some(new));
    assert!(new.uuid != old && new.founder != founder);
    let member = Member::ready(&disk, &record, "member", 4).await;
    assert_eq!(member.cluster(), new.uuid);
    let disk = member.kill();
    let (parts, _gate) = parts(&disk, &record, 5);
    let again = raft_store::offline::refound(&settings("member"), &parts, new.uuid).await;
    assert!(again.is_err(), "it has a log: {again:?}");
}

#[tokio::test(start_paused = true)]
async fn a_founder_set_back_to_an_empty_log_founds_nothing_again() {
    let (disk, record) = (disk(1), Record::default());
    // The row is there, and the reply to it never comes: the disk has an identity and no entry.
    record.lose_replies(u32::MAX);
    let member = Member::open(&disk, &record, "member", 1).await;
    let member = member.expect("it opens");
    sleep(Duration::from_secs(5)).await;
    let backup = disk.copy();
    record.lose_replies(0);
    member.store.ready(after(60)).await.expect("it founds");
    let founded = record.row().expect("a row");
    assert_ne!(founded.founder, MemberId(0));
    sleep(Duration::from_secs(61)).await;
    member.kill();
    let restored = Member::open(&backup, &record, "member", 2).await;
    let restored = restored.expect("it opens");
    let ready = restored.store.ready(after(600)).await;
    assert!(matches!(ready, Err(Error::NoQuorum)), "{ready:?}");
    assert_eq!(restored.store.belonging().cluster, None);
}
