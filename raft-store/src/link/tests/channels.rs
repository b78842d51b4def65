//! Channels: order, credit, runs that are over.

use super::*;
use crate::limits::CHANNEL_BYTES;

const RUN: Incarnation = Incarnation(100);
const OTHER: Incarnation = Incarnation(200);

async fn open(node: &Node, name: &str, peer: MemberId, own: Incarnation) -> Channel {
    let opening = timeout(3 * SECOND, node.link.channel(name, peer, own));
    opening.await.expect("in time").expect("opened")
}

async fn both(a: &Node, b: &Node, name: &str) -> (Channel, Channel) {
    tokio::join!(open(a, name, B, RUN), open(b, name, A, OTHER))
}

fn numbered(number: u32) -> Vec<u8> {
    let mut frame = number.to_le_bytes().to_vec();
    frame.resize(4 + number as usize % 300, 7);
    frame
}

#[tokio::test(start_paused = true)]
async fn frames_come_in_order_in_both_directions_of_all_channels() {
    let (network, a, b) = two(1);
    let ends = [both(&a, &b, "stanzas").await, both(&a, &b, "other").await];
    let mut tasks = Vec::new();
    for (mut near, mut far) in ends {
        let senders = [near.sender.clone(), far.sender.clone()];
        for sender in senders {
            tasks.push(tokio::spawn(async move {
                for number in 0..50_000 {
                    sender.send(&numbered(number)).await.expect("sent");
                }
            }));
        }
        for receiver in [&mut near.receiver, &mut far.receiver] {
            for number in 0..50_000 {
                let frame = timeout(60 * SECOND, receiver.receive()).await;
                assert_eq!(frame.expect("in time").expect("received"), numbered(number));
            }
        }
    }
    for task in tasks {
        task.await.expect("no panic");
    }
    assert_eq!(network.streams(A, B), 2);
    assert_eq!(a.link.dropped_frames() + b.link.dropped_frames(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_comes_before_the_other_side_opens_waits() {
    let (_network, a, b) = two(1);
    let near = open(&a, "stanzas", B, RUN).await;
    assert_eq!(near.sender.try_send(b"early"), Err(SendError::Full));
    let early = near.sender.clone();
    let early = tokio::spawn(async move { early.send(b"early").await });
    sleep(SECOND).await;
    assert!(!early.is_finished(), "nobody reads it");
    let mut far = open(&b, "stanzas", A, OTHER).await;
    assert_eq!(far.receiver.receive().await.expect("there"), "early");
    assert_eq!(early.await.expect("no panic"), Ok(()));
    let again = b.link.channel("stanzas", A, OTHER).await;
    assert_eq!(again.err(), Some(ChannelError::Taken));
    // Dropped with something unread.
    near.sender.send(b"one").await.expect("sent");
    near.sender.send(b"two").await.expect("sent");
    assert_eq!(far.receiver.receive().await.expect("there"), "one");
    drop(far);
    let mut far = open(&b, "stanzas", A, OTHER).await;
    assert_eq!(far.receiver.receive().await.expect("there"), "two");
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_stops_its_own_channel_alone() {
    let (_network, a, b) = two(1);
    let (slow, mut slow_far) = both(&a, &b, "slow").await;
    let (fast, mut fast_far) = both(&a, &b, "fast").await;
    let frame = vec![0; 1000];
    let mut sent = 0;
    while timeout(SECOND, slow.sender.send(&frame)).await.is_ok() {
        sent += 1006;
    }
    assert!(
        sent <= CHANNEL_BYTES && sent + 1006 > CHANNEL_BYTES,
        "{sent}"
    );
    assert_eq!(slow.sender.try_send(&frame), Err(SendError::Full));
    for _ in 0..10_000 {
        let (sent, got) = tokio::join!(fast.sender.send(&frame), fast_far.receiver.receive());
        assert!(sent.is_ok() && got.is_ok());
    }
    assert_eq!(a.ask(B, SECOND).await, pong());
    for _ in 0..3000 {
        slow_far.receiver.receive().await.expect("there");
    }
    timeout(SECOND, slow.sender.send(&frame))
        .await
        .expect("in time")
        .expect("goes on");
    let limit_bytes = (1 << 20) - 6;
    let large = vec![0; limit_bytes + 1];
    assert_eq!(
        slow.sender.try_send(&large),
        Err(SendError::TooLarge { limit_bytes })
    );
    timeout(SECOND, slow.sender.send(&large[1..]))
        .await
        .expect("in time")
        .expect("the largest");
}

#[tokio::test(start_paused = true)]
async fn the_end_is_told_at_once_at_both_ends() {
    let (network, a, b) = two(1);
    let (mut near, mut far) = both(&a, &b, "stanzas").await;
    near.sender.send(b"arrives").await.expect("sent");
    sleep(SECOND).await;
    let begin = Instant::now();
    let waits = timeout(SECOND, near.receiver.receive());
    network.reset(A, B);
    let gone = waits.await.expect("in time").expect_err("it has ended");
    assert_eq!(gone.incarnation, Some(OTHER));
    assert!(begin.elapsed() < SECOND / 10);
    let gone = Gone {
        incarnation: Some(OTHER),
    };
    assert_eq!(near.sender.send(b"x").await, Err(SendError::Gone(gone)));
    assert_eq!(
        far.receiver.receive().await.expect("had arrived"),
        "arrives"
    );
    assert!(far.receiver.receive().await.is_err());
    // Opened anew on the next connection.
    let (near, mut far) = both(&a, &b, "stanzas").await;
    near.sender.send(b"again").await.expect("sent");
    assert_eq!(far.receiver.receive().await.expect("received"), "again");
}

#[tokio::test(start_paused = true)]
async fn another_run_ends_the_channels_of_the_one_before() {
    let (network, a, b) = two(1);
    let (mut near, _far) = both(&a, &b, "stanzas").await;
    // Silent, so that only the new run tells.
    network.power_off(B);
    b.gate.kill();
    let begin = Instant::now();
    let b = Node::start(&network, B, 21, "b:1");
    b.knows(&[(A, "a:1")]);
    let told = timeout(3 * SECOND, near.receiver.receive())
        .await
        .expect("in time");
    assert_eq!(
        told,
        Err(Gone {
            incarnation: Some(OTHER)
        })
    );
    assert!(begin.elapsed() < 2 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn what_a_run_sends_that_is_over_is_dropped_and_counted() {
    let (_network, a, b) = two(1);
    let (mut near, far) = both(&a, &b, "stanzas").await;
    far.sender.send(b"unread").await.expect("sent");
    sleep(SECOND).await;
    a.link
        .runs_over(&BTreeMap::from([(B, Incarnation(OTHER.0 + 1))]));
    assert!(near.receiver.receive().await.is_err());
    assert!(near.sender.send(b"x").await.is_err());
    assert_eq!(a.link.dropped_frames(), 1);
    // The run over there does not know yet.
    far.sender.send(b"late").await.expect("sent");
    sleep(SECOND).await;
    assert_eq!(a.link.dropped_frames(), 2);
    // Nor does another channel of it come to anything, whichever is opened first.
    let other = open(&b, "other", A, OTHER).await;
    let opened = a.link.channel("other", B, RUN).await;
    assert_eq!(opened.err(), Some(ChannelError::Unreachable));
    assert_eq!(other.sender.try_send(b"late"), Err(SendError::Full));
    // A floor never sinks.
    a.link.runs_over(&BTreeMap::from([(B, Incarnation(1))]));
    far.sender.send(b"late").await.expect("sent");
    sleep(SECOND).await;
    assert_eq!(a.link.dropped_frames(), 3);
}

#[tokio::test(start_paused = true)]
async fn channels_of_one_peer_are_bounded() {
    let (_network, a, b) = two(1);
    let mut channels = Vec::new();
    for number in 0..64 {
        channels.push(open(&a, &format!("channel-{number}"), B, RUN).await);
    }
    let opened = a.link.channel("one more", B, RUN).await;
    assert_eq!(opened.err(), Some(ChannelError::TooMany));
    for name in ["", &"x".repeat(65)] {
        let opened = b.link.channel(name, A, OTHER).await;
        assert_eq!(opened.err(), Some(ChannelError::TooMany));
    }
    for (number, near) in channels.iter().enumerate() {
        let mut far = open(&b, &format!("channel-{number}"), A, OTHER).await;
        near.sender.send(b"x").await.expect("sent");
        assert_eq!(far.receiver.receive().await.expect("received"), "x");
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_other_side_names_takes_no_name_away_here() {
    let (_network, a, b) = two(1);
    let mut channels = Vec::new();
    for number in 0..64 {
        channels.push(open(&b, &format!("theirs-{number}"), A, OTHER).await);
    }
    sleep(SECOND).await;
    for number in 0..64 {
        channels.push(open(&a, &format!("ours-{number}"), B, RUN).await);
    }
    let opened = a.link.channel("theirs-0", B, RUN).await;
    assert_eq!(opened.err(), Some(ChannelError::TooMany));
}

/// A slow reader's frames arrive one by one between others that are read at once.
#[tokio::test(start_paused = true)]
async fn few_frames_keep_little_alive() {
    let inbox = super::super::channel::Inbox::default();
    let few = |bytes: u8| {
        let mut frame = super::super::frame::head(16, 1).to_vec();
        frame.push(bytes);
        frame
    };
    inbox.grant();
    for number in 0..200_u8 {
        let mut read = bytes::BytesMut::with_capacity(64 << 10);
        read.extend_from_slice(&few(number));
        let run = read.split_to(7).freeze();
        drop(read);
        inbox.put(&run, true).expect("credit");
        assert!(run.is_unique(), "what it was read with is free");
        let large: Vec<u8> = few(number).repeat(usize::from(number % 3) * 1_000);
        if !large.is_empty() {
            inbox.put(&large.into(), false).expect("credit");
        }
    }
    let all = inbox.read_all();
    let numbers: Vec<_> = all.chunks(7).map(|frame| frame[6]).collect();
    assert!(numbers.is_sorted(), "in order");
    assert_eq!(numbers.len(), 200 + 67 * 1_000 + 66 * 2_000);
}
