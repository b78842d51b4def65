//! What processes cost: CPU time and memory of a whole process tree, read from /proc.

use std::collections::HashMap;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

/// A child that is ended when this is dropped.
#[derive(Debug)]
pub struct Guard {
    child: Child,
    what: String,
}

impl Guard {
    /// Starts the command.
    pub fn spawn(what: &str, command: &mut Command) -> Result<Self> {
        command.stdin(Stdio::null());
        let child = command
            .spawn()
            .with_context(|| format!("starting {what}"))?;
        Ok(Self {
            child,
            what: what.to_owned(),
        })
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Fails once the process has ended by itself.
    pub fn check(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            Some(status) => bail!("{} ended: {status}", self.what),
            None => Ok(()),
        }
    }

    /// SIGTERM, then SIGKILL when it has not ended within `patience`; how long it took.
    pub fn stop(&mut self, patience: Duration) -> Duration {
        self.stop_with(Signal::TERM, patience)
    }

    /// SIGKILL for the process and all that descend from it, at once.
    pub fn kill_tree(&mut self) {
        for pid in tree(self.pid()) {
            if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        let _ = self.child.wait();
    }

    /// As [`Guard::stop`], with another first signal.
    pub fn stop_with(&mut self, signal: Signal, patience: Duration) -> Duration {
        let begun = Instant::now();
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return begun.elapsed();
        }
        let family = tree(self.pid());
        if let Some(pid) = i32::try_from(self.pid()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, signal);
        }
        while begun.elapsed() < patience {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return begun.elapsed();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        for pid in family
            .into_iter()
            .filter_map(|p| i32::try_from(p).ok().and_then(Pid::from_raw))
        {
            let _ = kill_process(pid, Signal::KILL);
        }
        let _ = self.child.wait();
        begun.elapsed()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.stop(Duration::from_secs(10));
    }
}

struct Stat {
    parent: u32,
    ticks: u64,
}

fn stat(pid: u32) -> Option<Stat> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command's name stands in parentheses and may hold spaces.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |i: usize| fields.get(i)?.parse::<u64>().ok();
    // utime, stime, and those of children that were waited for.
    let ticks = (11..15).filter_map(number).sum();
    Some(Stat {
        parent: u32::try_from(number(1)?).ok()?,
        ticks,
    })
}

fn pids() -> impl Iterator<Item = u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|e| e.file_name().to_str()?.parse().ok())
}

/// The process and all that descend from it.
fn tree(root: u32) -> Vec<u32> {
    let parents: HashMap<u32, u32> = pids().filter_map(|p| Some((p, stat(p)?.parent))).collect();
    let descends = |mut pid: u32| {
        while pid != root {
            match parents.get(&pid) {
                Some(parent) if *parent != 0 => pid = *parent,
                _ => return false,
            }
        }
        true
    };
    parents.keys().copied().filter(|p| descends(*p)).collect()
}

/// CPU time, user and system, that the process tree has used so far.
pub fn cpu(root: u32) -> Duration {
    let ticks: u64 = tree(root)
        .into_iter()
        .filter_map(|p| Some(stat(p)?.ticks))
        .sum();
    let per_second = rustix::param::clock_ticks_per_second().max(1);
    Duration::from_nanos(ticks * (1_000_000_000 / per_second))
}

/// Resident memory of the process tree in KiB.
pub fn resident_kib(root: u32) -> u64 {
    let of_process = |pid: u32| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
        let line = text.lines().find_map(|l| l.strip_prefix("Rss:"))?;
        line.trim()
            .trim_end_matches("kB")
            .trim()
            .parse::<u64>()
            .ok()
    };
    tree(root).into_iter().filter_map(of_process).sum()
}
