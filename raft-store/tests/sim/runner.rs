//! Runs seeds on all cores, one runtime each, with a wall-clock limit a seed.

use std::cell::RefCell;
use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use super::scenarios::{Failure, Report, Scenario};

/// Of a seed on the wall's clock, far above what any takes.
const WALL_LIMIT: Duration = Duration::from_secs(120);

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

thread_local! {
    /// The first panic of a task on this thread: a runtime holds it back.
    static PANICKED: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Has panics of tasks noted, whoever catches them.
fn note_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            PANICKED.with_borrow_mut(|first| {
                first.get_or_insert_with(|| info.to_string());
            });
            before(info);
        }));
    });
}

/// Runs on a runtime of its own, whose clock stands still while anybody has something to do. The first panic of any task,
/// if there was one.
pub fn alone<T>(run: impl Future<Output = T>) -> (T, Option<String>) {
    note_panics();
    PANICKED.take();
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime");
    let came = runtime.block_on(run);
    drop(runtime);
    (came, PANICKED.take())
}

/// One seed.
pub fn one(scenario: &Scenario, seed: u64) -> Result<Report, Failure> {
    let (ran, panicked) = alone(scenario.run(seed));
    match (ran, panicked) {
        (Ok(report), Some(what)) => Err(Failure {
            what,
            steps: report.steps,
            tail: String::new(),
        }),
        (ran, _) => ran,
    }
}

fn replay(scenario: &Scenario, seed: u64) -> String {
    format!(
        "SCENARIO={} FIRST={seed} SEEDS=1 cargo test -p raft-store --test sim -- --nocapture {}",
        scenario.name, scenario.name
    )
}

/// Runs `count` seeds, or as many as `SEEDS` says from `FIRST` on. Panics with the first that fails.
pub fn seeds(scenario: &'static Scenario, count: u64) {
    if std::env::var("SCENARIO").is_ok_and(|name| name != scenario.name) {
        return;
    }
    let first = number("FIRST").unwrap_or(1);
    let count = number("SEEDS").unwrap_or(count);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = (threads as u64).min(count);
    let next = std::sync::Arc::new(AtomicU64::new(first));
    let (tell, told) = mpsc::channel();
    for _ in 0..threads {
        let (next, tell) = (next.clone(), tell.clone());
        std::thread::spawn(move || {
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= first + count {
                    return;
                }
                let ran = catch_unwind(AssertUnwindSafe(|| one(scenario, seed)));
                let ran = ran.unwrap_or_else(|_| {
                    Err(Failure {
                        what: "the simulation itself panicked".into(),
                        steps: 0,
                        tail: String::new(),
                    })
                });
                if tell.send((seed, ran)).is_err() {
                    return;
                }
            }
        });
    }
    drop(tell);
    let mut failed = Vec::new();
    let mut total = Totals::default();
    for _ in 0..count {
        match told.recv_timeout(WALL_LIMIT) {
            Ok((_, Ok(report))) => total.add(&report),
            Ok((seed, Err(failure))) => {
                let Failure { what, steps, tail } = failure;
                let replay = replay(scenario, seed);
                if number("SEEDS").is_none_or(|seeds| seeds == 1) {
                    println!("{tail}");
                }
                println!(
                    "{} seed {seed}, step {steps}: {what}\n  {replay}",
                    scenario.name
                );
                failed.push(seed);
            }
            Err(_) => {
                let running = next.load(Ordering::Relaxed);
                panic!("no seed ended for {WALL_LIMIT:?}; up to {running} have begun");
            }
        }
    }
    println!("{}: {} seeds, {total:?}", scenario.name, count);
    assert!(failed.is_empty(), "seeds {failed:?} of {count} fail");
}

/// What all seeds did together.
#[derive(Debug, Default)]
#[allow(dead_code)] // Read by people.
struct Totals {
    steps: u64,
    entries: u64,
    elections: u64,
    deaths: u64,
    installs: u64,
    truncations: u64,
    purges: u64,
    late: u64,
    longest_gap: Duration,
    written: u64,
    conflicts: u64,
    unknown: u64,
    resolved: u64,
    refused: u64,
    linearizable: u64,
    local: u64,
    watched: u64,
    resyncs: u64,
    frames: u64,
    told_gone: u64,
}

impl Totals {
    fn add(&mut self, report: &Report) {
        let counts = &report.counts;
        self.steps += report.steps;
        self.entries += report.entries;
        self.elections += report.elections;
        self.deaths += report.deaths;
        self.installs += report.installs;
        self.truncations += report.truncations;
        self.purges += report.purges;
        self.late += report.late;
        self.longest_gap = self.longest_gap.max(report.longest_gap);
        self.written += counts.written;
        self.conflicts += counts.conflicts;
        self.unknown += counts.unknown;
        self.resolved += counts.resolved;
        self.refused += counts.refused;
        self.linearizable += counts.linearizable;
        self.local += counts.local;
        self.watched += counts.watched;
        self.resyncs += counts.resyncs;
        self.frames += counts.frames;
        self.told_gone += counts.told_gone;
    }
}
