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

macro_rules! scenarios {
    ($($name:ident $scenario:ident $seeds:literal)*) => {$(
        #[test]
        fn $name() {
            runner::seeds(&scenarios::$scenario, $seeds);
        }
    )*};
}

scenarios! {
    alone ALONE 10
    calm CALM 5
    two TWO 10
    partitions PARTITIONS 30
    crashes CRASHES 30
    pauses PAUSES 20
    disks DISKS 20
    cut_off CUT_OFF 10
    slow_disk SLOW_DISK 10
    random RANDOM 100
}
