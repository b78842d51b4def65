//! A cluster whose store is a map: members with a port each, on disks in memory, with a date that the test sets.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use raft_store::clock::{Clock, SystemClock, WallClock};
use raft_store::disk::{Disk, SimDisk};
use raft_store::gate::Tasks;
use raft_store::ids::{MemberId, Revision};
use raft_store::random::{Seeded, SystemRandom};
use raft_store::transport::registry::{Bound, Registry};
use raft_store::transport::{
    BoxFuture, Connected, JoinSecret, TcpParts, TcpSettings, TcpTransport, Transport,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

pub const DIR: &str = "member";
pub const DAY: i64 = 24 * 60 * 60;
/// What the members' clocks say first.
pub const TODAY: i64 = 1_800_000_000;

/// The store, as far as ports know it.
#[derive(Default)]
pub struct Map(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    authority: Option<(Bytes, Revision)>,
    keys: BTreeMap<MemberId, [u8; 32]>,
    removed: Vec<MemberId>,
    addresses: Vec<String>,
}

impl Map {
    pub fn keys(&self) -> usize {
        self.0.lock().keys.len()
    }

    pub fn remove(&self, member: MemberId) {
        self.0.lock().removed.push(member);
    }

    pub fn set_addresses(&self, addresses: Vec<String>) {
        self.0.lock().addresses = addresses;
    }

    pub fn sealed(&self) -> Option<(Bytes, Revision)> {
        self.0.lock().authority.clone()
    }
}

impl Registry for Map {
    fn authority(&self) -> io::Result<Option<(Bytes, Revision)>> {
        Ok(self.sealed())
    }

    fn put_authority(
        &self,
        sealed: Bytes,
        replaces: Option<Revision>,
    ) -> BoxFuture<'_, io::Result<bool>> {
        let mut kept = self.0.lock();
        let there = kept.authority.as_ref().map(|(_, revision)| *revision);
        let fits = there == replaces;
        if fits {
            let next = Revision(there.map_or(1, |revision| revision.0 + 1));
            kept.authority = Some((sealed, next));
        }
        Box::pin(std::future::ready(Ok(fits)))
    }

    fn bind(&self, member: MemberId, key: [u8; 32]) -> BoxFuture<'_, io::Result<Bound>> {
        let mut kept = self.0.lock();
        let bound = if kept.removed.contains(&member) {
            Bound::Removed
        } else if *kept.keys.entry(member).or_insert(key) == key {
            Bound::Yes
        } else {
            Bound::OtherKey
        };
        Box::pin(std::future::ready(Ok(bound)))
    }

    fn forget_removed(&self) -> BoxFuture<'_, io::Result<()>> {
        let mut kept = self.0.lock();
        let removed = std::mem::take(&mut kept.removed);
        kept.keys.retain(|id, _| !removed.contains(id));
        kept.removed = removed;
        Box::pin(std::future::ready(Ok(())))
    }

    fn addresses(&self) -> Vec<String> {
        self.0.lock().addresses.clone()
    }
}

/// A date that the test sets.
pub struct Date(AtomicI64);

impl Date {
    pub fn new(unix_seconds: i64) -> Arc<Self> {
        Arc::new(Self(AtomicI64::new(unix_seconds)))
    }

    pub fn add_days(&self, days: i64) {
        self.0.fetch_add(days * DAY, Ordering::Relaxed);
    }
}

impl WallClock for Date {
    fn unix_seconds(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Time limits are as they are; what is done by the hour is done ten times a second.
pub struct Impatient;

impl Clock for Impatient {
    fn now(&self) -> Duration {
        SystemClock.now()
    }

    fn wait(&self, time: Duration) -> Duration {
        if time > Duration::from_secs(20) {
            return Duration::from_millis(100);
        }
        time
    }
}

/// A disk of its own.
pub fn disk(name: &str) -> Arc<SimDisk> {
    Arc::new(SimDisk::new(Arc::new(Seeded::new(1, name))))
}

/// A member's port.
pub struct Member {
    pub port: Arc<TcpTransport>,
    pub disk: Arc<SimDisk>,
    pub date: Arc<Date>,
}

impl Member {
    pub async fn open(disk: Arc<SimDisk>, date: Arc<Date>, secrets: &[JoinSecret]) -> Self {
        let settings = TcpSettings {
            listen: "127.0.0.1:0".parse().expect("an address"),
            dir: PathBuf::from(DIR),
            secrets: secrets.to_vec(),
        };
        let parts = TcpParts {
            disk: disk.clone(),
            random: Arc::new(SystemRandom),
            clock: Arc::new(Impatient),
            wall: date.clone(),
            tasks: Tasks::system(),
        };
        let port = TcpTransport::bind(settings, parts).await;
        let port = Arc::new(port.expect("a port"));
        Self { port, disk, date }
    }

    pub fn address(&self) -> String {
        self.port.local_address().to_string()
    }

    pub async fn connect(&self, to: &Member) -> io::Result<Connected> {
        self.port.connect(&to.address()).await
    }

    pub async fn accept(&self) -> Connected {
        let accepted = tokio::time::timeout(Duration::from_secs(30), self.port.accept()).await;
        accepted.expect("in time").expect("a stream")
    }

    /// Opens a stream and says a word each way.
    pub async fn talk(&self, to: &Member) -> (Connected, Connected) {
        let (connected, accepted) = tokio::join!(self.connect(to), to.accept());
        let mut pair = (connected.expect("connected"), accepted);
        assert_eq!(pair.0.member, to.port.member());
        assert_eq!(pair.1.member, self.port.member());
        exchange(&mut pair).await;
        pair
    }

    /// Neither side gets a stream that a word can be said on.
    pub async fn is_refused_by(&self, to: &Member) -> io::Error {
        let mut connected = match self.connect(to).await {
            Ok(connected) => connected,
            Err(error) => return error,
        };
        // The one that opens a TLS connection is done before the other has looked at its certificate.
        match connected.stream.read_u8().await {
            Ok(_) => panic!("it was let in"),
            Err(error) => error,
        }
    }
}

/// A word each way.
pub async fn exchange(pair: &mut (Connected, Connected)) {
    let (one, other) = (&mut pair.0.stream, &mut pair.1.stream);
    for (from, to) in [(one, other)] {
        from.write_all(b"there").await.expect("written");
        from.flush().await.expect("sent");
        let mut word = [0; 5];
        to.read_exact(&mut word).await.expect("read");
        assert_eq!(&word, b"there");
        to.write_all(b"again").await.expect("written");
        to.flush().await.expect("sent");
        from.read_exact(&mut word).await.expect("read");
        assert_eq!(&word, b"again");
    }
}

/// A cluster of a founder, whose authority is in the map.
pub struct Cluster {
    pub map: Arc<Map>,
    pub secret: JoinSecret,
    pub founder: Member,
}

impl Cluster {
    pub async fn found(name: &str) -> Self {
        let secret = JoinSecret::mint(&SystemRandom);
        let secrets = std::slice::from_ref(&secret);
        let founder = Member::open(disk(name), Date::new(TODAY), secrets).await;
        founder.port.found(false).await.expect("founded");
        let map = Arc::new(Map::default());
        founder.port.attach(map.clone());
        eventually(|| map.sealed().is_some() && map.keys() == 1).await;
        Self {
            map,
            secret,
            founder,
        }
    }

    /// A stranger that knows the secret.
    pub async fn stranger(&self, name: &str) -> Member {
        let secrets = std::slice::from_ref(&self.secret);
        Member::open(disk(name), Date::new(TODAY), secrets).await
    }

    /// A member that has joined.
    pub async fn member(&self, name: &str) -> Member {
        let member = self.stranger(name).await;
        member.talk(&self.founder).await;
        member.port.attach(self.map.clone());
        member
    }
}

/// Waits until `holds`.
pub async fn eventually(holds: impl Fn() -> bool) {
    for _ in 0..3_000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it never came to hold");
}

/// Another disk with the same identity and without what belongs to it.
pub fn with_the_same_id(disk: &SimDisk) -> Arc<SimDisk> {
    let copy = disk.copy();
    copy.remove(&Path::new(DIR).join("credentials"))
        .expect("removed");
    Arc::new(copy)
}
