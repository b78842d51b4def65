//! A member on a simulated disk, that shares a founding record.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use raft_store::clock::{RuntimeClock, WallClock};
use raft_store::disk::SimDisk;
use raft_store::gate::{Gate, Tasks};
use raft_store::ids::{ClusterId, Incarnation, MemberId};
use raft_store::random::Seeded;
use raft_store::transport::{Nowhere, Transport};
use raft_store::{Error, Expect, FatalWatch, Parts, Settings, Store, WriteOutcome, open};
use tokio::time::Instant;

use super::record::Record;

pub struct Member {
    pub disk: SimDisk,
    pub gate: Arc<Gate>,
    pub store: Store,
    pub _fatal: FatalWatch,
}

/// Seconds since 1970, for whom a date is a parameter.
pub struct Date(pub i64);

impl WallClock for Date {
    fn unix_seconds(&self) -> i64 {
        self.0
    }
}

pub fn disk(seed: u64) -> SimDisk {
    SimDisk::new(Arc::new(Seeded::new(seed, "disk")))
}

pub fn after(seconds: u64) -> Instant {
    Instant::now() + Duration::from_secs(seconds)
}

pub fn settings(dir: &str) -> Settings {
    let mut settings = Settings::new(dir);
    settings.segment_bytes = 1 << 20;
    settings
}

pub fn parts(disk: &SimDisk, record: &Record, seed: u64) -> (Parts, Arc<Gate>) {
    with_transport(disk, record, seed, Arc::new(Nowhere))
}

pub fn with_transport(
    disk: &SimDisk,
    record: &Record,
    seed: u64,
    transport: Arc<dyn Transport>,
) -> (Parts, Arc<Gate>) {
    let gate = Gate::new(Box::new(Seeded::new(seed, "gate")));
    let tasks = Tasks::gated(gate.clone());
    let parts = Parts {
        disk: Arc::new(disk.clone()),
        random: Arc::new(Seeded::new(seed, "member")),
        clock: Arc::new(RuntimeClock::new(0)),
        transport,
        founding: Arc::new(record.clone()),
        discovery: Arc::new([]),
        spawner: Arc::new(tasks.clone()),
        tasks,
    };
    (parts, gate)
}

impl Member {
    pub async fn open(
        disk: &SimDisk,
        record: &Record,
        dir: &str,
        seed: u64,
    ) -> Result<Member, Error> {
        let (parts, gate) = parts(disk, record, seed);
        let (store, fatal) = open(settings(dir), parts).await?;
        let disk = disk.clone();
        Ok(Member {
            disk,
            gate,
            store,
            _fatal: fatal,
        })
    }

    /// Opened and registered.
    pub async fn ready(disk: &SimDisk, record: &Record, dir: &str, seed: u64) -> Member {
        let member = Self::open(disk, record, dir, seed).await;
        let member = member.expect("it opens");
        member.store.ready(after(60)).await.expect("registered");
        member
    }

    pub fn id(&self) -> MemberId {
        self.store.status().expect("open").member
    }

    pub fn cluster(&self) -> ClusterId {
        self.store.belonging().cluster.expect("settled")
    }

    pub fn incarnation(&self) -> Incarnation {
        self.store.incarnation().expect("registered")
    }

    /// Nothing of it runs any more; the disk keeps everything.
    pub fn kill(self) -> SimDisk {
        self.gate.kill();
        self.disk.kill();
        self.disk
    }

    pub async fn put(&self, key: &str, value: &str) {
        let value = Bytes::copy_from_slice(value.as_bytes());
        let put = self
            .store
            .put_if(key.as_bytes(), value, Expect::Any, None, after(10));
        let outcome = put.await.expect("written");
        assert!(matches!(outcome, WriteOutcome::Written(_)));
    }

    pub async fn put_all(&self, numbers: std::ops::Range<u32>) {
        for number in numbers {
            self.put(&format!("key/{number}"), &number.to_string())
                .await;
        }
    }

    pub fn has_all(&self, numbers: std::ops::Range<u32>) {
        for number in numbers {
            let key = format!("key/{number}");
            let (found, _) = self.store.get(key.as_bytes()).expect("open");
            let value = found.map(|found| found.value);
            assert_eq!(value, Some(number.to_string().into()), "{key}");
        }
    }
}

/// Whether there is no file in `dir`, nor in those below it.
pub fn is_bare(disk: &SimDisk, dir: &str) -> bool {
    use raft_store::disk::Disk;
    let dirs = [
        PathBuf::from(dir),
        Path::new(dir).join("log"),
        Path::new(dir).join("snapshots"),
    ];
    dirs.iter()
        .all(|dir| disk.list(dir).expect("listed").is_empty())
}
