//! What this member answers when others ask: who it is, whom it talks to, and which part serves which request.

use std::sync::{Arc, OnceLock, Weak};

use parking_lot::Mutex;

use crate::entry::MemberInfo;
use crate::error::Error;
use crate::founding::Standing;
use crate::ids::{BootNonce, ClusterId, MemberId};
use crate::leases::Leases;
use crate::limits::Limits;
use crate::link::messages::{Forwarded, NotServed, Reply, Request};
use crate::link::{Hello, Refused, Serve};
use crate::log::Log;
use crate::membership::{Reconciler, Removed};
use crate::proposer::Queue;
use crate::raft::core::{Core, NoIndex};
use crate::raft::inbox::Inbox;
use crate::rounds::Rounds;
use crate::state::Member;
use crate::transport::BoxFuture;

/// Who this member is.
pub(crate) struct Who {
    pub(crate) member: MemberId,
    pub(crate) nonce: BootNonce,
    pub(crate) info: MemberInfo,
}

/// The parts that serve, once they run. Until then everything is answered `Unfit`.
pub(crate) struct Running {
    pub(crate) core: Core,
    pub(crate) inbox: Inbox,
    pub(crate) queue: Queue,
    pub(crate) rounds: Rounds,
    pub(crate) leases: Leases,
    pub(crate) reconciler: Reconciler,
    pub(crate) removed: Removed,
    pub(crate) limits: Limits,
}

/// See the module's documentation. Links begin before the parts run, since the core needs them.
pub(crate) struct Server {
    who: Who,
    log: Log,
    /// `None` on an empty disk; then found or heard of.
    cluster: Mutex<Option<ClusterId>>,
    standing: Standing,
    /// Not held: they hold the link, which holds this.
    running: OnceLock<Weak<Running>>,
}

impl Server {
    pub(crate) fn new(
        who: Who,
        log: Log,
        cluster: Option<ClusterId>,
        standing: Standing,
    ) -> Arc<Self> {
        Arc::new(Self {
            who,
            log,
            cluster: Mutex::new(cluster),
            standing,
            running: OnceLock::new(),
        })
    }

    /// This member has founded a cluster, or joined one.
    pub(crate) fn belongs_to(&self, cluster: ClusterId) {
        *self.cluster.lock() = Some(cluster);
    }

    /// From now on requests are served, as long as somebody holds the parts.
    pub(crate) fn begin(&self, running: &Arc<Running>) {
        // Begun once: a second beginning would be a second store over the same link.
        let _ = self.running.set(Arc::downgrade(running));
    }

    /// The parts, while they run.
    fn running(&self) -> Option<Arc<Running>> {
        self.running.get()?.upgrade()
    }
}

impl Serve for Server {
    fn hello(&self) -> Hello {
        Hello {
            cluster: *self.cluster.lock(),
            member: self.who.member,
            nonce: self.who.nonce,
            formats: self.who.info.formats,
            // Peers remember it, and bar a later run that has less.
            vote: self.log.durable_vote(),
            last: self.log.log_state().last,
            addresses: self.who.info.addresses.clone(),
        }
    }

    fn judge(&self, peer: &Hello) -> Result<(), Refused> {
        let own = *self.cluster.lock();
        if own.is_some() && peer.cluster.is_some() && own != peer.cluster {
            return Err(Refused::Cluster);
        }
        let (lowest, highest) = self.who.info.formats;
        if peer.formats.1 < lowest || peer.formats.0 > highest {
            return Err(Refused::Format);
        }
        if let Some(running) = self.running() {
            running.judge(peer)?;
        }
        Ok(())
    }

    fn refused(&self, by: MemberId, why: Refused) {
        self.standing.refused(by, why);
        let Some(running) = self.running().filter(|_| why == Refused::Removed) else {
            return;
        };
        tracing::error!(%by, "a peer says that this member was removed");
        let tasks = running.core.tasks().clone();
        tasks.spawn(async move { running.removed.told(&running.core).await });
    }

    fn serve(&self, from: MemberId, request: Request) -> BoxFuture<'static, Reply> {
        // Who does not know yet where it belongs takes nothing from anybody.
        let belongs = self.cluster.lock().is_some();
        match self.running().filter(|_| belongs) {
            Some(running) => Box::pin(running.serve(from, request)),
            None => Box::pin(std::future::ready(Reply::Unfit)),
        }
    }
}

impl Running {
    fn judge(&self, peer: &Hello) -> Result<(), Refused> {
        self.core.judge(peer)?;
        match self.core.machine().read() {
            Some(state) if state.members().is_removed(peer.member) => Err(Refused::Removed),
            _ => Ok(()),
        }
    }

    async fn serve(self: Arc<Self>, from: MemberId, request: Request) -> Reply {
        match request {
            Request::Forward(proposals) => match self.leads() {
                Ok(()) if self.is_removed(from) => Reply::Forwarded(Forwarded::Removed),
                // It would take it and propose nothing; so nobody has had it.
                Ok(()) if self.core.log().is_full() => {
                    Reply::Forwarded(Forwarded::Not(NotServed::Busy))
                }
                Ok(()) => Reply::Forwarded(forwarded(self.queue.push_foreign(proposals))),
                Err(why) => Reply::Forwarded(Forwarded::Not(why)),
            },
            Request::Register(asked) if asked.member != from => Reply::Unfit,
            Request::Register(asked) => match self.leads() {
                Ok(()) => Reply::Forwarded(self.register(asked)),
                Err(why) => Reply::Forwarded(Forwarded::Not(why)),
            },
            // Two that each take the other for the leader would wait for each other.
            Request::ReadIndex if !self.core.is_leading() => {
                Reply::ReadIndex(Err(self.not_leader()))
            }
            Request::ReadIndex => {
                let index = self.rounds.index().await;
                Reply::ReadIndex(index.map_err(|why| match why {
                    NoIndex::NoQuorum => NotServed::NoQuorum,
                    NoIndex::NotLeader | NoIndex::Ended => self.not_leader(),
                }))
            }
            Request::Append { .. }
            | Request::Vote { .. }
            | Request::PreVote { .. }
            | Request::Ping { .. }
            | Request::TakeVote { .. }
            | Request::Elect { .. }
            | Request::SnapshotOffer { .. }
            | Request::SnapshotChunk { .. }
            | Request::SnapshotInstall { .. } => self.inbox.serve(from, request).await,
            Request::Renew { incarnation } => {
                Reply::Renewed(self.leases.renewed(from, incarnation).await)
            }
            Request::StateHash { index, hash } => {
                let here = self.core.machine().hash_at(index);
                let agrees = here.map(|here| here == hash);
                Reply::StateHash { agrees }
            }
            Request::Remove { member } => Reply::Removing(self.reconciler.remove(member)),
        }
    }

    fn not_leader(&self) -> NotServed {
        NotServed::NotLeader(self.core.leader())
    }

    fn leads(&self) -> Result<(), NotServed> {
        match self.core.is_leading() {
            true if self.core.has_quorum() => Ok(()),
            true => Err(NotServed::NoQuorum),
            false => Err(self.not_leader()),
        }
    }

    fn is_removed(&self, member: MemberId) -> bool {
        let state = self.core.machine().read();
        state.is_some_and(|state| state.members().is_removed(member))
    }

    fn register(&self, asked: crate::entry::Registration) -> Forwarded {
        // It is removed as soon as its last run is over.
        if self.reconciler.sees_off(asked.member) {
            return Forwarded::Not(NotServed::Busy);
        }
        let mut lives = None;
        if let Some(state) = self.core.machine().read() {
            let members = state.members();
            if members.is_removed(asked.member) {
                return Forwarded::Removed;
            }
            let (lowest, highest) = asked.info.formats;
            if !(lowest..=highest).contains(&state.cluster_format()) {
                return Forwarded::Format(state.cluster_format());
            }
            let row = members.get(asked.member);
            if row.is_none() && members.iter().count() >= self.limits.members {
                return Forwarded::Full;
            }
            let own = |row: &&Member| row.live && row.nonce == asked.nonce;
            lives = row.filter(own).map(|row| row.incarnation);
        }
        if let Some(incarnation) = lives {
            self.leases.heard(incarnation);
        }
        forwarded(self.queue.command(crate::entry::Close::Register(asked)))
    }
}

fn forwarded(pushed: Result<(), Error>) -> Forwarded {
    match pushed {
        Ok(()) => Forwarded::Queued,
        Err(_) => Forwarded::Not(NotServed::Busy),
    }
}
