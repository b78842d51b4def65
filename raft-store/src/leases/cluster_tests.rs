//! Leases among several members: nobody holds one that others have taken for dead.

use std::collections::BTreeSet;
use std::time::Duration;

use super::Lease;
use crate::entry::Close;
use crate::error::Error;
use crate::ids::MemberId;
use crate::link::messages::Renewed;
use crate::random::{Random, Seeded};
use crate::test_cluster::{Fabric, Member, cluster, disk, leader};

const STEP: u64 = 20;

fn ms(time: u64) -> Duration {
    Duration::from_millis(time)
}

fn live(member: &Member) -> BTreeSet<u64> {
    let state = member.core.machine().read().expect("open");
    let rows = state.members().iter().filter(|(_, row)| row.live);
    rows.map(|(id, _)| id.0).collect()
}

/// Where a run that holds its lease is known at all, it is live.
fn assert_exclusive(members: &[Member]) {
    for holder in members.iter().filter(|member| member.lease().is_held()) {
        let run = holder.waiters.incarnation().expect("it holds a lease");
        for other in members {
            let Some(state) = other.core.machine().read() else {
                continue;
            };
            let dead = state.applied() >= run.0 && state.window(run).is_none();
            assert!(
                !dead,
                "{} holds the lease of a run that {} knows dead",
                holder.id, other.id
            );
        }
    }
}

async fn pass(members: &[Member], millis: u64) {
    for _ in 0..millis / STEP {
        tokio::time::sleep(ms(STEP)).await;
        assert_exclusive(members);
    }
}

/// A cluster that holds its leases.
async fn holding(fabric: &Fabric, rates: &[i32]) -> Vec<Member> {
    let members = cluster(fabric, rates).await;
    pass(&members, 2_000).await;
    for member in &members {
        let state = (member.core.leadership(), member.lease().state());
        assert!(member.lease().is_held(), "{} {state:?}", member.id);
    }
    members
}

async fn three(fabric: &Fabric) -> Vec<Member> {
    holding(fabric, &[10_000, 0, -10_000]).await
}

#[tokio::test(start_paused = true)]
async fn all_hold_their_leases() {
    let fabric = Fabric::default();
    let members = three(&fabric).await;
    for _ in 0..600 {
        pass(&members, 100).await;
        for member in &members {
            assert!(member.lease().is_held(), "{}", member.id);
        }
    }
    assert_eq!(live(&members[0]), BTreeSet::from([1, 2, 3]));
}

#[tokio::test(start_paused = true)]
async fn a_killed_leader_costs_nobody_a_lease() {
    for wait in [0, 400, 800, 1200] {
        let fabric = Fabric::default();
        let members = three(&fabric).await;
        pass(&members, 10_000 + wait).await;
        members[0].kill();
        let mut dead_at = None;
        for step in 0..200 {
            pass(&members[1..], 60).await;
            for member in &members[1..] {
                assert!(member.lease().is_held(), "{} after {step}", member.id);
            }
            if dead_at.is_none() && live(&members[1]) == BTreeSet::from([2, 3]) {
                dead_at = Some(step * 60);
            }
        }
        assert!(leader(&members[1..]).is_some());
        let dead_at = dead_at.expect("the killed one is dead");
        assert!((6_400..9_500).contains(&dead_at), "after {dead_at} ms");
    }
}

/// Stops a member for longer than a lease; what the others know of it then.
async fn stopped(which: usize) -> Vec<Member> {
    let fabric = Fabric::default();
    let members = three(&fabric).await;
    pass(&members, 3_000).await;
    let lease = members[which].lease();
    members[which].gate.close();
    pass(&members, 3_500).await;
    assert!(lease.is_held(), "not yet");
    pass(&members, 2_500).await;
    // It cannot run, but whatever it did next would see this.
    assert_eq!(lease.state(), Lease::Lost);
    pass(&members, 4_000).await;
    members[which].gate.open();
    assert_eq!(lease.state(), Lease::Lost);
    pass(&members, 3_000).await;
    assert_eq!(lease.state(), Lease::Lost, "for ever");
    for (at, member) in members.iter().enumerate() {
        assert_eq!(member.lease().is_held(), at != which);
        let others = (1..=3).filter(|id| *id != which as u64 + 1);
        assert_eq!(live(member), others.collect());
    }
    members
}

#[tokio::test(start_paused = true)]
async fn a_stopped_holder_has_lost_its_lease_before_others_act() {
    let members = stopped(2).await;
    let put = members[2].put("key", true, ms(1000)).await;
    assert!(matches!(put, Err(Error::Dead)), "{put:?}");
    let run = members[2].waiters.incarnation().expect("registered");
    let renewed = members[0].leases.renewed(MemberId(3), run).await;
    assert_eq!(renewed, Renewed::Lost);
    let foreign = members[0].leases.renewed(MemberId(2), run).await;
    assert_eq!(foreign, Renewed::Lost, "of another member");
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_declared_dead_sees_it_at_once() {
    let fabric = Fabric::default();
    let members = three(&fabric).await;
    let run = members[2].waiters.incarnation().expect("registered");
    let lease = members[2].lease();
    assert!(lease.is_held());
    // By a person, say: its lease would last.
    let asked = members[0].queue.command(Close::Dead(run));
    asked.expect("there is room");
    tokio::time::timeout(ms(500), lease.lost())
        .await
        .expect("told with the next heartbeat");
    assert_eq!(lease.state(), Lease::Lost);
    let refused = members[2].waiters.begin(1).err();
    assert!(matches!(refused, Some(Error::Dead)), "{refused:?}");
    pass(&members, 10_000).await;
    assert_eq!(lease.state(), Lease::Lost);
}

#[tokio::test(start_paused = true)]
async fn a_stopped_leader_has_lost_its_lease_before_others_act() {
    let members = stopped(0).await;
    assert!(leader(&members[1..]).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_pause_of_all_that_is_shorter_than_a_lease_costs_nobody_one() {
    let fabric = Fabric::default();
    let members = three(&fabric).await;
    for member in &members {
        member.gate.close();
    }
    pass(&members, 3_000).await;
    for member in &members {
        member.gate.open();
    }
    pass(&members, 20_000).await;
    assert_eq!(live(&members[0]), BTreeSet::from([1, 2, 3]));
    assert!(members.iter().all(|member| member.lease().is_held()));
}

#[tokio::test(start_paused = true)]
async fn a_leader_without_a_majority_grants_nothing() {
    let fabric = Fabric::default();
    let members = holding(&fabric, &[10_000, -10_000, 0, 0, -10_000]).await;
    pass(&members, 5_000).await;
    for minority in 1..=2 {
        for majority in 3..=5 {
            fabric.cut(MemberId(minority), MemberId(majority));
            fabric.cut(MemberId(majority), MemberId(minority));
        }
    }
    pass(&members, 6_000).await;
    assert_eq!(members[0].lease().state(), Lease::Lost);
    assert_eq!(members[1].lease().state(), Lease::Lost);
    pass(&members, 6_000).await;
    for member in &members[2..] {
        assert!(member.lease().is_held(), "{}", member.id);
        assert_eq!(live(member), BTreeSet::from([3, 4, 5]));
    }
    assert_eq!(live(&members[0]).len(), 5, "it hears of nothing");
    fabric.heal();
    pass(&members, 5_000).await;
    assert_eq!(live(&members[0]), BTreeSet::from([3, 4, 5]));
    assert!(!members[0].lease().is_held());
}

#[tokio::test(start_paused = true)]
async fn one_way_is_not_enough() {
    for deaf in [true, false] {
        let fabric = Fabric::default();
        let members = three(&fabric).await;
        let (leader, holder) = (MemberId(1), MemberId(3));
        match deaf {
            true => fabric.cut(leader, holder),
            false => fabric.cut(holder, leader),
        }
        pass(&members, 20_000).await;
        // Whoever leads now: the run is dead there, or hears a leader again.
        let held = members[2].lease().is_held();
        let known = live(&members[1]).contains(&3);
        assert_eq!(held, known);
    }
}

/// Ends those that have lost their lease and begins them again; how many.
async fn again(fabric: &Fabric, members: &mut [Member], rates: &[i32]) -> usize {
    let mut lost = 0;
    for (member, rate_ppm) in members.iter_mut().zip(rates) {
        if member.lease().state() == Lease::Lost {
            lost += 1;
            let disk = member.kill();
            *member = Member::open(fabric, member.id.0, disk, *rate_ppm).await;
        }
    }
    lost
}

/// Members that are stopped, cut off, killed and come back as their disks have them. Whoever has lost its lease ends,
/// as a daemon should.
async fn random_faults(seed: u64) -> (usize, usize) {
    let random = Seeded::new(seed, "faults");
    let fabric = Fabric::default();
    let rates: Vec<_> = (0..3 + 2 * random.below(2))
        .map(|_| (random.below(3) as i32 - 1) * 10_000)
        .collect();
    let mut members = cluster(&fabric, &rates).await;
    let (mut lost, mut terms) = (0, BTreeSet::new());
    for _ in 0..20 {
        let at = random.below(members.len() as u64) as usize;
        let member = &members[at];
        let other = members[random.below(members.len() as u64) as usize].id;
        match random.below(6) {
            0 => member.gate.close(),
            1 => fabric.cut_off(member.id),
            2 => fabric.cut(member.id, other),
            3 => {
                let disk = member.kill();
                members[at] = Member::open(&fabric, at as u64 + 1, disk, rates[at]).await;
            }
            _ => {}
        }
        pass(&members, random.below(9_000)).await;
        fabric.heal();
        members.iter().for_each(|member| member.gate.open());
        let seen = members.iter().map(|member| member.core.leadership().term);
        terms.extend(seen);
        lost += again(&fabric, &mut members, &rates).await;
        pass(&members, random.below(4_000)).await;
    }
    // What was lost at last.
    pass(&members, 10_000).await;
    again(&fabric, &mut members, &rates).await;
    pass(&members, 10_000).await;
    for member in &members {
        assert!(member.lease().is_held(), "seed {seed}: {}", member.id);
        assert_eq!(live(member).len(), members.len(), "seed {seed}");
    }
    (lost, terms.len())
}

#[tokio::test(start_paused = true)]
async fn leases_are_exclusive_whatever_happens() {
    let (mut lost, mut terms) = (0, 0);
    for seed in 0..8 {
        let (more, seen) = random_faults(seed).await;
        lost += more;
        terms += seen;
    }
    assert!(lost > 10 && terms > 20, "{lost} lost, {terms} terms");
}

#[tokio::test(start_paused = true)]
async fn a_run_that_catches_up_for_long_is_not_declared_dead() {
    let fabric = Fabric::default();
    let members = three(&fabric).await;
    for number in 0..1_500 {
        let key = format!("key/{number}");
        let put = members[0].put(&key, false, ms(500)).await;
        put.expect("written");
    }
    let slow = disk(4);
    slow.set_sync_time(ms(500), ms(500));
    let joins = Member::open(&fabric, 4, slow, 0).await;
    let began = tokio::time::Instant::now();
    let leader = &members[0].core;
    leader.add_learner(joins.id).await.expect("a learner");
    let run = tokio::time::timeout(ms(60_000), joins.waiters.run());
    run.await.expect("it is registered");
    assert!(began.elapsed() > ms(9_000), "{:?}", began.elapsed());
    pass(&members, 3_000).await;
    assert!(joins.lease().is_held());
    assert_eq!(live(&members[0]), BTreeSet::from([1, 2, 3, 4]));
}
