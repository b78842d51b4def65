//! Whoever has a certificate may send anything.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::link::frame::{Control, begin, close};
use crate::link::messages::Lane;
use crate::link::wire;
use crate::random::Random;
use crate::transport::Stream;
use crate::transport::sim::SimTransport;

/// A member, and one that speaks as it likes.
fn hostile(seed: u64) -> (Network, Node, Arc<SimTransport>) {
    let network = network(seed);
    let a = Node::start(&network, A, 10, "a:1");
    let c = network.transport(C, "c:1");
    (network, a, c)
}

async fn dial(from: &SimTransport) -> Box<dyn Stream> {
    from.connect("a:1").await.expect("it listens").stream
}

fn says(lane: Lane, hello: Hello) -> Vec<u8> {
    Control::Hello(lane, hello).frame()
}

/// A connection on which `c` has said who it is.
async fn greeted(c: &SimTransport, lane: Lane) -> Box<dyn Stream> {
    let mut stream = dial(c).await;
    let said = says(lane, hello(C, 30, "c:1"));
    stream.write_all(&said).await.expect("written");
    stream
}

/// All that the stream still gives within `limit`, and whether it has ended.
async fn rest(stream: &mut Box<dyn Stream>, limit: Duration) -> (Vec<u8>, bool) {
    let mut all = Vec::new();
    let ended = timeout(limit, async {
        let mut part = [0; 4096];
        while let Ok(count @ 1..) = stream.read(&mut part).await {
            all.extend_from_slice(&part[..count]);
        }
    });
    let ended = ended.await.is_ok();
    (all, ended)
}

#[tokio::test(start_paused = true)]
async fn silence_and_trickles_are_cut_off() {
    let (_network, _a, c) = hostile(1);
    let mut silent = dial(&c).await;
    let mut trickle = dial(&c).await;
    let whole = says(Lane::Raft, hello(C, 30, "c:1"));
    trickle
        .write_all(&whole[..whole.len() - 1])
        .await
        .expect("written");
    assert_eq!(rest(&mut silent, 4 * SECOND).await, (vec![], false));
    assert_eq!(rest(&mut silent, 2 * SECOND).await, (vec![], true));
    assert_eq!(rest(&mut trickle, SECOND).await, (vec![], true));
}

#[tokio::test(start_paused = true)]
async fn garbage_ends_its_connection_alone() {
    let random = Seeded::new(1, "garbage");
    for seed in 0..200 {
        let (_network, a, c) = hostile(seed);
        let mut stream = dial(&c).await;
        let mut behind_hello = false;
        if seed % 2 == 1 {
            behind_hello = true;
            let said = says(Lane::Raft, hello(C, 30, "c:1"));
            stream.write_all(&said).await.expect("written");
        }
        let mut garbage = vec![0; 8 << 10];
        random.fill(&mut garbage);
        // A length that could be, so that bodies are looked at as well.
        garbage[..6].copy_from_slice(&[100, 0, 0, 0, (seed % 5) as u8, 0]);
        let _ = stream.write_all(&garbage).await;
        let (said, ended) = rest(&mut stream, 6 * SECOND).await;
        assert!(ended, "seed {seed}");
        assert!(behind_hello || said.is_empty(), "seed {seed}");
        assert!(a.serve.served.lock().is_empty());
        assert!(a.link.peers().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn giant_frames_are_not_waited_for() {
    let (_network, a, c) = hostile(1);
    let mut before = dial(&c).await;
    before
        .write_all(&[0, 0x10, 0, 0, 0, 0])
        .await
        .expect("written");
    assert_eq!(
        rest(&mut before, SECOND).await,
        (vec![], true),
        "over 4 KiB"
    );
    let mut behind = greeted(&c, Lane::Calls).await;
    sleep(SECOND / 4).await;
    assert_eq!(a.link.peers().len(), 1);
    behind
        .write_all(&[0, 0, 0x10, 0, 1, 0])
        .await
        .expect("written");
    assert!(rest(&mut behind, SECOND).await.1, "over 1 MiB");
    assert!(a.link.peers().is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_hello_of_another_is_refused() {
    let (network, a, c) = hostile(1);
    let b = Node::start(&network, B, 20, "b:1");
    a.knows(&[(B, "b:1")]);
    assert_eq!(a.ask(B, SECOND).await, pong());
    // Replayed word for word; a nonce of its own would be two runs, to b's harm.
    for nonce in [20, 99] {
        let mut stream = dial(&c).await;
        let replay = says(Lane::Raft, hello(B, nonce, "b:1"));
        stream.write_all(&replay).await.expect("written");
        let (told, ended) = rest(&mut stream, 2 * SECOND).await;
        let reason = wire::reason_byte(Refused::Certificate);
        assert_eq!((told, ended), (Control::Refused(reason).frame(), true));
    }
    assert_eq!(a.ask(B, SECOND).await, pong());
    assert_eq!(a.link.peers(), [b.serve.hello()]);
}

#[tokio::test(start_paused = true)]
async fn floods_are_bounded_for_a_member_and_in_all() {
    let (network, a, c) = hostile(1);
    let b = Node::start(&network, B, 20, "b:1");
    b.knows(&[(A, "a:1")]);
    let mut idle = Vec::new();
    for _ in 0..100 {
        idle.push(dial(&c).await);
    }
    let mut cut = 0;
    for stream in &mut idle {
        cut += usize::from(rest(stream, SECOND / 100).await.1);
    }
    assert_eq!(cut, 100 - 16);
    assert_eq!(b.ask(A, SECOND).await, pong(), "another member is let in");
    sleep(6 * SECOND).await;
    let _late = greeted(&c, Lane::Raft).await;
    sleep(SECOND).await;
    assert_eq!(a.link.peers().len(), 2, "the idle ones are gone");
}

#[tokio::test(start_paused = true)]
async fn what_belongs_elsewhere_ends_the_connection() {
    let request = |request: &Request| {
        let mut frame = wire::encode_request(request, begin(1, Some(1))).expect("small");
        close(&mut frame);
        frame
    };
    let mut reply = wire::encode_reply(&Reply::Unfit, begin(2, Some(1))).expect("small");
    close(&mut reply);
    let misplaced = [
        request(&Request::ReadIndex),
        reply,
        Control::Pong(1000).frame(),
        says(Lane::Raft, hello(C, 31, "c:1")),
        says(Lane::Calls, hello(C, 30, "c:1")),
    ];
    for frame in misplaced {
        let (_network, a, c) = hostile(1);
        let mut stream = greeted(&c, Lane::Raft).await;
        stream.write_all(&frame).await.expect("written");
        assert!(rest(&mut stream, SECOND).await.1, "{frame:?}");
        assert!(a.serve.served.lock().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn what_no_channel_was_opened_for_ends_the_connection() {
    let (_network, a, c) = hostile(1);
    let mut frame = begin(16, None);
    frame.push(7);
    close(&mut frame);
    let mut stream = greeted(&c, Lane::Calls).await;
    stream.write_all(&open(16, "x")).await.expect("written");
    sleep(SECOND / 4).await;
    assert_eq!(a.link.peers().len(), 1);
    stream.write_all(&frame).await.expect("written");
    assert!(rest(&mut stream, SECOND).await.1, "nobody reads it here");
    let mut stream = greeted(&c, Lane::Calls).await;
    for number in 0..65 {
        let open = open(16 + number, &format!("channel-{number}"));
        let _ = stream.write_all(&open).await;
    }
    assert!(rest(&mut stream, SECOND).await.1, "too many");
    let mut stream = greeted(&c, Lane::Calls).await;
    sleep(SECOND / 4).await;
    let opened = a.link.channel("x", C, Incarnation(9));
    let mut channel = timeout(SECOND, opened)
        .await
        .expect("in time")
        .expect("opened");
    stream.write_all(&open(16, "x")).await.expect("written");
    stream.write_all(&frame).await.expect("written");
    let received = timeout(SECOND, channel.receiver.receive()).await;
    assert_eq!(received.expect("in time").expect("there"), &[7][..]);
}

#[tokio::test(start_paused = true)]
async fn who_does_not_read_is_cut_off() {
    let (_network, a, c) = hostile(1);
    let _stream = greeted(&c, Lane::Raft).await;
    sleep(SECOND / 10).await;
    let calls = (0..10).map(|_| a.link.call(C, append(500_000), SECOND));
    let mut calls: futures_util::stream::FuturesUnordered<_> = calls.collect();
    while let Some(reply) = futures_util::StreamExt::next(&mut calls).await {
        assert!(reply.is_err());
    }
    sleep(2 * SECOND).await;
    assert!(a.link.peers().is_empty());
}

#[tokio::test(start_paused = true)]
async fn who_asks_and_reads_no_answer_is_cut_off() {
    let (_network, a, c) = hostile(1);
    let mut stream = greeted(&c, Lane::Raft).await;
    let pings = Control::Ping(1).frame().repeat(10_000);
    let asking = async { while stream.write_all(&pings).await.is_ok() {} };
    let cut = timeout(SECOND, asking).await;
    assert!(cut.is_ok(), "before its silence tells");
    assert!(a.link.peers().is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_is_served_at_once_is_bounded_in_bytes() {
    let (_network, a, c) = hostile(1);
    let mut stream = greeted(&c, Lane::Raft).await;
    let mut frame = wire::encode_request(&append(500_000), begin(1, Some(1))).expect("small");
    close(&mut frame);
    let sending = async {
        for _ in 0..200 {
            stream.write_all(&frame).await?;
        }
        Ok::<_, std::io::Error>(())
    };
    // Served for 300 ms each.
    assert!(timeout(SECOND / 4, sending).await.is_err());
    let served = a.serve.served.lock().len();
    assert!((30..=34).contains(&served), "{served}");
}
