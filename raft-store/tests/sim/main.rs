//! Seeded simulation: many members in one process over simulated networks, disks and clocks, with faults by seed and
//! everything that must hold checked at each step (DESIGN §11, §18).
//!
//! `SEEDS=n FIRST=k SCENARIO=name cargo test -p raft-store --test sim` runs n seeds of each scenario, or of one.

mod client;
mod determinism;
mod faults;
mod gaps;
mod habits;
mod looks;
mod losses;
mod membership;
mod model;
mod record;
mod runner;
mod scenarios;
mod talkers;
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
    alone ALONE 20
    calm CALM 4
    two TWO 12
    five FIVE 4
    partitions PARTITIONS 30
    crashes CRASHES 30
    pauses PAUSES 24
    channels CHANNELS 12
    disks DISKS 30
    bits BITS 20
    hand_overs HAND_OVERS 20
    cut_off CUT_OFF 12
    slow_disk SLOW_DISK 8
    random RANDOM 44
}
