//! Real processes under faults, in short: `cargo run --release -p raft-store --example histories -- --help` has the long
//! form.

#[path = "../examples/support/daemon/mod.rs"]
mod daemon;
#[allow(dead_code, reason = "the long form needs more of it")]
#[path = "process/mod.rs"]
mod process;

use process::cell::{self, Again, Ground};
use process::run::{Plan, run};
use std::time::Duration;

const AGAIN: Again = Again(&["--exact", "again", "--nocapture"]);

/// This binary once more: as the daemon, or inside a cell.
#[test]
fn again() {
    if let Some(arguments) = cell::daemon_if_asked() {
        let code = daemon::main(&arguments);
        std::process::exit(i32::from(code));
    }
    if cell::inside() {
        short(Ground::Namespaces);
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

#[test]
fn a_short_history() {
    match cell::possible() {
        Ok(()) => {
            let words = AGAIN.words();
            let status = cell::command(&words, 300).status().expect("it starts");
            assert!(status.success(), "{status}");
        }
        Err(reason) => {
            eprintln!("no network namespaces here, so no link is cut: {reason}");
            short(Ground::Loopback);
        }
    }
}
