//! Several members in one process, over a link that tests cut: for what needs more than one and no network.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::{Instant, timeout};

use crate::clock::RuntimeClock;
use crate::config::{Parts, Settings};
use crate::disk::{Disk, SimDisk};
use crate::entry::{Action, Expect, Op, Write};
use crate::error::Error;
use crate::gate::{Gate, Tasks};
use crate::hand_over::HandOver;
use crate::ids::{BootNonce, ClusterId, Incarnation, MemberId};
use crate::leases::{LeaseWatch, Leases};
use crate::limits::Limits;
use crate::link::messages::{Reply, Request};
use crate::link::{Hello, Link, LinkError, Refused, Serve};
use crate::membership::{Reconciler, Removed};
use crate::proposer::{Proposer, Queue, Registrar};
use crate::raft::core::{self, Core};
use crate::raft::inbox::Inbox;
use crate::random::{Random, Seeded};
use crate::rounds::Rounds;
use crate::serve::{Running, Server, Who};
use crate::state::{Fate, Outcome};
use crate::transport::BoxFuture;
use crate::waiters::{Told, Waiters};

/// One way between two members.
const WAY: Duration = Duration::from_millis(1);

/// What lies between the members.
#[derive(Clone, Default)]
pub(crate) struct Fabric(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    members: BTreeMap<MemberId, (Arc<Server>, Tasks)>,
    /// From and to.
    cut: BTreeSet<(MemberId, MemberId)>,
    runs: u64,
    /// Requests for a read index.
    reads: u64,
    forwards: u64,
    /// So many forwards are served, and the sender is told that it is refused; later ones are not sent.
    refused: Option<u64>,
}

impl Fabric {
    /// Nothing goes from one to the other; what waits for an answer waits in vain.
    pub(crate) fn cut(&self, from: MemberId, to: MemberId) {
        self.0.lock().cut.insert((from, to));
    }

    /// Cuts a member off from all others, both ways.
    pub(crate) fn cut_off(&self, member: MemberId) {
        let mut inner = self.0.lock();
        let others: Vec<_> = inner.members.keys().copied().collect();
        for other in others {
            inner.cut.extend([(member, other), (other, member)]);
        }
    }

    pub(crate) fn heal(&self) {
        self.0.lock().cut.clear();
    }

    /// The next forward is taken, but its sender is told that its connection is refused; so are all later attempts to
    /// connect.
    pub(crate) fn refuse_forwards(&self) {
        self.0.lock().refused = Some(1);
    }

    /// Whether a forward reaches its leader, and whether its sender is refused.
    fn forward(&self) -> (bool, bool) {
        let mut inner = self.0.lock();
        inner.forwards += 1;
        match &mut inner.refused {
            None => (true, false),
            Some(0) => (false, true),
            Some(left) => {
                *left -= 1;
                (true, true)
            }
        }
    }

    /// How often a member has asked another for a read index.
    pub(crate) fn reads(&self) -> u64 {
        self.0.lock().reads
    }

    /// How often a member has sent its leader what waits in its queue.
    pub(crate) fn forwards(&self) -> u64 {
        self.0.lock().forwards
    }

    /// Seeds a run: no two draw the same nonce.
    fn next_run(&self) -> u64 {
        let mut inner = self.0.lock();
        inner.runs += 1;
        inner.runs
    }

    async fn way(&self, from: MemberId, to: MemberId) {
        tokio::time::sleep(WAY).await;
        if self.0.lock().cut.contains(&(from, to)) {
            std::future::pending::<()>().await;
        }
    }
}

struct Wire {
    own: MemberId,
    fabric: Fabric,
}

impl Link for Wire {
    fn call(
        &self,
        to: MemberId,
        request: Request,
        limit: Duration,
    ) -> BoxFuture<'_, Result<Reply, LinkError>> {
        Box::pin(async move {
            let found = self.fabric.0.lock().members.get(&to).cloned();
            let (server, tasks) = found.ok_or(LinkError::Unreachable)?;
            if request == Request::ReadIndex {
                self.fabric.0.lock().reads += 1;
            }
            let (sent, refused) = match request {
                Request::Forward(_) => self.fabric.forward(),
                _ => (true, false),
            };
            let refusal = Err(LinkError::Refused(Refused::TwoRuns));
            if !sent {
                return refusal;
            }
            let own = self.own;
            let exchange = async {
                self.fabric.way(own, to).await;
                let served = tasks.spawn(async move { server.serve(own, request).await });
                let reply = served.await;
                self.fabric.way(to, own).await;
                reply
            };
            match timeout(limit, exchange).await {
                Ok(Ok(_)) if refused => refusal,
                Ok(Ok(reply)) => Ok(reply),
                Ok(Err(_)) | Err(_) => Err(LinkError::NoReply),
            }
        })
    }

    fn peers(&self) -> Vec<Hello> {
        let inner = self.fabric.0.lock();
        let others = inner.members.iter().filter(|(id, _)| **id != self.own);
        others.map(|(_, (server, _))| server.hello()).collect()
    }

    fn connected(&self, to: MemberId) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            while !self.fabric.0.lock().members.contains_key(&to) {
                tokio::time::sleep(WAY).await;
            }
        })
    }

    fn greet<'a>(&'a self, _: &'a str, _: Duration) -> BoxFuture<'a, Result<Hello, LinkError>> {
        Box::pin(std::future::ready(Err(LinkError::Unreachable)))
    }

    fn renew(&self) {}

    fn close(&self) {}
}

/// One run of a member.
pub(crate) struct Member {
    pub(crate) id: MemberId,
    pub(crate) disk: SimDisk,
    pub(crate) gate: Arc<Gate>,
    pub(crate) core: Core,
    pub(crate) waiters: Waiters,
    pub(crate) queue: Queue,
    pub(crate) rounds: Rounds,
    pub(crate) leases: Leases,
    pub(crate) hand_over: HandOver,
    fabric: Fabric,
}

pub(crate) fn disk(seed: u64) -> SimDisk {
    SimDisk::new(Arc::new(Seeded::new(seed, "disk")))
}

/// What a simulated member in `disk` is opened with; nothing is asked over its transport.
pub(crate) fn parts(disk: &SimDisk, rate_ppm: i32, random: Arc<Seeded>, tasks: Tasks) -> Parts {
    let disk = Arc::new(disk.clone());
    Parts {
        clock: Arc::new(RuntimeClock::new(rate_ppm)),
        transport: Arc::new(crate::transport::Nowhere),
        founding: Arc::new(crate::founding::Alone::new(disk.clone(), "member")),
        discovery: Arc::new([]),
        disk,
        random,
        spawner: Arc::new(tasks.clone()),
        tasks,
    }
}

/// A log was begun there.
pub(crate) fn has_log(disk: &SimDisk) -> bool {
    let names = disk.list(Path::new("member/log"));
    names.is_ok_and(|names| !names.is_empty())
}

impl Member {
    /// Opens a member in `disk`; one that founds nothing waits until it is sent a log.
    pub(crate) async fn open(fabric: &Fabric, id: u64, disk: SimDisk, rate_ppm: i32) -> Member {
        let runs = fabric.next_run();
        let random = Arc::new(Seeded::new(runs, "member"));
        let gate = Gate::new(Box::new(Seeded::new(random.u64(), "gate")));
        let tasks = Tasks::gated(gate.clone());
        let parts = parts(&disk, rate_ppm, random.clone(), tasks);
        let mut settings = Settings::new("member");
        settings.segment_bytes = 1 << 20;
        let id = MemberId(id);
        let nonce = BootNonce(random.u64());
        let waiters = Waiters::new(nonce, &Limits::format_1());
        let begun = has_log(&disk);
        let recovered = core::recover(&settings, &parts, id, begun).expect("a good disk");
        let info = settings.info.clone();
        let who = Who {
            member: id,
            nonce,
            info: info.clone(),
        };
        let cluster = Some(ClusterId([7; 16]));
        let standing = crate::founding::Standing::new(parts.clock.clone());
        let server = Server::new(who, recovered.log.clone(), cluster, standing);
        let own = id;
        let link: Arc<dyn Link> = Arc::new(Wire {
            own,
            fabric: fabric.clone(),
        });
        let started = core::start(
            &settings,
            &parts,
            recovered,
            id,
            link.clone(),
            waiters.clone(),
        );
        let (core, _) = started.await.expect("it starts");
        let (queue, rounds) = (Queue::default(), Rounds::default());
        let member = Member {
            id,
            disk,
            gate,
            hand_over: HandOver::new(core.clone(), queue.clone()),
            leases: Leases::new(core.clone(), waiters.clone(), queue.clone()),
            core,
            waiters,
            queue,
            rounds: rounds.clone(),
            fabric: fabric.clone(),
        };
        let running = Arc::new(member.running(&settings, rounds.clone()));
        server.begin(&running);
        parts.tasks.spawn(async move {
            let _held = running;
            std::future::pending::<()>().await;
        });
        member.run(&parts.tasks, rounds, link, info);
        let row = (server, parts.tasks);
        fabric.0.lock().members.insert(id, row);
        member
    }

    /// What its server serves from.
    fn running(&self, settings: &Settings, rounds: Rounds) -> Running {
        let (core, queue) = (self.core.clone(), self.queue.clone());
        let rules = (settings.rules.clone(), settings.limits);
        Running {
            inbox: Inbox::new(core.clone()),
            rounds,
            // Nobody runs it: tests say who votes.
            reconciler: Reconciler::new(
                core.clone(),
                queue.clone(),
                (self.hand_over.clone(), self.leases.clone()),
                rules,
            ),
            core,
            queue,
            leases: self.leases.clone(),
            removed: Removed::default(),
            limits: settings.limits,
        }
    }

    fn run(
        &self,
        tasks: &Tasks,
        rounds: Rounds,
        link: Arc<dyn Link>,
        info: crate::entry::MemberInfo,
    ) {
        let proposer = Proposer {
            core: self.core.clone(),
            waiters: self.waiters.clone(),
            queue: self.queue.clone(),
            link: link.clone(),
        };
        tasks.spawn(proposer.run());
        let registrar = Registrar {
            core: self.core.clone(),
            waiters: self.waiters.clone(),
            queue: self.queue.clone(),
            rounds: rounds.clone(),
            link: link.clone(),
            member: self.id,
            info,
        };
        tasks.spawn(registrar.run());
        tasks.spawn(rounds.run(self.core.clone(), self.waiters.clone(), link));
        tasks.spawn(self.hand_over.clone().give_way(self.waiters.clone()));
        tasks.spawn(self.leases.clone().hold());
        tasks.spawn(self.leases.clone().rule());
    }

    pub(crate) fn lease(&self) -> LeaseWatch {
        self.leases.watch()
    }

    /// As SIGKILL.
    pub(crate) fn kill(&self) -> SimDisk {
        self.fabric.0.lock().members.remove(&self.id);
        self.gate.kill();
        self.disk.kill();
        self.disk.clone()
    }

    pub(crate) async fn registered(&self) -> Incarnation {
        let run = timeout(Duration::from_secs(20), self.waiters.run());
        run.await.expect("it is registered soon")
    }

    /// Puts a key, owned by this run if `owned`; the answer within `limit`.
    pub(crate) async fn put(&self, key: &str, owned: bool, limit: Duration) -> Result<(), Error> {
        let owner = self.waiters.incarnation().filter(|_| owned);
        let op = Op::Write(Write {
            key: Bytes::copy_from_slice(key.as_bytes()),
            expect: Expect::Any,
            action: Action::Put {
                value: Bytes::from_static(b"value"),
                owner,
            },
        });
        let mut ticket = self.waiters.begin(op.writes())?;
        let _place = self.queue.push(ticket.id, op)?;
        let deadline = Instant::now() + limit;
        match tokio::time::timeout_at(deadline, ticket.fate()).await {
            Ok(Some(Told::Fate(Fate::Known(Outcome::Write(_))))) => Ok(()),
            Ok(Some(Told::Fate(Fate::Dead))) => Err(Error::Dead),
            Ok(Some(Told::NoQuorum)) | Err(_) => Err(Error::NoQuorum),
            Ok(other) => panic!("{other:?}"),
        }
    }
}

/// A cluster of voters with ids from 1, all registered, one for each rate (in millionths) of their clocks.
pub(crate) async fn cluster(fabric: &Fabric, rates: &[i32]) -> Vec<Member> {
    let mut members = Vec::new();
    for (at, rate_ppm) in rates.iter().enumerate() {
        let id = at as u64 + 1;
        members.push(Member::open(fabric, id, disk(id), *rate_ppm).await);
    }
    let founder = &members[0].core;
    founder.found().await.expect("an empty log");
    assert!(founder.wait_leading(&members[0].waiters).await);
    for member in &members[1..] {
        founder.add_learner(member.id).await.expect("a learner");
    }
    let voters = members.iter().map(|member| member.id).collect();
    founder.replace_voters(voters).await.expect("voters");
    for member in &members {
        member.registered().await;
    }
    members
}

/// Who leads, if exactly one of these members says it does.
pub(crate) fn leader<'a>(members: impl IntoIterator<Item = &'a Member>) -> Option<&'a Member> {
    let mut leading = members
        .into_iter()
        .filter(|member| member.core.is_leading());
    let first = leading.next();
    first.filter(|_| leading.next().is_none())
}
