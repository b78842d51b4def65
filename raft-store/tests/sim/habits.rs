//! What would make two runs of one seed differ is not in the source: a test reads it.

use std::fs;
use std::path::{Path, PathBuf};

/// What must not be there, and the files that may have it all the same.
const BANNED: &[(&str, &[&str])] = &[
    ("HashMap", &[]),
    ("HashSet", &[]),
    ("std::time::Instant", &[]),
    ("SystemTime", &["clock.rs"]),
    ("rand::random", &[]),
    ("rand::thread_rng", &[]),
    ("getrandom", &["random.rs"]),
    // The gate of the member would not hold such a task.
    ("tokio::spawn", &["gate.rs"]),
    ("spawn_blocking", &[]),
    ("tokio::task::spawn_local", &[]),
    ("JoinSet", &[]),
];

fn sources(dir: &Path, into: &mut Vec<PathBuf>) {
    let entries = fs::read_dir(dir).expect("the source is there");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("listed").path()).collect();
    paths.sort();
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        match path.is_dir() {
            true if name != "tests" => sources(&path, into),
            false if name.ends_with(".rs") && !name.contains("test") => into.push(path),
            _ => {}
        }
    }
}

/// The source without its tests and comments.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).expect("readable");
    let text = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    let lines = text
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn nothing_in_the_source_draws_by_itself() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    sources(&src, &mut paths);
    assert!(paths.len() > 50, "these are not all: {}", paths.len());
    let mut found = Vec::new();
    for path in &paths {
        let (code, name) = (
            code(path),
            path.strip_prefix(&src).expect("below").display(),
        );
        for (banned, allowed) in BANNED {
            let may = allowed.iter().any(|file| path.ends_with(file));
            if !may && code.contains(banned) {
                found.push(format!("{name}: {banned}"));
            }
        }
        let mut selects = code.split("select! {").skip(1);
        if selects.any(|body| !body.trim_start().starts_with("biased;")) {
            found.push(format!("{name}: select! that is not biased"));
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}
