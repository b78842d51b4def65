//! A watcher beside each process: what it is told over its scan must be the scan that can be made now.

use std::collections::BTreeMap;

use bytes::Bytes;
use raft_store::gate::Tasks;
use raft_store::ids::{Incarnation, Revision};
use raft_store::state::Item;
use raft_store::watch::{Event, Watch};
use raft_store::{Error, Store};
use tokio::time::{Duration, sleep};

use super::model::Number;
use super::world::{Running, World};

/// All keys of the clients.
const PREFIX: &[u8] = b"key/";
/// More than there are.
const MANY: usize = 10_000;

/// What is known of a key: its revision, its value, its owner, and whether that one is dead.
type Known = (Revision, Bytes, Option<Incarnation>, bool);
type Seen = BTreeMap<Bytes, Known>;

fn scan(store: &Store) -> Result<(Seen, Revision), Error> {
    let (items, at) = store.scan(PREFIX, None, MANY)?;
    let known = |item: Item| {
        let versioned = item.versioned;
        let (owner, orphaned) = (versioned.owner, versioned.orphaned);
        (
            item.key,
            (versioned.revision, versioned.value, owner, orphaned),
        )
    };
    Ok((items.into_iter().map(known).collect(), at))
}

struct Watcher {
    world: World,
    number: Number,
    store: Store,
    seen: Seen,
    at: Revision,
}

/// Watches inside the process, until it ends.
pub fn spawn(world: &World, number: Number, up: &Running) {
    let (world, store) = (world.clone(), up.store.clone());
    Tasks::gated(up.gate.clone()).spawn(async move {
        let (seen, at) = loop {
            match scan(&store) {
                Ok(found) => break found,
                Err(Error::Closed) => return,
                Err(_) => sleep(Duration::from_millis(20)).await,
            }
        };
        let Ok(watch) = store.watch(PREFIX, Some(at)) else {
            return;
        };
        let watcher = Watcher {
            world,
            number,
            store,
            seen,
            at,
        };
        watcher.run(watch).await;
    });
}

impl Watcher {
    async fn run(mut self, mut watch: Watch) {
        while let Some(event) = watch.next().await {
            let mut next = Some(event);
            while let Some(event) = next {
                let resync = matches!(event, Event::Resync { .. });
                let told = self.tell(event);
                if let Err(what) = told {
                    let number = self.number;
                    self.world
                        .trace
                        .violated(format!("a watch at {number}: {what}"));
                    return;
                }
                if resync {
                    let Ok((seen, at)) = scan(&self.store) else {
                        return;
                    };
                    (self.seen, self.at) = (seen, at);
                    watch.resume(at);
                }
                next = watch.try_next();
            }
            // Nothing waits, and nothing has come since: this is one poll.
            if let Ok((now, at)) = scan(&self.store)
                && now != self.seen
            {
                let (number, seen) = (self.number, &self.seen);
                self.world.trace.violated(format!(
                    "a watch at {number} has {seen:?} at revision {at}, a scan {now:?}"
                ));
                return;
            }
        }
    }

    fn tell(&mut self, event: Event) -> Result<(), String> {
        self.world.history.lock().counts.watched += 1;
        let rises = |at: Revision, by: Revision| match by >= at {
            true => Ok(()),
            false => Err(format!("revision {by} after {at}")),
        };
        match event {
            Event::Put {
                key,
                value,
                revision,
                owner,
            } => {
                let there = self.world.model.lock().at(&key, revision);
                if there != Some((revision, value.clone())) {
                    return Err(format!(
                        "{key:?} put at {revision}: {value:?}, not {there:?}"
                    ));
                }
                self.seen.insert(key, (revision, value, owner, false));
                // Behind an install, puts come by the revisions that they had.
                self.at = self.at.max(revision);
                Ok(())
            }
            Event::Removed { key, revision } => {
                rises(self.at, revision)?;
                self.at = revision;
                match self.seen.remove(&key) {
                    Some(_) => Ok(()),
                    None => Err(format!(
                        "{key:?}, which is not there, removed at {revision}"
                    )),
                }
            }
            Event::Orphaned { owner, revision } => {
                rises(self.at, revision)?;
                self.at = revision;
                let all = self.seen.values_mut();
                all.filter(|known| known.2 == Some(owner))
                    .for_each(|known| known.3 = true);
                Ok(())
            }
            Event::Resync { at } => {
                self.world.history.lock().counts.resyncs += 1;
                rises(self.at, at)
            }
        }
    }
}
