//! Scripts of what comes too late, too old, too slowly, or all at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use raft_store::gate::Tasks;
use raft_store::limits::PROPOSALS_IN_FLIGHT;
use raft_store::{Error, Expect};
use tokio::time::{Instant, sleep};

use super::super::world::World;
use super::{SOON, Script, seeds};

script!(a_slow_learner_is_no_voter, 4, 3);
script!(a_leader_stopped_in_a_change, 4, 12);
script!(an_old_backup_is_not_let_in, 4, 4);
script!(a_forward_outlives_its_run, 3, 6);
script!(a_flood_is_told_busy, 3, 1);
script!(a_run_dies_before_its_first_grant, 3, 6);
script!(a_removal_given_up_removes_nobody, 4, 2);

mod run {
    use super::*;

    pub async fn a_slow_learner_is_no_voter(world: &World) {
        world.tune(|_, settings| {
            settings.rules.close_entries = 2;
            settings.rules.close_bytes = 200;
        });
        world.cluster(3).await;
        // It answers, and there is always more than it has.
        let slow = Duration::from_millis(400);
        world.members.lock()[3].disk.set_sync_time(slow, slow);
        world.up_again(3).await;
        world.rests("it learns", 3, 0..4).await;
        let voters = world.voters_now().remove(0);
        let lost = *voters.iter().nth(world.draw(3) as usize).expect("three");
        world.kill(lost, false).await;
        sleep(Duration::from_secs(25)).await;
        if world.voters_now() != [voters] {
            world.trace.violated("a learner behind is a voter".into());
        }
        world.stop_clients();
        world.members.lock()[3]
            .disk
            .set_sync_time(Duration::ZERO, Duration::ZERO);
        let others = (0..4).filter(|number| *number != lost);
        world.voters("it has caught up", others.clone()).await;
        world.goes_on(others).await;
    }

    /// What it had decided when it was stopped is no good any more when it goes on.
    pub async fn a_leader_stopped_in_a_change(world: &World) {
        world.cluster(4).await;
        let (leader, _) = world.leads().expect("somebody leads");
        let voters = world.voters_now().remove(0);
        let lost = voters.into_iter().find(|number| *number != leader);
        let lost = lost.expect("three voters");
        world.kill(lost, false).await;
        let wants = || world.wants("change to the voters") || world.voters_now().len() > 1;
        world.must("a change", SOON, wants).await;
        world.draw_ms(20).await;
        world.pause(leader, true);
        world.draw_ms(500).await;
        for number in (0..4).filter(|number| *number != leader) {
            world.kill(number, false).await;
        }
        sleep(Duration::from_secs(6)).await;
        world.pause(leader, false);
        sleep(Duration::from_secs(3)).await;
        world.keep().await;
        for number in 0..4 {
            world.up_again(number).await;
        }
        world.rests("all are in", 3, 0..4).await;
        world.goes_on(0..4).await;
    }

    pub async fn an_old_backup_is_not_let_in(world: &World) {
        world.cluster(4).await;
        let (leader, _) = world.leads().expect("somebody leads");
        let voters = world.voters_now().remove(0);
        let others: Vec<_> = voters.into_iter().filter(|one| *one != leader).collect();
        let back = others[world.draw(2) as usize];
        let backup = world.backup(back);
        // Time to promise more than it has.
        sleep(Duration::from_secs(2)).await;
        world.draw_ms(20_000).await;
        world.set_back(back, &backup).await;
        world.up_again(back).await;
        let others = (0..4).filter(|number| *number != back);
        world.voters("another has its place", others.clone()).await;
        sleep(Duration::from_secs(20)).await;
        world.voters("it stays out", others.clone()).await;
        world.goes_on(others).await;
    }

    pub async fn a_forward_outlives_its_run(world: &World) {
        world.cluster(3).await;
        let (leader, _) = world.leads().expect("somebody leads");
        let number = (leader + 1 + world.draw(2) as usize) % 3;
        let others: Vec<_> = (0..3).filter(|other| *other != number).collect();
        let ids: Vec<_> = others.iter().map(|other| world.id(*other)).collect();
        let up = world.up(number).expect("nothing has happened yet");
        let run = up.store.incarnation();
        world.network.cut_groups(&[world.id(number)], &ids);
        for call in 0..3 {
            let (store, key) = (up.store.clone(), format!("key/{call}"));
            let deadline = Instant::now() + Duration::from_secs(30);
            Tasks::gated(up.gate.clone()).spawn(async move {
                let value = format!("late.{call}").into();
                store
                    .put_if(key.as_bytes(), value, Expect::Any, None, deadline)
                    .await
            });
        }
        let over = || run.is_some_and(|run| world.model.lock().dead.contains(&run));
        world.must("its run is called dead", SOON, over).await;
        world.draw_ms(2000).await;
        world.network.heal_all();
        sleep(Duration::from_secs(5)).await;
        world.keep().await;
        world.goes_on(0..3).await;
    }

    /// Nobody could take its place while it was asked for; when somebody could, nobody asks any more.
    pub async fn a_removal_given_up_removes_nobody(world: &World) {
        world.cluster(3).await;
        let by = world.draw(3) as usize;
        let id = world.id((by + 1) % 3);
        let up = world.up(by).expect("nothing goes wrong");
        let (store, deadline) = (up.store.clone(), Instant::now() + Duration::from_secs(3));
        let removing = async move { store.remove(id, deadline).await };
        let told = Tasks::gated(up.gate).spawn(removing).await;
        if !matches!(told, Ok(Err(Error::NotRemoved(_)))) {
            world.trace.violated(format!("its removal: {told:?}"));
        }
        sleep(Duration::from_secs(12)).await;
        world.up_again(3).await;
        world.rests("one more learns", 3, 0..4).await;
        sleep(Duration::from_secs(20)).await;
        world.voters("they stay", 0..3).await;
        world.goes_on(0..4).await;
    }

    /// It asks for a lease when it is dead, and learns late that it is.
    pub async fn a_run_dies_before_its_first_grant(world: &World) {
        world.cluster(3).await;
        let (leader, _) = world.leads().expect("somebody leads");
        let number = (leader + 1 + world.draw(2) as usize) % 3;
        let others: Vec<_> = (0..3).filter(|other| *other != number).collect();
        let ids: Vec<_> = others.iter().map(|other| world.id(*other)).collect();
        world.kill(number, false).await;
        let slow = Duration::from_millis(400);
        world.members.lock()[number].disk.set_sync_time(slow, slow);
        world.up_again(number).await;
        let run = || world.up(number).and_then(|up| up.store.incarnation());
        world
            .must("it is registered", SOON, || run().is_some())
            .await;
        world.network.cut_groups(&[world.id(number)], &ids);
        let run = run();
        let over = || run.is_some_and(|run| world.model.lock().dead.contains(&run));
        world.must("its run is called dead", SOON, over).await;
        world.network.heal_all();
        sleep(Duration::from_secs(5)).await;
        world.members.lock()[number]
            .disk
            .set_sync_time(Duration::ZERO, Duration::ZERO);
        world.keep().await;
        world.goes_on(0..3).await;
    }

    pub async fn a_flood_is_told_busy(world: &World) {
        world.tune(|_, settings| settings.segment_bytes = 1 << 20);
        world.cluster(3).await;
        world.most_calls.store(usize::MAX >> 8, Ordering::Relaxed);
        let told = Arc::new(AtomicU64::new(0));
        for number in 0..3 {
            let up = world.up(number).expect("nothing goes wrong");
            for call in 0..PROPOSALS_IN_FLIGHT + 500 {
                let (store, told) = (up.store.clone(), told.clone());
                let deadline = Instant::now() + Duration::from_secs(5);
                Tasks::gated(up.gate.clone()).spawn(async move {
                    let value = format!("flood.{number}.{call}").into();
                    let put = store.put_if(b"flood", value, Expect::Any, None, deadline);
                    if matches!(put.await, Err(Error::Busy)) {
                        told.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        }
        sleep(Duration::from_secs(20)).await;
        if told.load(Ordering::Relaxed) < 3 * 500 {
            world.trace.violated("all of a flood was let in".into());
        }
        world.goes_on(0..3).await;
    }
}
