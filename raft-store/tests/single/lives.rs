//! Lives of a member that end with the power, by seed: writers, each with keys of its own, and what they know.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use raft_store::disk::{Fault, SimDisk};
use raft_store::ids::Revision;
use raft_store::random::{Random, Seeded};
use raft_store::{Action, Error, Expect, OpenError, Settings, Store, Write, WriteOutcome};
use raft_store::{log, snapshot};

use super::member::{Member, disk, small, soon};

const WRITERS: usize = 6;
const LIVES: u64 = 4;

/// What the outside knows. Each writer puts rising numbers under both of its keys, in one batch.
#[derive(Default)]
pub struct Ledger {
    attempted: [u64; WRITERS],
    acknowledged: [u64; WRITERS],
    /// The highest revision that was acknowledged or read locally.
    seen: Revision,
    /// What happened, in order.
    pub trace: blake3::Hasher,
    pub writes: u64,
    pub snapshots: u64,
}

pub struct World {
    pub disk: SimDisk,
    random: Seeded,
    pub ledger: Arc<Mutex<Ledger>>,
}

fn settings() -> Settings {
    let mut settings = small();
    settings.snapshot_log_bytes = 4 << 10;
    settings.snapshot_check = Duration::from_millis(100);
    settings.log_keep_entries = 3;
    settings
}

fn key(writer: usize, half: &str) -> Vec<u8> {
    format!("writer/{writer}/{half}").into_bytes()
}

/// Whether a start failed for no other reason than the power.
fn power_went(error: &OpenError) -> Result<(), String> {
    match error {
        OpenError::Io { .. }
        | OpenError::Log(log::Error::Io { .. } | log::Error::Failed(_))
        | OpenError::Snapshot(snapshot::file::Error::Io(_))
        | OpenError::Raft(_) => Ok(()),
        lost => Err(lost.to_string()),
    }
}

fn number(store: &Store, key: &[u8]) -> u64 {
    let (found, _) = store.get(key).expect("open");
    found.map_or(0, |found| {
        let text = std::str::from_utf8(&found.value).expect("a number was put");
        text.parse().expect("a number was put")
    })
}

async fn write(store: Store, ledger: Arc<Mutex<Ledger>>, writer: usize) {
    loop {
        let number = {
            let mut ledger = ledger.lock();
            ledger.attempted[writer] += 1;
            ledger.attempted[writer]
        };
        let put = |half| Write {
            key: key(writer, half).into(),
            expect: Expect::Any,
            action: Action::Put {
                value: Bytes::from(number.to_string()),
                owner: None,
            },
        };
        let outcome = store.batch(vec![put("a"), put("b")], soon()).await;
        let mut ledger = ledger.lock();
        ledger
            .trace
            .update(format!("{writer} {number} {outcome:?};").as_bytes());
        match outcome.as_deref() {
            Ok(
                [
                    Ok(WriteOutcome::Written(_)),
                    Ok(WriteOutcome::Written(revision)),
                ],
            ) => {
                ledger.acknowledged[writer] = number;
                ledger.seen = ledger.seen.max(*revision);
                ledger.writes += 1;
            }
            Ok(other) => panic!("{other:?}"),
            Err(Error::Unknown(_) | Error::Closed) => return,
            Err(error) => panic!("{error}"),
        }
        if let Ok((_, revision)) = store.get(b"") {
            ledger.seen = ledger.seen.max(revision);
        }
    }
}

impl World {
    pub fn new(seed: u64) -> World {
        let disk = disk(seed);
        disk.set_sync_time(Duration::from_micros(100), Duration::from_millis(15));
        World {
            disk,
            random: Seeded::new(seed, "world"),
            ledger: Arc::default(),
        }
    }

    /// All of them, with what holds checked at each start. `Err`: what was lost.
    pub async fn lives(&self, seed: u64) -> Result<(), String> {
        for life in 0..LIVES {
            let at = self.disk.operations() + self.random.below(600);
            self.disk.fail_at(at, Fault::PowerCut);
            self.life(seed * 1000 + life).await?;
            self.disk.forgive();
            self.disk.power_cut();
            self.disk.kill();
        }
        self.life(seed * 1000 + LIVES).await
    }

    async fn life(&self, seed: u64) -> Result<(), String> {
        let opened = Member::open(&self.disk, settings(), seed).await;
        let mut member = match opened {
            Ok(member) => member,
            Err(Error::Open(error)) => return power_went(&error),
            Err(error) => return Err(error.to_string()),
        };
        self.early_read(&member.store).await?;
        if member.store.ready(soon()).await.is_err() {
            member.gate.kill();
            return Ok(());
        }
        self.check(&member.store)?;
        for writer in 0..WRITERS {
            tokio::spawn(write(member.store.clone(), self.ledger.clone(), writer));
        }
        let _ = tokio::time::timeout(Duration::from_millis(1500), member.fatal.wait()).await;
        let status = member.store.status();
        member.gate.kill();
        // The store's own tasks are gone and have dropped what the writers wait for.
        tokio::time::sleep(Duration::from_secs(20)).await;
        let mut ledger = self.ledger.lock();
        if let Ok(status) = status {
            ledger.trace.update(format!("{status:?};").as_bytes());
            ledger.snapshots += u64::from(status.snapshot.is_some());
        }
        ledger.trace.update(&self.disk.operations().to_le_bytes());
        Ok(())
    }

    /// The first local read that a start allows, before this run is registered.
    async fn early_read(&self, store: &Store) -> Result<(), String> {
        let seen = self.ledger.lock().seen;
        loop {
            match store.get(b"") {
                Ok((_, revision)) if revision < seen => {
                    return Err(format!("the first read gave {revision} after {seen}"));
                }
                Err(Error::NotReady) => tokio::time::sleep(Duration::from_micros(200)).await,
                Ok(_) | Err(_) => return Ok(()),
            }
        }
    }

    fn check(&self, store: &Store) -> Result<(), String> {
        let mut ledger = self.ledger.lock();
        let (_, revision) = store.get(b"").expect("open");
        if revision < ledger.seen {
            return Err(format!(
                "reads went back to {revision} from {}",
                ledger.seen
            ));
        }
        for writer in 0..WRITERS {
            let (a, b) = (
                number(store, &key(writer, "a")),
                number(store, &key(writer, "b")),
            );
            if a != b {
                return Err(format!("half a batch of writer {writer}: {a} and {b}"));
            }
            if a < ledger.acknowledged[writer] || a > ledger.attempted[writer] {
                let acknowledged = ledger.acknowledged[writer];
                return Err(format!(
                    "writer {writer}: {a} where {acknowledged} was acknowledged"
                ));
            }
            ledger.attempted[writer] = ledger.attempted[writer].max(a);
        }
        Ok(())
    }
}
