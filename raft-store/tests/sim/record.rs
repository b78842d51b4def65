//! The founding record that all members share: its replies come late or get lost, it reads stale, it cannot be reached
//! for a while, it forgets its row. Without faults it answers at once.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use raft_store::founding::{Created, Founding, FoundingRecord, RecordError};
use raft_store::ids::ClusterId;
use raft_store::random::{Random, Seeded};
use raft_store::transport::BoxFuture;
use tokio::time::sleep;

/// What goes wrong with one call in how many; 0: nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct RecordFaults {
    /// The reply is lost, before the call took effect or behind it.
    pub lost: u64,
    /// A reading shows an earlier row, or none.
    pub stale: u64,
    /// Longest time to the record, and back, in milliseconds.
    pub late_ms: u64,
    /// Nobody reaches it.
    pub away: bool,
}

/// Clones are handles to the same.
#[derive(Clone)]
pub struct Record(Arc<Shared>);

struct Shared {
    random: Seeded,
    state: Mutex<State>,
}

struct State {
    /// All rows that it ever had, the last one now.
    rows: Vec<Option<Founding>>,
    faults: RecordFaults,
}

impl Record {
    pub fn new(seed: u64) -> Self {
        let state = State {
            rows: vec![None],
            faults: RecordFaults::default(),
        };
        Self(Arc::new(Shared {
            random: Seeded::new(seed, "record"),
            state: Mutex::new(state),
        }))
    }

    /// From here on.
    pub fn set_faults(&self, faults: RecordFaults) {
        self.0.state.lock().faults = faults;
    }

    pub fn row(&self) -> Option<Founding> {
        *self.0.state.lock().rows.last().expect("the first")
    }

    /// Whatever is there now is replaced.
    pub fn put(&self, row: Option<Founding>) {
        self.0.state.lock().rows.push(row);
    }

    fn happens(&self, one_in: u64) -> bool {
        one_in > 0 && self.0.random.below(one_in) == 0
    }

    /// On the way there or back.
    async fn on_the_way(&self) -> Result<(), RecordError> {
        let faults = self.0.state.lock().faults;
        if faults.late_ms > 0 {
            sleep(Duration::from_millis(self.0.random.below(faults.late_ms))).await;
        }
        match self.happens(faults.lost) {
            true => Err(RecordError::Unknown("lost".into())),
            false => Ok(()),
        }
    }

    async fn call<T>(&self, effect: impl FnOnce() -> T) -> Result<T, RecordError> {
        if self.0.state.lock().faults.away {
            return Err(RecordError::Unavailable("away".into()));
        }
        self.on_the_way().await?;
        let result = effect();
        self.on_the_way().await.map(|()| result)
    }
}

impl FoundingRecord for Record {
    fn read(&self) -> BoxFuture<'_, Result<Option<Founding>, RecordError>> {
        Box::pin(self.call(|| {
            let stale = self.happens(self.0.state.lock().faults.stale);
            let rows = &self.0.state.lock().rows;
            match stale {
                true => rows[self.0.random.below(rows.len() as u64) as usize],
                false => rows[rows.len() - 1],
            }
        }))
    }

    fn create(&self, founding: Founding) -> BoxFuture<'_, Result<Created, RecordError>> {
        Box::pin(self.call(move || match self.row() {
            Some(found) => Created::Exists(found),
            None => {
                self.put(Some(founding));
                Created::Yes
            }
        }))
    }

    fn replace(&self, old: ClusterId, new: Founding) -> BoxFuture<'_, Result<bool, RecordError>> {
        Box::pin(self.call(move || {
            let there = self.row().is_some_and(|found| found.uuid == old);
            if there {
                self.put(Some(new));
            }
            there
        }))
    }
}
