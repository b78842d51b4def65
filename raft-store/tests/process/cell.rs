//! A cell: namespaces for network, mounts and processes around this whole program. Whatever happens to it, its end is
//! the end of every process and interface it made. Where the system allows none, members run on loopback addresses.

use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::OnceLock;

/// Set inside, to the seconds that this program may run.
const INSIDE: &str = "RAFT_STORE_CELL";
/// How this program starts itself as the daemon: the arguments, one a line.
const DAEMON: &str = "RAFT_STORE_KVD";
/// And as `kvctl`.
const CONTROL: &str = "RAFT_STORE_KVCTL";

/// Where members run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ground {
    /// Each in a network namespace of its own, so that links can be cut.
    Namespaces,
    /// All on loopback: they can be killed and stopped only.
    Loopback,
}

/// This binary, and what it needs on its command line to come to [`daemon_if_asked`] again.
#[derive(Debug, Clone, Copy)]
pub struct Again(pub &'static [&'static str]);

impl Again {
    /// The whole command line.
    pub fn words(self) -> Vec<String> {
        let program = std::env::current_exe().expect("it runs");
        let mut words = vec![program.display().to_string()];
        words.extend(self.0.iter().map(|word| (*word).to_owned()));
        words
    }

    /// The daemon, started through `within` (nothing, or a command that runs another).
    pub fn daemon(self, within: &[String], arguments: &[String]) -> Command {
        let words = [within, &self.words()].concat();
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        command.env_remove(INSIDE).env(DAEMON, arguments.join("\n"));
        command
    }

    /// `kvctl`, run to its end: its exit code, and all that it printed.
    pub fn control(self, arguments: &[&str]) -> (Option<i32>, String) {
        let words = self.words();
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        command
            .env_remove(INSIDE)
            .env(CONTROL, arguments.join("\n"));
        let output = command.output().expect("it starts");
        let text = [&output.stdout[..], &output.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        (output.status.code(), text)
    }
}

fn asked(name: &str) -> Option<Vec<String>> {
    let arguments = std::env::var(name).ok()?;
    Some(arguments.lines().map(str::to_owned).collect())
}

/// The arguments, if this process was started as the daemon.
pub fn daemon_if_asked() -> Option<Vec<String>> {
    asked(DAEMON)
}

/// The arguments, if this process was started as `kvctl`.
pub fn control_if_asked() -> Option<Vec<String>> {
    asked(CONTROL)
}

fn unshare() -> Command {
    let mut command = Command::new("unshare");
    command.args([
        "--net",
        "--mount",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
    ]);
    if !rustix::process::getuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command
}

/// What is asked of the system, as a trial.
const TRIAL: &str = "mount -t tmpfs none /run && ip link set lo up && ip link add probe type bridge \
    && ip netns add probe && ip netns exec probe iptables -L -n && ip link add one type veth peer name two netns probe";

/// Whether a cell can be made here; else why not.
pub fn possible() -> Result<(), String> {
    let trial = unshare().args(["sh", "-c", TRIAL]).output();
    match trial {
        Ok(trial) if trial.status.success() => Ok(()),
        Ok(trial) => Err(String::from_utf8_lossy(&trial.stderr).trim().to_owned()),
        Err(error) => Err(format!("unshare: {error}")),
    }
}

/// The words in front of a command whose `CLOCK_MONOTONIC` and `CLOCK_BOOTTIME` are to be so many seconds ahead of the
/// machine's; none where the system allows no time namespace.
pub fn ahead(seconds: u64) -> Vec<String> {
    static POSSIBLE: OnceLock<bool> = OnceLock::new();
    let words = |seconds: u64| -> Vec<String> {
        let boottime = 2 * seconds;
        let line = format!("unshare --time --monotonic {seconds} --boottime {boottime}");
        line.split(' ').map(str::to_owned).collect()
    };
    let possible = POSSIBLE.get_or_init(|| {
        let trial = words(1);
        let trial = Command::new(&trial[0])
            .args(&trial[1..])
            .arg("true")
            .output();
        trial.is_ok_and(|trial| trial.status.success())
    });
    if *possible {
        words(seconds)
    } else {
        Vec::new()
    }
}

/// This program once more, inside a cell, with the same words. `inside` says whether it is there already.
pub fn command(words: &[String], seconds: u64) -> Command {
    let mut command = unshare();
    command.args([
        "sh",
        "-c",
        "mount -t tmpfs none /run && ip link set lo up && exec \"$0\" \"$@\"",
    ]);
    command.args(words).env(INSIDE, seconds.to_string());
    command
}

/// Puts the whole program into a cell, where one can be made, and never for longer than `seconds`. Comes back twice:
/// inside, or where there is none; outside it does not come back.
pub fn enter(words: &[String], seconds: u64) -> Ground {
    if inside() {
        return Ground::Namespaces;
    }
    match possible() {
        Ok(()) => {
            let error = command(words, seconds).exec();
            eprintln!("no cell: {error}");
        }
        Err(reason) => eprintln!("no network namespaces here, so no link is cut: {reason}"),
    }
    bound(seconds);
    Ground::Loopback
}

/// Whether this program runs in a cell already; then its time is bounded.
pub fn inside() -> bool {
    let seconds = std::env::var(INSIDE)
        .ok()
        .and_then(|text| text.parse().ok());
    if let Some(seconds) = seconds {
        bound(seconds);
    }
    seconds.is_some()
}

/// Ends the process after so long, whatever it does.
fn bound(seconds: u64) {
    std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_secs(seconds));
        eprintln!("still not done after {seconds} s: given up");
        std::process::exit(3);
    });
}
