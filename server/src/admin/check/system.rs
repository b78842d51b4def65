//! Checks of the machine: file limits, disk, clock.

use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::process::{Resource, getrlimit};

use super::finding::{Finding, Kind, Severity, Symptom};
use crate::admin::protocol::Status;
use crate::config::Config;

/// Files the server needs besides one per connection.
const FILES_BESIDES: u64 = 256;
/// Bytes of disk under which it gets tight.
const DISK_BYTES: u64 = 1 << 30;

const FILES: Kind = Kind {
    id: "file-limit",
    severity: Severity::Warning,
    symptom: Symptom::Ports,
    what: "the server may have {limit} files open, and the listeners allow {connections} connections",
    effect: "cannot connect when that many are there",
    remedy: "systemctl edit eider: [Service] LimitNOFILE={wanted} (elsewhere: ulimit -Hn {wanted})",
};

const DISK: Kind = Kind {
    id: "disk-full",
    severity: Severity::Error,
    symptom: Symptom::Messages,
    what: "{directory} has {free} MiB left",
    effect: "messages come back with resource-constraint when it is full",
    remedy: "df -h {directory}; shorten archive.retention_days",
};

const CLOCK_UNSYNCHRONISED: Kind = Kind {
    id: "clock-unsynchronised",
    severity: Severity::Warning,
    symptom: Symptom::Certificates,
    what: "the clock of this machine is not synchronised",
    effect: "wrong times on messages; certificates that seem to have ended or not begun",
    remedy: "timedatectl set-ntp true",
};

const CLOCK_BACK: Kind = Kind {
    id: "clock-went-back",
    severity: Severity::Error,
    symptom: Symptom::Certificates,
    what: "the clock is wrong: {file} was written {seconds} s in the future",
    effect: "wrong times on messages; certificates that seem not to have begun",
    remedy: "timedatectl status; timedatectl set-ntp true",
};

/// Every kind of this area.
pub const KINDS: &[&Kind] = &[&FILES, &DISK, &CLOCK_UNSYNCHRONISED, &CLOCK_BACK];

/// Checks the machine at a time; with the server running, what it says of itself.
pub fn check(config: &Config, now: SystemTime, running: Option<&Status>) -> Vec<Finding> {
    let connections: u64 = config
        .listeners
        .c2s
        .iter()
        .map(|l| u64::from(l.max_connections))
        .max()
        .unwrap_or(0);
    // The server raises its limit to the hard one; that of this shell may be another.
    let limit = match running {
        Some(status) => status.files_max,
        None => getrlimit(Resource::Nofile).maximum,
    };
    let mut findings = Vec::new();
    findings.extend(files(limit, connections));
    findings.extend(disk(&config.data_directory));
    findings.extend(written_ahead(&config.data_directory, now));
    if synchronised() == Some(false) {
        findings.push(CLOCK_UNSYNCHRONISED.found(&[]));
    }
    findings
}

fn files(limit: Option<u64>, connections: u64) -> Option<Finding> {
    let limit = limit?;
    let wanted = connections + FILES_BESIDES;
    // The default allows more than most machines ever see; only a limit for a handful is a finding by itself.
    if limit >= wanted.min(65_536) {
        return None;
    }
    Some(FILES.found(&[
        ("limit", &limit),
        ("connections", &connections),
        ("wanted", &wanted),
    ]))
}

fn disk(directory: &Path) -> Option<Finding> {
    let stat = rustix::fs::statvfs(directory).ok()?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    let mebibytes = free >> 20;
    let finding = || DISK.found(&[("directory", &directory.display()), ("free", &mebibytes)]);
    (free < DISK_BYTES).then(finding)
}

/// A file of ours from the future says that the clock went back.
fn written_ahead(directory: &Path, now: SystemTime) -> Option<Finding> {
    let entries = std::fs::read_dir(directory).ok()?;
    let newest = entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            Some((entry.metadata().ok()?.modified().ok()?, entry.path()))
        })
        .max()?;
    let ahead = newest
        .0
        .duration_since(now)
        .unwrap_or(Duration::ZERO)
        .as_secs();
    let finding = || CLOCK_BACK.found(&[("file", &newest.1.display()), ("seconds", &ahead)]);
    (ahead > 60).then(finding)
}

/// What systemd says of the clock; `None` where there is no systemd to ask.
fn synchronised() -> Option<bool> {
    let asked = std::process::Command::new("timedatectl")
        .args(["show", "-p", "NTPSynchronized", "--value"])
        .output()
        .ok()?;
    match String::from_utf8_lossy(&asked.stdout).trim() {
        "yes" => Some(true),
        "no" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_files_are_a_finding() {
        assert!(files(Some(1_024), 100_000).is_some());
        assert!(files(Some(1_048_576), 100_000).is_none());
        assert!(files(Some(1_024), 500).is_none());
        assert!(files(None, 100_000).is_none());
    }

    #[test]
    fn the_limit_is_that_of_the_server() {
        let status = |files_max| Status {
            files_max,
            ..Status::default()
        };
        let found = |status: &Status| {
            let findings = check(&Config::default(), crate::clock::now(), Some(status));
            findings.iter().any(|found| found.id == FILES.id)
        };
        assert!(found(&status(Some(64))));
        assert!(!found(&status(Some(1 << 40))) && !found(&status(None)));
    }

    #[test]
    fn a_file_from_the_future_is_a_finding() {
        let folder = std::env::temp_dir().join(format!("eider-clock-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("a"), b"").unwrap();
        let now = crate::clock::now();
        assert!(written_ahead(&folder, now).is_none());
        let found = written_ahead(&folder, now - Duration::from_secs(3_600)).unwrap();
        assert_eq!(found.id, "clock-went-back");
        std::fs::remove_dir_all(folder).unwrap();
    }
}
