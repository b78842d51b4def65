//! Snapshots and purges of a member that goes on, and what a start finds.

use std::time::Duration;

use raft_store::ids::Revision;
use raft_store::watch::Event;

use super::member::{Member, disk, small};

#[tokio::test(start_paused = true)]
async fn the_log_is_purged_behind_a_published_snapshot() {
    let mut settings = small();
    settings.snapshot_log_bytes = 512;
    let disk = disk(21);
    let (member, _) = Member::ready(&disk, settings.clone(), 1).await;
    for number in 0..100 {
        member
            .put(&format!("key/{number}"), "value")
            .await
            .expect("written");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let before = member.store.status().expect("open");
    let snapshot = before.snapshot.expect("built");
    assert!(snapshot > 50, "again and again: {snapshot}");
    assert!(
        before.log_purged.is_some_and(|purged| purged > 40),
        "{before:?}"
    );
    let (member, _) = Member::ready(&member.kill(), settings, 2).await;
    let after = member.store.status().expect("open");
    assert_eq!(after.keys, 100);
    assert!(after.applied_next > before.applied_next);
    member.store.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn what_a_start_replays_counts_for_the_next_snapshot() {
    let mut settings = small();
    settings.snapshot_log_entries = 50;
    let mut disk = disk(23);
    for run in 0..4 {
        let (member, _) = Member::ready(&disk, settings.clone(), run + 1).await;
        for number in 0..20 {
            member
                .put(&format!("key/{}", number % 2), "value")
                .await
                .expect("written");
        }
        tokio::time::sleep(Duration::from_secs(3)).await;
        let snapshot = member.store.status().expect("open").snapshot;
        assert_eq!(snapshot.is_some(), run >= 2, "run {run}: {snapshot:?}");
        disk = member.kill();
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_delays_a_snapshot_and_nothing_else() {
    let mut settings = small();
    settings.snapshot_log_bytes = 64 << 10;
    let disk = disk(22);
    let (mut member, _) = Member::ready(&disk, settings, 1).await;
    // Two segments are there; nothing more fits.
    disk.set_capacity_bytes(0);
    for number in 0..300 {
        member
            .put(&format!("key/{number}"), &"v".repeat(500))
            .await
            .expect("written");
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(member.store.status().expect("open").snapshot, None);
    disk.set_capacity_bytes(u64::MAX);
    // It is not tried again and again while the disk is full.
    tokio::time::sleep(Duration::from_secs(35)).await;
    assert!(member.store.status().expect("open").snapshot.is_some());
    let ended = tokio::time::timeout(Duration::from_secs(1), member.fatal.wait()).await;
    assert!(ended.is_err(), "it goes on");
}

#[tokio::test(start_paused = true)]
async fn a_watch_goes_on_where_the_scan_ended() {
    let (member, _) = Member::ready(&disk(23), small(), 1).await;
    member.put("a/1", "one").await.expect("written");
    let (items, at) = member.store.scan(b"a/", None, 10).expect("open");
    assert_eq!(items.len(), 1);
    let mut watch = member.store.watch(b"a/", Some(at)).expect("one");
    member.put("b/1", "other").await.expect("written");
    let second = member.put("a/2", "two").await.expect("written");
    match watch.next().await {
        Some(Event::Put { key, revision, .. }) => {
            assert_eq!((&key[..], revision), (&b"a/2"[..], second));
        }
        other => panic!("{other:?}"),
    }
    let mut old = member.store.watch(b"a/", Some(Revision(0))).expect("two");
    assert!(matches!(old.next().await, Some(Event::Put { .. })));
    assert_eq!(member.store.status().expect("open").watches, 2);
    member.store.clone().shutdown().await;
    while let Some(event) = old.next().await {
        assert!(matches!(event, Event::Put { .. }));
    }
    assert!(watch.next().await.is_none(), "closed, not silent");
}
