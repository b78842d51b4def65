//! Faults by seed among three to five members: whatever happens, what was acknowledged is there, nobody ends by itself,
//! nobody is barred, and when all is healed there is progress and one state.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::timeout;

use super::world::{World, pass};
use crate::ids::MemberId;
use crate::random::{Random, Seeded};

struct Chaos {
    world: World,
    random: Seeded,
    count: u64,
    paused: BTreeSet<u64>,
}

impl Chaos {
    async fn new(seed: u64) -> Self {
        let random = Seeded::new(seed, "chaos");
        let count = 3 + 2 * random.below(2);
        let mut world = World::new(seed);
        world.settings.segment_bytes = 4 << 20;
        world.settings.snapshot_check = Duration::from_millis(100);
        if random.below(2) == 0 {
            world.settings.snapshot_log_bytes = 10_000;
            world.settings.log_keep_bytes = 5_000;
        }
        world.set_delay(Duration::from_micros(random.below(10_000)));
        world.begin(count).await;
        world.put(10).await;
        let paused = BTreeSet::new();
        Self {
            world,
            random,
            count,
            paused,
        }
    }

    fn member(&self) -> u64 {
        1 + self.random.below(self.count)
    }

    async fn fault(&mut self) {
        let (one, other) = (self.member(), self.member());
        let runs = self.world.runs(one);
        match self.random.below(12) {
            0 if runs && !self.paused.contains(&one) => self.world.kill(one),
            1 if runs && !self.paused.contains(&one) => self.world.power_cut(one),
            0..=3 if !runs => self.world.start(one).await,
            2 if runs => {
                self.world.member(one).gate.close();
                self.paused.insert(one);
            }
            3 if self.paused.remove(&one) => self.world.member(one).gate.open(),
            4 => self.world.cut_off(one),
            5 if one != other => self.world.cut_one_way(one, other),
            6 if one != other => {
                self.world.cut_one_way(one, other);
                self.world.cut_one_way(other, one);
            }
            7 | 8 => self.world.heal(),
            9 => {
                let most = Duration::from_millis(self.random.below(200));
                self.world.disks[&MemberId(one)].set_sync_time(Duration::ZERO, most);
            }
            10 => {
                let delay = Duration::from_micros(self.random.below(60_000));
                self.world.set_delay(delay);
            }
            _ => {}
        }
    }

    async fn heal(&mut self) {
        self.world.heal();
        self.world.set_delay(Duration::from_millis(1));
        for id in std::mem::take(&mut self.paused) {
            self.world.member(id).gate.open();
        }
        for id in 1..=self.count {
            if !self.world.runs(id) {
                self.world.start(id).await;
            }
            self.world.disks[&MemberId(id)].set_sync_time(Duration::ZERO, Duration::ZERO);
        }
    }

    async fn run(mut self, seed: u64) {
        for _ in 0..5 {
            for _ in 0..20 {
                if self.random.below(2) == 0 {
                    self.fault().await;
                }
                let bytes = 1 << self.random.below(14);
                let limit = Duration::from_millis(100 + self.random.below(1_500));
                // Given up, it is proposed again later.
                let _ = timeout(limit, self.world.put(bytes)).await;
                pass(self.random.below(300)).await;
            }
            self.heal().await;
            let progress = timeout(Duration::from_secs(6), self.world.put(10)).await;
            assert!(progress.is_ok(), "seed {seed}: no progress");
            self.world.settled(Duration::from_secs(10)).await;
            for id in 1..=self.count {
                let barred = self.world.member(id).core.barred();
                assert!(barred.is_empty(), "seed {seed}: {id} has barred {barred:?}");
            }
        }
        let (terms, chunks) = (self.world.terms(), self.world.chunks());
        println!("seed {seed}: terms {terms:?}, chunks {chunks}");
    }
}

#[tokio::test(start_paused = true)]
async fn faults_by_seed() {
    let read = |name: &str| std::env::var(name).ok()?.parse().ok();
    let first = read("CHAOS_FIRST").unwrap_or(0);
    for seed in first..first + read("CHAOS_SEEDS").unwrap_or(20) {
        let chaos = Chaos::new(seed).await;
        let run = tokio::spawn(chaos.run(seed));
        assert!(run.await.is_ok(), "CHAOS_FIRST={seed} CHAOS_SEEDS=1");
    }
}
