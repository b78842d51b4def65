//! One seed is one run: two processes give one trace.

use std::process::Command;

use super::runner;
use super::scenarios::SCENARIOS;

const ASKED: &str = "SIM_TRACE_OF";
const MARK: &str = "trace: ";

/// Says the trace of the seed that it is asked for; asked for none, it has nothing to say.
#[test]
fn trace_of_a_seed() {
    let Ok(asked) = std::env::var(ASKED) else {
        return;
    };
    let (name, seed) = asked.split_once(' ').expect("a scenario and a seed");
    let mut all = SCENARIOS.iter();
    let scenario = all.find(|known| known.name == name).expect("a scenario");
    let hash = match runner::one(scenario, seed.parse().expect("a seed")) {
        Ok(report) => report.hash,
        Err(failure) => blake3::hash(failure.what.as_bytes()),
    };
    println!("{MARK}{hash}");
}

fn trace(name: &str, seed: u64) -> String {
    let this = std::env::current_exe().expect("a test runs");
    let mut command = Command::new(this);
    command.args(["--exact", "determinism::trace_of_a_seed", "--nocapture"]);
    let output = command.env(ASKED, format!("{name} {seed}")).output();
    let output = output.expect("it starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let at = text.find(MARK);
    let at = at.unwrap_or_else(|| panic!("no trace in {text}"));
    let trace = text[at + MARK.len()..].lines().next();
    trace.unwrap_or_default().to_owned()
}

#[test]
fn two_processes_give_one_trace() {
    for name in ["partitions", "crashes", "random"] {
        let (one, other) = (trace(name, 7), trace(name, 7));
        assert_eq!(one, other, "{name}");
        assert_ne!(one, trace(name, 8), "{name}");
    }
}
