//! The members of a run, their links, and who could reach whom at what time.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use raft_store::random::SystemRandom;
use raft_store::transport::JoinSecret;

use super::cell::Again;
use super::client::{self, field};
use super::gaps::Situation;
use super::member::{Condition, Member};
use super::net::Net;
use crate::daemon::LEASE_LOST;

mod waits;

/// Members whose addresses everybody is told, unless a run says otherwise.
const FIRST: usize = 3;
const STATUS: Duration = Duration::from_secs(2);
/// A daemon that runs and says nothing for so long hangs; it says how it is even before its store is open.
const HUNG: Duration = Duration::from_secs(15);

/// Whom clients may ask; changes as members come and go.
pub type Targets = Arc<Mutex<Vec<SocketAddr>>>;

/// Three, one after the other.
pub fn zone(number: usize) -> String {
    format!("zone-{}", number % 3)
}

/// A daemon that ended by itself.
#[derive(Debug, Clone)]
pub struct End {
    /// Nanoseconds since the run began.
    pub at: u64,
    pub number: usize,
    pub line: String,
}

pub struct World {
    pub net: Net,
    pub members: BTreeMap<usize, Member>,
    pub targets: Targets,
    /// What every member is started with, besides what is its own.
    pub options: Vec<String>,
    /// So many members' addresses are told to everybody.
    pub first: usize,
    /// From the start on, whenever it changed.
    pub situations: Vec<Situation>,
    /// Daemons that ended because their lease was lost.
    pub ends: Vec<End>,
    /// Daemons that ended for any other reason than that somebody ended them.
    pub surprises: Vec<String>,
    /// Since when a daemon that runs has answered nothing.
    silent: BTreeMap<usize, Instant>,
    /// The highest number that a member ever had: none is used again.
    pub newest: usize,
    /// Those that are being removed: they end by themselves.
    pub leaving: BTreeSet<usize>,
    again: Again,
    dir: PathBuf,
    pub began: Instant,
    voters: Option<BTreeSet<usize>>,
}

impl World {
    pub fn new(net: Net, again: Again, dir: PathBuf) -> Self {
        let secret = JoinSecret::mint(&SystemRandom).text();
        std::fs::write(dir.join("secret"), secret).expect("a file in a directory of ours");
        Self {
            net,
            members: BTreeMap::new(),
            targets: Targets::default(),
            options: Vec::new(),
            first: FIRST,
            situations: Vec::new(),
            ends: Vec::new(),
            surprises: Vec::new(),
            silent: BTreeMap::new(),
            newest: 0,
            leaving: BTreeSet::new(),
            again,
            dir,
            began: Instant::now(),
            voters: None,
        }
    }

    /// A member that never was before, with an empty disk. It is not started.
    pub fn add(&mut self, number: usize) {
        self.net.add(number);
        let dir = self.dir.join(format!("m{number}"));
        let own = [
            ("--dir", dir.display().to_string()),
            ("--client", self.net.client_address(number).to_string()),
        ];
        let shared = [
            ("--listen", self.net.member_address(number).to_string()),
            ("--peers", self.peers()),
            ("--founding", self.founding().display().to_string()),
            (
                "--join-secret-file",
                self.dir.join("secret").display().to_string(),
            ),
            // One percent too slow, right, one percent too fast.
            ("--clock-ppm", [10_000, -10_000, 0][number % 3].to_string()),
            ("--zone", zone(number)),
            ("--wall-file", self.wall_file(number).display().to_string()),
        ];
        let own = own
            .into_iter()
            .chain(shared)
            .flat_map(|(name, value)| [name.to_owned(), value]);
        let arguments = own.chain(self.options.iter().cloned()).collect();
        let member = Member::new(dir, self.net.within(number), arguments);
        self.members.insert(number, member);
        self.newest = self.newest.max(number);
        self.list();
        self.note();
    }

    fn wall_file(&self, number: usize) -> PathBuf {
        self.dir.join(format!("m{number}.wall"))
    }

    /// The date of a member is wrong by so many seconds from now on.
    pub fn step_clock(&self, number: usize, seconds: i64) {
        // Renamed, so that nobody reads a half.
        let (file, aside) = (self.wall_file(number), self.dir.join("wall"));
        let written = std::fs::write(&aside, seconds.to_string());
        let done = written.and_then(|()| std::fs::rename(&aside, file));
        done.expect("a file in a directory of ours");
    }

    /// The record of founding that all members share.
    pub fn founding(&self) -> PathBuf {
        self.dir.join("founding")
    }

    /// Addresses of the first members and of those that are there, for one that is to be started.
    fn peers(&self) -> String {
        let numbers: BTreeSet<usize> = (1..=self.first)
            .chain(self.members.keys().copied())
            .collect();
        let addresses = numbers
            .iter()
            .map(|member| self.net.member_address(*member).to_string());
        addresses.collect::<Vec<_>>().join(",")
    }

    /// Ends it for good, disk included.
    pub fn discard(&mut self, number: usize) {
        if let Some(mut member) = self.members.remove(&number) {
            member.kill();
            std::fs::remove_dir_all(&member.dir).expect("its directory is there");
        }
        self.list();
        self.note();
    }

    fn list(&self) {
        let addresses = self
            .members
            .keys()
            .map(|member| self.net.client_address(*member));
        *self.targets.lock().expect("nobody panics holding it") = addresses.collect();
    }

    fn member(&mut self, number: usize) -> &mut Member {
        self.members.get_mut(&number).expect("a member of this run")
    }

    pub fn start(&mut self, number: usize) {
        let again = self.again;
        let started = self.member(number).start(again);
        started.unwrap_or_else(|error| panic!("{error}"));
        self.note();
    }

    /// All of them as nearly at once as one can.
    pub fn start_all(&mut self) {
        let again = self.again;
        let started: Vec<_> = std::thread::scope(|scope| {
            let members = self.members.values_mut();
            let starts: Vec<_> = members
                .map(|member| scope.spawn(move || member.start(again)))
                .collect();
            starts
                .into_iter()
                .map(|start| start.join().expect("it does not panic"))
                .collect()
        });
        started
            .into_iter()
            .for_each(|started| drop(started.unwrap_or_else(|error| panic!("{error}"))));
        self.note();
    }

    /// Ends all members; the network stays, for others.
    pub fn end(self) -> Net {
        drop(self.members);
        self.net
    }

    /// Whether everybody who votes is a member that runs here. As of the last look.
    fn voters_are_members(&self) -> bool {
        let voters = self.voters.as_ref();
        voters.is_some_and(|voters| voters.iter().all(|voter| self.members.contains_key(voter)))
    }

    pub fn kill(&mut self, number: usize) {
        self.member(number).kill();
        self.note();
    }

    /// SIGTERM. One that does not end then, or with an error, is remembered; a lease may be lost meanwhile.
    pub fn terminate(&mut self, number: usize, patience: Duration) {
        let status = self.member(number).terminate(patience);
        let code = status.map(|status| status.code());
        if !matches!(code, Some(Some(0))) && code != Some(Some(i32::from(LEASE_LOST))) {
            let said = self.members[&number].said();
            let last = said.lines().last().unwrap_or_default();
            let line = format!("member {number} after SIGTERM: {status:?}: {last}");
            self.surprises.push(line);
        }
        self.note();
    }

    pub fn stop(&mut self, number: usize) {
        self.member(number).stop();
        self.note();
    }

    pub fn resume(&mut self, number: usize) {
        self.member(number).resume();
        self.note();
    }

    pub fn cut(&mut self, links: impl IntoIterator<Item = (usize, usize)>) {
        self.net.cut(links);
        self.note();
    }

    pub fn lose(&mut self, member: usize, percent: u32) {
        self.net.lose(member, percent);
        self.note();
    }

    /// All links are whole again.
    pub fn mend(&mut self) {
        self.net.heal();
        self.note();
    }

    /// Everything runs and reaches everything.
    pub fn heal(&mut self) {
        self.net.heal();
        let numbers: Vec<usize> = self.members.keys().copied().collect();
        for number in numbers {
            match self.members[&number].condition() {
                Condition::Stopped => self.resume(number),
                Condition::Down => self.start(number),
                Condition::Up => {}
            }
        }
        self.note();
    }

    /// Starts again what ended by itself, and remembers that it did.
    pub fn look_after(&mut self) {
        let staying = self
            .members
            .keys()
            .copied()
            .filter(|number| !self.leaving.contains(number));
        for number in staying.collect::<Vec<usize>>() {
            if let Some(status) = self.member(number).ended() {
                let (over, said) = (self.members[&number].over(), self.members[&number].said());
                let at = over.unwrap_or_else(Instant::now).duration_since(self.began);
                let last = said.lines().last().unwrap_or_default();
                let line = format!(
                    "{:.1} s: member {number}: {status}: {last}",
                    at.as_secs_f64()
                );
                let at = at.as_nanos() as u64;
                match status.code() == Some(i32::from(LEASE_LOST)) {
                    true => self.ends.push(End { at, number, line }),
                    false => self.surprises.push(line),
                }
                self.kill(number);
                self.start(number);
            }
            self.is_heard(number);
        }
        self.ask_voters();
    }

    /// One that hangs is remembered, and started again.
    fn is_heard(&mut self, number: usize) {
        if self.members[&number].condition() != Condition::Up || self.status(number).is_some() {
            self.silent.remove(&number);
            return;
        }
        let since = *self.silent.entry(number).or_insert_with(Instant::now);
        if since.elapsed() > HUNG {
            let at = self.began.elapsed().as_secs_f64();
            let line = format!("{at:.1} s: member {number} runs and answers nothing");
            self.surprises.push(line);
            self.silent.remove(&number);
            self.kill(number);
            self.start(number);
        }
    }

    /// Who votes, as of the last look.
    pub fn voters(&self) -> BTreeSet<usize> {
        self.voters.clone().unwrap_or_default()
    }

    /// What all say of themselves, for a failure's message.
    pub fn describe(&self) -> String {
        let lines = self.members.iter().map(|(number, member)| {
            let status = self.status(*number).unwrap_or_default();
            format!(
                "\n{number} {:?} {status}\n{}",
                member.condition(),
                member.said()
            )
        });
        lines.collect()
    }

    pub fn status(&self, number: usize) -> Option<String> {
        let address = self.net.client_address(number);
        let answer = client::ask(address, "status", STATUS).ok()?;
        answer.starts_with("status ").then_some(answer)
    }

    /// Those that run.
    fn up(&self) -> impl Iterator<Item = usize> {
        let members = self.members.iter();
        let up = members.filter(|(_, member)| member.condition() == Condition::Up);
        up.map(|(number, _)| *number)
    }

    /// Who says that it leads; of several the one whose lead is newest.
    pub fn leader(&self) -> Option<usize> {
        let leading = self.up().filter_map(|number| {
            let status = self.status(number)?;
            let term = field(&status, "term").and_then(|term| term.parse().ok());
            (field(&status, "leading") == Some("true")).then_some((term.unwrap_or(0u64), number))
        });
        leading.max().map(|(_, number)| number)
    }

    /// Learns who votes; while nobody says, all members are taken for voters.
    fn ask_voters(&mut self) {
        let Some(leader) = self.leader() else { return };
        let Some(status) = self.status(leader) else {
            return;
        };
        let Some(voters) = field(&status, "voters") else {
            return;
        };
        let ids: BTreeSet<&str> = voters.split(',').collect();
        let votes = |number: &usize| {
            let status = self.status(*number).unwrap_or_default();
            field(&status, "member").is_some_and(|id| ids.contains(id))
        };
        let found: BTreeSet<usize> = self.up().filter(votes).collect();
        if found.len() == ids.len() && self.voters.as_ref() != Some(&found) {
            self.voters = Some(found);
            self.note();
        }
    }

    fn note(&mut self) {
        let up: BTreeSet<usize> = self.up().collect();
        let mut links = BTreeSet::new();
        for from in &up {
            links.extend(
                up.iter()
                    .filter(|to| self.net.open(*from, **to))
                    .map(|to| (*from, *to)),
            );
        }
        let all = || self.members.keys().copied().collect();
        self.situations.push(Situation {
            at: self.began.elapsed().as_nanos() as u64,
            voters: self.voters.clone().unwrap_or_else(all),
            up,
            links,
        });
    }
}
