//! Members in one process, and messages between them that can be cut off and delayed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};

use crate::config::Settings;
use crate::disk::SimDisk;
use crate::entry::{
    Action, Close, EntryBody, Expect, MemberInfo, Op, Proposal, Registration, Write,
};
use crate::error::Fatal;
use crate::gate::{Gate, Tasks};
use crate::ids::{BootNonce, Incarnation, MemberId, ProposalId};
use crate::limits::Limits;
use crate::link::messages::{Reply, Request};
use crate::link::{Hello, Link, LinkError};
use crate::log::Vote;
use crate::raft::Command;
use crate::raft::compaction::Compaction;
use crate::raft::core::{self, Core, Receipt};
use crate::raft::inbox::Inbox;
use crate::random::{Random, Seeded};
use crate::test_cluster::{has_log, parts};
use crate::transport::BoxFuture;
use crate::waiters::Waiters;

/// Who proposes in these tests: a run that is registered once, and no member.
const CLIENT: MemberId = MemberId(99);
/// Whom a member hears whose inbox a test asks itself, and what that leader was elected with.
pub const LEADER: MemberId = MemberId(1);
pub const VOTE: Vote = Vote {
    term: 5,
    node: LEADER.0,
    committed: true,
};

/// The network, shared by all members.
#[derive(Default)]
struct Net {
    /// Of the members that run.
    inboxes: BTreeMap<MemberId, Inbox>,
    /// From, to.
    cut: BTreeSet<(MemberId, MemberId)>,
    delay: Duration,
    /// Requests sent to each member that reached nobody.
    lost: BTreeMap<MemberId, u64>,
    /// Of snapshots, delivered.
    chunks: u64,
    /// Panics when asked for a member.
    planted: Option<MemberId>,
}

impl Net {
    fn is_cut(&self, from: MemberId, to: MemberId) -> bool {
        self.cut.contains(&(from, to))
    }
}

#[derive(Clone)]
struct Wire {
    me: MemberId,
    net: Arc<Mutex<Net>>,
}

impl Wire {
    async fn exchange(&self, to: MemberId, request: Request) -> Result<Reply, LinkError> {
        let (inbox, cut, delay) = {
            let mut net = self.net.lock();
            assert!(net.planted != Some(to), "planted");
            let inbox = net.inboxes.get(&to).cloned();
            let cut = net.is_cut(self.me, to);
            if inbox.is_none() || cut {
                *net.lost.entry(to).or_default() += 1;
            }
            (inbox, cut, net.delay)
        };
        if cut {
            std::future::pending().await
        }
        let inbox = inbox.ok_or(LinkError::Unreachable)?;
        if matches!(request, Request::SnapshotChunk { .. }) {
            self.net.lock().chunks += 1;
        }
        sleep(delay).await;
        let reply = inbox.serve(self.me, request).await;
        sleep(delay).await;
        if self.net.lock().is_cut(to, self.me) {
            std::future::pending().await
        }
        Ok(reply)
    }
}

impl Link for Wire {
    fn call(
        &self,
        to: MemberId,
        request: Request,
        limit: Duration,
    ) -> BoxFuture<'_, Result<Reply, LinkError>> {
        Box::pin(async move {
            let exchange = timeout(limit, self.exchange(to, request));
            exchange.await.unwrap_or(Err(LinkError::NoReply))
        })
    }

    fn peers(&self) -> Vec<Hello> {
        Vec::new()
    }

    fn greet<'a>(
        &'a self,
        _address: &'a str,
        _limit: Duration,
    ) -> BoxFuture<'a, Result<Hello, LinkError>> {
        Box::pin(std::future::ready(Err(LinkError::Unreachable)))
    }

    fn renew(&self) {}

    fn close(&self) {}

    fn connected(&self, to: MemberId) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            loop {
                let connected = {
                    let net = self.net.lock();
                    let cut = net.is_cut(self.me, to) || net.is_cut(to, self.me);
                    !cut && net.inboxes.contains_key(&to)
                };
                if connected {
                    return;
                }
                sleep(Duration::from_millis(10)).await;
            }
        })
    }
}

pub(super) struct Member {
    pub(super) id: MemberId,
    pub(super) core: Core,
    pub(super) gate: Arc<Gate>,
    pub(super) fatal: oneshot::Receiver<Fatal>,
}

pub(super) struct World {
    seed: u64,
    net: Arc<Mutex<Net>>,
    pub(super) disks: BTreeMap<MemberId, SimDisk>,
    pub(super) members: BTreeMap<MemberId, Member>,
    pub(super) settings: Settings,
    client: Option<Incarnation>,
    sequence: u64,
    /// Acknowledged.
    puts: BTreeMap<String, Bytes>,
    starts: u64,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let mut settings = Settings::new("member");
        settings.segment_bytes = 1 << 20;
        settings.snapshot_entries = u64::MAX;
        Self {
            seed,
            net: Arc::default(),
            disks: BTreeMap::new(),
            members: BTreeMap::new(),
            settings,
            client: None,
            sequence: 0,
            puts: BTreeMap::new(),
            starts: 0,
        }
    }

    /// Member 1 alone, then all of them voters.
    pub(super) async fn of(seed: u64, count: u64) -> Self {
        let mut world = Self::new(seed);
        world.begin(count).await;
        world
    }

    pub(super) async fn begin(&mut self, count: u64) {
        for id in 1..=count {
            self.start(id).await;
        }
        self.member(1).core.found().await.expect("an empty log");
        let leader = self.leader(Duration::from_secs(1)).await;
        for id in 2..=count {
            self.add_learner(leader, id).await;
        }
        self.vote_in(leader, 1..=count).await;
    }

    pub(super) async fn add_learner(&self, leader: u64, id: u64) {
        let core = &self.member(leader).core;
        core.add_learner(MemberId(id)).await.expect("added");
    }

    pub(super) async fn vote_in(&self, leader: u64, voters: impl IntoIterator<Item = u64>) {
        let voters = voters.into_iter().map(MemberId).collect();
        let core = &self.member(leader).core;
        core.replace_voters(voters).await.expect("changed");
    }

    pub(super) async fn start(&mut self, id: u64) {
        let member = MemberId(id);
        self.starts += 1;
        let name = |of: &str| format!("{of}/{id}/{}", self.starts);
        let seed = self.seed;
        let disk = self
            .disks
            .entry(member)
            .or_insert_with(|| SimDisk::new(Arc::new(Seeded::new(seed, &format!("disk/{id}")))));
        let begun = has_log(disk);
        let gate = Gate::new(Box::new(Seeded::new(self.seed, &name("gate"))));
        let tasks = Tasks::gated(gate.clone());
        let random = Arc::new(Seeded::new(self.seed, &name("member")));
        let parts = parts(disk, 0, random.clone(), tasks.clone());
        let link = Arc::new(Wire {
            me: member,
            net: self.net.clone(),
        });
        let waiters = Waiters::new(BootNonce(random.u64()), &Limits::format_1());
        let settings = self.settings.clone();
        let starting = tasks.spawn(async move {
            let recovered = core::recover(&settings, &parts, member, begun);
            let recovered = recovered.expect("it is whole");
            let started = core::start(&settings, &parts, recovered, member, link, waiters);
            let (core, fatal) = started.await.expect("it starts");
            let compaction = Compaction::new(core.clone(), settings, parts.spawner.clone());
            parts.tasks.spawn(compaction.run(|| false));
            (core, fatal)
        });
        let (core, fatal) = starting.await.expect("it does not panic");
        let inbox = Inbox::new(core.clone());
        self.net.lock().inboxes.insert(member, inbox);
        let id = member;
        let started = Member {
            id,
            core,
            gate,
            fatal,
        };
        self.members.insert(member, started);
    }

    /// Ends a member as SIGKILL does.
    pub(super) fn kill(&mut self, id: u64) {
        self.end(id).kill();
    }

    /// Ends a member, and what its disk had not synced is lost, or a part of it.
    pub(super) fn power_cut(&mut self, id: u64) {
        self.end(id).power_cut();
    }

    fn end(&mut self, id: u64) -> &SimDisk {
        let id = MemberId(id);
        let member = self.members.remove(&id).expect("it runs");
        self.net.lock().inboxes.remove(&id);
        member.gate.kill();
        &self.disks[&id]
    }

    pub(super) fn member(&self, id: u64) -> &Member {
        &self.members[&MemberId(id)]
    }

    pub(super) fn inbox(&self, id: u64) -> Inbox {
        self.net.lock().inboxes[&MemberId(id)].clone()
    }

    pub(super) fn runs(&self, id: u64) -> bool {
        self.members.contains_key(&MemberId(id))
    }

    pub(super) fn set_delay(&self, delay: Duration) {
        self.net.lock().delay = delay;
    }

    pub(super) fn plant_panic(&self, at: u64) {
        self.net.lock().planted = Some(MemberId(at));
    }

    /// Nothing gets from one to the other any more.
    pub(super) fn cut_one_way(&self, from: u64, to: u64) {
        let way = (MemberId(from), MemberId(to));
        self.net.lock().cut.insert(way);
    }

    pub(super) fn cut_off(&self, id: u64) {
        let all: Vec<_> = self.disks.keys().map(|member| member.0).collect();
        for other in all.into_iter().filter(|other| *other != id) {
            self.cut_one_way(id, other);
            self.cut_one_way(other, id);
        }
    }

    pub(super) fn heal(&self) {
        self.net.lock().cut.clear();
    }

    /// Chunks of snapshots that were delivered.
    pub(super) fn chunks(&self) -> u64 {
        self.net.lock().chunks
    }

    /// Requests to a member that reached nobody.
    pub(super) fn lost(&self, to: u64) -> u64 {
        let net = self.net.lock();
        net.lost.get(&MemberId(to)).copied().unwrap_or_default()
    }

    /// The member that leads with a quorum behind it.
    pub(super) async fn leader(&self, limit: Duration) -> u64 {
        let began = Instant::now();
        loop {
            let mut members = self.members.values();
            if let Some(leader) = members.find(|member| member.core.has_quorum()) {
                return leader.id.0;
            }
            assert!(began.elapsed() <= limit, "nobody leads after {limit:?}");
            sleep(Duration::from_millis(5)).await;
        }
    }

    async fn propose(&self, body: EntryBody) -> Receipt {
        let began = Instant::now();
        loop {
            let leader = self.leader(Duration::from_secs(10)).await;
            let command = Command::new(body.clone()).expect("small");
            let core = &self.member(leader).core;
            let mut receiver = core.propose(command).await.expect("it runs");
            match timeout(Duration::from_secs(2), receiver.receipt()).await {
                Ok(Receipt::Applied) => return Receipt::Applied,
                // Proposed again under the same id.
                Ok(Receipt::NotLeader | Receipt::Ended) | Err(_) => {}
            }
            assert!(began.elapsed() < Duration::from_secs(20), "no progress");
        }
    }

    /// Puts a new key with a value of so many bytes.
    pub(super) async fn put(&mut self, bytes: usize) {
        let incarnation = match self.client {
            Some(client) => client,
            None => self.register().await,
        };
        self.sequence += 1;
        let key = format!("key {:06}", self.sequence);
        let value = Bytes::from(vec![self.sequence as u8; bytes]);
        let write = Write {
            key: Bytes::from(key.clone().into_bytes()),
            expect: Expect::Any,
            action: Action::Put {
                value: value.clone(),
                owner: None,
            },
        };
        let proposal = Proposal {
            id: ProposalId {
                incarnation,
                sequence: self.sequence,
            },
            lowest_unanswered: self.sequence,
            op: Op::Write(write),
        };
        let body = EntryBody {
            proposals: vec![proposal],
            close: None,
        };
        self.propose(body).await;
        self.puts.insert(key, value);
    }

    async fn register(&mut self) -> Incarnation {
        let asked = Registration {
            member: CLIENT,
            nonce: BootNonce(1),
            latest: None,
            info: MemberInfo {
                formats: (1, 1),
                ..MemberInfo::default()
            },
        };
        let body = EntryBody {
            proposals: Vec::new(),
            close: Some(Close::Register(asked)),
        };
        self.propose(body).await;
        let leader = self.leader(Duration::from_secs(1)).await;
        let incarnation = {
            let state = self.member(leader).core.machine().read().expect("open");
            state.members().get(CLIENT).expect("registered").incarnation
        };
        self.client = Some(incarnation);
        incarnation
    }

    /// Waits until all that run have applied the same, with all that was acknowledged.
    pub(super) async fn settled(&self, limit: Duration) {
        let began = Instant::now();
        while let Err(why) = self.is_settled() {
            assert!(began.elapsed() < limit, "after {limit:?}: {why}");
            sleep(Duration::from_millis(20)).await;
        }
    }

    fn is_settled(&self) -> Result<(), String> {
        let mut hashes = BTreeMap::new();
        for member in self.members.values() {
            let id = member.id;
            let state = member.core.machine().read();
            let state = state.ok_or_else(|| format!("{id} is not open"))?;
            let applied = member.core.machine().progress().next;
            if member.core.last().map_or(0, |last| last.index + 1) != applied {
                return Err(format!("{id} has not applied all"));
            }
            for (key, value) in &self.puts {
                let found = state.get(key.as_bytes()).map(|found| found.value);
                if found.as_ref() != Some(value) {
                    return Err(format!("{id} lacks {key}, applied {applied}"));
                }
            }
            hashes.insert((applied, state.hash()), id);
        }
        match hashes.len() {
            1 => Ok(()),
            _ => Err(format!("different states: {hashes:?}")),
        }
    }

    /// The term of each that runs.
    pub(super) fn terms(&self) -> BTreeSet<u64> {
        let terms = self.members.values().map(|member| member.core.term());
        terms.collect()
    }
}

pub(super) async fn pass(millis: u64) {
    sleep(Duration::from_millis(millis)).await;
}
