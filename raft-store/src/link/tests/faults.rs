//! A network that loses, delays and resets.

use super::*;
use crate::random::Random;

#[tokio::test(start_paused = true)]
async fn one_way_holes_are_found_and_left() {
    for seed in 0..30 {
        let (network, a, b) = two(seed);
        assert_eq!(a.ask(B, SECOND).await, pong());
        network.black_hole(A, B);
        assert_eq!(
            a.ask(B, SECOND).await,
            Err(LinkError::NoReply),
            "seed {seed}"
        );
        sleep(SECOND * (seed as u32 % 5)).await;
        assert!(a.ask(B, SECOND).await.is_err(), "seed {seed}");
        network.heal_all();
        let begin = Instant::now();
        while a.ask(B, SECOND).await != pong() {}
        assert!(
            begin.elapsed() < 4 * SECOND,
            "seed {seed}: {:?}",
            begin.elapsed()
        );
        assert_eq!(b.ask(A, SECOND).await, pong(), "seed {seed}");
        sleep(3 * SECOND).await;
        assert_eq!(network.streams(A, B), 2, "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn slow_is_not_dead() {
    let (network, a, b) = two(1);
    assert_eq!(a.ask(B, SECOND).await, pong());
    sleep(SECOND).await;
    let dials = network.dials(A, B) + network.dials(B, A);
    // As when what was sent before fills the buffers of a narrow road: answers take long, and something comes all the
    // time.
    network.set_latency(1200 * SECOND / 1000, 1300 * SECOND / 1000);
    sleep(20 * SECOND).await;
    assert_eq!(a.ask(B, 5 * SECOND).await, pong());
    assert_eq!(network.dials(A, B) + network.dials(B, A), dials);
    network.black_hole(A, B);
    sleep(6 * SECOND).await;
    assert!(a.link.peers().is_empty() && b.link.peers().is_empty());
}

#[tokio::test(start_paused = true)]
async fn flapping_ends_in_two_connections() {
    for seed in 0..10 {
        let (network, a, b) = two(seed);
        let mut answered = 0;
        for _ in 0..100 {
            network.reset(A, B);
            // Until it is noticed, requests are sent and get no reply.
            sleep(SECOND / 100).await;
            let (one, other) = tokio::join!(a.ask(B, SECOND / 4), b.ask(A, SECOND / 4));
            answered += usize::from(one.is_ok()) + usize::from(other.is_ok());
        }
        assert!(answered > 190, "seed {seed}: {answered}");
        sleep(SECOND).await;
        assert_eq!(network.streams(A, B), 2, "seed {seed}");
        assert!(network.dials(A, B) + network.dials(B, A) < 1_000);
    }
}

#[tokio::test(start_paused = true)]
async fn losses_everywhere_and_all_calls_end() {
    for seed in 0..10 {
        let (network, a, b) = two(seed);
        network.set_loss(A, B, 100_000);
        network.set_loss(B, A, 100_000);
        let mut outcomes = BTreeMap::<_, u32>::new();
        for _ in 0..200 {
            let (one, other) = tokio::join!(
                timeout(2 * SECOND, a.link.call(B, append(100_000), SECOND)),
                timeout(2 * SECOND, b.ask(A, SECOND)),
            );
            for outcome in [one, other] {
                let outcome = outcome.expect("every call ends in time");
                *outcomes.entry(format!("{:?}", outcome.err())).or_default() += 1;
            }
        }
        assert!(outcomes["None"] > 50, "seed {seed}: {outcomes:?}");
        network.heal_all();
        sleep(SECOND).await;
        assert_eq!(a.ask(B, SECOND).await, pong(), "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_cut_in_the_middle_of_a_frame() {
    let (network, a, b) = two(1);
    assert_eq!(a.ask(B, SECOND).await, pong());
    network.set_latency(20 * SECOND / 1000, 40 * SECOND / 1000);
    let waits = a.link.call(B, append(500_000), SECOND);
    let cut = async {
        sleep(SECOND * 30 / 1000).await;
        network.reset(A, B);
    };
    let (reply, ()) = tokio::join!(waits, cut);
    assert_eq!(reply, Err(LinkError::NoReply));
    let appends = |node: &Node| {
        let served = node.serve.served.lock();
        served
            .iter()
            .filter(|(_, one)| matches!(one, Request::Append { .. }))
            .count()
    };
    assert_eq!(appends(&b), 0, "half a frame is none");
    assert_eq!(
        a.link.call(B, append(500_000), 2 * SECOND).await,
        Ok(Reply::Append(Appended::All))
    );
    assert_eq!(appends(&b), 1);
}

#[tokio::test(start_paused = true)]
async fn who_is_stopped_for_long_comes_back() {
    let (_network, a, b) = two(1);
    assert_eq!(a.ask(B, SECOND).await, pong());
    b.gate.close();
    assert_eq!(a.ask(B, SECOND).await, Err(LinkError::NoReply));
    sleep(20 * SECOND).await;
    assert!(a.link.peers().is_empty(), "it is seen");
    b.gate.open();
    sleep(SECOND).await;
    assert_eq!(a.ask(B, SECOND).await, pong());
    assert_eq!(b.ask(A, SECOND).await, pong());
}

#[tokio::test(start_paused = true)]
async fn one_seed_gives_one_run() {
    async fn run(seed: u64) -> [u8; 32] {
        let (network, a, b) = two(seed);
        let trace = Arc::new(Mutex::new(blake3::Hasher::new()));
        let (hashed, begin) = (trace.clone(), Instant::now());
        network.observe(Box::new(move |seen| {
            let at = begin.elapsed();
            hashed.lock().update(format!("{at:?} {seen:?}").as_bytes());
        }));
        network.set_loss(A, B, 50_000);
        for round in 0..50 {
            let calls = (
                a.link.call(B, append(1000 * round), SECOND / 4),
                b.ask(A, SECOND / 4),
                a.link.call(B, Request::ReadIndex, SECOND / 4),
            );
            let (one, two, three) = tokio::join!(calls.0, calls.1, calls.2);
            trace
                .lock()
                .update(format!("{one:?} {two:?} {three:?}").as_bytes());
        }
        *trace.lock().finalize().as_bytes()
    }
    assert_eq!(run(1).await, run(1).await);
    assert_ne!(run(1).await, run(2).await);
}

/// Five members, and for a while whatever a network and its machines can do.
struct Storm {
    network: Network,
    random: Seeded,
    nodes: Vec<Node>,
    runs: u64,
}

const FIVE: [&str; 5] = ["a:1", "b:1", "c:1", "d:1", "e:1"];

fn member(at: usize) -> MemberId {
    MemberId(at as u64 + 1)
}

impl Storm {
    fn new(seed: u64) -> Self {
        let network = network(seed);
        let random = Seeded::new(seed, "storm");
        let (nodes, runs) = (Vec::new(), 100);
        let mut storm = Self {
            network,
            random,
            nodes,
            runs,
        };
        for at in 0..FIVE.len() {
            let node = storm.node(at);
            storm.nodes.push(node);
        }
        storm
    }

    fn node(&mut self, at: usize) -> Node {
        self.runs += 1;
        let node = Node::start(&self.network, member(at), self.runs, FIVE[at]);
        let rows: Vec<_> = FIVE
            .iter()
            .enumerate()
            .map(|(at, address)| (member(at), *address))
            .collect();
        node.knows(&rows);
        node
    }

    fn pick(&self) -> usize {
        self.random.below(FIVE.len() as u64) as usize
    }

    fn fault(&mut self) {
        let (one, other) = (self.pick(), self.pick());
        let (from, to) = (member(one), member(other));
        match self.random.below(9) {
            0 => self.network.black_hole(from, to),
            1 => self.network.heal(from, to),
            2 => self.network.reset(from, to),
            3 => self
                .network
                .hold(from, to, SECOND * self.random.below(4) as u32),
            4 => self.network.set_loss(from, to, 20_000),
            5 => self.nodes[one].gate.close(),
            6 => self.nodes[one].gate.open(),
            restart => {
                match restart {
                    7 => self.network.crash(from),
                    _ => self.network.power_off(from),
                }
                self.nodes[one].gate.kill();
                self.nodes[one] = self.node(one);
            }
        }
    }

    async fn rages(&mut self) {
        for _ in 0..150 {
            self.fault();
            let (one, other) = (self.pick(), self.pick());
            let call = self.nodes[one]
                .link
                .call(member(other), ping(9), SECOND / 5);
            // A stopped member's own calls end when it goes on.
            let _ = timeout(SECOND / 5, call).await;
        }
        self.network.heal_all();
        self.nodes.iter().for_each(|node| node.gate.open());
    }
}

#[tokio::test(start_paused = true)]
async fn after_any_storm_all_are_connected_soon() {
    for seed in 0..40 {
        let mut storm = Storm::new(seed);
        storm.rages().await;
        sleep(4 * SECOND).await;
        for (one, node) in storm.nodes.iter().enumerate() {
            for other in (0..FIVE.len()).filter(|other| *other != one) {
                let reply = node.ask(member(other), SECOND).await;
                assert_eq!(reply, pong(), "seed {seed}: {one} asks {other}");
            }
            assert_eq!(node.link.peers().len(), 4, "seed {seed}: {one}");
        }
        for (one, other) in [(0, 1), (1, 2), (2, 3), (3, 4), (0, 4)] {
            let streams = storm.network.streams(member(one), member(other));
            assert_eq!(streams, 2, "seed {seed}: {one} and {other}");
        }
    }
}
