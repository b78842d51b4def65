//! XEP-0012 §4: when an account was last here, written beside the way, so that no end of a session waits for it.

use std::collections::HashMap;
use std::sync::Arc;

use eider_storage::{AccountId, Fence, LastActivity, Storage};
use futures_util::stream::{self, StreamExt as _};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::clock;

/// Accounts whose last activity waits to be written.
const WAITING_MAX: usize = 20_000;
/// Writes under way at once: the engines write together what waits together.
const WRITES_AT_ONCE: usize = 8;
/// Of the status text this much is kept.
const STATUS_MAX_BYTES: usize = 1_024;

/// Writes the newest of each account.
pub struct LastActivities {
    shared: Arc<Shared>,
    storage: Arc<dyn Storage>,
    started: std::sync::Once,
}

#[derive(Default)]
struct Shared {
    waiting: Mutex<HashMap<AccountId, LastActivity>>,
    more: Notify,
}

impl LastActivities {
    /// Into this database.
    pub fn new(storage: Arc<dyn Storage>) -> LastActivities {
        LastActivities {
            shared: Arc::default(),
            storage,
            started: std::sync::Once::new(),
        }
    }

    /// The account is not available any more; the last thing it said of itself.
    pub fn note(&self, account: AccountId, mut status: String) {
        let end = status.floor_char_boundary(STATUS_MAX_BYTES);
        status.truncate(end);
        let at = clock::timestamp();
        let mut waiting = self.shared.waiting.lock();
        if waiting.len() >= WAITING_MAX && !waiting.contains_key(&account) {
            return;
        }
        waiting.insert(account, LastActivity { at, status });
        drop(waiting);
        self.shared.more.notify_one();
        self.started.call_once(|| {
            let (shared, storage) = (Arc::downgrade(&self.shared), self.storage.clone());
            tokio::spawn(async move {
                while let Some(shared) = shared.upgrade() {
                    write_all(&shared, &*storage).await;
                }
            });
        });
    }
}

impl LastActivities {
    /// What is not written yet.
    pub fn waiting(&self, account: AccountId) -> Option<LastActivity> {
        self.shared.waiting.lock().get(&account).cloned()
    }
}

impl Drop for LastActivities {
    fn drop(&mut self) {
        self.shared.more.notify_one();
    }
}

async fn write_all(shared: &Shared, storage: &dyn Storage) {
    shared.more.notified().await;
    let waiting = shared.waiting.lock().clone();
    let writing = stream::iter(waiting).for_each_concurrent(WRITES_AT_ONCE, async |(id, last)| {
        let written = storage.account_set_last_activity(Fence::single(), id, &last);
        if let Err(error) = written.await {
            tracing::warn!(%error, "the last activity of an account is not written");
        }
        // It is looked up here until it can be looked up there.
        let mut waiting = shared.waiting.lock();
        if waiting.get(&id) == Some(&last) {
            waiting.remove(&id);
        }
    });
    writing.await;
}
