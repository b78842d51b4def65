//! One seed is one run: two processes, the same trace.

use std::process::Command;

use super::lives::World;

const ASKED: &str = "RAFT_STORE_TRACE_SEED";
const MARK: &str = "trace of a seed: ";

#[tokio::test(start_paused = true)]
async fn trace_of_a_seed() {
    // Without a question any seed will do: it must be the same when it is run twice in one process, too.
    let asked = std::env::var(ASKED).ok().and_then(|seed| seed.parse().ok());
    let mut traces = Vec::new();
    for _ in 0..2 {
        let seed = asked.unwrap_or(77);
        let world = World::new(seed);
        world.lives(seed).await.expect("nothing is lost");
        traces.push(world.ledger.lock().trace.finalize());
    }
    println!("{MARK}{}", traces[0]);
    assert_eq!(traces[0], traces[1]);
}

fn trace(seed: u64) -> String {
    let this = std::env::current_exe().expect("a test runs");
    let mut command = Command::new(this);
    command.args(["--exact", "determinism::trace_of_a_seed", "--nocapture"]);
    let output = command.env(ASKED, seed.to_string()).output();
    let output = output.expect("it starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let at = text
        .find(MARK)
        .unwrap_or_else(|| panic!("no trace in {text}"));
    text[at + MARK.len()..]
        .lines()
        .next()
        .unwrap_or_default()
        .to_owned()
}

#[test]
fn two_processes_give_one_trace() {
    for seed in [5, 6] {
        assert_eq!(trace(seed), trace(seed), "seed {seed}");
    }
    assert_ne!(trace(5), trace(6), "the trace does not depend on the seed");
}
