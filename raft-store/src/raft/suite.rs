//! openraft's own storage suite over log store and state machine, on the simulated disk.

use std::fmt::Debug;
use std::ops::RangeBounds;
use std::path::Path;
use std::sync::Arc;

use openraft::entry::RaftEntry;
use openraft::storage::{LogFlushed, RaftLogStorage, RaftStateMachine};
use openraft::testing::{StoreBuilder, Suite};
use openraft::{LogState, OptionalSend, RaftLogReader, RaftSnapshotBuilder};
use tokio::sync::oneshot;

use super::log_store::{LogStore, Opening};
use super::machine::{Around, Machine};
use super::pacing::Pacing;
use super::types::{
    Entry, LogId, Snapshot, SnapshotFile, SnapshotMeta, StorageError, StoredMembership, Types,
    Vote, decode_meta, encode_meta, to_log_id,
};
use crate::disk::{Disk, SimDisk};
use crate::ids::BootNonce;
use crate::limits::Limits;
use crate::log::{Log, Settings};
use crate::random::Seeded;
use crate::snapshot::publish::Snapshots;
use crate::spawner::Threads;
use crate::state::State;
use crate::waiters::Waiters;
use crate::watch::{Hub, HubLimits};

struct Builder;

/// The machine with what production does around it: a snapshot is built before openraft asks for one, and received
/// before openraft installs it.
#[derive(Clone)]
struct Surrounded {
    machine: Machine,
    snapshots: Snapshots,
}

impl Surrounded {
    async fn publish(&self, state: State, meta: Vec<u8>) {
        let (tell, told) = oneshot::channel();
        let built = Box::new(move |result| drop(tell.send(result)));
        let job = self.snapshots.build(&Threads, state, meta, built);
        job.expect("a thread").join();
        told.await.expect("told").expect("published");
    }
}

impl RaftSnapshotBuilder<Types> for Surrounded {
    async fn build_snapshot(&mut self) -> Result<Snapshot, StorageError> {
        if let Some((state, meta)) = self.machine.capture().expect("small") {
            self.publish(state, meta).await;
        }
        if self.snapshots.published().is_none() {
            // The suite purges where nothing was ever applied, which the trigger of our purges excludes.
            let (meta, snapshot) = (SnapshotMeta::default(), Box::default());
            return Ok(Snapshot { meta, snapshot });
        }
        self.machine.build_snapshot().await
    }
}

impl RaftStateMachine<Types> for Surrounded {
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), StorageError> {
        self.machine.applied_state().await
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<()>, StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<_> = entries.into_iter().collect();
        self.machine.apply(entries).await
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<SnapshotFile>, StorageError> {
        self.machine.begin_receiving_snapshot().await
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: Box<SnapshotFile>,
    ) -> Result<(), StorageError> {
        let state = snapshot.state.clone().expect("sent");
        let beside = encode_meta(meta.last_log_id, &meta.last_membership).expect("small");
        self.publish(state, beside).await;
        self.machine.install_snapshot(meta, snapshot).await
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, StorageError> {
        let mut snapshot = self.machine.get_current_snapshot().await?;
        if let (Some(snapshot), Some(published)) = (&mut snapshot, self.snapshots.published()) {
            let loaded = self.snapshots.load(&published).expect("whole");
            snapshot.snapshot.state = Some(loaded.state);
        }
        Ok(snapshot)
    }
}

/// The suite begins logs at any index, leaves gaps, appends below what is purged: openraft itself never does, and our log
/// refuses it. Here gaps are filled, and what is purged is passed over.
struct Filled {
    store: LogStore,
    log: Log,
    snapshots: Snapshots,
}

impl RaftLogReader<Types> for Filled {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> Result<Vec<Entry>, StorageError>
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        self.store.try_get_log_entries(range).await
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, StorageError> {
        self.store.limited_get_log_entries(start, end).await
    }
}

impl RaftLogStorage<Types> for Filled {
    type LogReader = LogStore;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, StorageError> {
        self.store.get_log_state().await
    }

    async fn get_log_reader(&mut self) -> LogStore {
        self.store.get_log_reader().await
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        self.store.save_vote(vote).await
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        self.store.read_vote().await
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), StorageError> {
        self.store.save_committed(committed).await
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, StorageError> {
        self.store.read_committed().await
    }

    async fn append<I>(&mut self, entries: I, done: LogFlushed<Types>) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<_> = entries.into_iter().collect();
        if let Some(published) = self.snapshots.published() {
            let last = decode_meta(&published.meta).expect("its own").0;
            last.inspect(|last| self.log.publish(to_log_id(*last)));
        }
        let last = self.store.get_log_state().await?.last_log_id;
        let mut next = last.map_or(0, |last| last.index + 1);
        let mut filled = Vec::new();
        for entry in entries {
            let id = entry.log_id;
            if id.index < next {
                continue;
            }
            filled.extend((next..id.index).map(|index| Entry::new_blank(LogId { index, ..id })));
            next = id.index + 1;
            filled.push(entry);
        }
        self.store.append(filled, done).await
    }

    async fn truncate(&mut self, since: LogId) -> Result<(), StorageError> {
        self.store.truncate(since).await
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), StorageError> {
        self.store.purge(upto).await
    }
}

impl StoreBuilder<Types, Filled, Surrounded, ()> for Builder {
    async fn build(&self) -> Result<((), Filled, Surrounded), StorageError> {
        let random = Arc::new(Seeded::new(1, "suite"));
        let disk: Arc<dyn Disk> = Arc::new(SimDisk::new(random.clone()));
        let limits = Limits::format_1();
        let opened = Snapshots::open(disk.clone(), Path::new("snapshots"), limits);
        let (snapshots, _) = opened.expect("an empty disk");
        let mut settings = Settings::new("log", 0);
        settings.segment_bytes = 1 << 20;
        settings.frame_bytes = 64 << 10;
        let log = Log::open(settings, disk, random, &Threads).expect("an empty disk");
        let pacing = Arc::new(Pacing::default());
        let opening = Arc::new(Opening::at(None));
        let state = State::new(limits);
        let around = Around {
            hub: Hub::new(state.revision(), HubLimits::default()),
            waiters: Waiters::new(BootNonce(1), &limits),
            snapshots: snapshots.clone(),
            pacing: pacing.clone(),
            opening: opening.clone(),
            observer: Default::default(),
            spawner: Arc::new(Threads),
        };
        let machine = Machine::new(state, None, around).expect("no meta");
        let store = LogStore::new(log.clone(), pacing, opening, Default::default());
        let of_log = snapshots.clone();
        let store = Filled {
            store,
            log,
            snapshots: of_log,
        };
        Ok(((), store, Surrounded { machine, snapshots }))
    }
}

#[test]
fn openrafts_suite() {
    Suite::test_all(Builder).expect("every test of it");
}
