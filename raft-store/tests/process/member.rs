//! One daemon as a process: started, killed, stopped, continued.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::cell::{self, Again};

/// Until a started daemon listens; it does so before it has peers.
const START: Duration = Duration::from_secs(20);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    Up,
    /// SIGSTOP.
    Stopped,
    Down,
}

pub struct Member {
    /// Everything it keeps, and beside it what it printed.
    pub dir: PathBuf,
    /// Words in front of its command.
    pub within: Vec<String>,
    pub arguments: Vec<String>,
    process: Option<Child>,
    stopped: bool,
    starts: u64,
    /// When its process closed its output: nothing of it runs any more.
    over: Arc<Mutex<Option<Instant>>>,
}

impl Member {
    pub fn new(dir: PathBuf, within: Vec<String>, arguments: Vec<String>) -> Self {
        Self {
            dir,
            within,
            arguments,
            process: None,
            stopped: false,
            starts: 0,
            over: Arc::default(),
        }
    }

    pub fn condition(&self) -> Condition {
        match (&self.process, self.stopped) {
            (None, _) => Condition::Down,
            (Some(_), true) => Condition::Stopped,
            (Some(_), false) => Condition::Up,
        }
    }

    /// Starts it and waits until it listens. The address it says.
    pub fn start(&mut self, again: Again) -> Result<String, String> {
        assert!(self.process.is_none(), "it runs");
        let log = std::fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(self.dir.with_extension("log"))
            .expect("a file beside its directory");
        // No two runs have clocks that began together: whoever compares those of two members is found out.
        self.starts += 1;
        let within = [self.within.clone(), cell::ahead(self.ahead_seconds())].concat();
        let mut command = again.daemon(&within, &self.arguments);
        command.stdout(Stdio::piped()).stderr(log);
        let mut process = command.spawn().expect("it starts");
        let output = process.stdout.take().expect("piped");
        let (tell, told) = mpsc::channel();
        let over = Arc::default();
        self.over = Arc::clone(&over);
        std::thread::spawn(move || {
            // Reads on, or the daemon would block once the pipe is full.
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if let Some((_, address)) = line.split_once("listening ") {
                    // Nobody waits any longer than START.
                    let _ = tell.send(address.to_owned());
                }
            }
            *over.lock().expect("nobody panics holding it") = Some(Instant::now());
        });
        self.process = Some(process);
        self.stopped = false;
        told.recv_timeout(START).map_err(|_| {
            self.kill();
            format!("{} does not listen: {}", self.dir.display(), self.said())
        })
    }

    /// The end of what it printed.
    pub fn said(&self) -> String {
        let text = std::fs::read_to_string(self.dir.with_extension("log")).unwrap_or_default();
        let from = text.len().saturating_sub(2000);
        text.get(from..).unwrap_or(&text).to_owned()
    }

    /// By how much the clocks of this run are ahead of the machine's: up to eleven days, another time each run.
    fn ahead_seconds(&self) -> u64 {
        let name = self.dir.to_string_lossy();
        let name = name.bytes().map(u64::from);
        let name = name.fold(0, |sum, byte| sum * 31 % 1_000_003 + byte);
        (name + self.starts * 104_729) % 1_000_000
    }

    /// When its last run ended, if it has and if that was noticed; its output is read by another thread.
    pub fn over(&self) -> Option<Instant> {
        *self.over.lock().expect("nobody panics holding it")
    }

    fn signal(&mut self, signal: Signal) {
        if let Some(process) = &self.process {
            // It may have ended by itself.
            let _ = kill_process(Pid::from_child(process), signal);
        }
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        if let Some(mut process) = self.process.take() {
            // Its status tells nothing.
            let _ = process.wait();
        }
    }

    /// SIGTERM, then SIGKILL after `patience`. How it ended, if by itself.
    pub fn terminate(&mut self, patience: Duration) -> Option<ExitStatus> {
        self.signal(Signal::TERM);
        let began = Instant::now();
        while began.elapsed() < patience && self.ended().is_none() {
            std::thread::sleep(Duration::from_millis(10));
        }
        let status = self.ended();
        self.kill();
        status
    }

    /// Its exit status, when it ended although nobody ended it.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        let process = self.process.as_mut()?;
        process.try_wait().expect("its own child")
    }

    pub fn stop(&mut self) {
        self.signal(Signal::STOP);
        self.stopped = true;
    }

    pub fn resume(&mut self) {
        self.signal(Signal::CONT);
        self.stopped = false;
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.kill();
    }
}
