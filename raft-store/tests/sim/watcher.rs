//! Watchers beside each process: each event that there was is told, in order, but for what came with a snapshot; and what
//! is told over a scan is the scan that can be made now. One reads at once; another takes its time and begins its watch
//! long behind its scan, so that it meets backlogs and rings that were given up.

use std::collections::BTreeMap;

use bytes::Bytes;
use raft_store::gate::Tasks;
use raft_store::ids::{Incarnation, Revision};
use raft_store::random::{Random, Seeded};
use raft_store::state::{self, Item};
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
    /// Of one that takes its time.
    slow: Option<Seeded>,
}

/// Two watch inside the process, until it ends.
pub fn spawn(world: &World, number: Number, up: &Running) {
    for slow in [false, true] {
        let stream = format!("watcher/{number}/{}", up.life);
        let watcher = Watcher {
            world: world.clone(),
            number,
            store: up.store.clone(),
            seen: Seen::default(),
            at: Revision(0),
            slow: slow.then(|| Seeded::new(world.seed, &stream)),
        };
        Tasks::gated(up.gate.clone()).spawn(watcher.run());
    }
}

impl Watcher {
    async fn run(mut self) {
        while self.watch().await.is_some() {}
    }

    /// For slow ones: mostly nothing, sometimes seconds.
    async fn rest(&self, one_of: u64) {
        if let Some(random) = &self.slow
            && random.below(one_of) == 0
        {
            sleep(Duration::from_millis(random.below(3000))).await;
        }
    }

    /// Watches for a while; `None`: the store is closed, or something was wrong.
    async fn watch(&mut self) -> Option<()> {
        (self.seen, self.at) = loop {
            match scan(&self.store) {
                Ok(found) => break found,
                Err(Error::Closed) => return None,
                Err(_) => sleep(Duration::from_millis(20)).await,
            }
        };
        self.rest(2).await;
        let mut watch = self.store.watch(PREFIX, Some(self.at)).ok()?;
        loop {
            self.rest(8).await;
            let mut next = Some(watch.next().await?);
            while let Some(event) = next {
                self.take(event, &mut watch)?;
                next = watch.try_next();
            }
            // Nothing waits, and nothing has come since: this is one poll.
            self.compare()?;
            if self
                .slow
                .as_ref()
                .is_some_and(|random| random.below(16) == 0)
            {
                return Some(());
            }
        }
    }

    fn violated(&self, what: &str) {
        let (trace, number) = (&self.world.trace, self.number);
        trace.violated(format!("a watch at {number}: {what}"));
    }

    fn take(&mut self, event: Event, watch: &mut Watch) -> Option<()> {
        let resync = match event {
            Event::Resync { at } => Some(at),
            _ => None,
        };
        if let Err(what) = self.tell(event) {
            self.violated(&what);
            return None;
        }
        let Some(least) = resync else {
            return Some(());
        };
        let (seen, at) = scan(&self.store).ok()?;
        if at < least {
            self.violated(&format!("told to scan at {least}, and a scan is at {at}"));
        }
        (self.seen, self.at) = (seen, at);
        watch.resume(at);
        Some(())
    }

    fn compare(&self) -> Option<()> {
        if let Ok((now, at)) = scan(&self.store)
            && now != self.seen
        {
            let seen = &self.seen;
            self.violated(&format!("{seen:?} at revision {at}, a scan has {now:?}"));
            return None;
        }
        Some(())
    }

    /// Takes an event into account; `Err`: it should not have come, or not now.
    fn tell(&mut self, event: Event) -> Result<(), String> {
        let counts = &mut self.world.history.lock().counts;
        counts.watched += 1;
        let at = match &event {
            Event::Put { revision, .. }
            | Event::Removed { revision, .. }
            | Event::Orphaned { revision, .. } => *revision,
            Event::Resync { at } => {
                counts.resyncs += 1;
                return self.rises(*at);
            }
        };
        let model = self.world.model.lock();
        self.rises(at)?;
        model.told_all(self.number, PREFIX, (self.at, at))?;
        if !model.installed(self.number, at) && !is(&event, model.event_at(at)) {
            let there = model.event_at(at);
            return Err(format!("{event:?}, where {there:?} is"));
        }
        drop(model);
        self.at = at;
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
            }
            Event::Removed { key, revision } => {
                self.seen
                    .remove(&key)
                    .ok_or_else(|| format!("{key:?}, which is not there, removed at {revision}"))?;
            }
            Event::Orphaned { owner, .. } => {
                let all = self.seen.values_mut();
                all.filter(|known| known.2 == Some(owner))
                    .for_each(|known| known.3 = true);
            }
            Event::Resync { .. } => {}
        }
        Ok(())
    }

    fn rises(&self, at: Revision) -> Result<(), String> {
        match at >= self.at {
            true => Ok(()),
            false => Err(format!("revision {at} after {}", self.at)),
        }
    }
}

/// Whether what is told is what happened.
fn is(told: &Event, happened: Option<&state::Event>) -> bool {
    match (told, happened) {
        (Event::Put { key, revision, .. }, Some(state::Event::Put(record))) => {
            record.key() == key && record.revision() == *revision
        }
        (Event::Removed { key, .. }, Some(state::Event::Removed { key: gone, .. })) => key == gone,
        (Event::Orphaned { owner, .. }, Some(state::Event::Orphaned { owner: dead, .. })) => {
            owner == dead
        }
        _ => false,
    }
}
