//! How many entries are under way, and what is in them.

use tokio::time::{Duration, sleep};

use super::ENTRIES_IN_FLIGHT;
use crate::entry::Op;
use crate::state::{Fate, Outcome};
use crate::test_cluster::{Fabric, Member, cluster};
use crate::waiters::Told;

fn ms(time: u64) -> Duration {
    Duration::from_millis(time)
}

fn last(member: &Member) -> u64 {
    member.core.last().expect("entries").index
}

#[tokio::test(start_paused = true)]
async fn two_entries_are_under_way_and_what_waits_is_the_third() {
    let fabric = Fabric::default();
    let members = cluster(&fabric, &[0]).await;
    let member = &members[0];
    sleep(ms(2_000)).await;
    let before = last(member);
    member.disk.set_sync_time(ms(500), ms(500));
    let puts = (0..40).map(|number| async move {
        sleep(ms(5 * number)).await;
        let key = format!("key/{number}");
        member.put(&key, false, ms(5_000)).await
    });
    let looks = async {
        sleep(ms(300)).await;
        assert_eq!(member.queue.lengths().0, 40, "none is answered");
        let most = before + ENTRIES_IN_FLIGHT as u64;
        assert!(last(member) <= most, "{} after {before}", last(member));
    };
    let (puts, ()) = tokio::join!(futures_util::future::join_all(puts), looks);
    for put in puts {
        put.expect("written");
    }
    assert_eq!(last(member), before + 3, "all that waited in one entry");
}

#[tokio::test(start_paused = true)]
async fn what_waits_while_a_forward_is_under_way_is_the_next_forward() {
    let fabric = Fabric::default();
    let members = cluster(&fabric, &[0, 0, 0]).await;
    sleep(ms(2_000)).await;
    let (before, last_before) = (fabric.forwards(), last(&members[1]));
    let puts = (0..40).map(|number| {
        let key = format!("key/{number}");
        let follows = &members[1];
        async move { follows.put(&key, false, ms(5_000)).await }
    });
    for put in futures_util::future::join_all(puts).await {
        put.expect("written");
    }
    let (forwards, entries) = (fabric.forwards() - before, last(&members[1]) - last_before);
    assert!(forwards <= 2, "{forwards} forwards of 40 puts");
    assert!(entries <= 2, "{entries} entries");
}

#[tokio::test(start_paused = true)]
async fn what_was_sent_before_a_refusal_may_have_been_taken() {
    let fabric = Fabric::default();
    let members = cluster(&fabric, &[0, 0, 0]).await;
    sleep(ms(2_000)).await;
    let follows = &members[1];
    assert!(!follows.core.is_leading());
    fabric.refuse_forwards();
    let mut ticket = follows.waiters.begin(1).expect("a place");
    let place = follows.queue.push(ticket.id, Op::Nop).expect("a place");
    // Tried again and again meanwhile.
    sleep(ms(1_000)).await;
    assert!(place.leave(), "the leader had it");
    let told = ticket.fate().await;
    assert_eq!(told, Some(Told::Fate(Fate::Known(Outcome::Nop))));
}
