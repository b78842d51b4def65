//! The simulated network keeps what it promises.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep, timeout};

use super::*;
use crate::random::Seeded;
use crate::transport::{Connected, Stream, Transport};

const A: MemberId = MemberId(1);
const B: MemberId = MemberId(2);

struct Pair {
    network: Network,
    a: Arc<SimTransport>,
    b: Arc<SimTransport>,
}

fn pair(seed: u64) -> Pair {
    let network = Network::new(Arc::new(Seeded::new(seed, "net")));
    let (a, b) = (network.transport(A, "a:1"), network.transport(B, "b:1"));
    Pair { network, a, b }
}

impl Pair {
    async fn open(&self) -> (Box<dyn Stream>, Box<dyn Stream>) {
        let (dialled, accepted) = tokio::join!(self.a.connect("b:1"), self.b.accept());
        let (dialled, accepted) = (dialled.expect("open"), accepted.expect("open"));
        assert_eq!((dialled.member, accepted.member), (B, A));
        assert_eq!(accepted.address, "a:1");
        (dialled.stream, accepted.stream)
    }
}

/// A megabyte there while a kilobyte comes back; the trace of it.
async fn exchange(seed: u64) -> [u8; 32] {
    let pair = pair(seed);
    let trace = Arc::new(Mutex::new(blake3::Hasher::new()));
    let (hashed, begin) = (trace.clone(), Instant::now());
    pair.network.observe(Box::new(move |seen| {
        let at = begin.elapsed();
        hashed.lock().update(format!("{at:?} {seen:?}").as_bytes());
    }));
    let (mut near, mut far) = pair.open().await;
    let sent: Vec<u8> = (0..1 << 20).map(|at| (at % 251) as u8).collect();
    let expected = sent.clone();
    let writer = tokio::spawn(async move {
        near.write_all(&sent).await.expect("written");
        near.shutdown().await.expect("shut down");
        let mut back = Vec::new();
        near.read_to_end(&mut back).await.expect("read");
        back
    });
    let mut got = Vec::new();
    far.read_to_end(&mut got).await.expect("read");
    assert!(got == expected, "in order and whole");
    far.write_all(&[7; 1000]).await.expect("written");
    drop(far);
    assert_eq!(writer.await.expect("no panic"), [7; 1000]);
    *trace.lock().finalize().as_bytes()
}

#[tokio::test(start_paused = true)]
async fn bytes_arrive_in_order_and_one_seed_gives_one_run() {
    let (first, again, other) = (exchange(1).await, exchange(1).await, exchange(2).await);
    assert_eq!(first, again);
    assert_ne!(first, other);
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_does_not_read_holds_the_writer_back() {
    let pair = pair(1);
    let (mut near, mut far) = pair.open().await;
    let much = vec![0; 4 << 20];
    assert!(
        timeout(Duration::from_secs(60), near.write_all(&much))
            .await
            .is_err()
    );
    let mut taken = vec![0; 64 << 10];
    far.read_exact(&mut taken)
        .await
        .expect("something is there");
}

#[tokio::test(start_paused = true)]
async fn a_black_hole_is_one_way_and_silent() {
    for seed in 0..20 {
        let pair = pair(seed);
        let (mut near, mut far) = pair.open().await;
        pair.network.black_hole(A, B);
        near.write_all(b"lost").await.expect("nobody knows");
        far.write_all(b"found").await.expect("written");
        let (mut found, mut lost) = ([0; 5], [0; 4]);
        near.read_exact(&mut found)
            .await
            .expect("the other way is open");
        let read = timeout(Duration::from_secs(10), far.read_exact(&mut lost));
        assert!(read.await.is_err());
        let dial = timeout(Duration::from_secs(10), pair.a.connect("b:1"));
        assert!(dial.await.is_err(), "no answer");
        let dial = timeout(Duration::from_secs(10), pair.b.connect("a:1"));
        assert!(dial.await.is_err(), "the answer is lost");
        pair.network.heal(A, B);
        // Sent again, unless the stream stays dead.
        match timeout(Duration::from_secs(10), far.read_exact(&mut lost)).await {
            Ok(read) => assert_eq!((read.expect("read"), &lost), (4, b"lost")),
            Err(_) => assert!(
                timeout(Duration::from_secs(10), far.read_u8())
                    .await
                    .is_err()
            ),
        }
        pair.a.connect("b:1").await.expect("healed");
        assert_eq!(pair.network.dials(A, B), 3);
    }
}

#[tokio::test(start_paused = true)]
async fn a_hold_delays_all() {
    let pair = pair(1);
    let (mut near, mut far) = pair.open().await;
    let begin = Instant::now();
    near.write_all(b"a").await.expect("written");
    pair.network.hold(A, B, Duration::from_secs(3));
    near.write_all(b"b").await.expect("written");
    let mut both = [0; 2];
    far.read_exact(&mut both).await.expect("read");
    assert_eq!(&both, b"ab");
    assert!(begin.elapsed() >= Duration::from_secs(3));
}

#[tokio::test(start_paused = true)]
async fn a_crash_resets_and_a_dead_machine_says_nothing_until_it_is_back() {
    let pair = pair(1);
    let (mut near, far) = pair.open().await;
    pair.network.crash(B);
    drop(far);
    let error = near.read_u8().await.expect_err("reset");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    let refused = pair.a.connect("b:1").await.err().expect("refused");
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);

    let back = pair.network.transport(B, "b:1");
    let (dialled, accepted) = tokio::join!(pair.a.connect("b:1"), back.accept());
    let Connected { mut stream, .. } = dialled.expect("open");
    pair.network.power_off(B);
    drop(accepted);
    stream.write_all(b"anybody?").await.expect("nobody knows");
    assert!(
        timeout(Duration::from_secs(60), stream.read_u8())
            .await
            .is_err()
    );
    assert!(
        timeout(Duration::from_secs(60), pair.a.connect("b:1"))
            .await
            .is_err()
    );
    let _back = pair.network.transport(B, "b:1");
    let error = stream
        .read_u8()
        .await
        .expect_err("it knows nothing of this stream");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test(start_paused = true)]
async fn losses_reset_and_addresses_move() {
    let pair = pair(1);
    let (mut near, mut far) = pair.open().await;
    pair.network.set_loss(A, B, 1_000_000);
    near.write_all(b"x").await.expect("the loss is told later");
    assert!(near.write_all(b"x").await.is_err());
    sleep(Duration::from_secs(1)).await;
    assert!(far.read_u8().await.is_err());
    pair.network.heal_all();

    let other = pair.network.transport(MemberId(3), "c:1");
    pair.network.move_address("b:1", "c:1");
    let (dialled, accepted) = tokio::join!(pair.a.connect("b:1"), other.accept());
    assert_eq!(dialled.expect("open").member, MemberId(3));
    assert_eq!(accepted.expect("open").member, A);
    let nobody = pair.a.connect("d:1").await.err().expect("no such address");
    assert_eq!(nobody.kind(), std::io::ErrorKind::HostUnreachable);
}
