//! While a majority of the voters hear each other, something is committed at least every four seconds: looked at all the
//! time, whatever else goes wrong. Somebody of the majority always has something to write.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use raft_store::Expect;
use raft_store::gate::Tasks;
use tokio::time::{Instant, sleep};

use super::model::{Model, Number};
use super::world::World;

/// Longest time without a commit.
const GAP: Duration = Duration::from_secs(4);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);
/// Between two writes that somebody is asked for, and their deadline.
const WRITE: Duration = Duration::from_millis(250);
const DEADLINE: Duration = Duration::from_millis(500);

/// Members, a bit each.
type Group = u32;

/// What has been done to a member and to its roads so far: while it is the same, nothing was.
pub type Disturbed = u64;

fn members(group: Group) -> impl Iterator<Item = Number> {
    (0..Group::BITS as usize).filter(move |number| group & (1 << number) != 0)
}

/// See the module's documentation.
#[derive(Default)]
struct Gaps {
    /// Majorities that hear each other: since when, and what had been done to them by then.
    since: BTreeMap<Group, (Instant, Disturbed)>,
    /// Of these members at these numbers of memberships.
    majorities: (Vec<u64>, (usize, usize), Vec<Group>),
    longest: Duration,
}

impl World {
    /// Complains when nothing is committed for too long although it could be.
    pub async fn watch_gaps(self) {
        let mut gaps = Gaps::default();
        let mut turn = 0u64;
        while self.trace.violation().is_none() {
            sleep(LOOK).await;
            gaps.look(&self);
            turn += 1;
            if u128::from(turn) % (WRITE.as_millis() / LOOK.as_millis()) == 0 {
                gaps.write(&self, turn);
            }
        }
    }

    /// Runs, and nothing is wrong with its process or its disk: how often something was.
    fn is_well(&self, number: Number) -> Option<Disturbed> {
        if self.up(number).is_none() || self.should_end(number) {
            return None;
        }
        let members = self.members.lock();
        let member = &members[number];
        (!member.ill).then_some(member.disturbed)
    }

    /// How often something went wrong among these, if nothing does now.
    fn is_whole(&self, group: Group) -> Option<Disturbed> {
        let mut sum = 0;
        for one in members(group) {
            sum += self.is_well(one)?;
            for other in members(group).filter(|other| *other != one) {
                sum += self.network.faults(self.id(one), self.id(other))?;
            }
        }
        Some(sum)
    }
}

/// Majorities of everything that may decide now, nobody in them that is not needed.
fn majorities(model: &Model, ids: &[u64]) -> Vec<Group> {
    let deciding: Vec<_> = model.deciding().collect();
    let is_quorum = |group: &Group| {
        let has = |id: u64| members(*group).any(|number| ids[number] == id);
        deciding.iter().all(|membership| membership.is_quorum(has))
    };
    let least = |group: &Group| {
        let mut less = members(*group).map(|number| group & !(1 << number));
        !less.any(|less| is_quorum(&less))
    };
    let all = (1..1 << ids.len()).filter(|_| !deciding.is_empty());
    all.filter(is_quorum).filter(least).collect()
}

impl Gaps {
    fn majorities(&mut self, world: &World) -> Vec<Group> {
        let ids: Vec<u64> = (0..world.count())
            .map(|number| world.id(number).0)
            .collect();
        let model = world.model.lock();
        let at = model.memberships_seen();
        if self.majorities.0 != ids || self.majorities.1 != at {
            let all = majorities(&model, &ids);
            self.majorities = (ids, at, all);
        }
        self.majorities.2.clone()
    }

    fn look(&mut self, world: &World) {
        let now = Instant::now();
        let whole = self.majorities(world).into_iter();
        let whole = whole.filter_map(|group| Some((group, world.is_whole(group)?)));
        let since = whole.map(|(group, disturbed)| match self.since.get(&group) {
            Some((since, before)) if *before == disturbed => (group, (*since, disturbed)),
            _ => (group, (now, disturbed)),
        });
        self.since = since.collect();
        let committed = world.model.lock().committed_at;
        let gap = |since: &Instant| now - committed.max(*since);
        let Some((group, gap)) = self
            .since
            .iter()
            .map(|(group, (since, _))| (*group, gap(since)))
            .max_by_key(|(_, gap)| *gap)
        else {
            return;
        };
        if gap > self.longest {
            self.longest = gap;
            world.model.lock().longest_gap = gap;
        }
        if gap > GAP {
            let group: Vec<_> = members(group).collect();
            world.trace.violated(format!(
                "nothing is committed for {gap:?}, while {group:?} hear each other"
            ));
        }
    }

    /// Somebody of a majority has something to write.
    fn write(&self, world: &World, turn: u64) {
        let groups: Vec<_> = self.since.keys().copied().collect();
        let Some(group) = groups.get(turn as usize % groups.len().max(1)) else {
            return;
        };
        let able: Vec<_> = members(*group).collect();
        let Some(up) = world.up(able[turn as usize / 5 % able.len()]) else {
            return;
        };
        let value: Bytes = format!("gap.{turn}").into();
        Tasks::gated(up.gate.clone()).spawn(async move {
            let deadline = Instant::now() + DEADLINE;
            let put = up.store.put_if(b"gap", value, Expect::Any, None, deadline);
            // Whatever it is answered: what counts is that something is committed.
            let _ = put.await;
        });
    }
}
