//! What is done to the members while clients work.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use raft_store::random::{Random, Seeded};

use super::cell::Ground;
use super::scale;
use super::world::World;

/// For a restart, and until all serve again.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// SIGKILL of one.
    Kill,
    KillLeader,
    /// SIGKILL of so many that no majority is left.
    KillMajority,
    KillAll,
    /// SIGSTOP of one.
    Stop,
    StopLeader,
    /// Two sides, of which one may be a majority.
    Halves,
    IsolateLeader,
    /// The leader sends but does not receive.
    DeafLeader,
    /// The leader receives but does not send.
    DumbLeader,
    /// Two that do not reach each other, while both reach the others.
    Partial,
    /// A third of the packets to one member are lost.
    Loss,
    /// One cut off and back again, several times a second.
    Flap,
    /// The date of one steps by up to two weeks, there or back, and stays so.
    StepClock,
    /// SIGTERM and start, one after the other.
    RollingRestart,
    /// One more, with an empty disk.
    Join,
    /// One is removed for ever.
    Remove,
}

const PROCESSES: &[Fault] = &[
    Fault::Kill,
    Fault::KillLeader,
    Fault::KillMajority,
    Fault::KillAll,
    Fault::Stop,
    Fault::StopLeader,
    Fault::StepClock,
];
const MEMBERS: &[Fault] = &[Fault::RollingRestart, Fault::Join, Fault::Remove];
/// Two weeks: dates are wrong by less than thirty days between any two.
const STEP_SECONDS: u64 = 14 * 24 * 3600;
/// So many members there are at most, and at least when one is removed.
const MOST: usize = 7;
const LEAST: usize = 4;
const LINKS: &[Fault] = &[
    Fault::Halves,
    Fault::IsolateLeader,
    Fault::DeafLeader,
    Fault::DumbLeader,
    Fault::Partial,
    Fault::Loss,
    Fault::Flap,
];

/// One fault after the other until `end`, each drawn from the seed, healed before the next. How many of each kind.
pub fn run(world: &mut World, seed: u64, end: Instant) -> BTreeMap<Fault, u64> {
    let random = Seeded::new(seed, "faults");
    let mut counts = BTreeMap::new();
    while Instant::now() + Duration::from_secs(8) < end {
        rest(world, Duration::from_millis(1500 + random.below(3500)));
        let fault = draw(world, &random);
        let hold = Duration::from_millis(500 + random.below(random.below(9000) + 1));
        let hold = hold.min(end.saturating_duration_since(Instant::now()));
        eprintln!(
            "{:>7.1} s  {fault:?} for {:.1} s",
            world.began.elapsed().as_secs_f64(),
            hold.as_secs_f64()
        );
        begin(world, fault, &random, hold);
        world.heal();
        *counts.entry(fault).or_default() += 1;
    }
    rest(world, end.saturating_duration_since(Instant::now()));
    counts
}

/// Lets time pass, and looks after members that end by themselves.
pub fn rest(world: &mut World, time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        world.look_after();
        let left = end.saturating_duration_since(Instant::now());
        std::thread::sleep(left.min(Duration::from_millis(300)));
    }
}

fn draw(world: &World, random: &Seeded) -> Fault {
    let members = world.members.len();
    let links = world.net.ground() == Ground::Namespaces && members > 1;
    let kinds = match random.below(10) {
        0..5 if links => LINKS,
        5..7 if members > 1 => MEMBERS,
        _ => PROCESSES,
    };
    match kinds[random.below(kinds.len() as u64) as usize] {
        Fault::Join if members >= MOST => Fault::Remove,
        Fault::Remove if members < LEAST => Fault::Join,
        fault => fault,
    }
}

fn begin(world: &mut World, fault: Fault, random: &Seeded, hold: Duration) {
    let mut members: Vec<usize> = world.members.keys().copied().collect();
    // In an order of its own.
    for at in (1..members.len()).rev() {
        members.swap(at, random.below(at as u64 + 1) as usize);
    }
    let leader = world.leader().unwrap_or(members[0]);
    let others = |of: usize| members.iter().copied().filter(move |member| *member != of);
    match fault {
        Fault::Kill => world.kill(members[0]),
        Fault::KillLeader => world.kill(leader),
        Fault::KillMajority => members[..members.len() / 2 + 1]
            .iter()
            .for_each(|member| world.kill(*member)),
        Fault::KillAll => members.iter().for_each(|member| world.kill(*member)),
        Fault::Stop => world.stop(members[0]),
        Fault::StopLeader => world.stop(leader),
        Fault::Halves => {
            let (one, other) = members.split_at(members.len() / 2);
            let links = one
                .iter()
                .flat_map(|a| other.iter().flat_map(|b| [(*a, *b), (*b, *a)]));
            world.cut(links.collect::<Vec<_>>());
        }
        Fault::IsolateLeader => world.cut(others(leader).flat_map(|b| [(leader, b), (b, leader)])),
        Fault::DeafLeader => world.cut(others(leader).map(|from| (from, leader))),
        Fault::DumbLeader => world.cut(others(leader).map(|to| (leader, to))),
        Fault::Partial => world.cut([(members[0], members[1]), (members[1], members[0])]),
        Fault::Loss => world.lose(members[0], 33),
        Fault::Flap => return flap(world, members[0], hold, random),
        // Two that are as far apart as can be still accept each other's certificates.
        Fault::StepClock => {
            let seconds = random.below(2 * STEP_SECONDS) as i64 - STEP_SECONDS as i64;
            world.step_clock(members[0], seconds);
        }
        Fault::RollingRestart => return members.iter().for_each(|member| restart(world, *member)),
        Fault::Join => {
            let number = world.newest + 1;
            world.add(number);
            world.start(number);
        }
        Fault::Remove => {
            if let Some(wrong) = scale::remove(world, members[0]) {
                world.surprises.push(wrong);
            }
        }
    }
    rest(world, hold);
}

/// As an upgrade does it: the next one only when this one serves again.
fn restart(world: &mut World, member: usize) {
    world.terminate(member, PATIENCE);
    world.start(member);
    if !world.bring_up(PATIENCE).is_empty() {
        world
            .surprises
            .push(format!("after a restart of {member}: {}", world.describe()));
    }
}

fn flap(world: &mut World, member: usize, hold: Duration, random: &Seeded) {
    let end = Instant::now() + hold;
    let others: Vec<usize> = world
        .members
        .keys()
        .copied()
        .filter(|other| *other != member)
        .collect();
    while Instant::now() < end {
        world.cut(
            others
                .iter()
                .flat_map(|other| [(member, *other), (*other, member)]),
        );
        std::thread::sleep(Duration::from_millis(random.below(400)));
        world.mend();
        // Whoever lost its lease meanwhile is started again, as a supervisor does it.
        world.look_after();
        std::thread::sleep(Duration::from_millis(random.below(400)));
    }
}
