//! A channel between two members in two processes, over TLS on the loopback: frames a second, and CPU of both together.

use super::disk::Directory;
use raft_store::clock::SystemClock;
use raft_store::discovery::{Discovery, Fixed};
use raft_store::disk::FileDisk;
use raft_store::founding::FileRecord;
use raft_store::gate::Tasks;
use raft_store::ids::MemberId;
use raft_store::random::SystemRandom;
use raft_store::spawner::Threads;
use raft_store::transport::{JoinSecret, TcpParts, TcpSettings, TcpTransport};
use raft_store::{Channel, ChannelReceiver, Parts, Peer, Settings, Store};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

const FRAME_BYTES: usize = 300;
const CHANNEL: &str = "stanzas";
const WARM_UP: Duration = Duration::from_secs(2);
/// `/proc/…/stat` counts in these.
const TICKS_A_SECOND: f64 = 100.0;
/// Frames that a task sends before it looks whether others want to run.
const AT_ONCE: u64 = 64;

/// A store in `directory` that listens on the loopback, with its address.
async fn open(
    directory: &Path,
    name: &str,
    secret: &JoinSecret,
    peers: Vec<String>,
) -> (Store, String) {
    let disk = Arc::new(FileDisk::open(&directory.join(name)).expect("a directory can be made"));
    let mut settings = Settings::new("member");
    let tcp = TcpSettings {
        listen: "127.0.0.1:0".parse().expect("an address"),
        dir: settings.dir.clone(),
        secrets: vec![secret.clone()],
    };
    let tcp_parts = TcpParts {
        disk: disk.clone(),
        random: Arc::new(SystemRandom),
        clock: Arc::new(SystemClock),
        wall: Arc::new(SystemClock),
        tasks: Tasks::system(),
    };
    let port = TcpTransport::bind(tcp, tcp_parts).await.expect("a port");
    let address = port.local_address().to_string();
    settings.info.addresses = vec![address.clone()];
    let fixed: Box<dyn Discovery> = Box::new(Fixed(peers));
    let parts = Parts {
        disk,
        random: Arc::new(SystemRandom),
        clock: Arc::new(SystemClock),
        transport: Arc::new(port),
        founding: Arc::new(FileRecord::new(directory.join("founding"))),
        discovery: Arc::new([fixed]),
        spawner: Arc::new(Threads),
        tasks: Tasks::system(),
    };
    let (store, _fatal) = raft_store::open(settings, parts).await.expect("it opens");
    store.ready(soon()).await.expect("registered");
    (store, address)
}

fn soon() -> tokio::time::Instant {
    tokio::time::Instant::now() + Duration::from_secs(60)
}

/// The other member, and a channel with it.
async fn channel(store: &Store) -> Channel {
    let mut peers = store.peers();
    let member: MemberId = loop {
        match peers.next().await.expect("the store is open") {
            Peer::Up { member, .. } => break member,
            Peer::Gone { .. } => {}
        }
    };
    let opened = store.channel(CHANNEL, member, soon()).await;
    opened.expect("connected")
}

/// CPU seconds that a process has used, all its threads.
fn cpu(process: &str) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).expect("it runs");
    // The second field is a name in brackets; user and system time are the 14th and 15th.
    let behind = stat.rsplit_once(')').expect("as the system writes it").1;
    let fields: Vec<f64> = behind
        .split_whitespace()
        .map(|one| one.parse().unwrap_or(0.0))
        .collect();
    (fields[11] + fields[12]) / TICKS_A_SECOND
}

/// What is sent is numbered. An empty frame is the end.
async fn receive(receiver: &mut ChannelReceiver) -> u64 {
    let mut expected = 0_u64;
    loop {
        let frame = receiver.receive().await.expect("the other end is there");
        let Some(number) = frame.first_chunk() else {
            return expected;
        };
        assert_eq!(u64::from_le_bytes(*number), expected, "in order, none lost");
        assert_eq!(frame.len(), FRAME_BYTES);
        expected += 1;
    }
}

async fn send(channel: &Channel, time: Duration, next: &mut u64) {
    let begin = Instant::now();
    let mut frame = [0x5a; FRAME_BYTES];
    while begin.elapsed() < time {
        for _ in 0..AT_ONCE {
            frame[..8].copy_from_slice(&next.to_le_bytes());
            channel
                .sender
                .send(&frame)
                .await
                .expect("the other end is there");
            *next += 1;
        }
    }
}

async fn near(directory: &Path, time: Duration) {
    let secret = JoinSecret::mint(&SystemRandom);
    let (store, address) = open(directory, "near", &secret, vec![]).await;
    let secret_file = directory.join("secret");
    std::fs::write(&secret_file, secret.text()).expect("written");
    let far = std::env::current_exe().expect("this program");
    let mut far = std::process::Command::new(far)
        .args(["channel-far", &directory.to_string_lossy(), &address])
        .spawn()
        .expect("started");
    let far_id = far.id().to_string();
    let channel = channel(&store).await;
    let mut next = 0;
    send(&channel, WARM_UP, &mut next).await;
    let (before, begin, first) = (cpu("self") + cpu(&far_id), Instant::now(), next);
    send(&channel, time, &mut next).await;
    let (seconds, frames) = (begin.elapsed().as_secs_f64(), (next - first) as f64);
    let used = cpu("self") + cpu(&far_id) - before;
    channel
        .sender
        .send(&[])
        .await
        .expect("the other end is there");
    let status = tokio::task::spawn_blocking(move || far.wait())
        .await
        .expect("it does not panic");
    assert!(status.expect("it ran").success(), "the far end has failed");
    println!(
        "{FRAME_BYTES}-byte frames over TLS       {:>10.0}/s   {:.0} MB/s   {:.2} µs of CPU a frame, both ends together",
        frames / seconds,
        frames * FRAME_BYTES as f64 / seconds / 1e6,
        used * 1e6 / frames,
    );
    store.shutdown().await;
}

/// Runs both ends and prints what was measured.
pub fn run(within: &Path, time: Duration) {
    let directory = Directory::new(within);
    std::fs::create_dir_all(&directory.0).expect("a directory can be made");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(near(&directory.0, time));
}

/// The other process: joins at `address`, and receives until the end.
pub fn run_far(directory: &Path, address: &str) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let secret = std::fs::read_to_string(directory.join("secret")).expect("written before");
        let secret = JoinSecret::parse(&secret).expect("a secret");
        let (store, _) = open(directory, "far", &secret, vec![address.to_owned()]).await;
        let mut channel = channel(&store).await;
        let frames = receive(&mut channel.receiver).await;
        println!("{frames} frames received, in order");
        store.shutdown().await;
    });
}
