//! Power cuts at seeded operations of the disk, among writes, snapshots and purges.

use super::lives::World;

const SEEDS: u64 = 40;

#[tokio::test(start_paused = true)]
async fn what_was_acknowledged_survives_power_cuts() {
    let (mut writes, mut snapshots) = (0, 0);
    for seed in 0..SEEDS {
        let world = World::new(seed);
        let lived = world.lives(seed).await;
        lived.unwrap_or_else(|lost| panic!("seed {seed}: {lost}"));
        let ledger = world.ledger.lock();
        (writes, snapshots) = (writes + ledger.writes, snapshots + ledger.snapshots);
    }
    println!("{SEEDS} seeds, {writes} batches, {snapshots} lives with a snapshot");
    assert!(writes > 20 * SEEDS, "they wrote: {writes}");
    assert!(snapshots > SEEDS, "they built snapshots: {snapshots}");
}

#[tokio::test(start_paused = true)]
async fn a_disk_whose_sync_does_nothing_is_found_out() {
    for seed in 0..SEEDS {
        let world = World::new(seed);
        world.disk.switch_sync_off();
        if world.lives(seed).await.is_err() {
            return;
        }
    }
    panic!("nothing was lost without a sync: the test does not test");
}
