//! Clients: they write, read, watch and resolve against every member, and hold each answer against the model.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use raft_store::gate::Tasks;
use raft_store::ids::{Incarnation, ProposalId, Revision};
use raft_store::random::{Random, Seeded};
use raft_store::state::Event;
use raft_store::{Action, Error, Expect, Refusal, Resolution, Store, Write, WriteOutcome};
use tokio::time::{Instant, sleep, timeout};

use super::model::{Model, Number};
use super::world::{Running, World};

/// Keys that all clients write.
pub const KEYS: u64 = 5;
/// A call ends this long behind its deadline at the latest, if its process runs.
const GRACE: Duration = Duration::from_millis(1500);

/// What clients have seen together.
#[derive(Default)]
pub struct History {
    /// The highest revision of an answer that needed a quorum: what begins now must see it.
    floor: Revision,
    /// Calls that nobody knows the fate of.
    unknown: BTreeMap<ProposalId, (Number, u64, Vec<Put>)>,
    pub counts: Counts,
    stopped: bool,
}

/// Calls by what became of them.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    pub written: u64,
    pub conflicts: u64,
    pub unknown: u64,
    pub resolved: u64,
    pub refused: u64,
    pub linearizable: u64,
    pub local: u64,
    pub watched: u64,
    pub resyncs: u64,
    /// Frames of channels, and how often an end of one was told.
    pub frames: u64,
    pub told_gone: u64,
}

/// One write of a call.
#[derive(Debug, Clone)]
struct Put {
    key: Bytes,
    /// `None`: a delete.
    value: Option<Bytes>,
    owner: Option<Incarnation>,
    expect: Expect,
}

impl Put {
    fn write(&self) -> Write {
        let action = match self.value.clone() {
            Some(value) => Action::Put {
                value,
                owner: self.owner,
            },
            None => Action::Delete,
        };
        Write {
            key: self.key.clone(),
            expect: self.expect,
            action,
        }
    }
}

/// One of many callers.
pub struct Client {
    world: World,
    number: u64,
    random: Seeded,
    calls: u64,
    /// Between two calls, in milliseconds.
    pause_ms: u64,
}

/// What came of a call that was made inside a member's process.
enum Came<T> {
    Answer(T),
    /// The process is gone or does not run; its answer never comes.
    Gone,
}

impl World {
    /// Calls begin no more.
    pub fn stop_clients(&self) {
        self.history.lock().stopped = true;
    }

    fn check(&self, what: Result<(), String>) {
        if let Err(violation) = what {
            self.trace.violated(violation);
        }
    }
}

impl Client {
    pub fn new(world: &World, number: u64, pause_ms: u64) -> Self {
        Self {
            world: world.clone(),
            number,
            random: Seeded::new(world.seed, &format!("client/{number}")),
            calls: 0,
            pause_ms,
        }
    }

    /// Calls until all are told to stop.
    pub async fn run(mut self) {
        while !self.world.history.lock().stopped && self.world.trace.violation().is_none() {
            let pause = self.random.below(2 * self.pause_ms + 1);
            sleep(Duration::from_millis(pause)).await;
            let member = self.random.below(self.world.count() as u64) as usize;
            let Some(up) = self.world.up(member) else {
                continue;
            };
            self.calls += 1;
            match self.random.below(20) {
                0..=8 => self.write(member, &up, 1).await,
                9..=10 => self.write(member, &up, 3).await,
                11..=14 => self.read(member, &up).await,
                15..=17 => self.read_here(member, &up).await,
                _ => self.resolve(member, &up).await,
            }
        }
    }

    fn key(&self) -> Bytes {
        format!("key/{}", self.random.below(KEYS)).into()
    }

    fn put(&self, up: &Running, part: u64) -> Put {
        let key = self.key();
        let value = format!("{}.{}.{part}", self.number, self.calls);
        let value = (self.random.below(5) != 0).then(|| value.into());
        let expect = match self.random.below(4) {
            0 => Expect::Absent,
            1 | 2 => match up.store.get(&key) {
                Ok((Some(there), _)) => Expect::Revision(there.revision),
                Ok((None, _)) | Err(_) => Expect::Absent,
            },
            _ => Expect::Any,
        };
        let owner = match value {
            Some(_) if self.random.below(4) == 0 => up.store.incarnation(),
            _ => None,
        };
        Put {
            key,
            value,
            owner,
            expect,
        }
    }

    fn deadline(&self) -> (Instant, Duration) {
        let time = Duration::from_millis(500 + self.random.below(3000));
        (Instant::now() + time, time)
    }

    /// Has a process do something; complains when it answers too late.
    async fn ask<T: Send + 'static>(
        &self,
        member: Number,
        up: &Running,
        time: Duration,
        call: impl Future<Output = T> + Send + 'static,
    ) -> Came<T> {
        let began = Instant::now();
        let mut call = Tasks::gated(up.gate.clone()).spawn(call);
        let mut stopped = false;
        loop {
            match timeout(Duration::from_millis(100), &mut call).await {
                Ok(Ok(answer)) => return Came::Answer(answer),
                Ok(Err(_)) => return Came::Gone,
                Err(_) => {}
            }
            let now = self.world.up(member).filter(|now| now.life == up.life);
            stopped |= now.is_none();
            if !stopped && began.elapsed() > time + GRACE {
                self.world
                    .trace
                    .violated(format!("member {member}: a call hangs"));
                return Came::Gone;
            }
            if stopped && began.elapsed() > time + Duration::from_secs(20) {
                call.abort();
                return Came::Gone;
            }
        }
    }

    async fn write(&mut self, member: Number, up: &Running, parts: u64) {
        let puts: Vec<_> = (0..parts).map(|part| self.put(up, part)).collect();
        let (deadline, time) = self.deadline();
        let began = self.begin();
        let writes = puts.iter().map(Put::write).collect();
        let call = call(up.store.clone(), writes, deadline);
        let came = self.ask(member, up, time, call).await;
        let mut history = self.world.history.lock();
        let Came::Answer(outcome) = came else {
            history.counts.unknown += 1;
            return self.note(member, &puts, &"gone");
        };
        self.note(member, &puts, &outcome);
        let mut model = self.world.model.lock();
        let checked = match outcome {
            Ok(outcomes) => self.answered(&mut history, &mut model, &puts, &outcomes, began),
            Err(Error::Unknown(id)) => {
                history.counts.unknown += 1;
                history.unknown.insert(id, (member, up.life, puts));
                Ok(())
            }
            Err(Error::Stale | Error::Dead) => Ok(()),
            Err(error) => {
                history.counts.refused += 1;
                refused(&mut model, &puts, &error)
            }
        };
        drop(model);
        drop(history);
        self.world.check(checked);
    }

    /// A call that was answered write by write: judges each, and what was not written never may be.
    fn answered(
        &self,
        history: &mut History,
        model: &mut Model,
        puts: &[Put],
        outcomes: &[Result<WriteOutcome, Refusal>],
        (before, floor): (Revision, Revision),
    ) -> Result<(), String> {
        let mut both = puts.iter().zip(outcomes);
        let counts = &mut history.counts;
        let checked =
            both.try_for_each(|(put, outcome)| judged(counts, model, put, outcome, floor));
        let mut both = puts.iter().zip(outcomes);
        let never = both.try_for_each(|(put, outcome)| match (outcome, put.value.clone()) {
            (Ok(WriteOutcome::Conflict(_)) | Err(_), Some(value)) => model.never(value),
            _ => Ok(()),
        });
        self.world.check(never);
        if let ([put], [Ok(WriteOutcome::Conflict(_))]) = (puts, outcomes) {
            self.world.check(conflicted(model, put, before));
        }
        let revisions = outcomes.iter().filter_map(|outcome| match outcome {
            Ok(WriteOutcome::Written(revision)) => Some(*revision),
            _ => None,
        });
        history.floor = revisions.fold(history.floor, Revision::max);
        checked
    }

    /// The revision that the call begun now may see at least: as applied by nobody knows whom, and as acknowledged.
    fn begin(&self) -> (Revision, Revision) {
        let floor = self.world.history.lock().floor;
        (floor, floor)
    }

    fn note(&self, member: Number, puts: &[Put], outcome: &dyn std::fmt::Debug) {
        let number = self.number;
        let keys: Vec<_> = puts.iter().map(|put| (&put.key, &put.value)).collect();
        self.world.trace.note(format_args!(
            "client {number} at {member} writes {keys:?}: {outcome:?}"
        ));
    }

    async fn read(&self, member: Number, up: &Running) {
        let (deadline, time) = self.deadline();
        let (_, floor) = self.begin();
        let (store, key) = (up.store.clone(), self.key());
        let of = key.clone();
        let call = async move { store.get_linearizable(&of, deadline).await };
        let Came::Answer(outcome) = self.ask(member, up, time, call).await else {
            return;
        };
        let number = self.number;
        self.world.trace.note(format_args!(
            "client {number} at {member} reads {key:?}: {outcome:?}"
        ));
        let mut history = self.world.history.lock();
        let Ok((found, revision)) = outcome else {
            history.counts.refused += 1;
            return;
        };
        history.counts.linearizable += 1;
        history.floor = history.floor.max(revision);
        let model = self.world.model.lock();
        let mut checked = same(&model, &key, found.as_ref(), revision);
        if revision < floor {
            checked = Err(format!(
                "a linearizable read at {member} gave {revision} after {floor}"
            ));
        }
        self.world.check(checked);
    }

    async fn read_here(&self, member: Number, up: &Running) {
        let (store, key) = (up.store.clone(), self.key());
        let of = key.clone();
        let seen = self.world.members.lock()[member].read.clone();
        let call = async move {
            let outcome = store.get(&of);
            // Under the same poll: nothing comes between.
            let mut seen = seen.lock();
            let before = *seen;
            if let Ok((_, revision)) = &outcome {
                *seen = before.max(*revision);
            }
            (outcome, before)
        };
        let came = self.ask(member, up, Duration::ZERO, call).await;
        let Came::Answer((Ok((found, revision)), before)) = came else {
            return;
        };
        self.world.history.lock().counts.local += 1;
        let mut checked = same(&self.world.model.lock(), &key, found.as_ref(), revision);
        if revision < before {
            checked = Err(format!(
                "local reads at {member} went back to {revision} from {before}"
            ));
        }
        self.world.check(checked);
    }

    /// Asks what became of a call of this life of the member.
    async fn resolve(&self, member: Number, up: &Running) {
        let asked = {
            let mut history = self.world.history.lock();
            let mut all = history.unknown.iter();
            let id = all.find(|(_, (at, life, _))| (*at, *life) == (member, up.life));
            let id = id.map(|(id, _)| *id);
            id.and_then(|id| history.unknown.remove_entry(&id))
        };
        let Some((id, (_, life, puts))) = asked else {
            return;
        };
        let (deadline, time) = self.deadline();
        let store = up.store.clone();
        let call = async move { store.resolve(id, deadline).await };
        let Came::Answer(outcome) = self.ask(member, up, time, call).await else {
            return;
        };
        self.note(member, &puts, &outcome);
        let mut history = self.world.history.lock();
        let mut model = self.world.model.lock();
        let checked = match outcome {
            Ok(Resolution::Never) => {
                history.counts.resolved += 1;
                let mut values = puts.iter().filter_map(|put| put.value.clone());
                values.try_for_each(|value| model.never(value))
            }
            Ok(Resolution::Applied(outcomes)) => {
                history.counts.resolved += 1;
                let both = puts.iter().zip(&outcomes);
                let mut check = both.map(|(put, outcome)| match outcome {
                    Ok(WriteOutcome::Written(revision)) => {
                        written(&model, put, *revision, Revision(0))
                    }
                    _ => Ok(()),
                });
                check.find(Result::is_err).unwrap_or(Ok(()))
            }
            Ok(Resolution::Dead | Resolution::Stale) => Ok(()),
            Err(_) => {
                history.unknown.insert(id, (member, life, puts));
                Ok(())
            }
        };
        drop(model);
        drop(history);
        self.world.check(checked);
    }
}

/// One write by itself, several as a batch.
async fn call(
    store: Store,
    writes: Vec<Write>,
    deadline: Instant,
) -> Result<Vec<Result<WriteOutcome, Refusal>>, Error> {
    let [write] = match <[Write; 1]>::try_from(writes) {
        Ok(one) => one,
        Err(several) => return store.batch(several, deadline).await,
    };
    let (key, expect) = (write.key, write.expect);
    let outcome = match write.action {
        Action::Put { value, owner } => store.put_if(&key, value, expect, owner, deadline).await?,
        Action::Delete => store.delete_if(&key, expect, deadline).await?,
    };
    Ok(vec![Ok(outcome)])
}

fn judged(
    counts: &mut Counts,
    model: &Model,
    put: &Put,
    outcome: &Result<WriteOutcome, Refusal>,
    floor: Revision,
) -> Result<(), String> {
    match outcome {
        Ok(WriteOutcome::Written(revision)) => {
            counts.written += 1;
            written(model, put, *revision, floor)
        }
        Ok(WriteOutcome::Conflict(_)) => {
            counts.conflicts += 1;
            Ok(())
        }
        Err(Refusal::OwnerDead) if put.owner.is_some() => Ok(()),
        Err(refusal) => Err(format!("{put:?} was refused: {refusal:?}")),
    }
}

/// A call that failed may fail so, and nothing of it is ever written.
fn refused(model: &mut Model, puts: &[Put], error: &Error) -> Result<(), String> {
    let nothing = matches!(
        error,
        Error::Busy
            | Error::NoQuorum
            | Error::NotReady
            | Error::DiskFull
            | Error::Closed
            | Error::Withdrawn
            | Error::Refused(Refusal::OwnerDead)
    );
    let mut never = puts.iter().filter_map(|put| put.value.clone());
    match nothing {
        true => never.try_for_each(|value| model.never(value)),
        false => Err(format!("{puts:?}: {error}")),
    }
}

/// An acknowledged write is what the model has at its revision, and above what was acknowledged before it began.
fn written(model: &Model, put: &Put, revision: Revision, floor: Revision) -> Result<(), String> {
    let said = || format!("{put:?} was written at {revision}");
    let found = model.at(&put.key, revision);
    let is_put = match (&put.value, model.event_at(revision)) {
        (Some(value), Some(Event::Put(record))) => {
            record.key() == put.key && record.value() == value
        }
        (Some(_), _) => false,
        (None, _) => found.is_none(),
    };
    if !is_put {
        return Err(format!("{}, where {found:?} is", said()));
    }
    // A delete that changed nothing is told the revision of whatever came last.
    let changed = put.value.is_some() || matches!(put.expect, Expect::Revision(_));
    if changed {
        let before = model.at(&put.key, Revision(revision.0 - 1));
        let before = before.map(|(revision, _)| revision);
        let held = match put.expect {
            Expect::Any => true,
            Expect::Absent => before.is_none(),
            Expect::Revision(expected) => before == Some(expected),
        };
        if !held {
            return Err(format!("{}, though {before:?} was there", said()));
        }
    }
    // A delete of nothing has no revision of its own.
    let least = floor.0 + u64::from(put.value.is_some());
    if revision.0 < least {
        return Err(format!("{} after {floor}", said()));
    }
    Ok(())
}

/// A condition that did not hold: there was a moment since the call began at which it does not.
fn conflicted(model: &Model, put: &Put, began: Revision) -> Result<(), String> {
    let now = model.state().revision();
    let failed = |at: u64| {
        let there = model
            .at(&put.key, Revision(at))
            .map(|(revision, _)| revision);
        match put.expect {
            Expect::Any => false,
            Expect::Absent => there.is_some(),
            Expect::Revision(revision) => there != Some(revision),
        }
    };
    if (began.0..=now.0).any(failed) {
        return Ok(());
    }
    Err(format!("{put:?} conflicted with nothing"))
}

fn same(
    model: &Model,
    key: &[u8],
    found: Option<&raft_store::Versioned>,
    revision: Revision,
) -> Result<(), String> {
    let there = model.at(key, revision);
    let found = found.map(|found| (found.revision, found.value.clone()));
    if revision > model.state().revision() {
        return Err(format!("a read at {revision}, which is not committed"));
    }
    if !model.is_whole(revision) {
        return Err(format!("a read at {revision}, in the middle of an entry"));
    }
    if there != found {
        return Err(format!(
            "a read of {key:?} at {revision} gave {found:?} and not {there:?}"
        ));
    }
    Ok(())
}
