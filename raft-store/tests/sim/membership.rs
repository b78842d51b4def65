//! Membership end to end: what is done to a cluster by a script, with clients at work all the time, at times that each
//! seed draws.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use raft_store::Store;
use raft_store::gate::Tasks;
use tokio::time::{Instant, sleep, timeout};

use super::client::Client;
use super::model::Number;
use super::runner;
use super::world::{Shape, World};

/// Wraps an `async fn` of the world.
macro_rules! script {
    ($name:ident, $members:expr, $seeds:expr) => {
        #[test]
        fn $name() {
            let run = |world: World| -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> {
                Box::pin(async move { run::$name(&world).await })
            };
            let (name, members) = (stringify!($name), $members);
            seeds(&Script { name, members, run }, $seeds);
        }
    };
}

mod founding;
mod scripts;
mod space;
mod stopped;
mod zones;

/// A membership comes about within this time: ten seconds of steadiness, elections, a second of luck.
const SOON: Duration = Duration::from_secs(60);

/// A script, and how many members it has.
pub struct Script {
    pub name: &'static str,
    pub members: usize,
    pub run: fn(World) -> Pin<Box<dyn Future<Output = ()> + Send>>,
}

fn shape(members: usize, world: u64) -> Shape {
    let draw = |at: u64, of: &[u64]| of[(world / at) as usize % of.len()];
    Shape {
        members,
        snapshot_entries: draw(1, &[50, 20, 1_000_000]),
        keep_entries: draw(3, &[0, 30]),
        keep_bytes: draw(2, &[1 << 20, 500]),
        segment_bytes: draw(2, &[1 << 20, 64 << 10]),
        watch_bytes: draw(2, &[2000, 1 << 20]) as usize,
        sync_ms: (0, draw(2, &[1, 5, 20])),
        latency_ms: (1, draw(5, &[2, 10, 40])),
        talk: false,
    }
}

/// Runs it with seeds from 1 to `count`, or `SEEDS` from `FIRST` on; panics with the first that fails.
pub fn seeds(script: &Script, count: u64) {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
    let first = number("FIRST").unwrap_or(1);
    for seed in first..first + number("SEEDS").unwrap_or(count) {
        let (ran, panicked) = runner::alone(one(script, seed));
        let panicked = panicked.map_or(Ok(()), |what| Err((what, String::new())));
        if let Err((what, tail)) = ran.and(panicked) {
            println!("{tail}");
            let name = script.name;
            panic!(
                "{name}: seed {seed}: {what}\n  FIRST={seed} SEEDS=1 cargo test -p raft-store --test sim -- {name}"
            );
        }
    }
}

async fn one(script: &Script, seed: u64) -> Result<(), (String, String)> {
    let world = World::new(seed, shape(script.members, seed));
    world.look();
    let run = timeout(Duration::from_secs(3 * 3600), (script.run)(world.clone()));
    if run.await.is_err() {
        world.trace.violated("the script does not end".into());
    }
    world.stop_clients();
    for number in 0..world.count() {
        world.kill(number, false).await;
    }
    match world.trace.violation() {
        Some(what) => Err((what, world.trace.tail())),
        None => Ok(()),
    }
}

impl World {
    /// Members 0 to `count`, one after the other; then clients.
    pub async fn cluster(&self, count: usize) {
        for number in 0..count {
            self.up_again(number).await;
            let alone = || {
                self.up(0)
                    .is_some_and(|up| up.store.incarnation().is_some())
            };
            self.must("the founder is ready", SOON, alone).await;
        }
        let wanted = match count {
            0..=2 => 1,
            3..=7 => 3,
            _ => 5,
        };
        self.rests("all are in", wanted, 0..count).await;
        // What the leader tells next is no longer what has just been done.
        let rests = || self.wants("nothing to do");
        self.must("the leader rests", SOON, rests).await;
        for number in 0..3 {
            tokio::spawn(Client::new(self, number, 100).run());
        }
    }

    /// Waits for something that must come.
    pub async fn must(&self, what: &str, limit: Duration, holds: impl FnMut() -> bool) {
        if !self.wait(limit, holds).await {
            let (voters, learners) = self.model.lock().composition();
            let status = self.leads().and_then(|(_, store)| store.status().ok());
            let next = status.as_ref().and_then(|status| status.next_step.clone());
            for member in status.into_iter().flat_map(|status| status.members) {
                self.trace.note(format_args!("{member:?}"));
            }
            self.trace.violated(format!("not so after {limit:?}: {what}; voters {voters:?}, learners {learners:?}, next {next:?}"));
        }
    }

    /// Waits until so many of `all`, and no others, are the voters, all others learners.
    pub async fn rests(&self, what: &str, count: usize, all: impl IntoIterator<Item = Number>) {
        let all: BTreeSet<Number> = all.into_iter().collect();
        let rests = || {
            let (voters, learners) = self.model.lock().composition();
            let [voters] = &voters[..] else {
                return false;
            };
            voters.len() == count && voters.union(&learners).copied().eq(all.iter().copied())
        };
        self.must(what, SOON, rests).await;
    }

    /// Waits until exactly these are the voters.
    pub async fn voters(&self, what: &str, wanted: impl IntoIterator<Item = Number>) {
        let wanted: BTreeSet<Number> = wanted.into_iter().collect();
        let are = || self.model.lock().composition().0 == [wanted.clone()];
        self.must(what, SOON, are).await;
    }

    pub fn voters_now(&self) -> Vec<BTreeSet<Number>> {
        self.model.lock().composition().0
    }

    pub fn leads(&self) -> Option<(Number, Store)> {
        let number = self.leader()?;
        Some((number, self.up(number)?.store))
    }

    /// What the leader wants to do next begins so.
    pub fn wants(&self, step: &str) -> bool {
        let status = self.leads().and_then(|(_, store)| store.status().ok());
        let next = status.and_then(|status| status.next_step);
        next.is_some_and(|next| next.starts_with(step))
    }

    /// Removes a member, asking `by`.
    pub async fn removes(&self, by: Number, member: Number) {
        let (Some(up), id) = (self.up(by), self.id(member)) else {
            self.trace.violated(format!("{by} is not up"));
            return;
        };
        let deadline = Instant::now() + SOON;
        let store = up.store.clone();
        let removing = async move { store.remove(id, deadline).await };
        let told = Tasks::gated(up.gate).spawn(removing).await;
        match told {
            Ok(Ok(())) => self.trace.note(format_args!("{member} is removed")),
            told => self
                .trace
                .violated(format!("{by} removes {member}: {told:?}")),
        }
    }

    /// A member begins to leave. It may end before it hears that it is done.
    pub fn leaves(&self, member: Number) {
        let Some(up) = self.up(member) else {
            return;
        };
        let store = up.store.clone();
        Tasks::gated(up.gate).spawn(async move { store.leave(Instant::now() + SOON).await });
    }

    /// The process of a member ends by itself, for a reason that says so.
    pub async fn ends(&self, number: Number, why: &str) {
        let Some(up) = self.up(number) else {
            return;
        };
        let ends = || {
            up.fatal
                .lock()
                .as_ref()
                .is_some_and(|reason| reason.contains(why))
        };
        self.must(&format!("{number} ends: {why}"), SOON, ends)
            .await;
        self.kill(number, false).await;
    }

    /// Commits go on: what is looked at behind them is no longer what was before a fault.
    pub async fn commits(&self) {
        let before = self.model.lock().committed.len();
        let more = || self.model.lock().committed.len() > before + 10;
        self.must("commits go on", SOON, more).await;
    }

    /// Commits go on, and all of these come to have everything.
    pub async fn goes_on(&self, with: impl IntoIterator<Item = Number>) {
        let with: Vec<Number> = with.into_iter().collect();
        self.commits().await;
        self.stop_clients();
        sleep(Duration::from_secs(2)).await;
        let even = || {
            let model = self.model.lock();
            let last = model.committed.last_key_value().map(|(index, _)| *index);
            with.iter().all(|number| model.applied(*number) == last)
        };
        self.must("all have everything", SOON, even).await;
    }

    /// What others say to a member takes so long, in milliseconds; what it says to them does not.
    pub fn answers_come_late(&self, member: Number, late: u64) {
        let late = Duration::from_millis(late);
        for other in (0..self.count()).filter(|other| *other != member) {
            let (from, to) = (self.id(other), self.id(member));
            self.network.set_latency_of(from, to, late, late);
        }
    }

    pub async fn draw_ms(&self, most: u64) {
        sleep(Duration::from_millis(self.draw(most))).await;
    }
}
