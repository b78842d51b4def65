//! Stores over the port: the authority and the keys of ids lie in the store itself.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use raft_store::clock::SystemClock;
use raft_store::discovery::{Discovery, Fixed};
use raft_store::disk::SimDisk;
use raft_store::founding::{Created, Founding, FoundingRecord, RecordError};
use raft_store::gate::Tasks;
use raft_store::ids::ClusterId;
use raft_store::random::SystemRandom;
use raft_store::spawner::Threads;
use raft_store::transport::registry::RESERVED_PREFIX;
use raft_store::transport::{BoxFuture, JoinSecret, TcpParts, TcpSettings, TcpTransport};
use raft_store::{Error, Expect, Parts, Settings, Store, open};
use tokio::time::Instant;

use crate::member::{Cluster, DIR, Date, Impatient, Member, TODAY, disk, eventually};

/// A founding record in memory.
#[derive(Default)]
struct Record(Mutex<Option<Founding>>);

fn answer<T: Send + 'static>(answer: T) -> BoxFuture<'static, Result<T, RecordError>> {
    Box::pin(std::future::ready(Ok(answer)))
}

impl FoundingRecord for Record {
    fn read(&self) -> BoxFuture<'_, Result<Option<Founding>, RecordError>> {
        answer(*self.0.lock())
    }

    fn create(&self, founding: Founding) -> BoxFuture<'_, Result<Created, RecordError>> {
        let mut row = self.0.lock();
        answer(match *row {
            Some(row) => Created::Exists(row),
            None => {
                *row = Some(founding);
                Created::Yes
            }
        })
    }

    fn replace(&self, old: ClusterId, new: Founding) -> BoxFuture<'_, Result<bool, RecordError>> {
        let mut row = self.0.lock();
        let fits = row.is_some_and(|row| row.uuid == old);
        if fits {
            *row = Some(new);
        }
        answer(fits)
    }
}

/// What members of one cluster have in common.
struct World {
    record: Arc<Record>,
    secret: JoinSecret,
}

impl World {
    fn new() -> Self {
        Self {
            record: Arc::default(),
            secret: JoinSecret::mint(&SystemRandom),
        }
    }

    /// A store on `disk`, and its port.
    async fn open(&self, disk: &Arc<SimDisk>, peers: &[String]) -> (Store, Arc<TcpTransport>) {
        let tcp = TcpSettings {
            listen: "127.0.0.1:0".parse().expect("an address"),
            dir: DIR.into(),
            secrets: vec![self.secret.clone()],
        };
        let parts = TcpParts {
            disk: disk.clone(),
            random: Arc::new(SystemRandom),
            clock: Arc::new(Impatient),
            wall: Date::new(TODAY),
            tasks: Tasks::system(),
        };
        let port = TcpTransport::bind(tcp, parts).await.expect("a port");
        let port = Arc::new(port);
        let mut settings = Settings::new(DIR);
        settings.segment_bytes = 1 << 20;
        settings.info.addresses = vec![port.local_address().to_string()];
        let fixed: Box<dyn Discovery> = Box::new(Fixed(peers.to_vec()));
        let parts = Parts {
            disk: disk.clone(),
            random: Arc::new(SystemRandom),
            clock: Arc::new(SystemClock),
            transport: port.clone(),
            founding: self.record.clone(),
            discovery: Arc::new([fixed]),
            spawner: Arc::new(Threads),
            tasks: Tasks::system(),
        };
        let (store, _) = open(settings, parts).await.expect("opened");
        (store, port)
    }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

async fn own_keys(store: &Store) -> usize {
    let (own, _) = store.scan(RESERVED_PREFIX, None, 100).expect("open");
    own.len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_founder_keeps_its_authority_in_the_store() {
    let world = World::new();
    let disk = disk("founder");
    let (store, port) = world.open(&disk, &[]).await;
    store.ready(soon()).await.expect("founded");
    assert!(port.has_certificate());
    for _ in 0..1_000 {
        if own_keys(&store).await == 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(own_keys(&store).await, 2, "the authority and its own key");
    let key = [RESERVED_PREFIX, b"authority"].concat();
    let put = store.put_if(&key, "mine".into(), Expect::Any, None, soon());
    assert!(matches!(put.await, Err(Error::Reserved)));
    let delete = store.delete_if(&key, Expect::Any, soon());
    assert!(matches!(delete.await, Err(Error::Reserved)));
    let put = store.put_if(b"key", "value".into(), Expect::Any, None, soon());
    put.await.expect("written");
    store.shutdown().await;
    drop(port);
    let (store, port) = world.open(&disk, &[]).await;
    store.ready(soon()).await.expect("open again");
    assert!(port.has_certificate());
    assert_eq!(own_keys(&store).await, 2);
    store.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_key_of_a_removed_member_is_forgotten() {
    let world = World::new();
    let (store, port) = world.open(&disk("one"), &[]).await;
    let peers = [port.local_address().to_string()];
    let (other, other_port) = world.open(&disk("other"), &peers).await;
    other.ready(soon()).await.expect("a member");
    for _ in 0..1_000 {
        if own_keys(&store).await == 3 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(own_keys(&store).await, 3, "the authority and two keys");
    let removed = store.remove(other_port.member(), soon()).await;
    removed.expect("removed");
    for _ in 0..1_000 {
        if own_keys(&store).await == 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(own_keys(&store).await, 2, "the authority and its own");
    store.shutdown().await;
    other.shutdown().await;
}

/// Waits until a member's store says so.
async fn until(store: &Store, holds: impl Fn(&raft_store::Status) -> bool) {
    for _ in 0..6_000 {
        if store.status().is_ok_and(|status| holds(&status)) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it never came to hold: {:?}", store.status());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_stores_are_one_over_tls() {
    let world = World::new();
    let disks = ["one", "two", "three"].map(disk);
    let mut peers = Vec::new();
    let mut members = Vec::new();
    for disk in &disks {
        let (store, port) = world.open(disk, &peers).await;
        peers.push(port.local_address().to_string());
        members.push((store, port));
    }
    for (number, (store, port)) in members.iter().enumerate() {
        store.ready(soon()).await.expect("a member");
        assert!(port.has_certificate());
        let key = format!("key {number}");
        let put = store.put_if(key.as_bytes(), "value".into(), Expect::Any, None, soon());
        put.await.expect("written");
    }
    for (store, _) in &members {
        for number in 0..3 {
            let key = format!("key {number}");
            let (found, _) = store
                .get_linearizable(key.as_bytes(), soon())
                .await
                .expect("read");
            assert_eq!(&found.expect("there").value[..], b"value");
        }
        assert_eq!(own_keys(store).await, 4, "the authority and three keys");
        until(store, |status| status.members.len() == 3).await;
    }
    let ids: Vec<_> = members.iter().map(|(_, port)| port.member()).collect();
    let hashes = members.iter().map(|(store, _)| {
        let status = store.status().expect("open");
        (status.revision, status.state_hash)
    });
    let hashes: Vec<_> = hashes.collect();
    assert!(hashes.windows(2).all(|pair| pair[0] == pair[1]));
    // One goes and comes back with what it has, without anybody's help.
    let (store, port) = members.remove(1);
    store.shutdown().await;
    drop(port);
    let (store, port) = world.open(&disks[1], &peers).await;
    store.ready(soon()).await.expect("again");
    assert_eq!(port.member(), ids[1]);
    let (found, _) = store
        .get_linearizable(b"key 2", soon())
        .await
        .expect("read");
    assert!(found.is_some());
    for (store, _) in members {
        store.shutdown().await;
    }
    store.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_that_was_joining_another_cluster_says_what_to_do() {
    let disk = disk("joiner");
    {
        // It got its certificate, and nothing else.
        let first = Cluster::found("another cluster's founder").await;
        let secrets = [first.secret.clone()];
        let joiner = Member::open(disk.clone(), Date::new(TODAY), &secrets).await;
        joiner.talk(&first.founder).await;
    }
    let world = World::new();
    let (founder, port) = world.open(&crate::member::disk("founder"), &[]).await;
    founder.ready(soon()).await.expect("founded");
    let peers = [port.local_address().to_string()];
    let (joiner, _port) = world.open(&disk, &peers).await;
    let says = || {
        let waiting = joiner.belonging().waiting.map(|waiting| waiting.what);
        waiting.is_some_and(|what| {
            what.contains(&peers[0]) && what.contains("start with an empty directory")
        })
    };
    eventually(says).await;
    founder.shutdown().await;
    joiner.shutdown().await;
}
