//! Scripts of disks without space: who leads has some, as long as anybody has.

use std::time::Duration;

use raft_store::gate::Tasks;
use tokio::time::{Instant, sleep};

use super::super::model::Number;
use super::super::world::World;
use super::{SOON, Script, seeds};

script!(a_leader_without_space_gives_way, 3, 6);
script!(a_cluster_without_space_is_read, 3, 4);

impl World {
    /// No file of a member grows any more.
    fn fill(&self, number: Number) {
        let member = &mut self.members.lock()[number];
        member.ill = true;
        member.disk.set_capacity_bytes(0);
    }

    fn space_comes_back(&self, number: Number) {
        let member = &mut self.members.lock()[number];
        member.ill = false;
        member.disk.set_capacity_bytes(u64::MAX);
    }

    /// A linearizable read of a member is served.
    async fn reads(&self, number: Number) {
        let up = self.up(number).expect("it runs");
        let until = Instant::now() + SOON;
        let reading = async move { up.store.read_barrier(until).await };
        let gate = self.up(number).expect("it runs").gate;
        let read = Tasks::gated(gate).spawn(reading).await;
        if !matches!(read, Ok(Ok(_))) {
            self.trace.violated(format!("{number} reads: {read:?}"));
        }
    }

    /// Whether nothing is committed for a while.
    async fn rests_for(&self, time: Duration) -> bool {
        let before = self.model.lock().committed_at;
        sleep(time).await;
        self.model.lock().committed_at == before
    }
}

mod run {
    use super::*;

    /// Nothing stops meanwhile: that is looked at all the time.
    pub async fn a_leader_without_space_gives_way(world: &World) {
        world.tune(|_, settings| settings.segment_bytes = 32 << 10);
        world.cluster(3).await;
        world.draw_ms(5_000).await;
        let mut full = Vec::new();
        for _ in 0..2 {
            let (leader, _) = world.leads().expect("somebody leads");
            world.fill(leader);
            full.push(leader);
            let another = || world.leads().is_some_and(|(number, _)| number != leader);
            world.must("another leads", SOON, another).await;
            world.commits().await;
        }
        // The third, who alone has space, leads on when the others take nothing more.
        let (last, _) = world.leads().expect("somebody leads");
        if full.contains(&last) {
            world.trace.violated(format!("{last} leads without space"));
        }
        let until = Instant::now() + SOON;
        while !world.rests_for(Duration::from_secs(5)).await && Instant::now() < until {}
        world.reads(last).await;
        full.into_iter()
            .for_each(|number| world.space_comes_back(number));
        world.goes_on(0..3).await;
    }

    /// Nothing can be written; the members hold their leases and are read, also when the leader is another one.
    pub async fn a_cluster_without_space_is_read(world: &World) {
        world.tune(|_, settings| settings.segment_bytes = 32 << 10);
        world.cluster(3).await;
        (0..3).for_each(|number| world.fill(number));
        // Those who have lost an election to one with space use what is left of theirs.
        for _ in 0..3 {
            let until = Instant::now() + SOON;
            while !world.rests_for(Duration::from_secs(5)).await && Instant::now() < until {}
            let (leader, _) = world.leads().expect("somebody leads");
            let before = world.model.lock().committed.len();
            world.kill(leader, false).await;
            sleep(Duration::from_secs(4)).await;
            let (next, _) = world.leads().expect("another leads");
            world.reads(next).await;
            if world.model.lock().committed.len() <= before {
                world
                    .trace
                    .violated("a new leader has begun nothing".into());
            }
            world.up_again(leader).await;
        }
        (0..3).for_each(|number| world.space_comes_back(number));
        world.keep().await;
        world.goes_on(0..3).await;
    }
}
