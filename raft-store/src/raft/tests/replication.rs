//! Replication and elections among a few members, one fault at a time.

use std::time::Duration;

use tokio::time::Instant;

use super::super::budget::APPEND_BYTES;
use super::world::{Member, World, pass};
use crate::ids::MemberId;
use crate::link::messages::Request;
use crate::log::Vote;
use crate::random::{Random, Seeded};

const SOON: Duration = Duration::from_secs(4);

#[tokio::test(start_paused = true)]
async fn two_members_have_one_state() {
    let mut world = World::of(1, 2).await;
    for _ in 0..20 {
        world.put(100).await;
    }
    world.settled(SOON).await;
    let terms = world.terms();
    world.cut_off(2);
    pass(1_500).await;
    assert!(!world.member(1).core.has_quorum());
    assert!(!world.member(2).core.has_quorum());
    world.heal();
    world.put(100).await;
    world.settled(SOON).await;
    assert_eq!(world.terms().len(), 1);
    assert!(world.terms() >= terms);
}

#[tokio::test(start_paused = true)]
async fn the_leader_is_killed_and_another_follows_within_two_seconds() {
    for seed in 0..10 {
        let mut world = World::of(seed, 3).await;
        world.set_delay(Duration::from_millis(2));
        for _ in 0..5 {
            world.put(100).await;
        }
        let leader = world.leader(SOON).await;
        world.kill(leader);
        let next = world.leader(Duration::from_secs(2)).await;
        assert_ne!(next, leader);
        world.put(100).await;
        world.start(leader).await;
        world.put(100).await;
        world.settled(SOON).await;
    }
}

#[tokio::test(start_paused = true)]
async fn no_vote_is_given_between_the_look_and_the_election() {
    let mut world = World::of(16, 3).await;
    world.put(100).await;
    let leader = world.leader(SOON).await;
    let follows = (1..=3).find(|id| *id != leader).expect("three");
    let other = (1..=3).rev().find(|id| *id != leader).expect("three");
    (1..=3).for_each(|id| world.cut_off(id));
    pass(950).await;
    let core = world.member(follows).core.clone();
    let before = core.standing().await.expect("it runs").vote;
    let vote = Vote {
        term: before.term + 1,
        node: other,
        committed: false,
    };
    let last = core.last();
    let inbox = world.inbox(follows);
    // The request comes right behind the look.
    let (began, reply) = tokio::join!(
        core.elect_if(|now| now.vote == before),
        inbox.serve(MemberId(other), Request::Vote { vote, last })
    );
    assert_eq!(began, Some(true));
    let now = core.standing().await.expect("it runs").vote;
    assert_eq!(now.term, before.term + 1, "{now:?} {reply:?}");
    let again = core.elect_if(|now| now.vote == before).await;
    assert_eq!(again, Some(false));
}

/// How long after a leader is cut off, from one of the others a little later than from the rest, another one leads.
async fn cut_off_and_replaced(seed: u64, count: u64) -> Duration {
    let random = Seeded::new(seed, "cut off");
    let mut world = World::of(seed, count).await;
    world.set_delay(Duration::from_micros(random.below(20_000)));
    let most = Duration::from_millis(random.below(40));
    for disk in world.disks.values() {
        disk.set_sync_time(Duration::ZERO, most);
    }
    for _ in 0..5 {
        world.put(100).await;
    }
    let leader = world.leader(SOON).await;
    pass(random.below(1_000)).await;
    let last = (1..=count).rev().find(|id| *id != leader).expect("several");
    for other in (1..=count).filter(|id| *id != leader) {
        world.cut_one_way(other, leader);
        if other == last {
            pass(random.below(300)).await;
        }
        world.cut_one_way(leader, other);
    }
    let began = Instant::now();
    let leads = |member: &&Member| member.id.0 != leader && member.core.has_quorum();
    while !world.members.values().any(|member| leads(&member)) {
        assert!(began.elapsed() < Duration::from_secs(10), "seed {seed}");
        pass(2).await;
    }
    let took = began.elapsed();
    world.put(100).await;
    took
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_cut_off_is_replaced_soon() {
    for count in [3, 5] {
        let mut longest = (Duration::ZERO, 0);
        for seed in 0..25 {
            longest = longest.max((cut_off_and_replaced(seed, count).await, seed));
        }
        let (time, seed) = longest;
        println!("of {count} voters: {time:?} at most");
        assert!(time < Duration::from_millis(1_800), "seed {seed}: {time:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_voter_cut_off_and_healed_changes_no_term() {
    let mut world = World::of(3, 3).await;
    let (leader, terms) = (world.leader(SOON).await, world.terms());
    let other = (1..=3).find(|id| *id != leader).expect("three");
    world.cut_off(other);
    for _ in 0..10 {
        world.put(1000).await;
        pass(500).await;
    }
    world.heal();
    world.put(100).await;
    world.settled(SOON).await;
    assert_eq!(world.terms(), terms);
}

#[tokio::test(start_paused = true)]
async fn a_slow_disk_changes_no_term() {
    for millis in [150, 400] {
        let mut world = World::of(4, 3).await;
        let (leader, terms) = (world.leader(SOON).await, world.terms());
        let slow = (1..=3).find(|id| *id != leader).expect("three");
        let time = Duration::from_millis(millis);
        world.disks[&MemberId(slow)].set_sync_time(time, time);
        for _ in 0..40 {
            world.put(40_000).await;
        }
        pass(3_000).await;
        world.settled(Duration::from_secs(30)).await;
        assert_eq!(world.terms(), terms, "{millis} ms");
    }
}

/// What it gets at once it is to answer within a heartbeat.
#[tokio::test(start_paused = true)]
async fn a_peer_with_a_slow_disk_is_sent_less_at_once() {
    for millis in [150, 400] {
        let mut world = World::of(4, 3).await;
        let leader = world.leader(SOON).await;
        let slow = leader % 3 + 1;
        let fast = slow % 3 + 1;
        let time = Duration::from_millis(millis);
        world.disks[&MemberId(slow)].set_sync_time(time, time);
        world.set_delay(Duration::from_millis(2));
        for _ in 0..40 {
            world.put(40_000).await;
        }
        pass(3_000).await;
        let peers = world.member(leader).core.peers();
        assert!(peers.budget(MemberId(slow)) < APPEND_BYTES, "{millis} ms");
        assert_eq!(peers.budget(MemberId(fast)), APPEND_BYTES, "{millis} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn all_disks_are_slow_and_somebody_leads() {
    for millis in [150, 400] {
        let mut world = World::of(5, 3).await;
        let time = Duration::from_millis(millis);
        world
            .disks
            .values()
            .for_each(|disk| disk.set_sync_time(time, time));
        world.put(100).await;
        let leader = world.leader(SOON).await;
        world.kill(leader);
        world.leader(Duration::from_secs(8)).await;
        world.put(100).await;
        let terms = world.terms();
        for _ in 0..10 {
            world.put(100_000).await;
        }
        assert_eq!(world.terms(), terms, "{millis} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_hears_nobody_goes_mute() {
    let mut world = World::of(6, 3).await;
    world.put(100).await;
    let leader = world.leader(SOON).await;
    for other in (1..=3).filter(|id| *id != leader) {
        world.cut_one_way(other, leader);
    }
    pass(1_100).await;
    let next = world.leader(Duration::from_secs(4)).await;
    assert_ne!(next, leader);
    world.put(100).await;
    world.heal();
    world.put(100).await;
    world.settled(SOON).await;
    assert_eq!(world.terms().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn when_nobody_hears_anybody_nothing_changes_but_leaders() {
    let mut world = World::of(7, 3).await;
    world.put(100).await;
    let (leader, terms) = (world.leader(SOON).await, world.terms());
    (1..=3).for_each(|id| world.cut_off(id));
    pass(10_000).await;
    assert!(!world.member(leader).core.has_quorum());
    assert_eq!(world.terms(), terms, "nobody has tried to be elected");
    world.heal();
    world.put(100).await;
    world.settled(SOON).await;
    assert_eq!(world.terms().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn five_voters_live_without_two() {
    let mut world = World::of(8, 5).await;
    world.put(100).await;
    for _ in 0..2 {
        let leader = world.leader(SOON).await;
        world.kill(leader);
        world.leader(Duration::from_secs(3)).await;
        world.put(100).await;
    }
    let gone: Vec<_> = (1..=5).filter(|id| !world.runs(*id)).collect();
    for id in gone {
        world.start(id).await;
    }
    world.put(100).await;
    world.settled(SOON).await;
}

#[tokio::test(start_paused = true)]
async fn all_are_killed_and_elect_again() {
    let mut world = World::of(9, 3).await;
    for _ in 0..5 {
        world.put(100).await;
        (1..=3).for_each(|id| world.kill(id));
        for id in 1..=3 {
            world.start(id).await;
        }
    }
    world.put(100).await;
    world.settled(SOON).await;
}

#[tokio::test(start_paused = true)]
async fn a_paused_leader_is_replaced_and_follows() {
    let mut world = World::of(10, 3).await;
    world.put(100).await;
    let leader = world.leader(SOON).await;
    world.member(leader).gate.close();
    pass(8_000).await;
    world.member(leader).gate.open();
    pass(1_000).await;
    assert_ne!(world.leader(SOON).await, leader);
    world.put(100).await;
    world.settled(SOON).await;
}

#[tokio::test(start_paused = true)]
async fn a_dead_peer_is_tried_ten_times_a_second() {
    let mut world = World::of(11, 3).await;
    world.put(100).await;
    let leader = world.leader(SOON).await;
    let dead = (1..=3).find(|id| *id != leader).expect("three");
    world.kill(dead);
    let before = world.lost(dead);
    for _ in 0..100 {
        world.put(100).await;
        pass(100).await;
    }
    let tries = world.lost(dead) - before;
    assert!(tries <= 101, "{tries} in ten seconds");
    assert!(tries >= 10, "{tries} in ten seconds");
}

#[tokio::test(start_paused = true)]
async fn large_entries_are_cut_to_what_a_peer_takes() {
    let mut world = World::of(12, 2).await;
    let leader = world.leader(SOON).await;
    world.start(3).await;
    for _ in 0..60 {
        world.put(60_000).await;
    }
    world.add_learner(leader, 3).await;
    world.settled(SOON).await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_stuck_ends_the_leader() {
    let mut world = World::of(13, 3).await;
    world.put(100).await;
    let leader = world.leader(SOON).await;
    let other = (1..=3).find(|id| *id != leader).expect("three");
    world.plant_panic(other);
    let fatal = &mut world
        .members
        .get_mut(&MemberId(leader))
        .expect("runs")
        .fatal;
    let fatal = tokio::time::timeout(Duration::from_secs(5), fatal).await;
    let fatal = fatal.expect("in time").expect("told");
    assert!(fatal.reason.contains("stuck"), "{}", fatal.reason);
}

#[tokio::test(start_paused = true)]
async fn a_member_that_lost_its_log_is_barred() {
    let mut world = World::of(14, 3).await;
    for _ in 0..10 {
        world.put(100).await;
    }
    world.settled(SOON).await;
    let leader = world.leader(SOON).await;
    let other = (1..=3).find(|id| *id != leader).expect("three");
    world.kill(other);
    world.disks.remove(&MemberId(other));
    world.start(other).await;
    world.put(100).await;
    pass(2_000).await;
    assert!(world.member(leader).core.is_barred(MemberId(other)));
    assert!(
        world.member(other).core.last().is_none(),
        "nothing is sent to it"
    );
    world.put(100).await;
}

#[tokio::test(start_paused = true)]
async fn a_follower_without_space_holds_entries_back_and_stays_a_voter() {
    let mut world = World::of(15, 3).await;
    world.put(100).await;
    let (leader, terms) = (world.leader(SOON).await, world.terms());
    let full = (1..=3).find(|id| *id != leader).expect("three");
    let disk = world.disks[&MemberId(full)].clone();
    // Two segments are there; no third.
    disk.set_capacity_bytes(3 << 20);
    for _ in 0..60 {
        world.put(60_000).await;
    }
    pass(5_000).await;
    assert!(world.member(full).core.log().is_full());
    let state = world.member(full).core.machine().read().is_some();
    assert!(state, "it goes on");
    // With the full one's answers alone there is still a quorum.
    let other = (1..=3).find(|id| *id != leader && *id != full);
    world.cut_off(other.expect("three"));
    pass(3_000).await;
    assert!(world.member(leader).core.has_quorum());
    disk.set_capacity_bytes(u64::MAX);
    world.heal();
    world.put(100).await;
    world.settled(Duration::from_secs(10)).await;
    assert_eq!(world.terms(), terms);
}

/// Its core waits for its disk, so it sends nothing any more; nobody has to find out why.
#[tokio::test(start_paused = true)]
async fn a_leader_whose_disk_hangs_is_replaced_and_follows() {
    let mut world = World::of(17, 3).await;
    world.put(100).await;
    let leader = world.leader(SOON).await;
    let disk = world.disks[&MemberId(leader)].clone();
    let ever = Duration::from_secs(60);
    disk.set_sync_time(ever, ever);
    // As long as it writes nothing, it leads; the first put is appended by it, and again by the next leader.
    let began = Instant::now();
    world.put(100).await;
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    let next = world.leader(SOON).await;
    assert_ne!(next, leader);
    assert!(!world.member(leader).core.has_quorum());
    disk.set_sync_time(Duration::ZERO, Duration::ZERO);
    pass(60_000).await;
    world.put(100).await;
    world.settled(SOON).await;
}
