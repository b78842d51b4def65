//! The checker: a small Go program around porcupine, built when it is first needed.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// What the checker says of a history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Linearizable(String),
    Not(String),
    /// It could not be found out.
    Nobody(String),
}

/// Builds the checker, once a process, and gives its path. Needs Go 1.16 or later, and its module proxy the first time.
pub fn build() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/process/checker");
        let program = std::env::temp_dir().join("raft-store-checker");
        let ours = program.with_extension(std::process::id().to_string());
        let mut build = Command::new("go");
        build.args(["build", "-o"]).arg(&ours).arg(".");
        let output = build.current_dir(source).output();
        let output = output.expect("the checker needs Go: apt-get install golang-go");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "go build: {said}");
        // Another process may build it at the same time: whoever is last gives the name.
        std::fs::rename(&ours, &program).expect("the same directory");
        program
    })
}

/// Judges a file of operations, giving each key so many seconds.
pub fn judge(history: &Path, seconds_a_key: u64) -> Verdict {
    let mut check = Command::new(build());
    let output = check.arg(history).arg(seconds_a_key.to_string()).output();
    let output = output.expect("it was built");
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    match output.status.code() {
        Some(0) => Verdict::Linearizable(said),
        Some(1) if said.starts_with("not linearizable") => Verdict::Not(said),
        _ => {
            let reason = String::from_utf8_lossy(&output.stderr);
            Verdict::Nobody(format!("{said} {reason}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Directory;

    /// Lines with spaces for tabs.
    fn verdict(name: &str, lines: &[&str]) -> Verdict {
        let directory = Directory::new(name);
        let file = directory.0.join("history");
        let lines: Vec<String> = lines
            .iter()
            .map(|line| line.replace(' ', "\t") + "\n")
            .collect();
        std::fs::write(&file, lines.concat()).expect("there is space");
        judge(&file, 10)
    }

    #[test]
    fn what_a_store_may_do_is_let_pass() {
        let passed = verdict(
            "checker-good",
            &[
                "1 k put 0 a 10 20 written 1",
                "2 k put-if 1 b 30 40 written 2",
                "3 k put-if 1 c 31 50 conflict 0",
                // Its end was never known; it took effect long after, and once.
                "4 k put 0 late 32 -1 unknown 0",
                "1 k get 0 b 60 70 value 2",
                "2 k get 0 late 80 90 value 5",
                "3 k get 0 late 91 99 value 5",
                // Never took effect, or last of all.
                "5 k put-if 1 never 33 -1 unknown 0",
                "6 k delete-if 5 - 100 110 written 6",
                // Two reads beside a write may see it in either order of their ends.
                "1 k put 0 d 120 200 written 7",
                "2 k get 0 d 130 140 value 7",
                "3 k get 0 - 121 150 none 0",
            ],
        );
        assert!(matches!(passed, Verdict::Linearizable(_)), "{passed:?}");
    }

    #[test]
    fn what_a_store_must_not_do_is_found() {
        let first = "1 k put 0 a 10 20 written 1";
        let second = "1 k put 0 b 30 40 written 2";
        let wrong: [(&str, &[&str]); 9] = [
            ("stale-read", &[first, second, "2 k get 0 a 50 60 value 1"]),
            ("lost-write", &[first, "2 k get 0 - 50 60 none 0"]),
            (
                "back-and-forth",
                &[
                    first,
                    "2 k put 0 b 30 -1 unknown 0",
                    "3 k get 0 b 40 50 value 2",
                    "3 k get 0 a 60 70 value 1",
                ],
            ),
            // One put, two revisions.
            (
                "applied-twice",
                &[
                    first,
                    "2 k get 0 a 30 40 value 1",
                    "2 k get 0 a 50 60 value 2",
                ],
            ),
            (
                "applied-twice-unknown",
                &[
                    "1 k put 0 a 10 -1 unknown 0",
                    "2 k get 0 a 30 40 value 1",
                    second,
                    "2 k get 0 a 50 60 value 3",
                ],
            ),
            // Both were told that they were first.
            (
                "condition-ignored",
                &[
                    first,
                    "2 k put-if 1 b 30 40 written 2",
                    "3 k put-if 1 c 31 41 written 3",
                ],
            ),
            (
                "conflict-without-cause",
                &[first, "2 k put-if 1 b 30 40 conflict 0"],
            ),
            (
                "refused-but-done",
                &[first, "2 k get 0 never 30 40 value 2"],
            ),
            // Across keys, by their revisions.
            (
                "order-across-keys",
                &["1 k put 0 a 10 20 written 5", "2 l put 0 b 30 40 written 4"],
            ),
        ];
        for (name, lines) in wrong {
            let found = verdict(&format!("checker-{name}"), lines);
            assert!(matches!(found, Verdict::Not(_)), "{name}: {found:?}");
        }
    }
}
