//! Hand-over under load, with each participant killed at each moment of it.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

use super::HandOverError;
use crate::error::Error;
use crate::ids::MemberId;
use crate::test_cluster::{Fabric, Member, cluster, leader};

const SOON: Duration = Duration::from_secs(2);

fn ms(time: u64) -> Duration {
    Duration::from_millis(time)
}

fn soon() -> Instant {
    Instant::now() + SOON
}

/// Puts keys of its own at a member, one after the other, until it is told to end. What was acknowledged.
async fn load(member: &Member, go_on: &Cell<bool>) -> BTreeSet<String> {
    let mut put = BTreeSet::new();
    for number in 0.. {
        if !go_on.get() {
            break;
        }
        let key = format!("{}/{number}", member.id);
        match member.put(&key, false, ms(500)).await {
            Ok(()) => drop(put.insert(key)),
            Err(_) => tokio::time::sleep(ms(10)).await,
        }
        tokio::time::sleep(ms(10)).await;
    }
    put
}

fn has(member: &Member, keys: &BTreeSet<String>) -> bool {
    let state = member.core.machine().read().expect("open");
    keys.iter().all(|key| state.get(key.as_bytes()).is_some())
}

async fn three(fabric: &Fabric) -> Vec<Member> {
    let members = cluster(fabric, &[10_000, 0, -10_000]).await;
    tokio::time::sleep(SOON).await;
    members
}

#[tokio::test(start_paused = true)]
async fn leadership_moves_at_once_and_back() {
    let fabric = Fabric::default();
    let members = three(&fabric).await;
    let go_on = Cell::new(true);
    let moves = async {
        for (from, to) in [(0, 2), (2, 1), (1, 0), (0, 1)] {
            tokio::time::sleep(ms(333)).await;
            let (began, term) = (Instant::now(), members[from].core.leadership().term);
            let to = members[to].id;
            let led = members[from].hand_over.run(Some(to), soon()).await;
            assert_eq!(led, Ok(to));
            let took = began.elapsed();
            assert!(took < ms(50), "{took:?}");
            assert_eq!(members[from].core.leadership().term, term + 1);
            let again = members[from].hand_over.run(None, soon()).await;
            assert_eq!(again, Err(HandOverError::NotLeading));
        }
        tokio::time::sleep(ms(333)).await;
        go_on.set(false);
    };
    let (first, second, third, ()) = tokio::join!(
        load(&members[0], &go_on),
        load(&members[1], &go_on),
        load(&members[2], &go_on),
        moves
    );
    // What was acknowledged last is told to the others with the next heartbeat.
    tokio::time::sleep(ms(500)).await;
    for keys in [&first, &second, &third] {
        assert!(keys.len() > 50, "{}", keys.len());
        assert!(members.iter().all(|member| has(member, keys)));
    }
    assert!(members.iter().all(|member| member.lease().is_held()));
}

#[tokio::test(start_paused = true)]
async fn who_cannot_hand_over_leads_on() {
    let fabric = Fabric::default();
    let members = three(&fabric).await;
    let led = &members[0];
    let nobody = led.hand_over.run(Some(MemberId(9)), soon()).await;
    assert_eq!(nobody, Err(HandOverError::NoTarget));
    let own = led.hand_over.run(Some(led.id), soon()).await;
    assert_eq!(own, Err(HandOverError::NoTarget));
    // The target answers nothing, so it never has what the leader has.
    fabric.cut(led.id, members[2].id);
    led.put("more", false, ms(500)).await.expect("two of three");
    let (behind, twice) = tokio::join!(
        led.hand_over.run(Some(members[2].id), soon()),
        led.hand_over.run(Some(members[1].id), soon())
    );
    assert_eq!(behind, Err(HandOverError::Behind));
    assert_eq!(twice, Err(HandOverError::UnderWay));
    assert!(led.core.is_leading());
    led.put("after", false, ms(500)).await.expect("it leads on");
    fabric.heal();
    // A change of voters that cannot end.
    fabric.cut_off(led.id);
    let change = led
        .core
        .replace_voters(BTreeSet::from([led.id, members[1].id]));
    let joint = async {
        tokio::time::sleep(ms(100)).await;
        led.hand_over.run(None, soon()).await
    };
    tokio::select! {
        biased;
        changed = change => panic!("{changed:?}"),
        joint = joint => assert_eq!(joint, Err(HandOverError::Joint)),
    }
}

#[tokio::test(start_paused = true)]
async fn a_drained_member_leads_no_more_and_takes_nothing_new() {
    let fabric = Fabric::default();
    let members = three(&fabric).await;
    let led = &members[0];
    let (put, drained) = tokio::join!(
        led.put("last", false, ms(500)),
        led.hand_over.drain(&led.waiters, soon())
    );
    put.expect("it was under way");
    drained.expect("there are others");
    assert!(!led.core.is_leading());
    let refused = led.put("more", false, ms(500)).await;
    assert!(matches!(refused, Err(Error::Draining)), "{refused:?}");
    assert!(leader(&members).is_some());
    let alone = Fabric::default();
    let members = cluster(&alone, &[0]).await;
    let drained = members[0].hand_over.drain(&members[0].waiters, soon());
    drained.await.expect("nobody else could lead");
}

/// `victim` (0: who leads, 1: the target, 2: the third) dies `after` the beginning.
async fn killed(victim: usize, after: Duration) {
    let fabric = Fabric::default();
    let members = three(&fabric).await;
    let go_on = Cell::new(true);
    let kill = async {
        tokio::time::sleep(ms(100)).await;
        let handing = members[0].hand_over.run(Some(members[1].id), soon());
        let killing = async {
            tokio::time::sleep(after).await;
            members[victim].kill();
        };
        let _ = tokio::join!(handing, killing);
        // Who is left has a leader that commits within four seconds.
        tokio::time::sleep(ms(4_000)).await;
        go_on.set(false);
    };
    let (first, second, third, ()) = tokio::join!(
        load(&members[0], &go_on),
        load(&members[1], &go_on),
        load(&members[2], &go_on),
        kill
    );
    let acknowledged = [first, second, third];
    for (at, member) in members.iter().enumerate().filter(|(at, _)| *at != victim) {
        let context = format!("member {at} after {victim} was killed at {after:?}");
        let put = member.put("end", false, ms(500)).await;
        tokio::time::sleep(ms(500)).await;
        put.unwrap_or_else(|error| panic!("{context}: {error}"));
        assert!(member.lease().is_held(), "{context}");
        assert!(
            acknowledged.iter().all(|keys| has(member, keys)),
            "{context}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_dies_at_whatever_moment_the_others_go_on() {
    for victim in 0..3 {
        for after in 0..7 {
            killed(victim, Duration::from_micros(1000 * after + 500)).await;
        }
    }
}
