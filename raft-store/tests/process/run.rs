//! One run: members, clients, faults, and the judgement over what happened.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::Directory;
use super::cell::{Again, Ground};
use super::checker::{self, Verdict};
use super::clients::{self, Work};
use super::faults::{self, Fault};
use super::gaps::{self, Gap};
use super::history::{self, Count, Operation, Outcome};
use super::net::Net;
use super::world::{End, World};

/// What a run is to be.
#[derive(Debug, Clone)]
pub struct Plan {
    pub members: usize,
    pub clients: usize,
    pub time: Duration,
    pub seed: u64,
    /// Where to keep the history, if it is to be kept.
    pub keep: Option<PathBuf>,
}

/// What became of it.
#[derive(Debug)]
pub struct Report {
    pub count: Count,
    pub faults: BTreeMap<Fault, u64>,
    /// Longest first.
    pub gaps: Vec<Gap>,
    /// Daemons that lost their lease.
    pub ends: Vec<End>,
    /// Those of them that were connected with a majority all the time before.
    pub needless: Vec<End>,
    /// What must never happen: daemons that end for another reason, members that do not serve at the end or have another
    /// state.
    pub surprises: Vec<String>,
    pub verdict: Verdict,
}

/// No commit for longer than this while a majority was connected.
pub const GAP: Duration = Duration::from_secs(4);
/// How long a daemon takes for a request, and how long a client waits.
const DEADLINE_SECONDS: u64 = 2;
pub const LIMIT: Duration = Duration::from_secs(DEADLINE_SECONDS + 1);
/// Until a new cluster serves.
pub const FIRST_LEADER: Duration = Duration::from_secs(60);
/// A lease, and the longest time without a leader: whoever was connected with a majority for so long has renewed its lease.
const CONNECTED: Duration = Duration::from_secs(10);
/// The checker's time for one key.
const SECONDS_A_KEY: u64 = 120;

/// A world with so many members that run and serve.
pub fn begin(members: usize, ground: Ground, again: Again, directory: &Path) -> World {
    begin_on(Net::new(ground), members, again, directory)
}

/// The same on a network that is there.
pub fn begin_on(net: Net, members: usize, again: Again, directory: &Path) -> World {
    let mut world = World::new(net, again, directory.to_owned());
    let deadline = DEADLINE_SECONDS.to_string();
    world.options = ["--deadline", &deadline].map(str::to_owned).to_vec();
    for number in 1..=members {
        world.add(number);
        world.start(number);
    }
    let lacking = world.await_serving(FIRST_LEADER);
    assert_eq!(
        lacking,
        [0_usize; 0],
        "these do not serve after {FIRST_LEADER:?}: {}",
        world.describe()
    );
    // Five vote from eight members on.
    let voters = if members < 3 { 1 } else { 3 };
    let voting = world.await_voters(voters, FIRST_LEADER);
    assert!(voting, "no {voters} voters: {}", world.describe());
    world
}

/// Clients at work.
pub struct Load {
    work: Work,
    clients: usize,
    workers: Vec<JoinHandle<Vec<Operation>>>,
    /// Nanoseconds of the world's time.
    since: u64,
}

impl Load {
    pub fn start(world: &World, clients: usize, seed: u64) -> Self {
        let work = Work {
            targets: world.targets.clone(),
            seed,
            began: world.began,
            limit: LIMIT,
            end: Arc::new(AtomicBool::new(false)),
        };
        Self {
            clients,
            workers: clients::start(&work, clients),
            since: world.began.elapsed().as_nanos() as u64,
            work,
        }
    }

    /// Ends the clients, reads every key at every member, and judges it all. The world is to be healed.
    pub fn finish(self, world: &mut World, history: &Path) -> Report {
        let until = world.began.elapsed().as_nanos() as u64;
        self.work.end.store(true, Ordering::Relaxed);
        let mut operations = Vec::new();
        for worker in self.workers {
            operations.extend(worker.join().expect("a client does not panic"));
        }
        let count = Count::of(&operations);
        let written = operations
            .iter()
            .filter(|done| matches!(done.outcome, Outcome::Written(_)));
        let mut commits: Vec<u64> = written.map(|operation| operation.end).collect();
        commits.push(self.since);
        commits.sort_unstable();
        let lacking = world.bring_up(FIRST_LEADER);
        let mut surprises = world.surprises.clone();
        if !lacking.is_empty() {
            let all = world.describe();
            surprises.push(format!("{lacking:?} do not serve at the end: {all}"));
        }
        let (reads, unanswered) = clients::read_all(&self.work, &operations, self.clients);
        if unanswered > 0 {
            surprises.push(format!("{unanswered} reads at the end had no answer"));
        }
        surprises.extend(world.even(FIRST_LEADER));
        operations.extend(reads);
        history::write(history, &operations).expect("there is space for the history");
        Report {
            count,
            faults: BTreeMap::new(),
            gaps: gaps::gaps(&commits, &world.situations, until),
            ends: world.ends.clone(),
            needless: needless(world),
            surprises,
            verdict: checker::judge(history, SECONDS_A_KEY),
        }
    }
}

/// Leases that were lost although nothing stood between their holders and a majority.
fn needless(world: &World) -> Vec<End> {
    let connected = |end: &&End| {
        let from = end.at.saturating_sub(CONNECTED.as_nanos() as u64);
        gaps::was_served(end.number, (from, end.at), &world.situations)
    };
    world.ends.iter().filter(connected).cloned().collect()
}

/// The run of a plan.
pub fn run(plan: &Plan, ground: Ground, again: Again) -> Report {
    let directory = Directory::new("histories");
    let mut world = begin(plan.members, ground, again, &directory.0);
    let load = Load::start(&world, plan.clients, plan.seed);
    let counts = faults::run(&mut world, plan.seed, Instant::now() + plan.time);
    let file = plan
        .keep
        .clone()
        .unwrap_or_else(|| directory.0.join("history"));
    let mut report = load.finish(&mut world, &file);
    report.faults = counts;
    report
}

impl Report {
    pub fn print(&self) {
        let count = &self.count;
        println!(
            "{} operations: {} done, {} conflicts, {} unknown ({:.2} %), {} refused; {:.0} % put-if",
            count.operations(),
            count.done,
            count.conflicts,
            count.unknown,
            100.0 * count.unknown_share(),
            count.failed,
            100.0 * count.put_if_share(),
        );
        if !self.faults.is_empty() {
            println!(
                "{} faults: {:?}",
                self.faults.values().sum::<u64>(),
                self.faults
            );
        }
        for gap in self.gaps.iter().take(5) {
            let (at, length) = (gap.from as f64 / 1e9, gap.length.as_secs_f64());
            println!(
                "no commit for {length:.2} s from {at:.1} s on, with {:?} connected",
                gap.majority
            );
        }
        for end in &self.ends {
            println!("ended by itself: {}", end.line);
        }
        for surprise in &self.surprises {
            println!("surprise: {surprise}");
        }
        println!("{:?}", self.verdict);
    }

    /// What of it must never be, however slow the machine is.
    pub fn wrong(&self) -> Vec<String> {
        let mut found = Vec::new();
        if !matches!(self.verdict, Verdict::Linearizable(_)) {
            found.push(format!("{:?}", self.verdict));
        }
        if self.count.put_if_share() < 0.30 {
            let percent = 100.0 * self.count.put_if_share();
            found.push(format!("only {percent:.0} % put-if"));
        }
        found.extend(self.surprises.iter().cloned());
        found
    }

    /// What of it must not be where nothing else keeps the machine busy.
    pub fn findings(&self) -> Vec<String> {
        let mut found = self.wrong();
        if self.count.unknown_share() > 0.10 {
            let percent = 100.0 * self.count.unknown_share();
            found.push(format!("{percent:.1} % unknown"));
        }
        let long = self.gaps.iter().filter(|gap| gap.length > GAP);
        found.extend(long.map(|gap| format!("no commit: {gap:?}")));
        let needless = self.needless.iter().map(|end| &end.line);
        found.extend(needless.map(|line| format!("connected, and the lease lost: {line}")));
        found
    }
}
