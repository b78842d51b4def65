//! Three members become nine and three again, none of the first among them, while clients work.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::Directory;
use super::cell::{Again, Ground};
use super::client::{self, field};
use super::run::{LIMIT, Load, Report, begin};
use super::world::{World, zone};

/// Until the voters are as they should be: a member waits ten seconds before it votes.
const PATIENCE: Duration = Duration::from_secs(120);

/// The whole way there and back. What happened, and what must not be besides.
pub fn run(seed: u64, ground: Ground, again: Again) -> (Report, Vec<String>) {
    let directory = Directory::new("scale");
    let mut world = begin(3, ground, again, &directory.0);
    let load = Load::start(&world, 12, seed);
    let mut found = Vec::new();
    found.extend(voters(&mut world, 3));
    for number in 4..=9 {
        world.add(number);
        world.start(number);
        found.extend(serving(&mut world));
    }
    found.extend(voters(&mut world, 5));
    found.extend(spread(&world));
    for number in 1..=6 {
        found.extend(remove(&mut world, number));
    }
    found.extend(voters(&mut world, 3));
    let left: Vec<usize> = world.members.keys().copied().collect();
    println!("left: {left:?}");
    let report = load.finish(&mut world, &directory.0.join("history"));
    (report, found)
}

fn said(world: &World, what: &str) {
    let leader = world.leader();
    let status = leader
        .and_then(|leader| world.status(leader))
        .unwrap_or_default();
    let voters = field(&status, "voters").unwrap_or("?").split(',').count();
    let at = world.began.elapsed().as_secs_f64();
    println!(
        "{at:>7.1} s  {what}: {} members, {voters} voters, {leader:?} leads",
        world.members.len()
    );
}

fn serving(world: &mut World) -> Option<String> {
    let lacking = world.await_serving(PATIENCE);
    said(world, "joined");
    (!lacking.is_empty()).then(|| format!("{lacking:?} do not serve: {}", world.describe()))
}

/// Waits until so many vote, none of them a member that is gone.
fn voters(world: &mut World, wanted: usize) -> Option<String> {
    let began = Instant::now();
    if world.await_voters(wanted, PATIENCE) {
        let after = began.elapsed().as_secs_f64();
        said(world, &format!("{wanted} voters after {after:.1} s"));
        return None;
    }
    Some(format!(
        "no {wanted} voters after {PATIENCE:?}: {}",
        world.describe()
    ))
}

/// No zone has more voters than it must.
fn spread(world: &World) -> Option<String> {
    let mut zones: BTreeMap<String, usize> = BTreeMap::new();
    for voter in world.voters() {
        *zones.entry(zone(voter)).or_default() += 1;
    }
    let even = zones.len() == 3 && zones.values().all(|voters| *voters <= 2);
    (!even).then(|| format!("the voters are in {zones:?}"))
}

/// Removes it from the membership, then ends it.
pub fn remove(world: &mut World, number: usize) -> Option<String> {
    let (began, mut last) = (Instant::now(), String::new());
    // One that has just been started says so only when its store is open.
    let id = loop {
        let status = world.status(number).unwrap_or_default();
        match field(&status, "member") {
            Some(id) => break id.to_owned(),
            None if began.elapsed() < PATIENCE => world.look_after(),
            None => {
                let all = world.describe();
                return Some(format!("{number} does not say who it is: {all}"));
            }
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    world.leaving.insert(number);
    while began.elapsed() < PATIENCE {
        world.look_after();
        let other = world
            .members
            .keys()
            .copied()
            .find(|other| *other != number)?;
        let answer = client::ask(
            world.net.client_address(other),
            &format!("remove {id}"),
            LIMIT,
        );
        last = format!("{answer:?}");
        if answer.is_ok_and(|answer| answer.starts_with("removed")) {
            world.discard(number);
            said(
                world,
                &format!(
                    "{number} removed after {:.1} s",
                    began.elapsed().as_secs_f64()
                ),
            );
            return None;
        }
        std::thread::sleep(Duration::from_millis(300));
    }
    Some(format!(
        "{number} is not removed: {last}: {}",
        world.describe()
    ))
}
