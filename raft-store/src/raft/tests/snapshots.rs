//! Members whose log does not reach back get snapshots.

use std::time::Duration;

use bytes::Bytes;

use super::super::types::{StoredMembership, encode_meta, from_log_id};
use super::world::{LEADER, VOTE, World, pass};
use crate::ids::MemberId;
use crate::limits::{SNAPSHOT_BYTES_PER_SECOND, SNAPSHOT_CHUNK_BYTES};
use crate::link::messages::{Reply, Request};
use crate::log::LogId;

const SOON: Duration = Duration::from_secs(6);

/// A snapshot each 20 KB, and nothing kept for peers.
async fn small(seed: u64, count: u64) -> World {
    let mut world = World::new(seed);
    world.settings.snapshot_log_bytes = 20_000;
    world.settings.snapshot_check = Duration::from_millis(50);
    world.settings.log_keep_bytes = 1_000;
    world.begin(count).await;
    world
}

fn purged(world: &World, id: u64) -> u64 {
    let state = world.member(id).core.log().log_state();
    state.purged.map_or(0, |id| id.index)
}

async fn fill(world: &mut World, puts: usize, bytes: usize) {
    for _ in 0..puts {
        world.put(bytes).await;
        pass(20).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_member_gets_a_snapshot() {
    for (seed, bytes) in [(1, 2_000), (2, 60_000)] {
        let mut world = small(seed, 1).await;
        fill(&mut world, 60, bytes).await;
        assert!(purged(&world, 1) > 10);
        world.start(2).await;
        world.add_learner(1, 2).await;
        world.settled(SOON).await;
        assert!(purged(&world, 2) > 10, "it came as a snapshot");
        world.vote_in(1, [1, 2]).await;
        fill(&mut world, 10, bytes).await;
        world.settled(SOON).await;
        world.kill(2);
        world.start(2).await;
        fill(&mut world, 1, bytes).await;
        world.settled(SOON).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_member_that_was_away_gets_a_snapshot_while_others_go_on() {
    let mut world = small(3, 3).await;
    fill(&mut world, 5, 2_000).await;
    let (leader, terms) = (world.leader(SOON).await, world.terms());
    let away = (1..=3).find(|id| *id != leader).expect("three");
    world.cut_off(away);
    fill(&mut world, 60, 2_000).await;
    pass(11_000).await;
    fill(&mut world, 60, 2_000).await;
    world.heal();
    fill(&mut world, 100, 2_000).await;
    world.settled(SOON).await;
    assert_eq!(world.terms(), terms);
    assert!(purged(&world, away) > 60);
}

#[tokio::test(start_paused = true)]
async fn a_transfer_goes_on_where_it_was_cut() {
    for at in [20, 60, 100, 140] {
        let mut world = small(4, 1).await;
        fill(&mut world, 120, 60_000).await;
        world.start(2).await;
        world.set_delay(Duration::from_millis(5));
        world.add_learner(1, 2).await;
        pass(at).await;
        world.cut_off(2);
        pass(2_000).await;
        world.heal();
        world.settled(SOON).await;
        let chunks = world.chunks();
        assert!((28..40).contains(&chunks), "{chunks} chunks of 7 MB");
    }
}

/// What is damaged on its way is not written: the answer asks for the same chunk again.
#[tokio::test(start_paused = true)]
async fn a_chunk_that_came_damaged_is_asked_for_again() {
    let mut world = World::new(8);
    world.start(2).await;
    let inbox = world.inbox(2);
    let vote = VOTE;
    let last = LogId {
        term: VOTE.term,
        node: LEADER.0,
        index: 9,
    };
    let meta = encode_meta(Some(from_log_id(last)), &StoredMembership::default());
    let (id, meta) = ([7; 32], meta.expect("it fits").into());
    let offer = Request::SnapshotOffer {
        vote,
        id,
        bytes: 100,
        meta,
    };
    let begins = inbox.serve(LEADER, offer).await;
    assert_eq!(begins, Reply::SnapshotHave { offset: 0 });
    let bytes = Bytes::from_static(b"not what was sent");
    let chunk = |crc| Request::SnapshotChunk {
        vote,
        id,
        offset: 0,
        crc,
        chunk: bytes.clone(),
    };
    let crc = crc32c::crc32c(&bytes);
    let damaged = inbox.serve(LEADER, chunk(crc ^ 1)).await;
    assert_eq!(damaged, Reply::SnapshotHave { offset: 0 });
    let whole = inbox.serve(LEADER, chunk(crc)).await;
    let offset = bytes.len() as u64;
    assert_eq!(whole, Reply::SnapshotHave { offset });
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_is_sent_no_faster_than_its_rate() {
    let mut world = small(7, 1).await;
    fill(&mut world, 120, 60_000).await;
    world.start(2).await;
    world.set_delay(Duration::ZERO);
    world.add_learner(1, 2).await;
    while world.chunks() == 0 {
        pass(1).await;
    }
    let begun = world.chunks();
    pass(50).await;
    let sent = world.chunks() - begun;
    let rate = SNAPSHOT_BYTES_PER_SECOND / SNAPSHOT_CHUNK_BYTES as u64;
    let most = rate / 20 + 2;
    assert!(
        (most / 2..=most).contains(&sent),
        "{sent} chunks, at most {most}"
    );
    world.settled(SOON).await;
}

#[tokio::test(start_paused = true)]
async fn a_receiver_is_killed_at_any_time() {
    for at in (0..300).step_by(10) {
        let mut world = small(5, 1).await;
        fill(&mut world, 40, 60_000).await;
        world.start(2).await;
        let time = Duration::from_millis(3);
        world.disks[&MemberId(2)].set_sync_time(time, time);
        world.set_delay(Duration::from_millis(2));
        world.add_learner(1, 2).await;
        pass(at).await;
        world.kill(2);
        pass(100).await;
        world.start(2).await;
        fill(&mut world, 2, 2_000).await;
        world.settled(SOON).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_slow_peer_needs_is_kept() {
    let mut world = World::new(6);
    world.settings.snapshot_log_bytes = 20_000;
    world.settings.snapshot_check = Duration::from_millis(50);
    world.begin(3).await;
    world.put(100).await;
    let leader = world.leader(SOON).await;
    let slow = (1..=3).find(|id| *id != leader).expect("three");
    let time = Duration::from_millis(500);
    world.disks[&MemberId(slow)].set_sync_time(time, time);
    for _ in 0..200 {
        world.put(2_000).await;
        pass(5).await;
    }
    let published = world.member(leader).core.snapshots().published();
    let published = published.expect("many were built").index;
    let has = world.member(slow).core.last().expect("entries").index;
    assert!(has < published, "it is behind: {has}, {published}");
    assert!(purged(&world, leader) <= has);
    world.settled(SOON * 4).await;
    assert_eq!(world.chunks(), 0, "nobody was sent a snapshot");
    fill(&mut world, 30, 2_000).await;
    pass(2_000).await;
    assert!(purged(&world, leader) >= published);
}
