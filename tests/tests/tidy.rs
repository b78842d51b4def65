//! The habits of the tree that no compiler checks: sizes, headers, references, reasons.

use eider_tests::harness::repository;
use std::fs;
use std::path::{Path, PathBuf};

const FUNCTION_LINES: usize = 70;
const FILE_LINES: usize = 600;
const FILE_LINES_AT_MOST: usize = 1_000;

/// Files over the limit that wait to be split. This list only shrinks.
const LONG_FILES: [&str; 0] = [];
/// Functions over the limit that wait to be split, each with its file. This list only shrinks.
const LONG_FUNCTIONS: [(&str, &str); 2] = [
    (
        "server/src/pubsub/tests/flow.rs",
        "access_models_say_what_is_missing",
    ),
    ("server/src/server.rs", "run"),
];
/// Files that may hold `unsafe`.
const UNSAFE_FILES: [&str; 0] = [];

struct Source {
    /// Relative to the repository.
    name: String,
    text: String,
}

fn collect(directory: &Path, ending: &str, found: &mut Vec<PathBuf>) {
    let entries = fs::read_dir(directory).expect("the tree is readable");
    for entry in entries {
        let path = entry.expect("the tree is readable").path();
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        if path.is_dir() {
            if name != "target" && !name.starts_with('.') {
                collect(&path, ending, found);
            }
        } else if name.ends_with(ending) {
            found.push(path);
        }
    }
}

fn sources(ending: &str) -> Vec<Source> {
    let mut paths = Vec::new();
    collect(repository(), ending, &mut paths);
    paths.sort();
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).expect("sources are UTF-8");
        let name = path.strip_prefix(repository()).expect("below the root");
        Source {
            name: name.display().to_string(),
            text,
        }
    };
    paths.into_iter().map(read).collect()
}

/// Fails with all findings at once.
fn report(findings: Vec<String>) {
    assert!(
        findings.is_empty(),
        "{} findings:\n{}",
        findings.len(),
        findings.join("\n")
    );
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

fn begins_function(line: &str) -> bool {
    let words: Vec<&str> = line.split_whitespace().collect();
    let before = words.iter().take_while(|word| **word != "fn").count();
    let qualifier = |word: &&str| {
        ["pub", "async", "const", "extern", "unsafe"].contains(word) || word.starts_with("pub(")
    };
    before < words.len() && words[..before].iter().all(qualifier)
}

/// Lines of the function that begins at `at`, by the closing brace under its first letter.
fn function_length(lines: &[&str], at: usize) -> usize {
    let depth = indent(lines[at]);
    for (offset, line) in lines[at..].iter().enumerate() {
        let closes = indent(line) == depth && line.trim_start().starts_with('}');
        let declared = line.ends_with(';') && indent(line) == depth;
        if closes || declared || (offset == 0 && line.ends_with('}')) {
            return offset + 1;
        }
    }
    0
}

/// The name of the function that begins in this line.
fn function_name(line: &str) -> &str {
    let behind = line.split_once("fn ").map_or("", |(_, behind)| behind);
    let end = behind.find(|c: char| !c.is_alphanumeric() && c != '_');
    &behind[..end.unwrap_or(behind.len())]
}

#[test]
fn functions_are_short() {
    let mut findings = Vec::new();
    let mut stale = LONG_FUNCTIONS.to_vec();
    for source in sources(".rs") {
        let lines: Vec<&str> = source.text.lines().collect();
        for at in 0..lines.len() {
            if !begins_function(lines[at]) {
                continue;
            }
            let (length, name) = (function_length(&lines, at), function_name(lines[at]));
            let listed = (source.name.as_str(), name);
            if length > FUNCTION_LINES && !LONG_FUNCTIONS.contains(&listed) {
                findings.push(format!("{}:{}: {length} lines", source.name, at + 1));
            }
            stale.retain(|entry| length <= FUNCTION_LINES || *entry != listed);
        }
    }
    for (file, name) in stale {
        findings.push(format!(
            "{file}: {name} is no longer long, take it off the list"
        ));
    }
    report(findings);
}

/// Each supported specification has a protocol script that names it, in its own name or in a comment.
#[test]
fn specifications_have_scripts() {
    let named: Vec<String> = sources(".script")
        .into_iter()
        .map(|script| {
            let comments = script.text.lines().filter(|line| line.starts_with('#'));
            let comments: String = comments.collect();
            format!("{} {comments}", script.name).to_uppercase()
        })
        .collect();
    let mut findings = Vec::new();
    for source in sources(".rs")
        .iter()
        .filter(|source| source.name.starts_with("server/src/"))
    {
        let numbers = source.text.lines().filter_map(|line| {
            let number = line.trim().strip_prefix("number: ")?.strip_suffix(',')?;
            number.parse::<u32>().ok()
        });
        for number in numbers {
            let wanted = format!("XEP-{number:04}");
            if !named.iter().any(|script| script.contains(&wanted)) {
                findings.push(format!("{}: no script names {wanted}", source.name));
            }
        }
    }
    report(findings);
}

#[test]
fn files_are_short() {
    let mut findings = Vec::new();
    for source in sources(".rs") {
        let (lines, listed) = (
            source.text.lines().count(),
            LONG_FILES.contains(&source.name.as_str()),
        );
        if lines > FILE_LINES_AT_MOST || (lines > FILE_LINES && !listed) {
            findings.push(format!("{}: {lines} lines", source.name));
        }
        if listed && lines <= FILE_LINES {
            findings.push(format!(
                "{}: no longer long, take it off the list",
                source.name
            ));
        }
    }
    report(findings);
}

#[test]
fn files_begin_with_what_they_are() {
    let mut findings = Vec::new();
    for source in sources(".rs") {
        let first = source.text.lines().next().unwrap_or_default();
        if !first.starts_with("//! ") {
            findings.push(format!("{}: no module line", source.name));
        }
    }
    for source in sources(".script") {
        if !source.text.starts_with("# ") {
            findings.push(format!(
                "{}: no first line that says what it is about",
                source.name
            ));
        }
    }
    report(findings);
}

/// What is wrong with references to specifications in a line: the one form is `RFC 6121 §8.5.3`, `XEP-0280 §6`.
fn bad_reference(line: &str) -> Option<&'static str> {
    for (at, _) in line.match_indices("XEP") {
        let after = &line[at + 3..];
        let digits = after.trim_start_matches(['-', ' ']);
        let count = digits.chars().take_while(char::is_ascii_digit).count();
        if count > 0 && (!after.starts_with('-') || after.starts_with("- ") || count != 4) {
            return Some("a XEP is written XEP-0280");
        }
        if count == 4 && by_word(&digits[4..]) {
            return Some("a section is written §6");
        }
    }
    for (at, _) in line.match_indices("RFC") {
        let after = &line[at + 3..];
        let digits = after.trim_start_matches(['-', ' ']);
        let count = digits.chars().take_while(char::is_ascii_digit).count();
        if count > 0 && (!after.starts_with(' ') || after.starts_with("  ")) {
            return Some("an RFC is written RFC 6121");
        }
        if count > 0 && by_word(&digits[count..]) {
            return Some("a section is written §8.5.3");
        }
    }
    let loose = line.contains("§ ").then_some("§ stands before its number");
    loose.filter(|_| !line.contains('"'))
}

fn by_word(after: &str) -> bool {
    let after = after.trim_start_matches([',', ' ']).to_lowercase();
    ["section", "sec.", "chapter"]
        .iter()
        .any(|word| after.starts_with(word))
}

#[test]
fn references_have_one_form() {
    let mut findings = Vec::new();
    for source in sources(".rs") {
        if source.name.ends_with("tidy.rs") {
            continue;
        }
        for (at, line) in source.text.lines().enumerate() {
            let Some((_, comment)) = line.split_once("//") else {
                continue;
            };
            if let Some(why) = bad_reference(comment) {
                findings.push(format!(
                    "{}:{}: {why}: {}",
                    source.name,
                    at + 1,
                    line.trim()
                ));
            }
        }
    }
    report(findings);
}

#[test]
fn nothing_is_left_undone_or_unsafe() {
    // In parts, so that this file does not find itself.
    let banned = [
        concat!("todo", "!("),
        concat!("#[ig", "nore"),
        concat!("unimpl", "emented!("),
    ];
    let uncertain = concat!("uns", "afe ");
    let mut findings = Vec::new();
    for source in sources(".rs") {
        for (at, line) in source.text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            let place = format!("{}:{}", source.name, at + 1);
            if let Some(word) = banned.iter().find(|word| code.contains(**word)) {
                findings.push(format!("{place}: {word}"));
            }
            let block = code.contains(uncertain) && !code.contains('"');
            if block && !UNSAFE_FILES.contains(&source.name.as_str()) {
                findings.push(format!("{place}: {uncertain}"));
            }
        }
    }
    report(findings);
}

#[test]
fn exceptions_to_lints_have_reasons() {
    let mut findings = Vec::new();
    for source in sources(".rs") {
        let lines: Vec<&str> = source.text.lines().collect();
        for (at, line) in lines.iter().enumerate() {
            let line = line.trim();
            let inner = ["#[allow(", "#![allow(", "#[expect(", "#![expect("];
            if !inner.iter().any(|start| line.starts_with(start)) {
                continue;
            }
            let above = at.checked_sub(1).map_or("", |above| lines[above].trim());
            let within = lines[at..]
                .iter()
                .take(5)
                .take_while(|line| !line.trim().is_empty());
            let reason = within.clone().any(|line| line.contains("reason = "));
            let remark = above.starts_with("// ") || line.contains("// ");
            if !reason && !remark {
                findings.push(format!("{}:{}: {line}", source.name, at + 1));
            }
        }
    }
    report(findings);
}

#[test]
fn dependencies_have_reasons() {
    let text = fs::read_to_string(repository().join("Cargo.toml")).expect("the manifest");
    let mut findings = Vec::new();
    let (mut inside, mut above) = (false, "");
    for line in text.lines() {
        if line.starts_with('[') {
            inside = line == "[workspace.dependencies]";
        } else if inside
            && line.contains(" = ")
            && !line.contains("path = ")
            && !above.starts_with("# ")
        {
            findings.push(format!("Cargo.toml: {line}"));
        }
        above = line;
    }
    for source in sources("Cargo.toml") {
        if source.name == "Cargo.toml" {
            continue;
        }
        for (at, line) in source.text.lines().enumerate() {
            if line.contains("version = \"") && line.contains('{') {
                findings.push(format!(
                    "{}:{}: versions stand in the root",
                    source.name,
                    at + 1
                ));
            }
        }
    }
    report(findings);
}

#[test]
fn the_checks_can_fail() {
    assert!(bad_reference(" see RFC6121").is_some());
    assert!(bad_reference(" see RFC 6121, section 8").is_some());
    assert!(bad_reference(" XEP 0280").is_some());
    assert!(bad_reference(" XEP-280").is_some());
    assert!(bad_reference(" RFC 6121 §8.5.3 and XEP-0280 §6, XEP-0198").is_none());
    assert!(begins_function("    pub(crate) async fn long() {"));
    assert!(!begins_function("    // the fn of it"));
    assert_eq!(function_name("    pub(crate) async fn long<T>() {"), "long");
    let lines = ["fn a() {", "    x();", "}", "fn b() {}"];
    assert_eq!(function_length(&lines, 0), 3);
    assert_eq!(function_length(&lines, 3), 1);
}
