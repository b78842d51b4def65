//! The handle that everybody uses: reads from the state here, writes through the proposer.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use crate::disk::Disk;
use crate::entry::{Action, Expect, Op, Write};
use crate::error::{Error, Fatal, Refusal};
use crate::founding::{Belonging, Standing};
use crate::hand_over::{HandOver, HandOverError};
use crate::ids::{Incarnation, MemberId, ProposalId, Revision};
use crate::leases::{LeaseWatch, Leases};
use crate::limits::Limits;
use crate::link::{Channel, ChannelError};
use crate::log;
use crate::membership::{Reconciler, Removed};
use crate::peers::PeerWatch;
use crate::proposer::{Place, Queue};
use crate::raft::core::Core;
use crate::rounds::Rounds;
use crate::snapshot::file::Error as SaveError;
use crate::snapshot::file::Error::Content;
use crate::snapshot::save::{Save, Saved};
use crate::spawner::Spawner;
use crate::state::{self, Fate, Item, Outcome, Registered, State, Versioned};
use crate::transport::registry::RESERVED_PREFIX;
use crate::waiters::{Ticket, Told, Waiters};
use crate::watch::{self, Watch};

mod opening;
mod removal;
mod status;
mod trust;

pub use opening::open;
pub use status::{MemberStatus, Prefix, Role, SeenByLeader, Status};

/// An open store. Clones are handles to the same; it runs until [`Store::shutdown`].
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    core: Core,
    waiters: Waiters,
    queue: Queue,
    rounds: Rounds,
    leases: Leases,
    hand_over: HandOver,
    reconciler: Reconciler,
    removed: Removed,
    leaving: AtomicBool,
    limits: Limits,
    member: MemberId,
    standing: Standing,
    disk: Arc<dyn Disk>,
    spawner: Arc<dyn Spawner>,
}

/// What one write came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WriteOutcome {
    /// The key's revision. A delete of what was not there changes nothing and gives the store's revision.
    Written(Revision),
    /// The condition did not hold. What is under the key now, which may be later than what the write met.
    Conflict(Option<Versioned>),
}

/// A result for each write of a batch, in order.
pub type BatchOutcome = Vec<Result<WriteOutcome, Refusal>>;

/// What became of a proposal whose caller got [`Error::Unknown`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolution {
    /// It was applied, once.
    Applied(BatchOutcome),
    /// It was not applied and never will be.
    Never,
    /// Its run is dead; nobody knows any more.
    Dead,
    /// Below the window; nobody knows any more.
    Stale,
}

/// See [`Store::inspect`].
#[doc(hidden)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inspection {
    pub term: u64,
    pub leader: Option<MemberId>,
    pub leading: bool,
    /// Of this run, without an answer.
    pub calls: usize,
    /// Of other members, waiting here.
    pub forwards: usize,
    pub commands: usize,
    pub reads: usize,
    pub log_last: Option<log::LogId>,
}

/// Tells of the end of a store that has failed; the process should end too.
pub struct FatalWatch(tokio::sync::oneshot::Receiver<Fatal>);

impl FatalWatch {
    /// Waits. `None`: the store was shut down.
    pub async fn wait(&mut self) -> Option<Fatal> {
        (&mut self.0).await.ok()
    }
}

impl Store {
    fn state(&self) -> Result<impl std::ops::Deref<Target = State>, Error> {
        let state = self.0.core.machine().read();
        state.ok_or_else(|| match self.0.waiters.is_closed() {
            true => Error::Closed,
            false => Error::NotReady,
        })
    }

    /// Waits until this run is registered (it can propose, and local reads are open) and the founding record names no
    /// other cluster; one that gives no answer is not waited for.
    pub async fn ready(&self, deadline: Instant) -> Result<Incarnation, Error> {
        let outcome = timeout_at(deadline, self.0.waiters.registered()).await;
        match outcome.map_err(|_| Error::NoQuorum)? {
            Some(Registered::As(incarnation)) => {
                let disputed = timeout_at(deadline, self.0.standing.undisputed()).await;
                match disputed.err().and(self.belonging().other) {
                    Some(other) => Err(Error::OtherCluster(other)),
                    None => Ok(incarnation),
                }
            }
            Some(Registered::Superseded(_)) => Err(Error::Dead),
            Some(Registered::Removed) => Err(Error::Removed),
            Some(Registered::Format(found)) => Err(Error::Format {
                found,
                known: self.0.limits.format_known,
            }),
            Some(Registered::Full) => Err(Error::TooMany {
                what: "members",
                limit: self.0.limits.members,
            }),
            None => Err(Error::Closed),
        }
    }

    /// What is under `key` here, and the revision of the state it was read from. Never goes back, also over a restart.
    /// [`Error::NotReady`] until all that was read before the start can be read again; waits for nobody.
    pub fn get(&self, key: &[u8]) -> Result<(Option<Versioned>, Revision), Error> {
        let state = self.state()?;
        Ok((state.get(key), state.revision()))
    }

    /// [`Store::get`] behind a [`Store::read_barrier`].
    pub async fn get_linearizable(
        &self,
        key: &[u8],
        deadline: Instant,
    ) -> Result<(Option<Versioned>, Revision), Error> {
        self.read_barrier(deadline).await?;
        self.get(key)
    }

    /// At most `limit` keys that begin with `prefix`, after the key `after`, in order. Fails as [`Store::get`] does.
    pub fn scan(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<(Vec<Item>, Revision), Error> {
        let state = self.state()?;
        Ok((state.scan(prefix, after, limit), state.revision()))
    }

    /// Waits until local reads see everything that was acknowledged anywhere before this call. `NoQuorum` at the deadline.
    pub async fn read_barrier(&self, deadline: Instant) -> Result<Revision, Error> {
        self.0.rounds.barrier(&self.0.waiters, deadline).await?;
        Ok(self.state()?.revision())
    }

    /// Puts `value` under `key` if `expect` holds. An owned key is orphaned when its owner dies.
    ///
    /// Of what writes fail with, [`Error::Unknown`] alone leaves open whether it was done, and [`Error::Dead`] and
    /// [`Error::Stale`] say that nobody can tell any more; after all others it was not and never will be.
    pub async fn put_if(
        &self,
        key: &[u8],
        value: Bytes,
        expect: Expect,
        owner: Option<Incarnation>,
        deadline: Instant,
    ) -> Result<WriteOutcome, Error> {
        let action = Action::Put { value, owner };
        self.write(key, expect, action, deadline).await
    }

    /// Deletes `key` if `expect` holds. Fails as [`Store::put_if`] does.
    pub async fn delete_if(
        &self,
        key: &[u8],
        expect: Expect,
        deadline: Instant,
    ) -> Result<WriteOutcome, Error> {
        self.write(key, expect, Action::Delete, deadline).await
    }

    async fn write(
        &self,
        key: &[u8],
        expect: Expect,
        action: Action,
        deadline: Instant,
    ) -> Result<WriteOutcome, Error> {
        let write = Write {
            key: Bytes::copy_from_slice(key),
            expect,
            action,
        };
        self.check(&write)?;
        self.write_own(write, deadline).await
    }

    /// Also keys of the store's own.
    async fn write_own(&self, write: Write, deadline: Instant) -> Result<WriteOutcome, Error> {
        let key = write.key.clone();
        match self.propose(Op::Write(write), deadline).await? {
            (id, Outcome::Write(outcome)) => Ok(self.told(id, &key, outcome)??),
            (_, other) => Err(unwritten(&other)),
        }
    }

    /// Each write with a result of its own; later ones see earlier ones, and nobody sees a part of them.
    /// [`Error::TooMany`] and [`Error::TooLarge`] above [`Limits::batch_writes`] and [`Limits::batch_bytes`]; otherwise
    /// it fails, as a whole, as [`Store::put_if`] does.
    pub async fn batch(
        &self,
        writes: Vec<Write>,
        deadline: Instant,
    ) -> Result<BatchOutcome, Error> {
        let limits = &self.0.limits;
        if writes.len() > limits.batch_writes {
            let (what, limit) = ("writes of a batch", limits.batch_writes);
            return Err(Error::TooMany { what, limit });
        }
        let bytes: usize = writes.iter().map(Write::payload_bytes).sum();
        if bytes > limits.batch_bytes {
            let (what, limit_bytes) = ("a batch", limits.batch_bytes);
            return Err(Error::TooLarge { what, limit_bytes });
        }
        writes.iter().try_for_each(|write| self.check(write))?;
        let keys: Vec<_> = writes.iter().map(|write| write.key.clone()).collect();
        match self.propose(Op::Batch(writes), deadline).await? {
            (id, Outcome::Batch(outcomes)) => keys
                .iter()
                .zip(outcomes.iter())
                .map(|(key, outcome)| self.told(id, key, *outcome))
                .collect(),
            (_, other) => Err(unwritten(&other)),
        }
    }

    /// Learns what became of a proposal that was answered [`Error::Unknown`]: a `Nop` is proposed in its place.
    pub async fn resolve(&self, id: ProposalId, deadline: Instant) -> Result<Resolution, Error> {
        if self.0.waiters.incarnation() != Some(id.incarnation) {
            let live = self.state()?.window(id.incarnation).is_some();
            return if live {
                Err(Error::Foreign(id))
            } else {
                Ok(Resolution::Dead)
            };
        }
        let mut ticket = self.0.waiters.again(id)?;
        let _place = self.0.queue.push(id, Op::Nop)?;
        let told = timeout_at(deadline, ticket.fate()).await;
        let fate = match told.ok().flatten() {
            Some(Told::Fate(fate)) => fate,
            Some(Told::NoQuorum) => return Err(Error::NoQuorum),
            None => return Err(Error::Unknown(id)),
        };
        Ok(match fate {
            Fate::Known(Outcome::Nop | Outcome::TooLarge) => Resolution::Never,
            Fate::Known(Outcome::Write(outcome)) => Resolution::Applied(vec![outcome_of(outcome)]),
            Fate::Known(Outcome::Batch(outcomes)) => Resolution::Applied(
                outcomes
                    .iter()
                    .map(|outcome| outcome_of(*outcome))
                    .collect(),
            ),
            Fate::Stale => Resolution::Stale,
            Fate::Dead => Resolution::Dead,
        })
    }

    /// A watch of the keys that begin with `prefix`: what changes after the revision `from`, at which the caller
    /// scanned, or after now.
    pub fn watch(&self, prefix: &[u8], from: Option<Revision>) -> Result<Watch, Error> {
        let watch = self.0.core.machine().hub().watch(prefix, from);
        watch.map_err(|error| match error {
            watch::Error::TooMany { limit } => Error::TooMany {
                what: "watches",
                limit,
            },
            watch::Error::Closed => Error::Closed,
        })
    }

    /// Saves what is applied here now as a snapshot file at `path`, below the root of the store's disk: all of it at one
    /// entry's end, verified. [`crate::offline::restore`] makes a cluster of it. A file that is there is not overwritten.
    /// Behind a [`Store::read_barrier`] it has everything acknowledged before.
    pub async fn save_snapshot(&self, path: &Path) -> Result<Saved, SaveError> {
        let captured = self.0.core.machine().to_save();
        let captured = captured.map_err(|_| Content("meta that cannot be encoded"))?;
        let state = captured.ok_or(Content("nothing is applied"))?;
        let (tell, told) = oneshot::channel();
        let to = (self.0.disk.clone(), path.to_owned());
        let job = Save::new(to, self.0.limits, state, tell);
        let job = self.0.spawner.spawn("save", Box::new(job))?;
        let saved = told.await;
        drop(job);
        saved.map_err(|_| Content("the job that saves has ended"))?
    }

    /// Which cluster this member belongs to, what it waits for, and whether the founding record names another.
    pub fn belonging(&self) -> Belonging {
        self.0.standing.now()
    }

    /// This run's, once it is registered.
    pub fn incarnation(&self) -> Option<Incarnation> {
        self.0.waiters.incarnation()
    }

    /// The lease of this run: while it is held, nobody takes what this run owns. Whoever loses it should end.
    pub fn lease(&self) -> LeaseWatch {
        self.0.leases.watch()
    }

    /// Hands leadership, which this member must have, to `to` or to whoever is nearest to it; who leads now.
    pub async fn hand_over(
        &self,
        to: Option<MemberId>,
        deadline: Instant,
    ) -> Result<MemberId, HandOverError> {
        self.0.hand_over.run(to, deadline).await
    }

    /// Prepares the end of this run: gives leadership away, takes no more calls, and waits for those under way.
    pub async fn drain(&self, deadline: Instant) -> Result<(), HandOverError> {
        self.0.hand_over.drain(&self.0.waiters, deadline).await
    }

    /// Tells which other members are up, as the entries say.
    pub fn peers(&self) -> PeerWatch {
        PeerWatch::new(self.0.core.machine().clone(), self.0.member)
    }

    /// Opens a channel with a member: it ends with that member's run, or with the connection to it. Both sides open it
    /// by its name (≤ 64 bytes), whichever first; what comes before waits.
    pub async fn channel(
        &self,
        name: &str,
        peer: MemberId,
        deadline: Instant,
    ) -> Result<Channel, ChannelError> {
        let own = self.incarnation().ok_or(ChannelError::NotRegistered)?;
        let opening = self.0.core.link().channel(name, peer, own);
        let opened = timeout_at(deadline, opening).await;
        opened.unwrap_or(Err(ChannelError::Unreachable))
    }

    /// What a simulation wants to know besides what it is shown.
    #[doc(hidden)]
    pub fn inspect(&self) -> Inspection {
        let now = self.0.core.leadership();
        let (calls, forwards, commands) = self.0.queue.lengths();
        Inspection {
            term: now.term,
            leader: now.leader,
            leading: now.leading,
            calls,
            forwards,
            commands,
            reads: self.0.rounds.waiting(),
            log_last: self.0.core.log().log_state().last,
        }
    }

    /// Ends the store: what is under way is answered, `Unknown` at worst, and the log is closed.
    pub async fn shutdown(self) {
        self.0.core.shutdown().await;
        self.0.waiters.closed().await;
        // A run that still talks would keep the next one out.
        self.0.core.link().close();
        self.0.core.log().clone().close();
    }

    /// Refuses what apply would, before it costs anything.
    fn check(&self, write: &Write) -> Result<(), Error> {
        let limits = &self.0.limits;
        if write.key.is_empty() || write.key.len() > limits.key_bytes {
            return Err(Error::Refused(Refusal::KeyBytes));
        }
        if write.key.starts_with(RESERVED_PREFIX) {
            return Err(Error::Reserved);
        }
        if write.payload_bytes() - write.key.len() > limits.value_bytes {
            return Err(Error::Refused(Refusal::ValueBytes));
        }
        Ok(())
    }

    async fn propose(&self, op: Op, deadline: Instant) -> Result<(ProposalId, Outcome), Error> {
        if self.0.core.log().is_full() {
            return Err(Error::DiskFull);
        }
        if self.0.core.is_leading() && !self.0.core.has_quorum() {
            return Err(Error::NoQuorum);
        }
        let mut ticket = self.0.waiters.begin(op.writes())?;
        let id = ticket.id;
        let place = match self.0.queue.push(id, op) {
            Ok(place) => place,
            Err(error) => {
                ticket.forget();
                return Err(error);
            }
        };
        match timeout_at(deadline, ticket.fate()).await {
            Ok(Some(Told::Fate(Fate::Known(outcome)))) => Ok((id, outcome)),
            Ok(Some(Told::Fate(Fate::Stale))) => Err(Error::Stale),
            Ok(Some(Told::Fate(Fate::Dead))) => Err(Error::Dead),
            Ok(Some(Told::NoQuorum)) => Err(Error::NoQuorum),
            Ok(None) => Err(given_up(ticket, place, Error::Closed)),
            Err(_) => Err(given_up(ticket, place, Error::NoQuorum)),
        }
    }

    /// A write's result, with what is under the key now after a conflict. A store that has ended meanwhile cannot tell
    /// that, and must not say that nothing was proposed: other writes of the batch are done.
    fn told(
        &self,
        id: ProposalId,
        key: &[u8],
        outcome: state::WriteOutcome,
    ) -> Result<Result<WriteOutcome, Refusal>, Error> {
        let there = || self.get(key).map_err(|_| Error::Unknown(id));
        Ok(match outcome {
            state::WriteOutcome::Conflict(_) => Ok(WriteOutcome::Conflict(there()?.0)),
            other => outcome_of(other),
        })
    }
}

/// Nobody has answered a call: `never` if nobody had it, and nobody will.
fn given_up(ticket: Ticket, place: Place, never: Error) -> Error {
    let id = ticket.id;
    match place.leave() {
        true => Error::Unknown(id),
        false => {
            ticket.forget();
            never
        }
    }
}

/// Without what is under the key after a conflict: of a resolved proposal, nobody knows the key.
fn outcome_of(outcome: state::WriteOutcome) -> Result<WriteOutcome, Refusal> {
    match outcome {
        state::WriteOutcome::Written(revision) => Ok(WriteOutcome::Written(revision)),
        state::WriteOutcome::Conflict(_) => Ok(WriteOutcome::Conflict(None)),
        state::WriteOutcome::Refused(refusal) => Err(refusal),
    }
}

/// An outcome that is not of the kind proposed.
fn unwritten(outcome: &Outcome) -> Error {
    match outcome {
        Outcome::TooLarge => Error::TooLarge {
            what: "a batch",
            limit_bytes: Limits::format_1().batch_bytes,
        },
        Outcome::Nop | Outcome::Write(_) | Outcome::Batch(_) => Error::Withdrawn,
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}
