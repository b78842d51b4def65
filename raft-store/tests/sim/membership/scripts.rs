//! The scripts.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::super::world::World;
use super::{SOON, Script, seeds};

script!(one_three_five_three, 8, 3);
script!(every_first_member_is_replaced, 6, 4);
script!(a_lost_voter_is_replaced, 4, 6);
script!(a_leader_killed_in_a_change, 4, 12);
script!(joins_during_leader_changes, 6, 6);
script!(a_learner_behind_is_no_voter, 4, 4);
script!(a_wiped_disk_is_another_member, 3, 4);
script!(churn_faster_than_clean_up, 7, 2);
script!(a_removed_member_changes_no_term, 4, 6);
script!(a_black_hole_during_a_change, 4, 6);
script!(the_format_rises_with_the_last, 4, 3);

mod run {
    use super::*;

    pub async fn one_three_five_three(world: &World) {
        // Ten minutes in production.
        world.tune(|_, settings| settings.rules.few = Duration::from_secs(60));
        world.cluster(1).await;
        world.up_again(1).await;
        world.rests("two members are one voter", 1, 0..2).await;
        world.up_again(2).await;
        world.voters("three", 0..3).await;
        for number in 3..8 {
            world.up_again(number).await;
        }
        world.rests("eight members", 5, 0..8).await;
        // Three others go.
        let voters = world.voters_now().remove(0);
        for number in (0..8).filter(|number| !voters.contains(number)) {
            world.kill(number, false).await;
        }
        sleep(Duration::from_secs(55)).await;
        if world.voters_now() != [voters] {
            world.trace.violated("not a minute yet".into());
        }
        world.rests("five are too few for five", 3, 0..8).await;
        for number in 0..8 {
            world.up_again(number).await;
        }
        world.rests("eight again", 5, 0..8).await;
        world.goes_on(0..8).await;
    }

    pub async fn every_first_member_is_replaced(world: &World) {
        world.cluster(3).await;
        for number in 3..6 {
            world.up_again(number).await;
        }
        world.rests("six members", 3, 0..6).await;
        for number in 0..3 {
            // Whoever asks, the leaving one too.
            match [number, 3, 4][world.draw(3) as usize] {
                by if by == number => world.leaves(number),
                by => world.removes(by, number).await,
            }
            world.ends(number, "removed").await;
        }
        world.voters("the last three", 3..6).await;
        world.goes_on(3..6).await;
    }

    pub async fn a_lost_voter_is_replaced(world: &World) {
        world.cluster(4).await;
        let voters = world.voters_now().remove(0);
        let lost = *voters.iter().nth(world.draw(3) as usize).expect("three");
        let power = world.chance(1, 2);
        world.kill(lost, power).await;
        let others = (0..4).filter(|number| *number != lost);
        world.voters("another has its place", others.clone()).await;
        world.up_again(lost).await;
        sleep(Duration::from_secs(30)).await;
        world.voters("it keeps it", others).await;
        world.goes_on(0..4).await;
    }

    pub async fn a_leader_killed_in_a_change(world: &World) {
        world.cluster(4).await;
        let (leader, _) = world.leads().expect("somebody leads");
        let voters = world.voters_now().remove(0);
        let lost = voters.into_iter().find(|number| *number != leader);
        let lost = lost.expect("three voters");
        world.kill(lost, false).await;
        let when = world.draw(3);
        if when == 2 {
            world.answers_come_late(leader, 250);
        }
        let wants = || world.wants("change to the voters") || world.voters_now().len() > 1;
        world.must("a change", SOON, wants).await;
        let joint = || world.model.lock().is_joint();
        match when {
            // Anywhere between before its first entry and behind its last.
            0 => world.draw_ms(150).await,
            // Its first entry is there, its last perhaps not.
            1 => {
                world.wait(Duration::from_secs(2), joint).await;
                world.draw_ms(20).await;
            }
            // The others have its first entry, and nobody has its last.
            _ => {
                world.wait(Duration::from_secs(2), joint).await;
                sleep(Duration::from_millis(100)).await;
            }
        }
        let leader = world.leader();
        let joint = world.voters_now().len();
        world.trace.note(format_args!("the leader goes, {joint}"));
        if let Some(leader) = leader {
            world.kill(leader, world.chance(1, 2)).await;
            world.draw_ms(20_000).await;
            world.answers_come_late(leader, 0);
            world.up_again(leader).await;
        }
        world.up_again(lost).await;
        world.commits().await;
        world.rests("all are in", 3, 0..4).await;
        world.goes_on(0..4).await;
    }

    pub async fn joins_during_leader_changes(world: &World) {
        world.cluster(3).await;
        for number in 3..6 {
            world.up_again(number).await;
            world.draw_ms(3000).await;
            if let Some(leader) = world.leader() {
                world.kill(leader, false).await;
                world.draw_ms(3000).await;
                world.up_again(leader).await;
            }
            world.draw_ms(2000).await;
        }
        world.rests("all are in", 3, 0..6).await;
        world.goes_on(0..6).await;
    }

    pub async fn a_learner_behind_is_no_voter(world: &World) {
        world.cluster(4).await;
        let voters = world.voters_now().remove(0);
        let learner = (0..4).find(|number| !voters.contains(number)).expect("one");
        // It hears nothing any more, but is up.
        let others: Vec<_> = voters.iter().map(|number| world.id(*number)).collect();
        world.network.cut_groups(&[world.id(learner)], &others);
        sleep(Duration::from_secs(5)).await;
        let lost = *voters.iter().nth(world.draw(3) as usize).expect("three");
        world.kill(lost, false).await;
        sleep(Duration::from_secs(45)).await;
        if world.voters_now() != [voters.clone()] {
            world.trace.violated("a learner behind is a voter".into());
        }
        world.network.heal_all();
        // Its run was declared dead meanwhile: whoever keeps the daemon running starts another.
        world.kill(learner, false).await;
        world.up_again(learner).await;
        let others = (0..4).filter(|number| *number != lost);
        world.voters("it has caught up", others.clone()).await;
        world.goes_on(others).await;
    }

    pub async fn a_wiped_disk_is_another_member(world: &World) {
        world.cluster(3).await;
        let wiped = world.draw(3) as usize;
        let before = world.id(wiped);
        world.wipe(wiped).await;
        world.draw_ms(20_000).await;
        world.up_again(wiped).await;
        world.voters("the new one votes", 0..3).await;
        if let Some((leader, _)) = world.leads() {
            let store = world.up(leader).expect("it leads").store;
            let deadline = Instant::now() + SOON;
            let up = world.up(leader).expect("it leads");
            let removing = async move { store.remove(before, deadline).await };
            let told = raft_store::gate::Tasks::gated(up.gate)
                .spawn(removing)
                .await;
            if !matches!(told, Ok(Ok(()))) {
                world.trace.violated(format!("its old id: {told:?}"));
            }
        }
        world.rests("its old id is gone", 3, 0..3).await;
        world.goes_on(0..3).await;
    }

    pub async fn churn_faster_than_clean_up(world: &World) {
        world.tune(|_, settings| {
            settings.rules.dead_kept = 2;
            settings.rules.remove_dead_least = Duration::from_secs(20);
            // Longer than a wiped member counts as answering, or eight would be seen where seven are.
            settings.rules.steady = Duration::from_secs(5);
        });
        world.cluster(3).await;
        for turn in 0..12 {
            let number = 3 + turn % 4;
            world.wipe(number).await;
            world.up_again(number).await;
            world.draw_ms(8000).await;
        }
        let few = || {
            let status = world.leads().and_then(|(_, store)| store.status().ok());
            status.is_some_and(|status| status.members.len() <= 9 && status.removed >= 1)
        };
        world.must("the dead are removed", SOON, few).await;
        world.rests("the last ones are in", 3, 0..7).await;
        world.goes_on(0..7).await;
    }

    pub async fn a_removed_member_changes_no_term(world: &World) {
        world.cluster(4).await;
        let removed = world.draw(4) as usize;
        let by = (removed + 1) % 4;
        // It hears nothing of its removal.
        let others: Vec<_> = (0..4).filter(|number| *number != removed).collect();
        let ids: Vec<_> = others.iter().map(|number| world.id(*number)).collect();
        world.network.cut_groups(&[world.id(removed)], &ids);
        sleep(Duration::from_secs(4)).await;
        world.removes(by, removed).await;
        world.voters("the others", others.clone()).await;
        sleep(Duration::from_secs(5)).await;
        let term = world.model.lock().term;
        world.network.heal_all();
        world.ends(removed, "removed").await;
        // It comes back, and is told again.
        world.up_again(removed).await;
        world.ends(removed, "removed").await;
        if world.model.lock().term != term {
            world.trace.violated("it has changed the term".into());
        }
        world.goes_on(others).await;
    }

    pub async fn a_black_hole_during_a_change(world: &World) {
        world.cluster(4).await;
        let (leader, _) = world.leads().expect("somebody leads");
        let voters = world.voters_now().remove(0);
        let mut others = voters.into_iter().filter(|number| *number != leader);
        let (lost, mute) = (others.next().expect("three"), others.next().expect("three"));
        world.kill(lost, false).await;
        let wants = || world.wants("change to the voters");
        world.must("a change", SOON, wants).await;
        world.draw_ms(50).await;
        // What the leader sends to one voter vanishes; it does not see streams end.
        let (one, other) = (world.id(leader), world.id(mute));
        world.network.black_hole(one, other);
        sleep(Duration::from_secs(20)).await;
        world.network.heal_all();
        world.up_again(lost).await;
        world.rests("all are in", 3, 0..4).await;
        world.goes_on(0..4).await;
    }

    pub async fn the_format_rises_with_the_last(world: &World) {
        world.cluster(3).await;
        world.tune(|_, settings| settings.limits.format_known = 2);
        let format = || {
            let status = world.leads().and_then(|(_, store)| store.status().ok());
            status.map_or(0, |status| status.cluster_format)
        };
        for number in 0..3 {
            if format() == 2 {
                world.trace.violated("raised before all read it".into());
            }
            world.kill(number, false).await;
            world.up_again(number).await;
            let ready = || {
                world
                    .up(number)
                    .is_some_and(|up| up.store.incarnation().is_some())
            };
            world.must("it is back", SOON, ready).await;
            sleep(Duration::from_secs(5)).await;
            // Those that are still to come, says a build that reads the new one.
            let status = world.up(number).and_then(|up| up.store.status().ok());
            let held_back_by = status.map(|status| status.format_held_back_by);
            let mut others: Vec<_> = (number + 1..3).map(|other| world.id(other)).collect();
            others.sort();
            if held_back_by.as_ref() != Some(&others) {
                world
                    .trace
                    .violated(format!("{held_back_by:?} instead of {others:?}"));
            }
        }
        world.must("the format rises", SOON, || format() == 2).await;
        // An older build cannot join.
        world.tune(|_, _| {});
        world.up_again(3).await;
        world.ends(3, "format is 2; this build reads 1 to 1").await;
        world.goes_on(0..3).await;
    }
}
