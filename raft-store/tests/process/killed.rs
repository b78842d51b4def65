//! A leader killed again and again, leadership handed over, all members killed at once: how long until the next commit.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::Directory;
use super::cell::{Again, Ground};
use super::client::{self, Client, field};
use super::run::{FIRST_LEADER, LIMIT, begin};
use super::times::Times;
use super::world::World;

/// More than a writer comes to between two kills.
const WRITES_A_ROUND: u64 = 1_000_000;

/// Writers that never rest, one a member: each notes every write that was acknowledged.
struct Writers {
    end: Arc<AtomicBool>,
    /// The number of the last acknowledged write of each.
    acknowledged: Vec<Arc<AtomicU64>>,
    threads: Vec<JoinHandle<Vec<(Instant, Instant)>>>,
}

impl Writers {
    /// Each counts on from `before`, so that no value is written twice.
    fn start(world: &World, before: u64) -> Self {
        let end = Arc::new(AtomicBool::new(false));
        let members: Vec<usize> = world.members.keys().copied().collect();
        let acknowledged: Vec<_> = members
            .iter()
            .map(|_| Arc::new(AtomicU64::new(0)))
            .collect();
        let threads = members
            .iter()
            .zip(&acknowledged)
            .map(|(member, acknowledged)| {
                let address = world.net.client_address(*member);
                let (end, acknowledged, member) = (end.clone(), acknowledged.clone(), *member);
                std::thread::spawn(move || write(address, (member, before), &acknowledged, &end))
            });
        Self {
            threads: threads.collect(),
            end,
            acknowledged,
        }
    }

    /// When each acknowledged write began and ended.
    fn finish(self) -> Vec<(Instant, Instant)> {
        self.end.store(true, Ordering::Relaxed);
        let join = |thread: JoinHandle<_>| thread.join().expect("a writer does not panic");
        self.threads.into_iter().flat_map(join).collect()
    }
}

fn write(
    address: SocketAddr,
    (member, before): (usize, u64),
    acknowledged: &AtomicU64,
    end: &AtomicBool,
) -> Vec<(Instant, Instant)> {
    let (mut client, mut done, mut number) = (None, Vec::new(), before);
    while !end.load(Ordering::Relaxed) {
        let Some(mut connected) = client
            .take()
            .or_else(|| Client::connect(address, LIMIT).ok())
        else {
            std::thread::sleep(Duration::from_millis(5));
            continue;
        };
        number += 1;
        let began = Instant::now();
        if let Ok(answer) = connected.ask(&format!("put w{member} {number}")) {
            if answer.starts_with("written ") {
                done.push((began, Instant::now()));
                acknowledged.store(number, Ordering::Relaxed);
            }
            client = Some(connected);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    done
}

/// From `from` until the first write that began after it is acknowledged.
fn next_commit(writes: &[(Instant, Instant)], from: Instant) -> Option<Duration> {
    let after = writes.iter().filter(|(began, _)| *began > from);
    after.map(|(_, ended)| ended.duration_since(from)).min()
}

/// The longest time between two acknowledgements around `from`.
fn pause(writes: &[(Instant, Instant)], from: Instant, to: Instant) -> Duration {
    let ends = writes
        .iter()
        .map(|(_, ended)| *ended)
        .filter(|ended| *ended < to);
    let (before, after): (Vec<_>, Vec<_>) = ends.partition(|ended| *ended <= from);
    let mut times: Vec<Instant> = before.into_iter().max().into_iter().chain(after).collect();
    times.sort_unstable();
    times
        .windows(2)
        .map(|pair| pair[1] - pair[0])
        .max()
        .unwrap_or_default()
}

/// Kills whoever leads, `rounds` times. What must not be.
pub fn leader(members: usize, rounds: usize, ground: Ground, again: Again) -> Vec<String> {
    let directory = Directory::new("leader-killed");
    let mut world = begin(members, ground, again, &directory.0);
    let writers = Writers::start(&world, 0);
    let (mut kills, mut found) = (Vec::new(), Vec::new());
    for round in 1..=rounds {
        settle(&mut world);
        let Some(leader) = world.await_leader(FIRST_LEADER) else {
            found.push(format!("round {round}: nobody leads: {}", world.describe()));
            break;
        };
        kills.push((round, Instant::now()));
        world.kill(leader);
        std::thread::sleep(Duration::from_secs(3));
        world.start(leader);
        let lacking = world.await_serving(Duration::from_secs(20));
        if !lacking.is_empty() {
            found.push(format!(
                "round {round}: {lacking:?} do not serve: {}",
                world.describe()
            ));
        }
        world.look_after();
    }
    let writes = writers.finish();
    let mut times = Times::default();
    for (round, at) in kills {
        match next_commit(&writes, at) {
            Some(time) => times.add(time),
            None => found.push(format!("round {round}: no commit after the kill")),
        }
    }
    times.print("leader killed, next commit");
    if times.percentile(99) > Duration::from_secs(2) {
        found.push("p99 is over 2 s".into());
    }
    println!("runs that lost their lease: {}", world.ends.len());
    found.extend(
        world
            .ends
            .iter()
            .map(|end| format!("a lease was lost: {}", end.line)),
    );
    found.extend(world.surprises.iter().cloned());
    found
}

/// All members have a leader, and one that leads has had time to.
fn settle(world: &mut World) {
    world.look_after();
    std::thread::sleep(Duration::from_millis(500));
}

/// Hands leadership over, `rounds` times. What must not be.
pub fn hand_over(members: usize, rounds: usize, ground: Ground, again: Again) -> Vec<String> {
    let directory = Directory::new("hand-over");
    let mut world = begin(members, ground, again, &directory.0);
    let writers = Writers::start(&world, 0);
    let (mut calls, mut pauses, mut found, mut spans) =
        (Times::default(), Times::default(), Vec::new(), Vec::new());
    std::thread::sleep(Duration::from_secs(1));
    for round in 1..=rounds {
        let Some(leader) = world.await_leader(FIRST_LEADER) else {
            found.push(format!("round {round}: nobody leads: {}", world.describe()));
            break;
        };
        let began = Instant::now();
        let answer = client::ask(world.net.client_address(leader), "hand-over", LIMIT);
        match answer {
            Ok(answer) if answer.starts_with("handed-over ") => calls.add(began.elapsed()),
            other => found.push(format!("round {round}: {other:?}")),
        }
        std::thread::sleep(Duration::from_millis(700));
        spans.push((began, Instant::now()));
        world.look_after();
    }
    let writes = writers.finish();
    spans
        .iter()
        .for_each(|(from, to)| pauses.add(pause(&writes, *from, *to)));
    calls.print("hand-over, the call");
    pauses.print("hand-over, longest time between two commits around it");
    if calls.percentile(99) > Duration::from_millis(200) {
        found.push("p99 of the calls is over 200 ms".into());
    }
    found.extend(world.ends.iter().map(|end| end.line.clone()));
    found.extend(world.surprises.iter().cloned());
    found
}

/// Kills all at once and starts them again, `rounds` times. What must not be.
pub fn all(members: usize, rounds: usize, ground: Ground, again: Again) -> Vec<String> {
    let directory = Directory::new("all-killed");
    let mut world = begin(members, ground, again, &directory.0);
    let (mut times, mut found) = (Times::default(), Vec::new());
    let cluster = |world: &World, member| {
        let status = world.status(member)?;
        field(&status, "cluster").map(str::to_owned)
    };
    let before = cluster(&world, 1);
    // What was ever acknowledged to each member's writer.
    let mut highest = vec![0; world.members.len()];
    for round in 1..=rounds {
        let writers = Writers::start(&world, round as u64 * WRITES_A_ROUND);
        std::thread::sleep(Duration::from_millis(1000 + 37 * (round as u64 % 20)));
        let numbers: Vec<usize> = world.members.keys().copied().collect();
        numbers.iter().for_each(|member| world.kill(*member));
        for (highest, number) in highest.iter_mut().zip(&writers.acknowledged) {
            // One that was never acknowledged in this round leaves what was before it.
            *highest = number.load(Ordering::Relaxed).max(*highest);
        }
        writers.finish();
        let began = Instant::now();
        numbers.iter().for_each(|member| world.start(*member));
        match first_write(&world, round) {
            Some(at) => times.add(at - began),
            None => found.push(format!(
                "round {round}: nobody serves: {}",
                world.describe()
            )),
        }
        world.await_serving(FIRST_LEADER);
        for (member, number) in numbers.iter().zip(highest.iter().copied()) {
            let read = client::ask(
                world.net.client_address(*member),
                &format!("get w{member}"),
                LIMIT,
            );
            let value = read
                .as_ref()
                .ok()
                .and_then(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
            if value.unwrap_or(0) < number {
                found.push(format!(
                    "round {round}: {number} was acknowledged at {member}, there is {read:?}"
                ));
            }
            if cluster(&world, *member) != before {
                found.push(format!("round {round}: {member} is of another cluster"));
            }
        }
        world.look_after();
    }
    times.print("all killed, first commit after the start");
    found.extend(world.surprises.iter().cloned());
    found
}

/// When the first write after a start was acknowledged, wherever.
fn first_write(world: &World, round: usize) -> Option<Instant> {
    let began = Instant::now();
    let addresses: Vec<_> = world
        .members
        .keys()
        .map(|member| world.net.client_address(*member))
        .collect();
    while began.elapsed() < FIRST_LEADER {
        for address in &addresses {
            let answer = client::ask(*address, &format!("put round {round}"), LIMIT);
            if answer.is_ok_and(|answer| answer.starts_with("written ")) {
                return Some(Instant::now());
            }
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    None
}
