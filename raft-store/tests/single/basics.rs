//! What a caller sees of one member.

use super::member::{Member, disk, small, soon};
use raft_store::disk::Fault;
use raft_store::ids::Revision;
use raft_store::{Error, Expect, WriteOutcome};
use std::time::Duration;
use tokio::time::Instant;

#[tokio::test(start_paused = true)]
async fn what_was_acknowledged_is_there_after_a_restart() {
    let disk = disk(1);
    let (member, first) = Member::ready(&disk, small(), 1).await;
    let mut last = None;
    for number in 0..50 {
        last = Some(
            member
                .put(&format!("key/{number}"), "value")
                .await
                .expect("written"),
        );
    }
    let disk = member.kill();
    let (member, second) = Member::ready(&disk, small(), 2).await;
    assert!(second > first);
    for number in 0..50 {
        assert_eq!(
            member.get(&format!("key/{number}")).as_deref(),
            Some("value")
        );
    }
    let (_, revision) = member.store.get(b"").expect("open");
    assert!(Some(revision) >= last, "reads do not go back");
    member.store.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn conditions_hold() {
    let (member, _) = Member::ready(&disk(2), small(), 1).await;
    let put = |value: &'static str, expect| {
        member
            .store
            .put_if(b"key", value.into(), expect, None, soon())
    };
    let first = match put("one", Expect::Absent).await.expect("answered") {
        WriteOutcome::Written(revision) => revision,
        WriteOutcome::Conflict(_) => panic!("nothing was there"),
    };
    let conflict = put("two", Expect::Absent).await.expect("answered");
    assert!(matches!(conflict, WriteOutcome::Conflict(Some(is)) if is.revision == first));
    let second = put("two", Expect::Revision(first)).await.expect("answered");
    assert!(matches!(second, WriteOutcome::Written(revision) if revision > first));
    let gone = member
        .store
        .delete_if(b"key", Expect::Revision(first), soon());
    assert!(matches!(gone.await, Ok(WriteOutcome::Conflict(Some(_)))));
    let gone = member.store.delete_if(b"key", Expect::Any, soon());
    assert!(matches!(gone.await, Ok(WriteOutcome::Written(_))));
    let (read, _) = member
        .store
        .get_linearizable(b"key", soon())
        .await
        .expect("a round");
    assert_eq!(read, None);
}

#[tokio::test(start_paused = true)]
async fn a_failing_disk_ends_the_store_and_answers_everybody() {
    let disk = disk(3);
    let (mut member, _) = Member::ready(&disk, small(), 1).await;
    member.put("key", "value").await.expect("written");
    disk.fail_at(disk.operations() + 1, Fault::FailedSync);
    disk.fail_at(disk.operations(), Fault::Refused);
    let puts: Vec<_> = (0..10).map(|_| member.put("key", "other")).collect();
    for put in puts {
        let error = put.await.expect_err("not durable");
        assert!(
            matches!(error, Error::Unknown(_) | Error::Closed),
            "{error}"
        );
    }
    let fatal = member.fatal.wait().await.expect("it failed by itself");
    assert!(!fatal.reason.is_empty());
    assert!(matches!(member.store.get(b"key"), Err(Error::Closed)));
    let barrier = member.store.read_barrier(soon()).await;
    assert!(matches!(barrier, Err(Error::Closed)));
    let (member, _) = Member::ready(&member.kill(), small(), 2).await;
    assert!(member.get("key").is_some());
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_refuses_and_heals() {
    let disk = disk(4);
    let (mut member, _) = Member::ready(&disk, small(), 1).await;
    disk.set_capacity_bytes(0);
    let value = "v".repeat(60 << 10);
    let mut written = 0;
    let refused = loop {
        match member.put(&format!("key/{written}"), &value).await {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, Error::DiskFull), "{refused}");
    assert!(written > 10, "what is there is used: {written}");
    assert!(member.get("key/0").is_some(), "reads go on");
    disk.set_capacity_bytes(u64::MAX);
    tokio::time::sleep(Duration::from_secs(3)).await;
    member
        .put("key", "value")
        .await
        .expect("there is space again");
    let ended = tokio::time::timeout(Duration::from_secs(1), member.fatal.wait()).await;
    assert!(ended.is_err(), "it goes on");
}

#[tokio::test(start_paused = true)]
async fn before_it_is_registered_a_store_says_so() {
    let disk = disk(5);
    disk.set_sync_time(Duration::from_secs(3), Duration::from_secs(3));
    let member = Member::open(&disk, small(), 1).await.expect("it opens");
    let put = member.put("key", "value").await;
    assert!(matches!(put, Err(Error::NotReady)), "{put:?}");
    let shortly = || Instant::now() + Duration::from_millis(10);
    let barrier = member.store.read_barrier(shortly()).await;
    assert!(matches!(barrier, Err(Error::NoQuorum)), "{barrier:?}");
    let ready = member.store.ready(shortly()).await;
    assert!(matches!(ready, Err(Error::NoQuorum)), "{ready:?}");
    let late = Instant::now() + Duration::from_secs(60);
    member.store.ready(late).await.expect("registered");
}

#[tokio::test(start_paused = true)]
async fn a_barrier_sees_what_was_acknowledged_before_it() {
    let (member, _) = Member::ready(&disk(6), small(), 1).await;
    let mut last = Revision(0);
    for number in 0..20 {
        let barriers: Vec<_> = (0..50)
            .map(|_| {
                let store = member.store.clone();
                tokio::spawn(async move { store.read_barrier(soon()).await })
            })
            .collect();
        for barrier in barriers {
            let seen = barrier.await.expect("it does not panic").expect("a round");
            assert!(seen >= last);
        }
        last = member
            .put("key", &number.to_string())
            .await
            .expect("written");
    }
}

#[tokio::test(start_paused = true)]
async fn a_status_tells_what_comes_next_and_keys_and_bytes_by_prefix() {
    let (member, _) = Member::ready(&disk(7), small(), 1).await;
    for key in ["room/one", "room/two", "session/one", "alone"] {
        member.put(key, "value").await.expect("written");
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let status = member.store.status().expect("open");
    let prefixes = status.prefixes.iter();
    let prefixes = prefixes.map(|prefix| (&prefix.prefix[..], prefix.keys, prefix.payload_bytes));
    let expected: [(&[u8], usize, u64); 3] = [
        (b"alone", 1, 10),
        (b"room/", 2, 2 * 13),
        (b"session/", 1, 16),
    ];
    assert_eq!(prefixes.collect::<Vec<_>>(), expected);
    assert!(status.prefixes_complete);
    assert_eq!(status.keys, 4);
    assert_eq!(status.store_bytes, 52 + 4 * 72);
    assert_eq!(status.next_step.as_deref(), Some("nothing to do"));
    for number in 0..100 {
        let key = format!("{number:02}/key");
        member.put(&key, "value").await.expect("written");
    }
    let status = member.store.status().expect("open");
    assert_eq!(status.prefixes.len(), 64);
    assert!(!status.prefixes_complete);
}
