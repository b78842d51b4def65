//! openraft's state machine over [`State`], behind one lock for readers. What apply finds out goes to those who wait for
//! it and to the watches; snapshots are built elsewhere and only handed out here.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use openraft::storage::RaftStateMachine;
use openraft::{AnyError, EntryPayload, OptionalSend, RaftSnapshotBuilder, StorageIOError};
use parking_lot::{Mutex, RwLock, RwLockReadGuard};

use super::log_store::Opening;
use super::pacing::Pacing;
use super::types::{
    Entry, Error, LogId, Snapshot, SnapshotFile, SnapshotMeta, StorageError, StoredMembership,
    Types, decode_meta, encode_meta, to_log_id,
};
use crate::bell::Bell;
use crate::entry::EntryBody;
use crate::limits::DIFFERENCE_CHANGES;
use crate::log;
use crate::membership::Hashes;
use crate::observe::{Observer, Seen};
use crate::snapshot::publish::{Published, Snapshots};
use crate::spawner::{Spawner, free};
use crate::state::{self, Applied, Members, State};
use crate::waiters::Waiters;
use crate::watch::{self, Hub};

/// What readers see.
struct Live {
    state: State,
    applied: Option<LogId>,
    membership: StoredMembership,
    hashes: Hashes,
    /// An apply went wrong in the middle: nobody reads this any more.
    failed: bool,
    /// Of entries, since the start.
    applied_entries: u64,
    applied_bytes: u64,
}

/// What is applied, in numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// The index behind the last entry applied.
    pub(crate) next: u64,
    /// Since the start.
    pub(crate) entries: u64,
    pub(crate) bytes: u64,
    /// Keys now.
    pub(crate) keys: u64,
}

/// Clones are handles to the same.
#[derive(Clone)]
pub(crate) struct Machine(Arc<Shared>);

struct Shared {
    live: RwLock<Live>,
    hub: Hub,
    waiters: Waiters,
    snapshots: Snapshots,
    pacing: Arc<Pacing>,
    opening: Arc<Opening>,
    observer: Observer,
    spawner: Arc<dyn Spawner>,
    applied: Bell,
    known: Mutex<Option<Published>>,
    /// Rung when a row of a member may have changed.
    members: Bell,
}

/// What the machine tells, and where its snapshots are.
pub(super) struct Around {
    pub(super) hub: Hub,
    pub(super) waiters: Waiters,
    pub(super) snapshots: Snapshots,
    pub(super) pacing: Arc<Pacing>,
    pub(super) opening: Arc<Opening>,
    pub(super) observer: Observer,
    pub(super) spawner: Arc<dyn Spawner>,
}

fn bytes_of(entry: &Entry) -> u64 {
    match &entry.payload {
        EntryPayload::Normal(command) => command.logged_bytes() as u64,
        EntryPayload::Blank | EntryPayload::Membership(_) => 1,
    }
}

impl Machine {
    /// `meta` is what lay beside the state in its snapshot.
    pub(super) fn new(state: State, meta: Option<&[u8]>, around: Around) -> Result<Self, Error> {
        let (applied, membership) = meta.map_or(Ok(Default::default()), decode_meta)?;
        let Around {
            hub,
            waiters,
            snapshots,
            pacing,
            opening,
            observer,
            spawner,
        } = around;
        let live = Live {
            state,
            applied,
            membership,
            hashes: Hashes::default(),
            failed: false,
            applied_entries: 0,
            applied_bytes: 0,
        };
        Ok(Self(Arc::new(Shared {
            live: RwLock::new(live),
            hub,
            waiters,
            snapshots,
            pacing,
            opening,
            observer,
            spawner,
            applied: Bell::default(),
            known: Mutex::default(),
            members: Bell::default(),
        })))
    }

    /// The state, if local reads are open.
    pub(crate) fn read(&self) -> Option<impl std::ops::Deref<Target = State>> {
        let live = self.0.live.read();
        let open = live.next() >= self.0.opening.next() && !live.failed;
        open.then(|| RwLockReadGuard::map(live, |live| &live.state))
    }

    /// The last entry applied; `None` also when an apply went wrong.
    pub(crate) fn applied(&self) -> Option<log::LogId> {
        let live = self.0.live.read();
        live.applied.filter(|_| !live.failed).map(to_log_id)
    }

    pub(crate) fn hub(&self) -> &Hub {
        &self.0.hub
    }

    pub(crate) fn progress(&self) -> Progress {
        let live = self.0.live.read();
        Progress {
            next: live.next(),
            entries: live.applied_entries,
            bytes: live.applied_bytes,
            keys: live.state.map().len() as u64,
        }
    }

    /// Waits until the entry at `index` is applied; `false` if that will never be.
    pub(crate) async fn wait_applied(&self, index: u64) -> bool {
        let ready = || {
            let live = self.0.live.read();
            let done = live.next() > index && !live.failed;
            (done || live.failed).then_some(done)
        };
        self.0.applied.wait(ready).await
    }

    /// The state's hash behind an entry, to be compared with others'.
    pub(crate) fn newest_hash(&self) -> Option<(u64, u128)> {
        self.0.live.read().hashes.newest()
    }

    /// The state's hash behind the entry at `index`, if it is among those kept.
    pub(crate) fn hash_at(&self, index: u64) -> Option<u128> {
        self.0.live.read().hashes.at(index)
    }

    /// As if this state were another.
    #[cfg(test)]
    pub(crate) fn plant_other_hashes(&self) {
        self.0.live.write().hashes.plant();
    }

    /// Of the last membership applied.
    pub(crate) fn membership_id(&self) -> Option<log::LogId> {
        self.0.live.read().membership.log_id().map(to_log_id)
    }

    pub(crate) fn cluster_format(&self) -> u16 {
        self.0.live.read().state.cluster_format()
    }

    /// The members' rows, also before local reads are open.
    pub(crate) fn members(&self) -> Arc<Members> {
        self.0.live.read().state.shared_members().clone()
    }

    /// Waits until the rows are others than `known`; `None` when the store has ended.
    pub(crate) async fn wait_members(&self, known: &Arc<Members>) -> Option<Arc<Members>> {
        let ready = || {
            let live = self.0.live.read();
            if live.failed {
                return Some(None);
            }
            let members = live.state.shared_members();
            (!Arc::ptr_eq(members, known)).then(|| Some(members.clone()))
        };
        self.0.members.wait(ready).await
    }

    /// A clone of the state at an entry's end, and what belongs beside it in a snapshot. `None`: nothing is applied, or
    /// all of it is published.
    pub(super) fn capture(&self) -> Result<Option<(State, Vec<u8>)>, Error> {
        let published = self.0.snapshots.published();
        self.copy(published.map(|published| published.index))
    }

    /// A clone of the state at an entry's end behind `after`, and what belongs beside it in a snapshot.
    fn copy(&self, after: Option<u64>) -> Result<Option<(State, Vec<u8>)>, Error> {
        let live = self.0.live.read();
        let applied = live.applied.filter(|_| !live.failed);
        let new = applied.filter(|applied| Some(applied.index) > after);
        let Some(new) = new else {
            return Ok(None);
        };
        let meta = encode_meta(Some(new), &live.membership)?;
        Ok(Some((live.state.clone(), meta)))
    }

    /// What is applied now, for a snapshot file elsewhere. `None`: nothing is, or the store has failed.
    pub(crate) fn to_save(&self) -> Result<Option<(State, Vec<u8>)>, String> {
        self.copy(None).map_err(|error| error.to_string())
    }

    /// Nobody is served any more, and who waits is told so.
    pub(crate) fn close(&self) {
        self.0.live.write().failed = true;
        self.0.snapshots.close();
        self.0.pacing.fail();
        self.0.waiters.close();
        self.0.hub.close();
        self.0.applied.ring();
        self.0.members.ring();
    }

    fn apply_one(&self, entry: &Entry) -> Result<(), String> {
        let index = entry.log_id.index;
        let nothing = EntryBody::default();
        let body = match &entry.payload {
            EntryPayload::Normal(command) => command.body(),
            EntryPayload::Blank | EntryPayload::Membership(_) => &nothing,
        };
        let mut live = self.0.live.write();
        if live.failed {
            return Err("an earlier entry could not be applied".into());
        }
        let applied = catch_unwind(AssertUnwindSafe(|| live.apply(entry, body)));
        let applied = match applied {
            Ok(Ok(applied)) => applied,
            Ok(Err(error)) => {
                live.failed = true;
                return Err(error.to_string());
            }
            Err(_) => {
                live.failed = true;
                return Err(format!("applying entry {index} panicked"));
            }
        };
        let id = to_log_id(entry.log_id);
        self.0.observer.see(|| Seen::Applied {
            id,
            hash: live.state.hash(),
        });
        drop(live);
        self.0.hub.publish(&applied.events);
        self.0.waiters.applied(body, applied);
        self.0.pacing.applied(index);
        self.0.applied.ring();
        if body.close.is_some() {
            self.0.members.ring();
        }
        Ok(())
    }

    fn swap(&self, meta: &SnapshotMeta, state: State) {
        // Only this task changes it, so readers need not wait for the comparison.
        let old = self.0.live.read().state.clone();
        let events = watch::installed(&old, &state, DIFFERENCE_CHANGES);
        let mut live = self.0.live.write();
        live.state = state.clone();
        live.applied = meta.last_log_id;
        live.membership = meta.last_membership.clone();
        drop(live);
        // A million records take tens of milliseconds, and the core may be waiting for this.
        free(&*self.0.spawner, old);
        self.0.hub.install(events.as_deref(), state.revision());
        self.0.waiters.installed(&state);
        if let Some(last) = meta.last_log_id {
            self.0.pacing.applied(last.index);
            let (id, hash) = (to_log_id(last), state.hash());
            self.0.observer.see(|| Seen::Installed { id, hash });
        }
        self.0.applied.ring();
        self.0.members.ring();
    }

    /// The newest published snapshot that openraft knows: one that was received is published before it is installed,
    /// and told of before, openraft would not install it any more.
    pub(super) fn known(&self) -> Option<Published> {
        let newest = self.0.snapshots.published();
        let next = self.0.live.read().next();
        let mut known = self.0.known.lock();
        if let Some(newest) = newest.filter(|newest| newest.index < next) {
            *known = Some(newest);
        }
        known.clone()
    }

    fn current(&self) -> Result<Option<Snapshot>, StorageError> {
        let Some(published) = self.known() else {
            return Ok(None);
        };
        let meta = meta_of(&published)
            .map_err(|error| StorageIOError::read_snapshot(None, AnyError::new(&error)))?;
        let snapshot = Box::default();
        Ok(Some(Snapshot { meta, snapshot }))
    }
}

fn meta_of(published: &Published) -> Result<SnapshotMeta, Error> {
    let (last_log_id, last_membership) = decode_meta(&published.meta)?;
    Ok(SnapshotMeta {
        last_log_id,
        last_membership,
        snapshot_id: published.index.to_string(),
    })
}

impl Live {
    fn next(&self) -> u64 {
        self.applied.map_or(0, |id| id.index + 1)
    }

    fn apply(&mut self, entry: &Entry, body: &EntryBody) -> Result<Applied, state::Error> {
        let index = entry.log_id.index;
        let applied = match &entry.payload {
            EntryPayload::Normal(_) => self.state.apply(index, body)?,
            EntryPayload::Blank => self.state.pass(index).map(|()| Applied::default())?,
            EntryPayload::Membership(membership) => {
                self.state.pass(index)?;
                let at = Some(entry.log_id);
                self.membership = StoredMembership::new(at, membership.clone());
                Applied::default()
            }
        };
        self.applied = Some(entry.log_id);
        self.hashes.applied(index, || self.state.hash());
        self.applied_entries += 1;
        self.applied_bytes += bytes_of(entry);
        Ok(applied)
    }
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), StorageError> {
        let live = self.0.live.read();
        Ok((live.applied, live.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<()>, StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut results = Vec::new();
        for entry in entries {
            if let Err(reason) = self.apply_one(&entry) {
                self.close();
                let error = AnyError::error(reason);
                return Err(StorageIOError::apply(entry.log_id, error).into());
            }
            results.push(());
        }
        Ok(results)
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<SnapshotFile>, StorageError> {
        Ok(Box::default())
    }

    /// Only swaps: the snapshot was read, verified and published before.
    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: Box<SnapshotFile>,
    ) -> Result<(), StorageError> {
        let signature = Some(meta.signature());
        let Some(state) = snapshot.state else {
            let error = AnyError::error("a snapshot without a state");
            return Err(StorageIOError::read_snapshot(signature, error).into());
        };
        let swapped = catch_unwind(AssertUnwindSafe(|| self.swap(meta, state)));
        if swapped.is_err() {
            self.close();
            let error = AnyError::error("installing a snapshot panicked");
            return Err(StorageIOError::read_snapshot(signature, error).into());
        }
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, StorageError> {
        self.current()
    }
}

impl RaftSnapshotBuilder<Types> for Machine {
    /// The one that is published: it was built before openraft was told to build one.
    async fn build_snapshot(&mut self) -> Result<Snapshot, StorageError> {
        self.current()?.ok_or_else(|| {
            let error = AnyError::error("no snapshot is published");
            StorageIOError::read_snapshot(None, error).into()
        })
    }
}
