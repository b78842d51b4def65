//! Clients that work until they are told to end: a few keys, reads, puts, conditioned puts and removals, at whatever
//! member they happen to be.

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
    seen: std::collections::BTreeMap<String, u64>,
    written: u64,
    done: Vec<Operation>,
}

/// Starts so many. Each gives its operations when it ends.
pub fn start(work: &Work, clients: usize) -> Vec<JoinHandle<Vec<Operation>>> {
    let numbers = 0..clients;
    let start = |number| {
        let worker = Worker {
            random: Seeded::new(work.seed, &format!("client/{number}")),
            work: work.clone(),
            number,
            at: None,
            seen: std::collections::BTreeMap::new(),
            written: 0,
            done: Vec::new(),
        };
        std::thread::spawn(move || worker.run())
    };
    numbers.map(start).collect()
}

/// Every key of the run, read once more by as many clients as there are members, each at its own member.
pub fn read_all(work: &Work, operations: &[Operation], from: usize) -> Vec<Operation> {
    let keys: std::collections::BTreeSet<String> = operations
        .iter()
        .map(|operation| operation.key.clone())
        .collect();
    let targets = work
        .targets
        .lock()
        .expect("nobody panics holding it")
        .clone();
    let readers = targets.into_iter().enumerate().map(|(at, address)| {
        let (work, keys, number) = (work.clone(), keys.clone(), from + at);
        std::thread::spawn(move || {
            let connect = || {
                Client::connect(address, work.limit)
                    .ok()
                    .map(|client| (client, u64::MAX))
            };
            let mut worker = Worker {
                random: Seeded::new(0, "none"),
                at: None,
                number,
                seen: std::collections::BTreeMap::new(),
                written: 0,
                done: Vec::new(),
                work: work.clone(),
            };
            for key in keys {
                worker.at = worker.at.take().or_else(connect);
                worker.operate(Kind::Get, key);
            }
            worker.done
        })
    });
    let readers: Vec<_> = readers.collect();
    readers
        .into_iter()
        .flat_map(|reader| reader.join().expect("it does not panic"))
        .collect()
}

impl Worker {
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
