//! Starting openraft on what was recovered, asking it for things without naming it, and noticing its end.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use openraft::error::{CheckIsLeaderError, ClientWriteError, Fatal as CoreFatal, RaftError};
use openraft::metrics::RaftServerMetrics;
use openraft::raft::ClientWriteResult;
use openraft::{Config, EmptyNode, ServerState, SnapshotPolicy};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::log_store::{LogStore, Opening};
use super::machine::{Around, Machine};
use super::members;
use super::network::Network;
use super::pacing::Pacing;
use super::peers::Peers;
pub(crate) use super::recovered::{Recovered, recover};
use super::types::{Command, Raft, Types, decode_meta, to_log_id};
use crate::bell::Bell;
use crate::clock::Clock;
use crate::config::{Parts, Settings};
use crate::elections;
use crate::error::{Fatal, OpenError};
use crate::gate::Tasks;
use crate::ids::MemberId;
use crate::link::Link;
use crate::log::{self, Log};
use crate::random::Random;
use crate::snapshot::publish::Snapshots;
use crate::spawner::Spawner;
use crate::waiters::Waiters;
use crate::watch::Hub;

/// A running member. Clones are handles to the same.
#[derive(Clone)]
pub(crate) struct Core(Arc<Shared>);

struct Shared {
    member: MemberId,
    raft: Raft,
    log: Log,
    machine: Machine,
    snapshots: Snapshots,
    around: Surroundings,
    /// The vote found at the start.
    found_vote: log::Vote,
    leading: AtomicBool,
    leader: Mutex<Leadership>,
    leadership: Bell,
    /// Held while a request for a vote is answered, and while an election is decided on.
    voting: tokio::sync::Mutex<()>,
    /// [`Core::shutdown`] was called.
    stopping: AtomicBool,
    /// Why [`Core::fail`] was called.
    failure: Mutex<Option<String>>,
}

/// What a core stands on besides its disk.
struct Surroundings {
    link: Arc<dyn Link>,
    peers: Arc<Peers>,
    tasks: Tasks,
    spawner: Arc<dyn Spawner>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
}

/// Who leads, as far as this member knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Leadership {
    /// Of the vote that this member holds.
    pub(crate) term: u64,
    pub(crate) leader: Option<MemberId>,
    /// This member does.
    pub(crate) leading: bool,
}

/// What became of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Receipt {
    Applied,
    /// Not appended, or taken back by a later leader: never committed.
    NotLeader,
    /// The core has ended.
    Ended,
}

/// Tells once.
pub(crate) struct Receiver(oneshot::Receiver<ClientWriteResult<Types>>);

impl Receiver {
    pub(crate) async fn receipt(&mut self) -> Receipt {
        match (&mut self.0).await {
            Ok(Ok(_)) => Receipt::Applied,
            Ok(Err(ClientWriteError::ForwardToLeader(_))) => Receipt::NotLeader,
            // Only changes of membership are refused otherwise.
            Ok(Err(ClientWriteError::ChangeMembershipError(_))) | Err(_) => Receipt::Ended,
        }
    }
}

/// Why there is no read index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoIndex {
    NotLeader,
    NoQuorum,
    Ended,
}

fn config() -> Config {
    Config {
        cluster_name: "raft-store".into(),
        heartbeat_interval: 600,
        election_timeout_min: 650,
        election_timeout_max: 900,
        enable_elect: false,
        enable_heartbeat: false,
        enable_tick: true,
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: u64::MAX,
        max_payload_entries: 64,
        ..Config::default()
    }
}

pub(super) fn raft_error(error: impl std::fmt::Display) -> OpenError {
    OpenError::Raft(error.to_string())
}

/// Starts the core. Peers are asked over `link`; what they ask goes to an [`super::inbox::Inbox`].
pub(crate) async fn start(
    settings: &Settings,
    parts: &Parts,
    recovered: Recovered,
    member: MemberId,
    link: Arc<dyn Link>,
    waiters: Waiters,
) -> Result<(Core, oneshot::Receiver<Fatal>), OpenError> {
    recovered.show(&settings.observer);
    let Recovered {
        log,
        snapshots,
        state,
        meta,
    } = recovered;
    let pacing = Arc::new(Pacing::default());
    let opening = Arc::new(Opening::at(log.log_state().last));
    let around = Around {
        hub: Hub::new(state.revision(), settings.watches),
        waiters,
        snapshots: snapshots.clone(),
        pacing: pacing.clone(),
        opening: opening.clone(),
        observer: settings.observer.clone(),
        spawner: parts.spawner.clone(),
    };
    let machine = Machine::new(state, meta.as_deref(), around).map_err(raft_error)?;
    let store = LogStore::new(log.clone(), pacing, opening, settings.observer.clone());
    let config = Arc::new(config().validate().map_err(raft_error)?);
    let peers = Arc::new(Peers::new(member, parts.clock.clone()));
    let network = Network {
        link: link.clone(),
        peers: peers.clone(),
        snapshots: snapshots.clone(),
        spawner: parts.spawner.clone(),
    };
    let found_vote = log.vote().unwrap_or_default();
    // openraft's own tasks belong to the gate of the task that starts it.
    let of_core = machine.clone();
    let starting = parts
        .tasks
        .spawn(async move { Raft::new(member.0, config, network, store, of_core).await });
    let raft = starting.await.map_err(raft_error)?.map_err(raft_error)?;
    let core = Core(Arc::new(Shared {
        member,
        raft,
        log,
        machine,
        snapshots,
        around: Surroundings {
            link,
            peers,
            tasks: parts.tasks.clone(),
            spawner: parts.spawner.clone(),
            clock: parts.clock.clone(),
            random: parts.random.clone(),
        },
        found_vote,
        leading: AtomicBool::new(false),
        leader: Mutex::default(),
        leadership: Bell::default(),
        voting: tokio::sync::Mutex::default(),
        stopping: AtomicBool::new(false),
        failure: Mutex::new(None),
    }));
    let told = core.watched();
    core.begin().await.map_err(raft_error)?;
    parts.tasks.spawn(elections::run(core.clone()));
    Ok((core, told))
}

impl Core {
    /// Begins to follow the core to its end.
    fn watched(&self) -> oneshot::Receiver<Fatal> {
        let (tell, told) = oneshot::channel();
        let watching = self.clone();
        self.tasks().spawn(async move {
            if let Some(fatal) = watching.watch().await {
                // Nobody asked to be told.
                let _ = tell.send(fatal);
            }
        });
        told
    }

    /// Founds a cluster of this member alone. Nothing where a log has begun.
    pub(crate) async fn found(&self) -> Result<(), String> {
        let raft = &self.0.raft;
        if raft.is_initialized().await.map_err(|e| e.to_string())? {
            return Ok(());
        }
        self.0.around.peers.electing();
        let alone = BTreeSet::from([self.0.member.0]);
        raft.initialize(alone).await.map_err(|e| e.to_string())
    }

    /// The only voter elects itself at once: there is nobody whose lease it could break.
    async fn begin(&self) -> Result<(), String> {
        let (raft, member) = (&self.0.raft, self.0.member);
        let text = |error: CoreFatal<u64>| error.to_string();
        let voters = |state: &openraft::RaftState<_, _, _>| {
            let voters = state.membership_state.effective().membership().voter_ids();
            voters.collect::<BTreeSet<u64>>()
        };
        let voters = raft.with_raft_state(voters).await.map_err(text)?;
        if voters == BTreeSet::from([member.0]) {
            self.0.around.peers.electing();
            raft.trigger().elect().await.map_err(text)?;
        }
        Ok(())
    }

    /// Follows the core to its end. `None`: it was asked to end.
    async fn watch(&self) -> Option<Fatal> {
        let mut metrics = self.0.raft.server_metrics();
        loop {
            let membership = {
                let metrics = metrics.borrow_and_update();
                self.note(&metrics);
                metrics.membership_config.clone()
            };
            let peers = &self.0.around.peers;
            peers.set_voters(members::configurations(membership.membership()));
            self.0.leadership.ring();
            if metrics.changed().await.is_err() {
                break;
            }
        }
        self.0.leading.store(false, Ordering::Release);
        *self.0.leader.lock() = Leadership::default();
        self.0.machine.close();
        self.0.leadership.ring();
        if self.0.stopping.load(Ordering::Acquire) {
            return None;
        }
        if let Some(reason) = self.0.failure.lock().take() {
            return Some(Fatal { reason });
        }
        let state = self.0.raft.metrics().borrow().running_state.clone();
        let reason = match state {
            Ok(()) => "the core of consensus panicked".to_owned(),
            Err(error) => error.to_string(),
        };
        Some(Fatal { reason })
    }

    fn note(&self, metrics: &RaftServerMetrics<u64, EmptyNode>) {
        let leading = metrics.state == ServerState::Leader;
        *self.0.leader.lock() = Leadership {
            term: metrics.vote.leader_id.term,
            leader: metrics.current_leader.map(MemberId),
            leading,
        };
        if self.0.leading.swap(leading, Ordering::AcqRel) {
            // Whoever led heard itself.
            self.0.around.peers.heard();
        }
    }

    pub(super) fn raft(&self) -> &Raft {
        &self.0.raft
    }

    pub(super) fn peers(&self) -> &Peers {
        &self.0.around.peers
    }

    /// While the guard lives, nobody else gives a vote away here, or begins an election.
    pub(super) async fn voting(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.0.voting.lock().await
    }

    pub(super) fn found_vote(&self) -> log::Vote {
        self.0.found_vote
    }

    pub(crate) fn member(&self) -> MemberId {
        self.0.member
    }

    pub(crate) fn link(&self) -> &dyn Link {
        &*self.0.around.link
    }

    pub(crate) fn tasks(&self) -> &Tasks {
        &self.0.around.tasks
    }

    pub(super) fn spawner(&self) -> &dyn Spawner {
        &*self.0.around.spawner
    }

    pub(crate) fn clock(&self) -> &dyn Clock {
        &*self.0.around.clock
    }

    pub(crate) fn random(&self) -> &dyn Random {
        &*self.0.around.random
    }

    pub(crate) fn machine(&self) -> &Machine {
        &self.0.machine
    }

    pub(crate) fn log(&self) -> &Log {
        &self.0.log
    }

    pub(crate) fn snapshots(&self) -> &Snapshots {
        &self.0.snapshots
    }

    pub(crate) fn is_leading(&self) -> bool {
        self.0.leading.load(Ordering::Acquire)
    }

    pub(crate) fn leadership(&self) -> Leadership {
        *self.0.leader.lock()
    }

    pub(crate) fn leader(&self) -> Option<MemberId> {
        self.leadership().leader
    }

    /// Waits until `ready` gives something; it is asked again whenever leadership changes.
    pub(crate) async fn wait_leadership<T>(&self, ready: impl FnMut() -> Option<T>) -> T {
        self.0.leadership.wait(ready).await
    }

    /// Waits until this member leads; `false` when the core has ended.
    pub(crate) async fn wait_leading(&self, waiters: &Waiters) -> bool {
        let ready = || {
            let leading = self.is_leading();
            (leading || waiters.is_closed()).then_some(leading)
        };
        self.0.leadership.wait(ready).await
    }

    /// Hands an entry to the core; `None` when it has ended.
    pub(crate) async fn propose(&self, command: Command) -> Option<Receiver> {
        self.0
            .raft
            .client_write_ff(command)
            .await
            .ok()
            .map(Receiver)
    }

    /// The index that a linearizable read begun before this call must see, once a quorum has said who leads.
    pub(crate) async fn read_index(&self) -> Result<u64, NoIndex> {
        match self.0.raft.get_read_log_id().await {
            Ok((index, _)) => index.map(|id| id.index).ok_or(NoIndex::NotLeader),
            Err(RaftError::APIError(CheckIsLeaderError::ForwardToLeader(_))) => {
                Err(NoIndex::NotLeader)
            }
            Err(RaftError::APIError(CheckIsLeaderError::QuorumNotEnough(_))) => {
                Err(NoIndex::NoQuorum)
            }
            Err(RaftError::Fatal(_)) => Err(NoIndex::Ended),
        }
    }

    /// Tells log and core of a snapshot that was published, so that what it covers can go: all but the last
    /// `keep_entries`, and not what peers need from the index `needed` on.
    pub(crate) async fn published(&self, keep_entries: u64, needed: u64) {
        let Some(published) = self.0.machine.known() else {
            return;
        };
        if let Ok((Some(last), _)) = decode_meta(&published.meta) {
            self.0.log.publish(to_log_id(last));
        }
        let purged = self.0.log.log_state().purged.map(|id| id.index);
        let upto = published.index.saturating_sub(keep_entries);
        let upto = upto.min(needed.saturating_sub(1));
        if purged.is_some_and(|purged| purged >= upto) || upto == 0 {
            return;
        }
        // Errors: the core has ended, which `watch` tells. The core purges nothing that it has not seen in a snapshot,
        // so this is called until the log has been purged.
        let trigger = self.0.raft.trigger();
        let _ = trigger.snapshot().await;
        let _ = trigger.purge_log(upto).await;
    }

    /// Ends the core as one that has failed: whoever waits for its end is told the reason.
    pub(crate) async fn fail(&self, reason: String) {
        tracing::error!(reason, "this member ends");
        self.0.failure.lock().get_or_insert(reason);
        // An error: it had ended by itself.
        let _ = self.0.raft.shutdown().await;
    }

    /// Ends the core, and with it everything that stands on it.
    pub(crate) async fn shutdown(&self) {
        self.0.stopping.store(true, Ordering::Release);
        // An error: it had ended by itself.
        let _ = self.0.raft.shutdown().await;
    }
}
