//! Clients that work until they are told to end: a few keys, reads, puts, conditioned puts and removals, at whatever
//! member they happen to be.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use raft_store::random::{Random, Seeded};

use super::client::{Client, Failed};
use super::history::{Kind, Operation, Outcome};
use super::world::Targets;

/// Keys at a time.
const KEYS: u64 = 5;
/// Then they are left for others, so that what nobody knows of is over at some time; every key is read again at the end.
const KEY_LIFE: Duration = Duration::from_secs(5);
/// Between two operations of a client, at most.
const THINK: Duration = Duration::from_millis(12);
/// Operations at one member, then the client goes to another.
const STAY: u64 = 60;
/// A member that does not answer a read so often, where all is well, answers none.
const READ_TRIES: u32 = 20;

/// What a client needs to know.
#[derive(Clone)]
pub struct Work {
    pub targets: Targets,
    pub seed: u64,
    pub began: Instant,
    /// How long an answer may take.
    pub limit: Duration,
    pub end: Arc<AtomicBool>,
}

struct Worker {
    work: Work,
    number: usize,
    random: Seeded,
    /// The connection and how many operations more it is for.
    at: Option<(Client, u64)>,
    /// By key: the revision last seen. 0: it was not there.
    seen: BTreeMap<String, u64>,
    written: u64,
    done: Vec<Operation>,
}

/// Starts so many. Each gives its operations when it ends.
pub fn start(work: &Work, clients: usize) -> Vec<JoinHandle<Vec<Operation>>> {
    let numbers = 0..clients;
    let start = |number| {
        let random = Seeded::new(work.seed, &format!("client/{number}"));
        let worker = Worker::new(work, number, random);
        std::thread::spawn(move || worker.run())
    };
    numbers.map(start).collect()
}

/// Every key of the run, read once more at every member, by a client each. The reads, and what no member answered however
/// often it was asked: the history would lack what became of that key.
pub fn read_all(work: &Work, operations: &[Operation], from: usize) -> (Vec<Operation>, usize) {
    let keys: BTreeSet<String> = operations
        .iter()
        .map(|operation| operation.key.clone())
        .collect();
    let targets = work
        .targets
        .lock()
        .expect("nobody panics holding it")
        .clone();
    let readers = targets.into_iter().enumerate().map(|(at, address)| {
        let mut worker = Worker::new(work, from + at, Seeded::new(0, "none"));
        let keys = keys.clone();
        std::thread::spawn(move || {
            let unanswered = keys
                .into_iter()
                .filter(|key| !worker.reads(address, key))
                .count();
            (worker.done, unanswered)
        })
    });
    let readers: Vec<_> = readers.collect();
    let (mut reads, mut unanswered) = (Vec::new(), 0);
    for reader in readers {
        let (done, lacking) = reader.join().expect("it does not panic");
        reads.extend(done);
        unanswered += lacking;
    }
    (reads, unanswered)
}

impl Worker {
    fn new(work: &Work, number: usize, random: Seeded) -> Self {
        Self {
            random,
            work: work.clone(),
            number,
            at: None,
            seen: BTreeMap::new(),
            written: 0,
            done: Vec::new(),
        }
    }

    /// Reads a key at one member until it answers; `false` if it does not.
    fn reads(&mut self, address: SocketAddr, key: &str) -> bool {
        for _ in 0..READ_TRIES {
            if self.at.is_none() {
                let client = Client::connect(address, self.work.limit);
                self.at = client.ok().map(|client| (client, u64::MAX));
            }
            let before = self.done.len();
            self.operate(Kind::Get, key.to_owned());
            let read = self.done[before..].first();
            if read.is_some_and(|read| matches!(read.outcome, Outcome::Value(..) | Outcome::None)) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        false
    }

    fn run(mut self) -> Vec<Operation> {
        while !self.work.end.load(Ordering::Relaxed) {
            if !self.connected() {
                std::thread::sleep(Duration::from_millis(50));
                continue;
            }
            let life = self.work.began.elapsed().as_secs() / KEY_LIFE.as_secs();
            let key = format!("k{}/{life}", self.random.below(KEYS));
            let kind = self.kind(&key);
            self.operate(kind, key);
            let think = self.random.below(THINK.as_micros() as u64);
            std::thread::sleep(Duration::from_micros(think));
        }
        self.done
    }

    fn connected(&mut self) -> bool {
        if matches!(self.at, Some((_, left)) if left > 0) {
            return true;
        }
        let targets = self
            .work
            .targets
            .lock()
            .expect("nobody panics holding it")
            .clone();
        let Some(last) = (targets.len() as u64).checked_sub(1) else {
            return false;
        };
        let address = targets[self.random.below(last + 1) as usize];
        let stay = 1 + self.random.below(STAY);
        self.at = Client::connect(address, self.work.limit)
            .ok()
            .map(|client| (client, stay));
        self.at.is_some()
    }

    fn kind(&self, key: &str) -> Kind {
        let known = self.seen.get(key).copied();
        match (self.random.below(100), known) {
            (0..=4, Some(1..)) => Kind::DeleteIf,
            (0..=49, Some(_)) => Kind::PutIf,
            (50..=69, _) => Kind::Put,
            _ => Kind::Get,
        }
    }

    fn operate(&mut self, kind: Kind, key: String) {
        let Some((client, left)) = self.at.as_mut() else {
            return;
        };
        *left -= 1;
        let expected = match kind {
            Kind::Get | Kind::Put => 0,
            Kind::PutIf | Kind::DeleteIf => self.seen.get(&key).copied().unwrap_or(0),
        };
        let mut value = String::new();
        if matches!(kind, Kind::Put | Kind::PutIf) {
            self.written += 1;
            value = format!("c{}-{}", self.number, self.written);
        }
        let request = match kind {
            Kind::Get => format!("get {key}"),
            Kind::Put => format!("put {key} {value}"),
            Kind::PutIf => format!("put-if {key} {expected} {value}"),
            Kind::DeleteIf => format!("delete {key} {expected}"),
        };
        let began = self.work.began;
        let now = || began.elapsed().as_nanos() as u64;
        let call = now();
        let answer = client.ask(&request);
        let end = now();
        let outcome = match &answer {
            Ok(answer) => Outcome::of(answer),
            Err(Failed::NotSent) => Outcome::Failed,
            Err(Failed::NoAnswer) => Outcome::Unknown,
        };
        match (&outcome, &answer) {
            (Outcome::Value(revision, _), _) => self.seen.insert(key.clone(), *revision),
            (Outcome::Written(_), _) if kind == Kind::DeleteIf => self.seen.insert(key.clone(), 0),
            (Outcome::Written(revision), _) => self.seen.insert(key.clone(), *revision),
            (Outcome::None, _) => self.seen.insert(key.clone(), 0),
            (Outcome::Conflict, _) => self.seen.remove(&key),
            // It may serve the next one no better: to another member.
            (Outcome::Unknown | Outcome::Failed, _) => {
                self.at = None;
                None
            }
        };
        let client = self.number;
        self.done.push(Operation {
            client,
            key,
            kind,
            expected,
            value,
            call,
            end,
            outcome,
        });
    }
}
