//! Seeded simulation: many members in one process over simulated networks, disks and clocks, with faults by seed and
//! everything that must hold checked at each step (DESIGN §11, §18).
//!
//! `SEEDS=n FIRST=k SCENARIO=name cargo test -p raft-store --test sim` runs n seeds of each scenario, or of one.

mod client;
mod determinism;
mod faults;
mod membership;
mod model;
mod runner;
mod scenarios;
mod trace;
mod watcher;
mod world;

#[test]
fn alone() {
    runner::seeds(&scenarios::ALONE, 10);
}
