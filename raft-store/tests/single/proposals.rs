//! At most once, always answered, bounded.

use std::time::Duration;

use bytes::Bytes;
use raft_store::ids::ProposalId;
use raft_store::{Action, Error, Expect, Refusal, Resolution, Write, WriteOutcome};
use tokio::time::Instant;

use super::member::{Member, disk, small, soon};

fn unknown(error: &Error) -> ProposalId {
    match error {
        Error::Unknown(id) => *id,
        other => panic!("{other}"),
    }
}

/// A disk whose syncs take longer than a short deadline.
async fn slow(seed: u64) -> Member {
    let disk = disk(seed);
    let (member, _) = Member::ready(&disk, small(), 1).await;
    disk.set_sync_time(Duration::from_millis(200), Duration::from_millis(200));
    member
}

fn shortly() -> Instant {
    Instant::now() + Duration::from_millis(50)
}

#[tokio::test(start_paused = true)]
async fn a_deadline_answers_and_resolve_tells_later() {
    let member = slow(11).await;
    let put = |value: &'static str| {
        member
            .store
            .put_if(b"key", value.into(), Expect::Any, None, shortly())
    };
    let began = Instant::now();
    let id = unknown(&put("late").await.expect_err("too slow"));
    assert!(began.elapsed() < Duration::from_millis(60));
    // Later ones are answered meanwhile; its result is kept all the same.
    for _ in 0..3 {
        member.put("other", "value").await.expect("written");
    }
    let resolved = member.store.resolve(id, soon()).await.expect("answered");
    let Resolution::Applied(outcomes) = resolved else {
        panic!("it was on its way: {resolved:?}");
    };
    assert!(matches!(outcomes[..], [Ok(WriteOutcome::Written(_))]));
    let (found, _) = member.store.get(b"key").expect("open");
    let once = found.expect("written").revision;
    assert_eq!(outcomes, [Ok(WriteOutcome::Written(once))]);
    // Asked again, it is the same.
    let again = member.store.resolve(id, soon()).await;
    assert!(
        matches!(again, Ok(Resolution::Applied(_) | Resolution::Stale)),
        "{again:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_proposal_of_a_run_before_is_refused() {
    let member = slow(12).await;
    let put = member
        .store
        .put_if(b"key", "late".into(), Expect::Any, None, shortly());
    let id = unknown(&put.await.expect_err("too slow"));
    let (member, second) = Member::ready(&member.kill(), small(), 2).await;
    assert!(second > id.incarnation);
    let resolved = member.store.resolve(id, soon()).await;
    assert!(matches!(resolved, Ok(Resolution::Dead)), "{resolved:?}");
    let before = id.incarnation;
    let owned = member
        .store
        .put_if(b"owned", "x".into(), Expect::Any, Some(before), soon());
    let refused = owned.await;
    assert!(
        matches!(refused, Err(Error::Refused(Refusal::OwnerDead))),
        "{refused:?}"
    );
    let later = ProposalId {
        incarnation: second,
        sequence: 1 << 40,
    };
    let foreign = member.store.resolve(later, soon()).await;
    assert!(matches!(foreign, Err(Error::Foreign(_))), "{foreign:?}");
}

#[tokio::test(start_paused = true)]
async fn keys_of_a_run_before_are_orphaned() {
    let disk = disk(13);
    let (member, first) = Member::ready(&disk, small(), 1).await;
    let put = member
        .store
        .put_if(b"mine", "x".into(), Expect::Any, Some(first), soon());
    put.await.expect("written");
    let (member, _) = Member::ready(&member.kill(), small(), 2).await;
    let (found, _) = member.store.get(b"mine").expect("open");
    assert!(found.expect("not removed yet").orphaned);
}

#[tokio::test(start_paused = true)]
async fn what_is_under_way_is_bounded_and_packed() {
    let member = slow(14).await;
    let before = member.store.status().expect("open").log_written;
    let puts: Vec<_> = (0..4200)
        .map(|number: u32| {
            let store = member.store.clone();
            tokio::spawn(async move {
                let key = number.to_le_bytes();
                store
                    .put_if(&key, Bytes::new(), Expect::Any, None, soon())
                    .await
            })
        })
        .collect();
    let (mut busy, mut written) = (0, 0);
    for put in puts {
        match put.await.expect("it does not panic") {
            Ok(WriteOutcome::Written(_)) => written += 1,
            Err(Error::Busy) => busy += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((busy, written), (104, 4096));
    let after = member.store.status().expect("open").log_written;
    let entries = after.entries - before.entries;
    assert!((8..=10).contains(&entries), "{entries} entries");
}

#[tokio::test(start_paused = true)]
async fn limits_are_refused_before_they_cost_anything() {
    let (member, _) = Member::ready(&disk(15), small(), 1).await;
    let before = member.store.status().expect("open").log_last;
    let put = |key: usize, value: usize| {
        let (key, value) = (vec![b'k'; key], Bytes::from(vec![0; value]));
        let store = member.store.clone();
        async move { store.put_if(&key, value, Expect::Any, None, soon()).await }
    };
    for key in [0, 513, 5000] {
        let refused = put(key, 1).await;
        assert!(
            matches!(refused, Err(Error::Refused(Refusal::KeyBytes))),
            "{refused:?}"
        );
    }
    let refused = put(1, (64 << 10) + 1).await;
    assert!(
        matches!(refused, Err(Error::Refused(Refusal::ValueBytes))),
        "{refused:?}"
    );
    let batch = |writes: usize, value: usize| {
        let put = |number: usize| Write {
            key: Bytes::from(number.to_string()),
            expect: Expect::Any,
            action: Action::Put {
                value: Bytes::from(vec![0; value]),
                owner: None,
            },
        };
        member.store.batch((0..writes).map(put).collect(), soon())
    };
    assert!(matches!(
        batch(513, 1).await,
        Err(Error::TooMany { limit: 512, .. })
    ));
    assert!(matches!(
        batch(5, 60 << 10).await,
        Err(Error::TooLarge { .. })
    ));
    assert_eq!(member.store.status().expect("open").log_last, before);
    put(512, 64 << 10).await.expect("the largest");
    let largest = batch(512, 400).await.expect("the largest");
    assert_eq!(largest.len(), 512);
}

/// One write is done, the other met a conflict; the store ends before the caller looks. It is not told that nothing was done.
#[tokio::test(start_paused = true)]
async fn a_batch_that_is_done_is_not_called_undone() {
    let (member, _) = Member::ready(&disk(16), small(), 1).await;
    member.put("there", "value").await.expect("written");
    let write = |key: &'static str| Write {
        key: key.into(),
        expect: Expect::Absent,
        action: Action::Put {
            value: "batch".into(),
            owner: None,
        },
    };
    let writes = vec![write("new"), write("there")];
    let mut batch = Box::pin(member.store.batch(writes, soon()));
    let asked = futures_util::poll!(&mut batch);
    assert!(asked.is_pending());
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(member.get("new").as_deref(), Some("batch"));
    member.store.clone().shutdown().await;
    let told = batch.await;
    assert!(matches!(told, Err(Error::Unknown(_))), "{told:?}");
}
