//! Three members in this process, over loopback with TLS: puts one at a time and 1,024 at a time, beside the bare disk in
//! the same minute; a million keys, their memory and a snapshot of them under puts; etcd with the same puts, where it is
//! installed.

use super::disk::{Directory, Times, bare};
use bytes::Bytes;
use raft_store::clock::SystemClock;
use raft_store::discovery::Fixed;
use raft_store::disk::FileDisk;
use raft_store::founding::FileRecord;
use raft_store::gate::Tasks;
use raft_store::random::SystemRandom;
use raft_store::spawner::Threads;
use raft_store::transport::{JoinSecret, TcpParts, TcpSettings, TcpTransport};
use raft_store::{Action, Error, Expect, Parts, Role, Settings, Store, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

const MEMBERS: usize = 3;
const VALUE_BYTES: usize = 67;
const MANY: usize = 1024;
const KEYS: u64 = 100_000;
const MILLION: u64 = 1_000_000;
const WARM_UP: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(60);
/// The secret of a cluster that lives for a minute on loopback.
const SECRET: &str = "00112233445566778899aabbccddeeff";

/// 33 bytes.
fn key(number: u64) -> String {
    format!("session/{number:025}")
}

fn value() -> Bytes {
    Bytes::from(vec![0x5a; VALUE_BYTES])
}

/// Addresses that were free a moment ago.
fn addresses() -> Vec<SocketAddr> {
    let bind = |_| TcpListener::bind("127.0.0.1:0").expect("a free port");
    let listeners: Vec<_> = (0..MEMBERS).map(bind).collect();
    let address = |listener: &TcpListener| listener.local_addr().expect("it listens");
    listeners.iter().map(address).collect()
}

async fn open(directory: &Path, addresses: &[SocketAddr], number: usize) -> Store {
    let root = directory.join(format!("m{number}"));
    let disk = Arc::new(FileDisk::open(&root).expect("a directory can be made"));
    let mut settings = Settings::new("member");
    settings.info.addresses = vec![addresses[number].to_string()];
    let tcp = TcpSettings {
        listen: addresses[number],
        dir: settings.dir.clone(),
        secrets: vec![JoinSecret::parse(SECRET).expect("a secret")],
    };
    let parts = TcpParts {
        disk: disk.clone(),
        random: Arc::new(SystemRandom),
        clock: Arc::new(SystemClock),
        wall: Arc::new(SystemClock),
        tasks: Tasks::system(),
    };
    let transport = TcpTransport::bind(tcp, parts).await.expect("it listens");
    let peers = addresses.iter().map(SocketAddr::to_string).collect();
    let parts = Parts {
        disk,
        random: Arc::new(SystemRandom),
        clock: Arc::new(SystemClock),
        transport: Arc::new(transport),
        founding: Arc::new(FileRecord::new(directory.join("founding"))),
        discovery: Arc::new([Box::new(Fixed(peers))]),
        spawner: Arc::new(Threads),
        tasks: Tasks::system(),
    };
    let opened = raft_store::open(settings, parts).await;
    opened.expect("it opens").0
}

/// All open, all voting; the leader first.
async fn cluster(directory: &Path) -> Vec<Store> {
    std::fs::create_dir_all(directory).expect("a directory can be made");
    let addresses = addresses();
    let mut stores = Vec::new();
    for number in 0..MEMBERS {
        stores.push(open(directory, &addresses, number).await);
    }
    let deadline = tokio::time::Instant::now() + PATIENCE;
    for store in &stores {
        store.ready(deadline).await.expect("it joins");
    }
    let voters = |store: &Store| {
        let members = store.status().expect("open").members;
        let votes = |role| matches!(role, Role::Leader | Role::Voter);
        members.iter().filter(|member| votes(member.role)).count()
    };
    while stores.iter().any(|store| voters(store) < MEMBERS) {
        assert!(tokio::time::Instant::now() < deadline, "not all vote");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    stores.sort_by_key(|store| !store.status().expect("open").leading);
    stores
}

/// Each caller at the next member, from the first on.
async fn puts(stores: &[Store], in_flight: usize, time: Duration, keys: u64) -> Times {
    let begin = Instant::now();
    let caller = |caller: usize| {
        let store = stores[caller % stores.len()].clone();
        tokio::spawn(async move {
            let (mut each, mut number) = (Vec::new(), caller as u64 * 7919);
            while begin.elapsed() < time {
                let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
                let (key, start) = (key(number % keys), Instant::now());
                let put = store.put_if(key.as_bytes(), value(), Expect::Any, None, deadline);
                put.await.expect("written");
                each.push(start.elapsed());
                number += 104_729;
            }
            each
        })
    };
    let callers: Vec<_> = (0..in_flight).map(caller).collect();
    let mut each = Vec::new();
    for caller in callers {
        each.extend(caller.await.expect("it does not panic"));
    }
    let all = begin.elapsed();
    Times { each, all }
}

/// In batches, as many in flight as are let in.
async fn fill(store: &Store) {
    let deadline = tokio::time::Instant::now() + 4 * PATIENCE;
    let batch = |from: u64| {
        let write = |number| Write {
            key: key(number).into(),
            expect: Expect::Any,
            action: Action::Put {
                value: value(),
                owner: None,
            },
        };
        (from..from + 500).map(write).collect::<Vec<_>>()
    };
    for from in (0..MILLION).step_by(500) {
        loop {
            match store.batch(batch(from), deadline).await {
                Err(Error::Busy) => tokio::time::sleep(Duration::from_millis(5)).await,
                done => break drop(done.expect("written")),
            }
        }
    }
}

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages = status
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * rustix::param::page_size() as u64
}

async fn million(stores: &[Store], time: Duration) {
    let before = resident_bytes();
    fill(&stores[0]).await;
    let bytes = (resident_bytes() - before) / MEMBERS as u64;
    println!(
        "\n{MILLION} keys of 100 bytes: {} MB a member, all else it holds included",
        bytes >> 20
    );
    let mut quiet = puts(stores, 64, time, MILLION).await;
    quiet.print("64 in flight, quiet");
    // One in each store's own directory: the file goes with it.
    let store = stores[0].clone();
    let saving = tokio::spawn(async move {
        let begin = Instant::now();
        store
            .save_snapshot(Path::new("saved"))
            .await
            .expect("saved");
        begin.elapsed()
    });
    let mut each = Vec::new();
    let begin = Instant::now();
    while !saving.is_finished() {
        each.extend(
            puts(stores, 64, Duration::from_millis(200), MILLION)
                .await
                .each,
        );
    }
    let mut during = Times {
        each,
        all: begin.elapsed(),
    };
    let took = saving.await.expect("it does not panic");
    during.print("64 in flight, snapshot");
    let ratio = during.millis(99) / quiet.millis(99);
    println!(
        "snapshot of it in {:.1} s; p99 of puts meanwhile {ratio:.1} times the quiet one",
        took.as_secs_f64()
    );
}

async fn three(within: &Path, time: Duration) {
    let directory = Directory::new(within);
    let stores = cluster(&directory.0).await;
    bare(within, 300, time).print("bare disk, 300 bytes");
    puts(&stores[..1], 1, WARM_UP, KEYS).await;
    puts(&stores[..1], 1, time, KEYS)
        .await
        .print("1 in flight, at the leader");
    puts(&stores[1..2], 1, time, KEYS)
        .await
        .print("1 in flight, at a follower");
    puts(&stores, MANY, WARM_UP, KEYS).await;
    let before = stores[0].status().expect("open").log_written;
    let mut many = puts(&stores, MANY, time, KEYS).await;
    let after = stores[0].status().expect("open").log_written;
    many.print("1,024 in flight");
    let (syncs, entries) = (after.frames - before.frames, after.entries - before.entries);
    println!(
        "{:.1} puts an entry, {:.2} entries a sync",
        many.each.len() as f64 / entries as f64,
        entries as f64 / syncs as f64
    );
    bare(within, 300, time).print("bare disk, 300 bytes");
    million(&stores, time).await;
    for store in stores {
        store.shutdown().await;
    }
}

/// The million alone.
pub fn run_million(within: &Path, time: Duration) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let directory = Directory::new(within);
        let stores = cluster(&directory.0).await;
        million(&stores, time).await;
        for store in stores {
            store.shutdown().await;
        }
    });
}

pub fn run(within: &Path, time: Duration) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(three(within, time));
    drop(runtime);
    super::etcd::run(within, time);
}
