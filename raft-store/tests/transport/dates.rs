//! Dates among members: tolerated, refused, renewed.

use std::io::ErrorKind;

use raft_store::transport::Transport;

use crate::member::{Cluster, DAY, Member, TODAY, eventually};

#[tokio::test]
async fn dates_wrong_by_less_than_thirty_days_are_accepted_and_counted() {
    let cluster = Cluster::found("founder").await;
    let member = cluster.member("member").await;
    // A certificate is from a day before to 90 days after it was made.
    for days in [-30, 89, 119] {
        let (one, other) = at(&cluster, &member, days).await;
        one.talk(&other).await;
        other.talk(&one).await;
        let tolerated = one.port.counters().dates_tolerated;
        assert_eq!(tolerated > 0, days != 89, "{days}");
        assert_eq!(one.port.counters().dates_refused, 0);
    }
}

#[tokio::test]
async fn dates_wrong_by_more_are_refused_on_both_sides() {
    let cluster = Cluster::found("founder").await;
    let member = cluster.member("member").await;
    // One of them has the right date: it is refused by the other, and would refuse nobody itself.
    for days in [-32, 121] {
        let (one, other) = at(&cluster, &member, 0).await;
        other.date.add_days(days);
        one.is_refused_by(&other).await;
        assert!(other.port.counters().dates_refused > 0, "{days}");
        assert_eq!(one.port.counters().dates_refused, 0, "{days}");
    }
}

#[tokio::test]
async fn a_certificate_that_is_too_old_is_asked_for_again_with_the_secret() {
    let cluster = Cluster::found("founder").await;
    let member = cluster.member("member").await;
    let (disk, date, ends) = (member.disk.clone(), member.date.clone(), ends(&member));
    drop(member);
    // It was off for long; the founder has renewed its own meanwhile.
    for _ in 0..5 {
        cluster.founder.date.add_days(30);
        date.add_days(30);
        let now = TODAY;
        eventually(|| self::ends(&cluster.founder) > now).await;
        let due = cluster.founder.date.clone();
        eventually(|| {
            use raft_store::clock::WallClock;
            self::ends(&cluster.founder) > due.unix_seconds() + 60 * DAY
        })
        .await;
    }
    let without = Member::open(disk.clone(), date.clone(), &[]).await;
    assert!(without.connect(&cluster.founder).await.is_err());
    drop(without);
    let secrets = [cluster.secret.clone()];
    let again = Member::open(disk, date, &secrets).await;
    again.talk(&cluster.founder).await;
    assert_eq!(self::ends(&again), ends + 150 * DAY);
    assert_eq!(cluster.map.keys(), 2, "over its own key");
}

#[tokio::test]
async fn certificates_are_renewed_at_a_third_without_a_restart() {
    let cluster = Cluster::found("founder").await;
    let member = cluster.member("member").await;
    let mut open = member.talk(&cluster.founder).await;
    cluster.map.set_addresses(vec![
        "127.0.0.1:1".into(),
        cluster.founder.address(),
        member.address(),
    ]);
    let members = [&member, &cluster.founder];
    let first = members.map(ends);
    for member in members {
        member.date.add_days(28);
    }
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    assert_eq!(members.map(ends), first, "not due yet");
    for member in members {
        member.date.add_days(2);
    }
    eventually(|| members.map(ends) == first.map(|ends| ends + 30 * DAY)).await;
    // Open streams stay, new ones show the new certificate.
    crate::member::exchange(&mut open).await;
    for member in members {
        member.date.add_days(85);
    }
    cluster.founder.talk(&member).await;
    let (disk, date) = (member.disk.clone(), member.date.clone());
    drop(member);
    disk.power_cut();
    let again = Member::open(disk, date, &[]).await;
    assert!(ends(&again) >= first[0] + 30 * DAY);
}

#[tokio::test]
async fn a_joiner_whose_clock_is_wrong_is_told_so() {
    let cluster = Cluster::found("founder").await;
    let joiner = cluster.stranger("joiner").await;
    joiner.date.add_days(-40);
    let error = joiner.port.connect(&cluster.founder.address()).await.err();
    let error = error.expect("refused");
    assert!(
        error.to_string().contains("clock or certificate"),
        "{error}"
    );
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    joiner.date.add_days(40);
    joiner.talk(&cluster.founder).await;
}

fn ends(member: &Member) -> i64 {
    member.port.certificate_ends().expect("a certificate")
}

/// The two members started again, without upkeep, with clocks `days` further.
async fn at(cluster: &Cluster, member: &Member, days: i64) -> (Member, Member) {
    let open = async |member: &Member| {
        let date = crate::member::Date::new(TODAY);
        date.add_days(days);
        let disk = std::sync::Arc::new(member.disk.copy());
        Member::open(disk, date, &[]).await
    };
    (open(&cluster.founder).await, open(member).await)
}
