//! Watches of a prefix: what follows a scan, event by event, or `Resync`; never silence.
//!
//! The hub is told each entry's events after the state that readers see has them, so a watcher that is told `Resync{at}`
//! finds at least revision `at` when it scans.

use crate::ids::{Incarnation, Revision};
use crate::limits::{RECENT_EVENTS_BYTES, WATCH_BACKLOG_BYTES, WATCHES};
use crate::state::map::{Change, difference};
use crate::state::{self, State};
use bytes::Bytes;
use parking_lot::Mutex;
use queue::{Queue, Ring};
use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

mod queue;

/// Why there is no watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("there are {limit} watches already")]
    TooMany { limit: usize },
    #[error("the store is closed")]
    Closed,
}

/// What a watcher is told. Revisions never fall.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// `revision` is the key's from now on; `owner`: the run that owns it.
    Put {
        key: Bytes,
        value: Bytes,
        revision: Revision,
        owner: Option<Incarnation>,
    },
    /// By a caller, or since its owner is dead. After an installed snapshot `revision` is that of the new state.
    Removed { key: Bytes, revision: Revision },
    /// All keys owned by `owner`, whatever their prefix, read as orphaned from here on.
    Orphaned {
        owner: Incarnation,
        revision: Revision,
    },
    /// Something was missed. Nothing more comes until [`Watch::resume`] behind a new scan.
    Resync { at: Revision },
}

/// Limits of a hub.
#[derive(Clone, Copy, Debug)]
pub struct HubLimits {
    /// Watches at one time.
    pub watches: usize,
    /// Of events that wait for one watcher: keys, values, and 64 for each.
    pub backlog_bytes: usize,
    /// Of recent events, in the same bytes, for watches that begin at an older revision.
    pub recent_bytes: usize,
}

impl Default for HubLimits {
    fn default() -> Self {
        Self {
            watches: WATCHES,
            backlog_bytes: WATCH_BACKLOG_BYTES,
            recent_bytes: RECENT_EVENTS_BYTES,
        }
    }
}

/// Recent events and all watchers.
#[derive(Clone)]
pub struct Hub(Arc<Mutex<Inner>>);

struct Inner {
    limits: HubLimits,
    ring: Ring,
    /// Watchers by prefix.
    watchers: BTreeMap<Bytes, Vec<Arc<Mutex<Queue>>>>,
    /// How many prefixes have each length: an event looks up its key's beginnings of these lengths alone.
    lengths: BTreeMap<usize, usize>,
    count: usize,
    closed: bool,
}

/// One watcher. Dropping it ends the watch.
pub struct Watch {
    hub: Hub,
    queue: Arc<Mutex<Queue>>,
}

/// What a snapshot installed over `old` changed, as events up to `new`'s revision; `None` above `limit` changes, or
/// when `new` is no later state. Changes between the two that were undone again are not told.
pub fn installed(old: &State, new: &State, limit: usize) -> Option<Vec<state::Event>> {
    let at = new.revision();
    if at < old.revision() {
        return None;
    }
    let (mut events, mut gone) = (Vec::new(), Vec::new());
    for change in difference(old.map(), new.map(), limit)? {
        match change {
            Change::Put(record) => events.push(state::Event::Put(record)),
            Change::Removed(key) => gone.push(state::Event::Removed { key, revision: at }),
        }
    }
    events.sort_by_key(state::Event::revision);
    events.append(&mut gone);
    // Dead since: those that lived, and those that came and went and have left keys.
    let lived = old.windows().map(|(owner, _)| owner);
    let ended = lived.filter(|owner| new.window(*owner).is_none());
    let known: BTreeSet<_> = old.orphaned_owners().collect();
    let left = new.orphaned_owners().filter(|owner| !known.contains(owner));
    let dead: BTreeSet<_> = ended.chain(left).collect();
    let orphaned = |owner| state::Event::Orphaned {
        owner,
        revision: at,
    };
    events.extend(dead.into_iter().map(orphaned));
    Some(events)
}

impl Hub {
    /// Without events; `at` is the revision of the state that readers see.
    pub fn new(at: Revision, limits: HubLimits) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            limits,
            ring: Ring::new(at),
            watchers: BTreeMap::new(),
            lengths: BTreeMap::new(),
            count: 0,
            closed: false,
        })))
    }

    /// Tells the events of an entry. A revision left out makes everybody scan again.
    pub fn publish(&self, events: &[state::Event]) {
        let mut wake = Vec::new();
        let mut inner = self.0.lock();
        for event in events {
            if event.revision().0 != inner.ring.last.0 + 1 {
                inner.restart(None, event.revision(), &mut wake);
                continue;
            }
            let limits = inner.limits;
            inner.ring.push(event.clone(), limits.recent_bytes);
            inner.each(event.key(), |queue| {
                queue.push(event, limits.backlog_bytes, &mut wake);
            });
        }
        drop(inner);
        wake.into_iter().for_each(Waker::wake);
    }

    /// Tells what [`installed`] found (`None`: `Resync`), `at` being the revision of the new state.
    pub fn install(&self, events: Option<&[state::Event]>, at: Revision) {
        let mut wake = Vec::new();
        self.0.lock().restart(events, at, &mut wake);
        wake.into_iter().for_each(Waker::wake);
    }

    /// A watch of the keys that begin with `prefix`: all events after the revision `from`, at which the caller scanned, or
    /// after now. `Resync` is the first thing told if some of them are gone.
    pub fn watch(&self, prefix: &[u8], from: Option<Revision>) -> Result<Watch, Error> {
        let mut inner = self.0.lock();
        if inner.closed {
            return Err(Error::Closed);
        }
        let limit = inner.limits.watches;
        if inner.count >= limit {
            return Err(Error::TooMany { limit });
        }
        let prefix = Bytes::copy_from_slice(prefix);
        let mut queue = Queue::new(prefix.clone());
        let from = from.unwrap_or(inner.ring.last);
        inner.replay(&mut queue, from);
        let queue = Arc::new(Mutex::new(queue));
        inner.count += 1;
        if !inner.watchers.contains_key(&prefix) {
            *inner.lengths.entry(prefix.len()).or_default() += 1;
        }
        let row = inner.watchers.entry(prefix).or_default();
        row.push(queue.clone());
        let hub = self.clone();
        Ok(Watch { hub, queue })
    }

    /// Ends all watches, after what waits for them.
    pub fn close(&self) {
        let mut wake = Vec::new();
        let mut inner = self.0.lock();
        inner.closed = true;
        inner.each(None, |queue| {
            queue.closed = true;
            wake.extend(queue.waker.take());
        });
        drop(inner);
        wake.into_iter().for_each(Waker::wake);
    }

    /// Watches that there are.
    pub fn watches(&self) -> usize {
        self.0.lock().count
    }
}

impl Inner {
    /// The watchers that a key concerns; all without one.
    fn each(&self, key: Option<&[u8]>, mut tell: impl FnMut(&mut Queue)) {
        let mut row = |row: &Vec<Arc<Mutex<Queue>>>| {
            row.iter().for_each(|queue| tell(&mut queue.lock()));
        };
        let Some(key) = key else {
            return self.watchers.values().for_each(row);
        };
        for length in self.lengths.keys() {
            let prefix = key.get(..*length);
            if let Some(found) = prefix.and_then(|prefix| self.watchers.get(prefix)) {
                row(found);
            }
        }
    }

    /// Begins the ring anew at `at`, behind a change that is not in it.
    fn restart(&mut self, events: Option<&[state::Event]>, at: Revision, wake: &mut Vec<Waker>) {
        self.ring.restart(at);
        let limit = self.limits.backlog_bytes;
        self.each(None, |queue| match events {
            Some(events) => {
                for event in events {
                    queue.push(event, limit, wake);
                }
                // Its place in the ring is gone with the ring: a backlog given up must lead behind the install.
                queue.resync = queue.resync.map(|waiting| waiting.max(at));
            }
            None => queue.give_up(at, wake),
        });
    }

    fn replay(&self, queue: &mut Queue, from: Revision) {
        queue.after = from;
        let mut nobody = Vec::new();
        match self.ring.after(from) {
            Some(events) => {
                for event in events {
                    queue.push(event, self.limits.backlog_bytes, &mut nobody);
                }
            }
            None => queue.give_up(self.ring.last, &mut nobody),
        }
    }

    fn remove(&mut self, gone: &Arc<Mutex<Queue>>) {
        let prefix = gone.lock().prefix.clone();
        let Some(row) = self.watchers.get_mut(&prefix) else {
            return;
        };
        row.retain(|queue| !Arc::ptr_eq(queue, gone));
        self.count -= 1;
        if !row.is_empty() {
            return;
        }
        self.watchers.remove(&prefix);
        let length = prefix.len();
        let prefixes = self.lengths.get_mut(&length);
        let prefixes = prefixes.expect("each prefix was counted");
        *prefixes -= 1;
        if *prefixes == 0 {
            self.lengths.remove(&length);
        }
    }
}

impl Watch {
    /// The next event; `None` when the store is closed and nothing waits.
    pub async fn next(&mut self) -> Option<Event> {
        poll_fn(|context| self.poll_next(context)).await
    }

    /// As [`Watch::next`].
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Event>> {
        let mut queue = self.queue.lock();
        if let Some(event) = queue.take() {
            return Poll::Ready(Some(event));
        }
        if queue.closed {
            return Poll::Ready(None);
        }
        queue.waker = Some(context.waker().clone());
        Poll::Pending
    }

    /// The next event, if one waits.
    pub fn try_next(&mut self) -> Option<Event> {
        self.queue.lock().take()
    }

    /// Goes on behind a scan at the revision `from`; what still waited is dropped.
    pub fn resume(&mut self, from: Revision) {
        let inner = self.hub.0.lock();
        let mut queue = self.queue.lock();
        queue.begin_anew();
        inner.replay(&mut queue, from);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.hub.0.lock().remove(&self.queue);
    }
}

#[cfg(test)]
mod tests;
