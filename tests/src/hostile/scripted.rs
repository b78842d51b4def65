//! Cases that are protocol scripts.

use std::path::PathBuf;

use anyhow::Result;

use super::bench::{Bench, Finding};
use super::report::short;
use crate::harness::{Server, repository};
use crate::scripts::run::{Exchange, observe};
use crate::scripts::{Script, parse};

/// Scripts of bad input that are named by their specification.
const OTHERS: [&str; 4] = [
    "xep-0198-bad-h",
    "xep-0198-too-high",
    "xep-0280-forged",
    "xep-0359",
];
/// Longest that a message about a failed script is told.
const WHY_CHARS: usize = 1_500;

fn scripts() -> Result<Vec<PathBuf>> {
    let directory = repository().join("tests/scripts");
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let ours = name.starts_with("bad-input-") || OTHERS.contains(&&*name);
        if ours && path.extension().is_some_and(|ending| ending == "script") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// Each row of each script.
pub async fn cases(bench: &mut Bench<'_>) -> Result<()> {
    for path in scripts()? {
        for script in parse::load(&path)? {
            let (group, case) = script
                .name
                .split_once(": ")
                .unwrap_or((&script.name, "as a whole"));
            if bench.wants(group, case) {
                let number = bench.number();
                let server = bench.server(&script.config).await?;
                let finding = case_of(&script, &server, number);
                bench.judge((group, case), &server, finding).await?;
            }
        }
    }
    Ok(())
}

async fn case_of(script: &Script, server: &Server, number: usize) -> Finding {
    let mut exchange = Exchange::default();
    let outcome = observe(script, server, number, &mut exchange).await;
    let nothing = String::from("(nothing)");
    let sent = if exchange.sent.is_empty() {
        nothing
    } else {
        exchange.sent.join(" ")
    };
    Finding {
        sent,
        got: exchange.got.join("; "),
        wrong: outcome
            .err()
            .map(|why| short(&format!("{why:#}"), WHY_CHARS)),
        ..Finding::default()
    }
}
