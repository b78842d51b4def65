//! Scripts of zones: where voters are, as the rows of the members say.

use std::collections::BTreeMap;

use super::super::model::Number;
use super::super::world::World;
use super::{SOON, Script, seeds};

script!(voters_end_spread_over_zones, 8, 4);

/// By number: the first three are together, so that three voters must move apart, and five as well as they can.
const ZONES: [&str; 8] = ["a", "a", "a", "b", "c", "b", "c", "a"];

impl World {
    /// So many voters at rest, and no zone with more than one more of them than another has.
    async fn spread(&self, what: &str, count: usize) {
        let spread = || {
            let voters = self.voters_now();
            let [voters] = &voters[..] else {
                return false;
            };
            let mut of: BTreeMap<&str, usize> = BTreeMap::from([("a", 0), ("b", 0), ("c", 0)]);
            for number in voters {
                *of.entry(ZONES[*number]).or_default() += 1;
            }
            let most = of.values().max().copied().unwrap_or(0);
            let least = of.values().min().copied().unwrap_or(0);
            voters.len() == count && most - least <= 1
        };
        self.must(what, SOON, spread).await;
    }

    fn voter_of(&self, zone: &str) -> Option<Number> {
        let voters = self.voters_now().pop()?;
        voters.into_iter().find(|number| ZONES[*number] == zone)
    }
}

mod run {
    use super::*;

    pub async fn voters_end_spread_over_zones(world: &World) {
        world.tune(|number, settings| settings.info.zone = ZONES[number].to_owned());
        world.cluster(3).await;
        for number in 3..6 {
            world.up_again(number).await;
            world.draw_ms(3000).await;
        }
        world.rests("six members", 3, 0..6).await;
        world.spread("three voters in three zones", 3).await;
        // Another of its zone takes the place of one that is lost.
        let Some(lost) = world.voter_of("b") else {
            return world.trace.violated("nobody of zone b votes".into());
        };
        world.kill(lost, world.chance(1, 2)).await;
        let of_b = || world.voter_of("b").is_some_and(|number| number != lost);
        world.must("the other of its zone votes", SOON, of_b).await;
        world.spread("three voters in three zones again", 3).await;
        world.up_again(lost).await;
        for number in 6..8 {
            world.up_again(number).await;
        }
        world.rests("eight members", 5, 0..8).await;
        world.spread("five voters in three zones", 5).await;
        world.goes_on(0..8).await;
    }
}
