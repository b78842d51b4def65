//! Scripts of how a cluster begins: many that may found it, and a record that misbehaves.

use std::time::Duration;

use raft_store::founding::NOBODY;
use tokio::time::sleep;

use super::super::client::Client;
use super::super::model::Number;
use super::super::record::RecordFaults;
use super::super::world::World;
use super::{SOON, Script, seeds};

script!(many_found_over_a_faulty_record, 6, 16);

/// They begin together; the others when the record forgets.
const FIRST: Number = 4;
/// The leader looks at the record each minute.
const KEPT: Duration = Duration::from_secs(100);

impl World {
    /// The record is late, loses replies, shows what was, or is away.
    fn record_faults(&self, away: bool) {
        let faults = RecordFaults {
            lost: [0, 2, 3, 5][self.draw(4) as usize],
            stale: [0, 2, 4][self.draw(3) as usize],
            late_ms: [10, 100, 1500][self.draw(3) as usize],
            away,
        };
        self.trace.note(format_args!("the record: {faults:?}"));
        self.record.set_faults(faults);
    }

    /// Ends a process that may be about to found, and starts it again.
    async fn dies_and_comes_back(&self, number: Number) {
        self.kill(number, self.chance(2, 3)).await;
        self.draw_ms(1500).await;
        self.up_again(number).await;
    }

    /// A run of it is registered.
    fn is_in(&self, number: Number) -> bool {
        let up = self.up(number);
        up.is_some_and(|up| up.store.incarnation().is_some())
    }

    /// No process belongs to another cluster than the others, and nobody complains of the record.
    fn belong_together(&self) -> bool {
        let Some(row) = self.record.row().filter(|row| row.founder == NOBODY) else {
            return false;
        };
        (0..self.count()).all(|number| {
            let is = self.up(number).map(|up| up.store.belonging());
            is.is_some_and(|is| {
                is.cluster == Some(row.uuid) && is.other.is_none() && is.waiting.is_none()
            })
        })
    }
}

mod run {
    use super::*;

    /// A second cluster would call its first entries what those of the first are called, which the model sees at once.
    pub async fn many_found_over_a_faulty_record(world: &World) {
        world.tune(|_, settings| settings.may_found = true);
        world.record_faults(false);
        let apart_ms = [1, 1, 30, 300][world.draw(4) as usize];
        for number in 0..FIRST {
            world.up_again(number).await;
            world.draw_ms(apart_ms).await;
        }
        // The roads are as bad as the record: whoever asks around finds nobody at times.
        for _ in 0..8 {
            world.draw_ms(1500).await;
            let (one, other) = (world.draw(FIRST as u64), world.draw(FIRST as u64));
            let (one, other) = (one as usize, other as usize);
            match world.draw(5) {
                0 => world.record_faults(true),
                1 => world.record_faults(false),
                2 if one != other => world.network.cut(world.id(one), world.id(other)),
                _ => world.dies_and_comes_back(one).await,
            }
        }
        world.network.heal_all();
        // It still misbehaves, but answers more often than not: founding takes two answers in a row.
        world.record.set_faults(RecordFaults {
            lost: 5,
            stale: 4,
            late_ms: 100,
            away: false,
        });
        for number in 0..FIRST {
            world.up_again(number).await;
        }
        let formed = || (0..FIRST).all(|number| world.is_in(number));
        world.must("the first are in", 2 * SOON, formed).await;
        // It forgets, and somebody answers: who comes then must not found.
        let row = world.record.row();
        world.record.put(None);
        for number in FIRST..world.count() {
            world.up_again(number).await;
        }
        for _ in 0..3 {
            world.draw_ms(2000).await;
            let number = FIRST + world.draw((world.count() - FIRST) as u64) as usize;
            world.dies_and_comes_back(number).await;
        }
        if world.record.row().is_none() && world.chance(1, 2) {
            world.record.put(row);
        }
        sleep(Duration::from_secs(2)).await;
        world.record.set_faults(RecordFaults::default());
        let all = 0..world.count();
        world.rests("one cluster of all", 3, all.clone()).await;
        let together = || world.belong_together();
        world.must("they belong together", KEPT, together).await;
        for number in 0..3 {
            tokio::spawn(Client::new(world, number, 100).run());
        }
        world.goes_on(all).await;
    }
}
