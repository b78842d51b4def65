//! One run: members, clients, faults, and the judgement over what happened.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::Directory;
use super::cell::{Again, Ground};
use super::checker::{self, Verdict};
use super::clients::{self, Work};
use super::faults::{self, Fault};
use super::gaps::{self, Gap};
use super::history::{self, Count, Outcome};
use super::net::Net;
use super::world::World;

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
    pub surprises: Vec<String>,
    pub verdict: Verdict,
}

/// How long a daemon takes for a request, and how long a client waits.
const DEADLINE_SECONDS: u64 = 2;
const LIMIT: Duration = Duration::from_secs(DEADLINE_SECONDS + 1);
const FIRST_LEADER: Duration = Duration::from_secs(60);

pub fn run(plan: &Plan, ground: Ground, again: Again) -> Report {
    let directory = Directory::new("histories");
    let mut world = World::new(Net::new(ground), again, directory.0.clone());
    world.options = ["--deadline", &DEADLINE_SECONDS.to_string()]
        .map(str::to_owned)
        .to_vec();
    for number in 1..=plan.members {
        world.add(number);
        world.start(number);
    }
    let leader = world.await_leader(FIRST_LEADER);
    assert!(leader.is_some(), "nobody leads after {FIRST_LEADER:?}");
    let end = Arc::new(AtomicBool::new(false));
    let work = Work {
        targets: world.targets.clone(),
        seed: plan.seed,
        began: world.began,
        limit: LIMIT,
        end: end.clone(),
    };
    let measured = world.began.elapsed().as_nanos() as u64;
    let workers = clients::start(&work, plan.clients);
    let faults = faults::run(&mut world, plan.seed, Instant::now() + plan.time);
    let stopped = world.began.elapsed().as_nanos() as u64;
    end.store(true, Ordering::Relaxed);
    let mut operations = Vec::new();
    for worker in workers {
        operations.extend(worker.join().expect("a client does not panic"));
    }
    let count = Count::of(&operations);
    let reads = clients::read_all(&work, &operations, plan.clients);
    let done = |operation: &&history::Operation| matches!(operation.outcome, Outcome::Written(_));
    let mut commits: Vec<u64> = operations
        .iter()
        .filter(done)
        .map(|operation| operation.end)
        .collect();
    commits.push(measured);
    commits.sort_unstable();
    operations.extend(reads);
    let file = plan
        .keep
        .clone()
        .unwrap_or_else(|| directory.0.join("history"));
    history::write(&file, &operations).expect("there is space for the history");
    let verdict = checker::judge(&file, 120);
    Report {
        count,
        faults,
        gaps: gaps::gaps(&commits, &world.situations, stopped),
        surprises: world.surprises.clone(),
        verdict,
    }
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
        println!("faults: {:?}", self.faults);
        for gap in self.gaps.iter().take(5) {
            let (at, length) = (gap.from as f64 / 1e9, gap.length.as_secs_f64());
            println!(
                "no commit for {length:.2} s from {at:.1} s on, with {:?} connected",
                gap.majority
            );
        }
        for surprise in &self.surprises {
            println!("ended by itself: {surprise}");
        }
        println!("{:?}", self.verdict);
    }

    /// What of it must not be.
    pub fn faults_found(&self) -> Vec<String> {
        let mut found = Vec::new();
        if !matches!(self.verdict, Verdict::Linearizable(_)) {
            found.push(format!("{:?}", self.verdict));
        }
        if self.count.unknown_share() > 0.10 {
            found.push(format!(
                "{:.1} % unknown",
                100.0 * self.count.unknown_share()
            ));
        }
        if self.count.put_if_share() < 0.30 {
            found.push(format!(
                "only {:.0} % put-if",
                100.0 * self.count.put_if_share()
            ));
        }
        let long = self
            .gaps
            .iter()
            .filter(|gap| gap.length > Duration::from_secs(4));
        found.extend(long.map(|gap| format!("no commit: {gap:?}")));
        found.extend(self.surprises.iter().cloned());
        found
    }
}
