//! While all that run hear each other, nobody loses its lease: not when a leader is killed or stopped either, if that
//! happens once in the time of a lease.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use raft_store::Lease;
use tokio::time::{Instant, sleep};

use super::gaps::Disturbed;
use super::model::Number;
use super::world::World;

/// What was granted before is over behind so much.
const LEASE: Duration = Duration::from_secs(7);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);

/// Faults so far of the roads between those that run.
type Roads = BTreeMap<(Number, Number), u64>;

/// What was seen, and when it was another last.
struct Calm {
    roads: Roads,
    /// Of those that run.
    members: BTreeMap<Number, (Instant, Disturbed)>,
    /// Lives whose lease was lost while something was wrong, or soon after.
    forgiven: BTreeSet<(Number, u64)>,
    /// The last two times that somebody ended or was stopped, the later one first; or a road was not well.
    shocks: [Instant; 2],
}

impl World {
    /// Complains when somebody loses its lease for no reason.
    pub async fn watch_losses(self) {
        let now = Instant::now();
        let mut calm = Calm {
            roads: BTreeMap::new(),
            members: BTreeMap::new(),
            forgiven: BTreeSet::new(),
            shocks: [now; 2],
        };
        while self.trace.violation().is_none() {
            sleep(LOOK).await;
            calm.look(&self);
        }
    }

    /// Lives that have lost their lease.
    fn lost(&self) -> BTreeSet<(Number, u64)> {
        let all = (0..self.count()).filter_map(|number| Some((number, self.up(number)?)));
        let lost = all.filter(|(_, up)| up.store.lease().state() == Lease::Lost);
        lost.map(|(number, up)| (number, up.life)).collect()
    }

    /// Nobody has taken it out.
    fn is_member(&self, number: Number) -> bool {
        let (voters, others) = self.model.lock().composition();
        others.contains(&number) || voters.iter().any(|voters| voters.contains(&number))
    }

    /// Its store has not failed, and its disk is well.
    fn is_sound(&self, number: Number) -> Option<Disturbed> {
        if self.up(number)?.fatal.lock().is_some() {
            return None;
        }
        let member = &self.members.lock()[number];
        (!member.ill).then_some(member.disturbed)
    }

    /// All that run, if they are a majority and nothing is wrong with any of them or with the roads between them.
    fn all_well(&self) -> Option<(BTreeMap<Number, Disturbed>, Roads)> {
        let all = (0..self.count()).filter(|number| self.up(*number).is_some());
        let members = all.map(|number| Some((number, self.is_sound(number)?)));
        let members: BTreeMap<Number, Disturbed> = members.collect::<Option<_>>()?;
        let ids: BTreeSet<u64> = members.keys().map(|number| self.id(*number).0).collect();
        let quorum = {
            let model = self.model.lock();
            let mut deciding = model.deciding();
            deciding.all(|membership| membership.is_quorum(|voter| ids.contains(&voter)))
        };
        if !quorum {
            return None;
        }
        let pairs = members.keys().flat_map(|from| {
            let others = members.keys().filter(move |to| *to != from);
            others.map(move |to| (*from, *to))
        });
        let faults = pairs.map(|(from, to)| {
            let faults = self.network.faults(self.id(from), self.id(to))?;
            Some(((from, to), faults))
        });
        let roads = faults.collect::<Option<_>>()?;
        Some((members, roads))
    }
}

impl Calm {
    fn look(&mut self, world: &World) {
        let lost = world.lost();
        let of_long = self.for_long(world);
        for (number, life) in &lost {
            let before = self.forgiven.contains(&(*number, *life));
            if !before && of_long.contains(number) && world.is_member(*number) {
                world.trace.violated(format!(
                    "{number} has lost its lease, and all that run hear each other"
                ));
            }
        }
        self.forgiven = lost;
    }

    /// Those to whom nothing has happened for the time of a lease, nor much to anybody else.
    fn for_long(&mut self, world: &World) -> BTreeSet<Number> {
        let now = Instant::now();
        let Some((members, roads)) = world.all_well() else {
            self.shocks = [now; 2];
            self.members.clear();
            return BTreeSet::new();
        };
        let is_other = |(road, faults): (&(Number, Number), &u64)| {
            let before = self.roads.get(road);
            before.is_some_and(|before| before != faults)
        };
        if roads.iter().any(is_other) {
            self.shocks = [now; 2];
        }
        self.roads = roads;
        if self
            .members
            .keys()
            .any(|known| !members.contains_key(known))
        {
            self.shocks = [now, self.shocks[0]];
        }
        let before = std::mem::take(&mut self.members);
        for (number, disturbed) in members {
            let since = match before.get(&number) {
                Some((since, then)) if *then == disturbed => *since,
                _ => now,
            };
            self.members.insert(number, (since, disturbed));
        }
        if now - self.shocks[1] < LEASE {
            return BTreeSet::new();
        }
        let all = self.members.iter();
        let of_long = all.filter(|(_, (since, _))| now - *since >= LEASE);
        of_long.map(|(number, _)| *number).collect()
    }
}
