//! Every decoder's cost is linear in the length of what it reads: counted in instructions, so that it is the same on any
//! machine, however busy.

use std::path::Path;
use std::process::Command;

use eider_tests::fuzz::cost::SHAPES;
use eider_tests::harness::temporary_directory;

/// Twice the bytes may cost so many times as much, beyond what any input costs. Sorting is a little over 2; a cost that
/// grows with the square is 4.
const GROWTH_MAX: f64 = 2.6;

/// Below this a difference says nothing: instructions for the bytes that were added.
const SMALL: f64 = 60_000.0;

#[test]
fn twice_the_bytes_cost_twice() {
    let directory = temporary_directory().expect("a directory");
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--quiet"])
        .arg("--dump-after=*fuzz::cost::measured*")
        .arg(format!("--callgrind-out-file={}/out", directory.display()))
        .args([env!("CARGO_BIN_EXE_fuzz"), "--cost"])
        .output()
        .expect("valgrind, which tests/run installs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let mut failed = Vec::new();
    for (at, shape) in SHAPES.iter().enumerate() {
        let costs = [1, 2, 3].map(|of| instructions(&directory, 1 + at * 3 + of));
        // A shape that is over a bound from some length on costs less from there on.
        let first = (costs[1] - costs[0]).max(costs[0]);
        let second = costs[2] - costs[1];
        let growth = second / first;
        println!("{growth:6.2} {:>12} {}", costs[2], shape.name);
        if second > SMALL && growth > GROWTH_MAX {
            failed.push(format!("{}: {costs:?}", shape.name));
        }
    }
    std::fs::remove_dir_all(&directory).expect("removed");
    assert!(failed.is_empty(), "more than linear: {failed:#?}");
}

/// What was counted between the dump of this number and the one before it.
fn instructions(directory: &Path, number: usize) -> f64 {
    let path = directory.join(format!("out.{number}"));
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let total = text.lines().find_map(|line| {
        line.strip_prefix("totals: ")
            .or(line.strip_prefix("summary: "))
    });
    total
        .and_then(|total| total.trim().parse().ok())
        .expect("a total")
}
