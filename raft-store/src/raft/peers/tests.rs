//! Quorum clock, mute, pace, stuck streams.

use super::*;
use crate::clock::RuntimeClock;

const OURS: Vote = Vote {
    term: 3,
    node: 1,
    committed: true,
};

fn peers(configurations: &[&[u64]]) -> Peers {
    let peers = Peers::new(MemberId(1), Arc::new(RuntimeClock::new(0)));
    let ids = |voters: &&[u64]| voters.iter().copied().map(MemberId).collect();
    peers.set_voters(configurations.iter().map(ids).collect());
    peers
}

async fn pass(millis: u64) {
    tokio::time::sleep(Duration::from_millis(millis)).await;
}

#[tokio::test(start_paused = true)]
async fn the_quorum_clock_is_a_majority_of_each_configuration() {
    let peers = peers(&[&[1, 2, 3], &[3, 4, 5]]);
    peers.electing();
    let at = |millis| Duration::from_millis(millis);
    pass(500).await;
    for (peer, millis) in [(2, 100), (4, 200)] {
        peers.answered(MemberId(peer), OURS, at(millis), None);
    }
    assert_eq!(peers.quorum_clock(OURS), at(0), "of the second only one");
    peers.answered(MemberId(3), OURS, at(300), None);
    assert_eq!(peers.quorum_clock(OURS), at(200));
    peers.answered(MemberId(4), OURS, at(150), None);
    assert_eq!(peers.quorum_clock(OURS), at(200), "a late answer");
    let next = Vote { term: 4, ..OURS };
    assert_eq!(peers.quorum_clock(next), at(0), "under another vote");
    peers.answered(MemberId(5), next, at(400), None);
    peers.answered(MemberId(2), OURS, at(450), None);
    assert_eq!(peers.quorum_clock(next), at(0));
    peers.answered(MemberId(3), next, at(400), None);
    assert_eq!(peers.quorum_clock(next), at(400));
}

#[tokio::test(start_paused = true)]
async fn without_a_quorum_a_leader_is_mute_until_one_answers_pings() {
    let peers = peers(&[&[1, 2, 3]]);
    assert!(!peers.is_mute(OURS), "it has just begun");
    pass(1_000).await;
    assert!(!peers.is_mute(OURS));
    pass(1).await;
    assert!(peers.is_mute(OURS));
    let now = peers.now();
    peers.ponged(MemberId(9), OURS, now);
    assert!(peers.is_mute(OURS), "no voter");
    peers.ponged(MemberId(2), OURS, now);
    assert!(!peers.is_mute(OURS));
    assert_eq!(
        peers.quorum_clock(OURS),
        Duration::ZERO,
        "a ping holds no lease"
    );
    peers.answered(MemberId(3), OURS, now, Some(7));
    assert_eq!(peers.quorum_clock(OURS), now);
    assert_eq!(peers.matched(MemberId(3), OURS), Some(7));
    let before = Vote { term: 2, ..OURS };
    assert!(peers.is_mute(before), "an old stream");
}

#[tokio::test(start_paused = true)]
async fn who_does_not_answer_is_tried_ten_times_a_second() {
    let peers = peers(&[&[1, 2]]);
    let to = MemberId(2);
    assert!(peers.pause(to).is_zero());
    peers.failed(to);
    let mut tries = 0;
    for _ in 0..1_000 {
        if peers.pause(to).is_zero() {
            tries += 1;
        }
        pass(1).await;
    }
    assert_eq!(tries, 9);
    peers.replied(to);
    assert!(peers.pause(to).is_zero() && peers.pause(to).is_zero());
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_asks_for_nothing_is_stuck() {
    let peers = peers(&[&[1, 2]]);
    let members = [1, 2, 3].map(MemberId);
    for _ in 0..STUCK_BEATS {
        peers.asking(MemberId(2), OURS);
        assert_eq!(peers.beat(members.into_iter(), OURS), None);
    }
    assert_eq!(peers.beat(members.into_iter(), OURS), Some(MemberId(3)));
}
