//! Waiting for what must come about.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::{World, field};

impl World {
    /// Waits until every member that runs has a leader and says that it is registered. Those that do not.
    pub fn await_serving(&self, patience: Duration) -> Vec<usize> {
        let began = Instant::now();
        loop {
            let lacks = |number: &usize| {
                let status = self.status(*number).unwrap_or_default();
                let incarnation =
                    field(&status, "incarnation").and_then(|text| text.parse::<u64>().ok());
                incarnation.is_none() || field(&status, "leader") == Some("-")
            };
            let lacking: Vec<usize> = self.up().filter(lacks).collect();
            if lacking.is_empty() || began.elapsed() > patience {
                return lacking;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// [`World::await_serving`], while whoever ends by itself is started again.
    pub fn bring_up(&mut self, patience: Duration) -> Vec<usize> {
        let began = Instant::now();
        loop {
            self.look_after();
            let lacking = self.await_serving(Duration::from_secs(2));
            if lacking.is_empty() || began.elapsed() > patience {
                return lacking;
            }
        }
    }

    /// Waits until all members that run have applied the same entries and have the same state. What is wrong, if not.
    pub fn even(&self, patience: Duration) -> Option<String> {
        let began = Instant::now();
        loop {
            let says = |number| {
                let status = self.status(number)?;
                let says = |name| field(&status, name).map(str::to_owned);
                Some((says("applied")?, says("hash")?))
            };
            let all: Vec<_> = self.up().map(|number| (number, says(number))).collect();
            let states: BTreeSet<_> = all.iter().map(|(_, says)| says).collect();
            if states.len() == 1 && !states.contains(&None) {
                return None;
            }
            if began.elapsed() > patience {
                return Some(format!("applied entries and states differ: {all:?}"));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Waits until so many vote, all of them members that run here.
    pub fn await_voters(&mut self, wanted: usize, patience: Duration) -> bool {
        let began = Instant::now();
        while began.elapsed() < patience {
            self.look_after();
            let voters = self.voters.as_ref();
            if voters.is_some_and(|voters| voters.len() == wanted) && self.voters_are_members() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        false
    }

    /// Waits until somebody leads.
    pub fn await_leader(&self, patience: Duration) -> Option<usize> {
        let began = Instant::now();
        loop {
            match self.leader() {
                None if began.elapsed() < patience => std::thread::sleep(Duration::from_millis(50)),
                found => return found,
            }
        }
    }
}
