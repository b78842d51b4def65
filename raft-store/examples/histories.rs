//! Real processes under faults, and whether what their clients saw is linearizable; how long a cluster takes for what.
//! Without root or user namespaces members run on loopback and no link is cut. The checker needs Go.

#[path = "support/control.rs"]
mod control;
#[path = "support/daemon/mod.rs"]
mod daemon;
#[allow(dead_code, reason = "the tests need more of it")]
#[path = "../tests/process/mod.rs"]
mod process;

use process::cell::{self, Again};
use process::run::{Plan, Report, run};
use process::{founders, killed, recover, scale};
use std::process::ExitCode;
use std::time::Duration;

const USAGE: &str = "usage: histories [WHAT] [--members N] [--seed S] [--rounds N]
  faults         random faults under load, judged by the checker (default) [--clients N] [--minutes M] [--keep FILE]
  scale          3 members become 9 and 3 others, under load, judged
  founders       empty members started at once (10), --rounds times (50)
  all-killed     all killed at once and started again, --rounds times (50)
  leader-killed  --rounds times (100): time until the next commit, leases lost
  hand-over      --rounds times (100): time that it takes
  recover        a majority lost for good, a snapshot restored, a founder's lost disk: by kvctl
Exits with 1 if something was found that must not be.";

/// The command line.
struct Asked {
    what: String,
    plan: Plan,
    members: Option<usize>,
    rounds: Option<usize>,
}

fn read(words: &[String]) -> Option<Asked> {
    let mut asked = Asked {
        what: "faults".into(),
        plan: Plan {
            members: 5,
            clients: 12,
            time: Duration::from_secs(60),
            seed: 1,
            keep: None,
        },
        members: None,
        rounds: None,
    };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if !word.starts_with("--") {
            asked.what.clone_from(word);
            continue;
        }
        let (value, plan) = (words.next()?, &mut asked.plan);
        match word.as_str() {
            "--members" => asked.members = Some(value.parse().ok()?),
            "--rounds" => asked.rounds = Some(value.parse().ok()?),
            "--clients" => plan.clients = value.parse().ok()?,
            "--minutes" => plan.time = Duration::from_secs_f64(60.0 * value.parse::<f64>().ok()?),
            "--seed" => plan.seed = value.parse().ok()?,
            "--keep" => plan.keep = Some(value.into()),
            _ => return None,
        }
    }
    asked.plan.members = asked.members.unwrap_or(asked.plan.members);
    Some(asked)
}

fn judged(report: &Report) -> Vec<String> {
    report.print();
    report.findings()
}

fn main() -> ExitCode {
    if let Some(arguments) = cell::daemon_if_asked() {
        return ExitCode::from(daemon::main(&arguments));
    }
    if let Some(arguments) = cell::control_if_asked() {
        return ExitCode::from(control::main(&arguments));
    }
    let words: Vec<String> = std::env::args().collect();
    let Some(asked) = read(&words[1..]) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let again = Again(&[]);
    let (members, rounds) = (asked.members, asked.rounds);
    process::checker::build();
    let ground = cell::enter(&words, asked.plan.time.as_secs() * 2 + 3600);
    let found = match asked.what.as_str() {
        "faults" => judged(&run(&asked.plan, ground, again)),
        "scale" => {
            let (report, mut found) = scale::run(asked.plan.seed, ground, again);
            found.extend(judged(&report));
            found
        }
        "founders" => founders::run(members.unwrap_or(10), rounds.unwrap_or(50), ground, again),
        "all-killed" => killed::all(members.unwrap_or(3), rounds.unwrap_or(50), ground, again),
        "leader-killed" => {
            killed::leader(members.unwrap_or(3), rounds.unwrap_or(100), ground, again)
        }
        "hand-over" => {
            killed::hand_over(members.unwrap_or(3), rounds.unwrap_or(100), ground, again)
        }
        "recover" => recover::run(ground, again),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    found.iter().for_each(|found| println!("FOUND: {found}"));
    println!("{}: {} found", asked.what, found.len());
    ExitCode::from(u8::from(!found.is_empty()))
}
