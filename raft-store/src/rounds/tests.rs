//! What one round serves.

use futures_util::future::join_all;
use tokio::time::{Duration, Instant};

use crate::test_cluster::{Fabric, cluster};

const SOON: Duration = Duration::from_secs(2);

#[tokio::test(start_paused = true)]
async fn one_round_serves_all_who_wait() {
    let fabric = Fabric::default();
    let members = cluster(&fabric, &[0, 0, 0]).await;
    tokio::time::sleep(SOON).await;
    let follows = &members[1];
    assert!(!follows.core.is_leading());
    let before = fabric.reads();
    let barriers = (0..500).map(|_| async {
        let deadline = Instant::now() + SOON;
        follows.rounds.barrier(&follows.waiters, deadline).await
    });
    for read in join_all(barriers).await {
        read.expect("the leader answers");
    }
    let asked = fabric.reads() - before;
    assert!((1..=2).contains(&asked), "asked {asked} times");
    // Who comes while one runs is not served by it.
    let late = async {
        tokio::time::sleep(Duration::from_millis(1)).await;
        let deadline = Instant::now() + SOON;
        follows.rounds.barrier(&follows.waiters, deadline).await
    };
    let early = follows
        .rounds
        .barrier(&follows.waiters, Instant::now() + SOON);
    let before = fabric.reads();
    let (early, late) = tokio::join!(early, late);
    early.and(late).expect("the leader answers");
    assert_eq!(fabric.reads() - before, 2);
}
