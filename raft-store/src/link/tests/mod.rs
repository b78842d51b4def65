//! Links of several members over the simulated network.

mod channels;
mod faults;
mod fuzz;
mod hostile;
mod runs;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep, timeout};

use super::frame::Control;
use super::messages::{Appended, Reply, Request};
use super::*;
use crate::clock::RuntimeClock;
use crate::disk::SimDisk;
use crate::founding::Alone;
use crate::gate::{Gate, Tasks};
use crate::random::Seeded;
use crate::transport::Transport;
use crate::transport::sim::Network;

pub(super) const A: MemberId = MemberId(1);
pub(super) const B: MemberId = MemberId(2);
pub(super) const C: MemberId = MemberId(3);
pub(super) const SECOND: Duration = Duration::from_secs(1);
/// An append is served so long.
const APPEND: Duration = Duration::from_millis(300);

pub(super) fn vote(term: u64) -> Vote {
    let (node, committed) = (7, true);
    Vote {
        term,
        node,
        committed,
    }
}

pub(super) fn ping(term: u64) -> Request {
    Request::Ping { vote: vote(term) }
}

pub(super) fn append(bytes: usize) -> Request {
    let entry = crate::log::Entry {
        id: LogId::default(),
        body: vec![7; bytes].into(),
    };
    Request::Append {
        vote: vote(1),
        previous: None,
        entries: vec![entry],
        committed: None,
    }
}

/// Answers pings with their vote, at once, and appends after a while.
pub(super) struct Fake {
    pub(super) hello: Mutex<Hello>,
    pub(super) refuses: Mutex<BTreeMap<MemberId, Refused>>,
    pub(super) served: Mutex<Vec<(MemberId, Request)>>,
    /// By whom this one is refused, and why.
    pub(super) told: Mutex<BTreeSet<(MemberId, u8)>>,
}

impl Serve for Fake {
    fn hello(&self) -> Hello {
        self.hello.lock().clone()
    }

    fn judge(&self, peer: &Hello) -> Result<(), Refused> {
        let own = self.hello.lock().cluster;
        if own.is_some() && peer.cluster.is_some() && own != peer.cluster {
            return Err(Refused::Cluster);
        }
        self.refuses
            .lock()
            .get(&peer.member)
            .map_or(Ok(()), |reason| Err(*reason))
    }

    fn refused(&self, by: MemberId, why: Refused) {
        self.told.lock().insert((by, why as u8));
    }

    fn serve(&self, from: MemberId, request: Request) -> BoxFuture<'static, Reply> {
        self.served.lock().push((from, request.clone()));
        Box::pin(async move {
            match request {
                Request::Ping { vote } => Reply::Pong {
                    vote: Some(vote),
                    full: false,
                },
                Request::ReadIndex => Reply::ReadIndex(Ok(1)),
                Request::Append { .. } => {
                    sleep(APPEND).await;
                    Reply::Append(Appended::All)
                }
                _ => Reply::Unfit,
            }
        })
    }
}

pub(super) struct Node {
    pub(super) link: Arc<dyn Link>,
    pub(super) serve: Arc<Fake>,
    pub(super) book: AddressBook,
    pub(super) gate: Arc<Gate>,
}

pub(super) fn hello(member: MemberId, nonce: u64, address: &str) -> Hello {
    Hello {
        cluster: Some(ClusterId([1; 16])),
        member,
        nonce: BootNonce(nonce),
        formats: (1, 1),
        vote: None,
        last: None,
        addresses: vec![address.to_owned()],
    }
}

/// What opens a channel.
pub(super) fn open(number: u16, name: &str) -> Vec<u8> {
    let (token, name) = (5, name.to_owned());
    let open = Control::Open {
        number,
        token,
        name,
    };
    open.frame()
}

pub(super) fn network(seed: u64) -> Network {
    Network::new(Arc::new(Seeded::new(seed, "net")))
}

impl Node {
    pub(super) fn start(network: &Network, member: MemberId, nonce: u64, address: &str) -> Node {
        let serve = Arc::new(Fake {
            hello: Mutex::new(hello(member, nonce, address)),
            refuses: Mutex::default(),
            served: Mutex::default(),
            told: Mutex::default(),
        });
        let random = Arc::new(Seeded::new(nonce, "member"));
        let gate = Gate::new(Box::new(Seeded::new(nonce, "gate")));
        let tasks = Tasks::gated(gate.clone());
        let disk = Arc::new(SimDisk::new(random.clone()));
        let parts = Parts {
            clock: Arc::new(RuntimeClock::new(0)),
            transport: network.transport(member, address),
            founding: Arc::new(Alone::new(disk.clone(), "member")),
            discovery: Arc::new([]),
            disk,
            random,
            spawner: Arc::new(tasks.clone()),
            tasks,
        };
        let book = AddressBook::default();
        let link = super::start(&parts, serve.clone(), book.clone());
        Node {
            link,
            serve,
            book,
            gate,
        }
    }

    pub(super) fn knows(&self, others: &[(MemberId, &str)]) {
        for (member, address) in others {
            self.book.set_row(*member, vec![(*address).to_owned()]);
        }
    }

    pub(super) async fn ask(&self, to: MemberId, limit: Duration) -> Result<Reply, LinkError> {
        self.link.call(to, ping(9), limit).await
    }

    /// The process is gone.
    pub(super) fn kill(&self, network: &Network, member: MemberId) {
        network.crash(member);
        self.gate.kill();
    }
}

pub(super) fn pong() -> Result<Reply, LinkError> {
    Ok(Reply::Pong {
        vote: Some(vote(9)),
        full: false,
    })
}

/// Two that know each other.
pub(super) fn two(seed: u64) -> (Network, Node, Node) {
    let network = network(seed);
    let a = Node::start(&network, A, 10, "a:1");
    let b = Node::start(&network, B, 20, "b:1");
    a.knows(&[(A, "a:1"), (B, "b:1")]);
    b.knows(&[(A, "a:1"), (B, "b:1")]);
    (network, a, b)
}

#[tokio::test(start_paused = true)]
async fn two_connections_whoever_dials() {
    for seed in 0..100 {
        let (network, a, b) = two(seed);
        let (first, second) = tokio::join!(a.ask(B, SECOND), b.ask(A, SECOND));
        assert_eq!((first, second), (pong(), pong()), "seed {seed}");
        sleep(SECOND).await;
        assert_eq!(network.streams(A, B), 2, "seed {seed}");
        let dials = network.dials(A, B) + network.dials(B, A);
        assert!(dials <= 6, "seed {seed}: {dials}");
        sleep(60 * SECOND).await;
        assert_eq!(
            network.dials(A, B) + network.dials(B, A),
            dials,
            "they stay"
        );
        assert_eq!(a.link.peers(), [b.serve.hello()]);
        assert_eq!(
            b.link.call(A, Request::ReadIndex, SECOND).await,
            Ok(Reply::ReadIndex(Ok(1)))
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_append_holds_nothing_back() {
    let (_network, a, b) = two(1);
    timeout(SECOND, a.link.connected(B))
        .await
        .expect("connected");
    let begin = Instant::now();
    let (slow, fast) = tokio::join!(a.link.call(B, append(500_000), SECOND), async {
        let reply = a.ask(B, SECOND).await;
        (reply, begin.elapsed())
    });
    assert_eq!(slow, Ok(Reply::Append(Appended::All)));
    assert_eq!(fast.0, pong());
    assert!(fast.1 < APPEND);
    let served = b.serve.served.lock();
    assert!(
        matches!(served[0].1, Request::Append { .. }),
        "in order of arrival"
    );
    assert_eq!(served[1], (A, ping(9)));
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_has_a_connection_of_its_own_while_it_runs() {
    let (network, a, _b) = two(1);
    let install = Request::SnapshotInstall {
        vote: vote(1),
        id: [0; 32],
    };
    assert_eq!(a.link.call(B, install, SECOND).await, Ok(Reply::Unfit));
    sleep(SECOND).await;
    assert_eq!(network.streams(A, B), 3);
    sleep(20 * SECOND).await;
    assert_eq!(network.streams(A, B), 2);
}

#[tokio::test(start_paused = true)]
async fn nobody_there_is_said_soon_and_dialled_at_a_pace() {
    let (network, a, b) = two(1);
    assert_eq!(a.ask(B, SECOND).await, pong());
    b.kill(&network, B);
    sleep(SECOND).await;
    let (before, begin) = (network.dials(A, B), Instant::now());
    while begin.elapsed() < 10 * SECOND {
        let asked = Instant::now();
        assert_eq!(a.ask(B, SECOND).await, Err(LinkError::Unreachable));
        assert!(asked.elapsed() < SECOND / 2, "with one fresh dial");
    }
    let dials = network.dials(A, B) - before;
    assert!((50..=101).contains(&dials), "{dials}");
    let before = network.dials(A, B);
    sleep(100 * SECOND).await;
    let dials = network.dials(A, B) - before;
    assert!((95..=150).contains(&dials), "nobody waits: {dials}");
    assert_eq!(
        a.ask(C, SECOND).await,
        Err(LinkError::Unreachable),
        "no address"
    );
    assert_eq!(
        a.ask(A, SECOND).await,
        Err(LinkError::Unreachable),
        "itself"
    );
}

#[tokio::test(start_paused = true)]
async fn whoever_answers_a_greeting_is_a_peer() {
    let network = network(1);
    let a = Node::start(&network, A, 10, "a:1");
    let b = Node::start(&network, B, 20, "b:1");
    a.serve.hello.lock().cluster = None;
    let met = a.link.greet("b:1", SECOND).await;
    assert_eq!(met, Ok(b.serve.hello()));
    assert_eq!(a.link.greet("b:1", SECOND).await, met, "again");
    assert_eq!(
        a.link.greet("c:1", SECOND).await,
        Err(LinkError::Unreachable)
    );
    assert_eq!(
        a.link.greet("a:1", SECOND).await,
        Err(LinkError::Unreachable)
    );
    assert_eq!(a.ask(B, SECOND).await, pong());
    assert_eq!(b.ask(A, SECOND).await, pong(), "by what its hello said");
    // It has joined.
    a.serve.hello.lock().cluster = Some(ClusterId([1; 16]));
    a.link.renew();
    sleep(SECOND).await;
    assert_eq!(b.link.peers()[0].cluster, Some(ClusterId([1; 16])));
}

#[tokio::test(start_paused = true)]
async fn a_link_that_is_closed_leaves_nothing() {
    let (_network, a, b) = two(1);
    assert_eq!(a.ask(B, SECOND).await, pong());
    a.link.close();
    sleep(SECOND).await;
    assert_eq!(a.ask(B, SECOND).await, Err(LinkError::Unreachable));
    assert!(b.link.peers().is_empty());
}
