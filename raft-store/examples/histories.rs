//! Real processes under faults, and whether what their clients saw is linearizable.
//!
//! `histories [--members N] [--clients N] [--minutes M] [--seed S] [--keep FILE]`; needs root or user namespaces to cut
//! links, and Go for the checker. Exits with 1 if something was found.

#[path = "support/daemon/mod.rs"]
mod daemon;
#[allow(dead_code, reason = "the tests need more of it")]
#[path = "../tests/process/mod.rs"]
mod process;

use process::cell::{self, Again};
use process::run::{Plan, run};
use std::process::ExitCode;
use std::time::Duration;

const USAGE: &str =
    "usage: histories [--members N] [--clients N] [--minutes M] [--seed S] [--keep FILE]";

fn plan(words: &[String]) -> Option<Plan> {
    let mut plan = Plan {
        members: 5,
        clients: 12,
        time: Duration::from_secs(60),
        seed: 1,
        keep: None,
    };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let value = words.next()?;
        match word.as_str() {
            "--members" => plan.members = value.parse().ok()?,
            "--clients" => plan.clients = value.parse().ok()?,
            "--minutes" => plan.time = Duration::from_secs_f64(60.0 * value.parse::<f64>().ok()?),
            "--seed" => plan.seed = value.parse().ok()?,
            "--keep" => plan.keep = Some(value.into()),
            _ => return None,
        }
    }
    Some(plan)
}

fn main() -> ExitCode {
    if let Some(arguments) = cell::daemon_if_asked() {
        return daemon::main(&arguments);
    }
    let words: Vec<String> = std::env::args().collect();
    let Some(plan) = plan(&words[1..]) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    process::checker::build();
    let ground = cell::enter(&words, plan.time.as_secs() * 2 + 300);
    let report = run(&plan, ground, Again(&[]));
    report.print();
    let found = report.faults_found();
    found.iter().for_each(|found| println!("FOUND: {found}"));
    ExitCode::from(u8::from(!found.is_empty()))
}
