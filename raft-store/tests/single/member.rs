//! A store on a simulated disk and a clock that stands still.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use raft_store::disk::SimDisk;
use raft_store::founding::Alone;
use raft_store::gate::{Gate, Tasks};
use raft_store::ids::{Incarnation, Revision};
use raft_store::random::Seeded;
use raft_store::{Error, Expect, FatalWatch, Parts, Settings, Store, WriteOutcome, open};
use tokio::time::Instant;

pub struct Member {
    pub disk: SimDisk,
    pub gate: Arc<Gate>,
    pub store: Store,
    pub fatal: FatalWatch,
}

pub fn disk(seed: u64) -> SimDisk {
    SimDisk::new(Arc::new(Seeded::new(seed, "disk")))
}

pub fn soon() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

/// Segments of a MiB.
pub fn small() -> Settings {
    let mut settings = Settings::new("member");
    settings.segment_bytes = 1 << 20;
    settings
}

impl Member {
    pub async fn open(disk: &SimDisk, settings: Settings, seed: u64) -> Result<Member, Error> {
        let gate = Gate::new(Box::new(Seeded::new(seed, "gate")));
        let tasks = Tasks::gated(gate.clone());
        let disk_of_parts = Arc::new(disk.clone());
        let parts = Parts {
            clock: Arc::new(raft_store::clock::RuntimeClock::new(0)),
            transport: Arc::new(raft_store::transport::Nowhere),
            founding: Arc::new(Alone::new(disk_of_parts.clone(), "member")),
            discovery: Arc::new([]),
            disk: disk_of_parts,
            random: Arc::new(Seeded::new(seed, "member")),
            spawner: Arc::new(tasks.clone()),
            tasks,
        };
        let (store, fatal) = open(settings, parts).await?;
        let disk = disk.clone();
        Ok(Member {
            disk,
            gate,
            store,
            fatal,
        })
    }

    /// Opened and registered.
    pub async fn ready(disk: &SimDisk, settings: Settings, seed: u64) -> (Member, Incarnation) {
        let member = Self::open(disk, settings, seed).await.expect("it opens");
        let incarnation = member.store.ready(soon()).await.expect("registered");
        (member, incarnation)
    }

    /// Nothing of it runs any more; the disk keeps everything.
    pub fn kill(self) -> SimDisk {
        self.gate.kill();
        self.disk.kill();
        self.disk
    }

    pub async fn put(&self, key: &str, value: &str) -> Result<Revision, Error> {
        let value = Bytes::copy_from_slice(value.as_bytes());
        let outcome = self
            .store
            .put_if(key.as_bytes(), value, Expect::Any, None, soon());
        match outcome.await? {
            WriteOutcome::Written(revision) => Ok(revision),
            WriteOutcome::Conflict(_) => panic!("without a condition"),
        }
    }

    pub fn get(&self, key: &str) -> Option<String> {
        let (found, _) = self.store.get(key.as_bytes()).expect("open");
        found.map(|found| String::from_utf8(found.value.to_vec()).expect("a string was put"))
    }
}
