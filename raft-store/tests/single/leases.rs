//! The lease of a lone member, and what the death of a run leaves behind.

use std::time::Duration;

use bytes::Bytes;
use raft_store::ids::Incarnation;
use raft_store::{Action, Expect, Lease, Write};

use super::member::{Member, disk, small, soon};

async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn a_lone_member_keeps_its_lease() {
    let (member, _) = Member::ready(&disk(1), small(), 1).await;
    let lease = member.store.lease();
    assert!(lease.held().await);
    pass(60).await;
    assert!(lease.is_held());
    // Stopped, as a laptop that sleeps: nobody could take anything from it.
    member.gate.close();
    pass(3600).await;
    assert!(lease.is_held());
    member.gate.open();
    pass(30).await;
    assert!(lease.is_held());
    member
        .put("after", "it")
        .await
        .expect("the run is not dead");
    member.store.clone().shutdown().await;
    lease.lost().await;
    assert_eq!(lease.state(), Lease::Lost);
}

fn owned(number: usize, owner: Incarnation) -> Write {
    Write {
        key: Bytes::from(format!("owned/{number:04}")),
        expect: Expect::Any,
        action: Action::Put {
            value: Bytes::from_static(b"mine"),
            owner: Some(owner),
        },
    }
}

/// How many keys are there, and how many of them are orphaned.
fn count(member: &Member) -> (usize, usize) {
    let (found, _) = member.store.scan(b"owned/", None, 9999).expect("open");
    let orphaned = found.iter().filter(|item| item.versioned.orphaned);
    (found.len(), orphaned.count())
}

#[tokio::test(start_paused = true)]
async fn what_a_dead_run_owned_is_removed_beside_other_writes() {
    let disk = disk(2);
    let (member, first) = Member::ready(&disk, small(), 1).await;
    for batch in 0..5 {
        let writes = (batch * 500..(batch + 1) * 500).map(|number| owned(number, first));
        let outcome = member.store.batch(writes.collect(), soon()).await;
        assert!(outcome.expect("written").iter().all(Result::is_ok));
    }
    let disk = member.kill();
    let (member, second) = Member::ready(&disk, small(), 2).await;
    assert!(second > first);
    let (there, orphaned) = count(&member);
    assert_eq!(there, orphaned, "all of them at once");
    assert!(there >= 1500, "removal goes step by step: {there} left");
    let mut seen = vec![there];
    while count(&member).0 > 0 {
        member
            .put("beside", "it")
            .await
            .expect("others are not held up");
        pass_ms(5).await;
        seen.push(count(&member).0);
        assert!(seen.len() < 1000, "{seen:?}");
    }
    seen.dedup();
    assert!(
        seen.windows(2).all(|pair| pair[0] - pair[1] <= 1000),
        "{seen:?}"
    );
}

async fn pass_ms(millis: u64) {
    tokio::time::sleep(Duration::from_millis(millis)).await;
}
