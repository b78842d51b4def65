//! Real processes under faults, in short: `cargo run --release -p raft-store --example histories -- --help` has the long
//! form.

#[path = "../examples/support/control.rs"]
mod control;
#[path = "../examples/support/daemon/mod.rs"]
mod daemon;
#[allow(dead_code, reason = "the long form needs more of it")]
#[path = "process/mod.rs"]
mod process;

use process::cell::{self, Again, Ground};
use process::recover;
use process::run::{Plan, run};
use std::time::Duration;

const AGAIN: Again = Again(&["--exact", "again", "--nocapture"]);
const AGAIN_RECOVERING: Again = Again(&["--exact", "again_recovering", "--nocapture"]);

/// This binary once more: as the daemon, as `kvctl`, or, if neither, inside a cell.
fn again_for(script: fn(Ground)) {
    if let Some(arguments) = cell::daemon_if_asked() {
        std::process::exit(i32::from(daemon::main(&arguments)));
    }
    if let Some(arguments) = cell::control_if_asked() {
        std::process::exit(i32::from(control::main(&arguments)));
    }
    if cell::inside() {
        script(Ground::Namespaces);
    }
}

#[test]
fn again() {
    again_for(short);
}

#[test]
fn again_recovering() {
    again_for(recovering);
}

/// In a cell, where one can be made.
fn in_a_cell(again: Again, script: fn(Ground)) {
    match cell::possible() {
        Ok(()) => {
            let status = cell::command(&again.words(), 300).status();
            let status = status.expect("it starts");
            assert!(status.success(), "{status}");
        }
        Err(reason) => {
            eprintln!("no network namespaces here, so no link is cut: {reason}");
            script(Ground::Loopback);
        }
    }
}

fn short(ground: Ground) {
    let plan = Plan {
        members: 3,
        clients: 10,
        time: Duration::from_secs(30),
        seed: 1,
        keep: None,
    };
    let report = run(&plan, ground, AGAIN);
    report.print();
    assert_eq!(report.wrong(), [""; 0]);
}

fn recovering(ground: Ground) {
    assert_eq!(recover::run(ground, AGAIN_RECOVERING), [""; 0]);
}

#[test]
fn a_short_history() {
    in_a_cell(AGAIN, short);
}

#[test]
fn clusters_that_cannot_help_themselves() {
    in_a_cell(AGAIN_RECOVERING, recovering);
}
