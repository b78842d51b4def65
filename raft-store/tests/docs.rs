//! What the design page and the manifests say, held against the source.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn sources(dir: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).expect("the source is there") {
        let path = entry.expect("listed").path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

fn all(dirs: &[&str]) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    dirs.iter()
        .for_each(|dir| sources(&root().join(dir), &mut paths));
    assert!(paths.len() > 10, "these are not all: {}", paths.len());
    paths
}

/// A section of the design page, by its number.
fn section(number: u32) -> String {
    let text = read(&root().join("DESIGN.md"));
    let begins = format!("\n## {number}. ");
    let section = text.split_once(&begins).expect("there is one").1;
    section.split("\n## ").next().unwrap_or_default().to_owned()
}

/// Names in backticks with `::` in them: tests, or their modules where a name ends in `*`.
fn tests_named(in_section: &str) -> Vec<&str> {
    let spans = in_section.split('`').skip(1).step_by(2);
    spans.filter(|span| span.contains("::")).collect()
}

/// Functions, the simulation's scenarios and scripts, and modules.
fn names() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for path in all(&["src", "tests"]) {
        let ends = |letter: char| !letter.is_alphanumeric() && letter != '_';
        for line in read(&path).lines() {
            let words: Vec<&str> = line.split(ends).filter(|word| !word.is_empty()).collect();
            let after = |what: &str| words.windows(2).find(|pair| pair[0] == what);
            names.extend(after("fn").map(|pair| pair[1].to_owned()));
            names.extend(after("script").map(|pair| pair[1].to_owned()));
            // A line of `scenarios!`: its name, its constant, how many seeds.
            if let [name, constant, seeds] = words[..]
                && constant
                    .chars()
                    .all(|letter| letter == '_' || letter.is_uppercase())
                && seeds.parse::<u32>().is_ok()
            {
                names.insert(name.to_owned());
            }
        }
        let parts = path.iter().map(|part| part.to_string_lossy());
        names.extend(parts.map(|part| part.trim_end_matches(".rs").to_owned()));
    }
    names
}

#[test]
fn tests_that_the_design_names_are_there() {
    let names = names();
    let is_there = |name: &str| {
        let name = name.trim_end_matches("::*");
        let last = name.rsplit("::").next().unwrap_or_default();
        match last.strip_suffix('…') {
            Some(beginning) => names.iter().any(|name| name.starts_with(beginning)),
            None => names.contains(last),
        }
    };
    let mut named = 0;
    for number in [15, 17] {
        let section = section(number);
        for name in tests_named(&section) {
            named += 1;
            assert!(is_there(name), "DESIGN §{number} names {name}");
        }
    }
    assert!(named > 60, "{named} are not all");
}

/// The version whose source was read, and no other file that depends on it.
#[test]
fn openraft_is_pinned_and_named_in_one_place() {
    let workspace = read(&root().join("../Cargo.toml"));
    assert!(workspace.contains("openraft = { version = \"=0.9.25\""));
    let lock = read(&root().join("../Cargo.lock"));
    assert!(lock.contains("name = \"openraft\"\nversion = \"0.9.25\"\n"));
    for path in all(&["src", "examples", "tests", "benches"]) {
        let inside = path.starts_with(root().join("src/raft"));
        let code = read(&path);
        let mut lines = code.lines().map(|line| {
            let code = line.split("//").next();
            code.unwrap_or_default()
        });
        let names = lines.any(|line| line.contains("openraft::") || line.contains("use openraft"));
        let this = path.ends_with(file!().rsplit('/').next().unwrap_or_default());
        assert!(
            inside || this || !names,
            "{} names openraft",
            path.display()
        );
    }
}
