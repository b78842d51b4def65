//! The join secret, ids and keys.

use std::io::ErrorKind;

use raft_store::random::SystemRandom;
use raft_store::transport::{JoinSecret, Transport};

use crate::member::{Cluster, Date, Member, TODAY, disk, eventually, with_the_same_id};

#[tokio::test]
async fn who_knows_the_secret_becomes_a_member_and_stays_one() {
    let cluster = Cluster::found("founder").await;
    let joiner = cluster.stranger("joiner").await;
    assert!(!joiner.port.has_certificate());
    joiner.talk(&cluster.founder).await;
    assert!(joiner.port.has_certificate());
    assert_eq!(cluster.map.keys(), 2);
    // Started again it needs neither the secret nor anybody's signature.
    let (disk, date, member) = (
        joiner.disk.clone(),
        joiner.date.clone(),
        joiner.port.member(),
    );
    drop(joiner);
    disk.power_cut();
    let again = Member::open(disk, date, &[]).await;
    assert_eq!(again.port.member(), member);
    again.talk(&cluster.founder).await;
    cluster.founder.talk(&again).await;
    assert_eq!(cluster.map.keys(), 2);
}

#[tokio::test]
async fn the_founder_keeps_its_authority_over_a_kill_before_the_store_has_it() {
    let secret = [JoinSecret::mint(&SystemRandom)];
    let founder = Member::open(disk("founder"), Date::new(TODAY), &secret).await;
    founder.port.found(false).await.expect("founded");
    let (disk, date) = (founder.disk.clone(), founder.date.clone());
    drop(founder);
    disk.power_cut();
    let founder = Member::open(disk, date, &secret).await;
    founder.port.found(false).await.expect("founded before");
    let map = std::sync::Arc::new(crate::member::Map::default());
    founder.port.attach(map.clone());
    eventually(|| map.sealed().is_some() && map.keys() == 1).await;
    let joiner = Member::open(crate::member::disk("joiner"), Date::new(TODAY), &secret).await;
    joiner.talk(&founder).await;
}

#[tokio::test]
async fn who_does_not_answer_holds_up_nobody_else() {
    let cluster = Cluster::found("founder").await;
    let joiner = cluster.stranger("joiner").await;
    // The system there accepts connections, and nobody takes them.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = silent.local_addr().expect("bound").to_string();
    let mut first = std::pin::pin!(joiner.port.connect(&address));
    let moment = std::time::Duration::from_millis(200);
    let begun = tokio::time::timeout(moment, &mut first).await;
    assert!(begun.is_err(), "it hangs");
    let limit = std::time::Duration::from_secs(8);
    let connected = tokio::time::timeout(limit, joiner.connect(&cluster.founder)).await;
    connected.expect("in time").expect("let in");
}

#[tokio::test]
async fn who_founds_has_an_authority_of_its_own() {
    let cluster = Cluster::found("founder").await;
    let member = cluster.stranger("member").await;
    member.talk(&cluster.founder).await;
    // The cluster that it was about to join is lost, and a person lets it found another.
    member.port.found(false).await.expect("founded");
    let map = std::sync::Arc::new(crate::member::Map::default());
    member.port.attach(map.clone());
    eventually(|| map.sealed().is_some() && map.keys() == 1).await;
    let secrets = [cluster.secret.clone()];
    let joiner = Member::open(disk("joiner"), Date::new(TODAY), &secrets).await;
    joiner.talk(&member).await;
    let sealed = map.sealed();
    member.port.found(true).await.expect("it goes on");
    joiner.talk(&member).await;
    assert_eq!(map.sealed(), sealed);
}

#[tokio::test]
async fn another_secret_opens_nothing() {
    let cluster = Cluster::found("founder").await;
    let other = [JoinSecret::mint(&SystemRandom)];
    let stranger = Member::open(disk("stranger"), Date::new(TODAY), &other).await;
    let error = stranger.connect(&cluster.founder).await.err();
    assert_eq!(error.expect("refused").kind(), ErrorKind::PermissionDenied);
    assert_eq!(cluster.founder.port.counters().wrong_secret, 1);
    let without = Member::open(disk("without"), Date::new(TODAY), &[]).await;
    assert!(without.connect(&cluster.founder).await.is_err());
    assert_eq!(cluster.map.keys(), 1);
    assert!(!stranger.port.has_certificate() && !without.port.has_certificate());
}

#[tokio::test]
async fn who_has_no_cluster_says_so() {
    let secret = [JoinSecret::mint(&SystemRandom)];
    let one = Member::open(disk("one"), Date::new(TODAY), &secret).await;
    let other = Member::open(disk("other"), Date::new(TODAY), &secret).await;
    // Also when its store is open already.
    other
        .port
        .attach(std::sync::Arc::new(crate::member::Map::default()));
    for (from, to) in [(&one, &other), (&one, &one)] {
        let error = from.connect(to).await.err().expect("refused");
        assert_eq!(error.kind(), ErrorKind::NotConnected, "{error}");
    }
    let nobody = Member::open(disk("nobody"), Date::new(TODAY), &[]).await;
    assert!(
        nobody.port.found(false).await.is_err(),
        "nothing to seal with"
    );
}

#[tokio::test]
async fn an_id_belongs_to_one_key() {
    let cluster = Cluster::found("founder").await;
    let first = cluster.stranger("first").await;
    let claimed = with_the_same_id(&first.disk);
    let secrets = [cluster.secret.clone()];
    let second = Member::open(claimed, Date::new(TODAY), &secrets).await;
    assert_eq!(first.port.member(), second.port.member());
    // Both at once: one wins, whichever it is.
    let (one, other) = tokio::join!(
        first.connect(&cluster.founder),
        second.connect(&cluster.founder)
    );
    let refused = match (one, other) {
        (Ok(_), Err(error)) | (Err(error), Ok(_)) => error,
        (Ok(_), Ok(_)) => panic!("two members with one id"),
        (Err(one), Err(other)) => panic!("neither was let in: {one}, {other}"),
    };
    assert_eq!(refused.kind(), ErrorKind::PermissionDenied, "{refused}");
    assert_eq!(cluster.map.keys(), 2);
    // Nor later, nor the founder's.
    let claimed = with_the_same_id(&cluster.founder.disk);
    let false_founder = Member::open(claimed, Date::new(TODAY), &secrets).await;
    let error = false_founder.connect(&cluster.founder).await.err();
    assert_eq!(error.expect("refused").kind(), ErrorKind::PermissionDenied);
}

#[tokio::test]
async fn a_removed_id_gets_no_certificate() {
    let cluster = Cluster::found("founder").await;
    let joiner = cluster.stranger("joiner").await;
    cluster.map.remove(joiner.port.member());
    let error = joiner.connect(&cluster.founder).await.err();
    assert_eq!(error.expect("refused").kind(), ErrorKind::PermissionDenied);
}

#[tokio::test]
async fn the_secret_is_rotated_without_a_gap() {
    let cluster = Cluster::found("founder").await;
    let member = cluster.member("member").await;
    let (old, new) = (cluster.secret.clone(), JoinSecret::mint(&SystemRandom));
    let joins = async |name: &str, secret: &JoinSecret, to: &Member| {
        let secrets = std::slice::from_ref(secret);
        let joiner = Member::open(disk(name), Date::new(TODAY), secrets).await;
        joiner.connect(to).await.is_ok()
    };
    let members = [&cluster.founder, &member];
    // First all know both.
    for member in members {
        member.port.set_secrets(vec![old.clone(), new.clone()]);
    }
    assert!(joins("a", &old, &member).await);
    assert!(joins("b", &new, &cluster.founder).await);
    // Then one after the other seals with the new one; all can sign all the time.
    let (_, before) = cluster.map.sealed().expect("sealed");
    member.port.set_secrets(vec![new.clone(), old.clone()]);
    eventually(|| cluster.map.sealed().is_some_and(|(_, now)| now > before)).await;
    for (name, secret) in [("c", &old), ("d", &new)] {
        assert!(joins(name, secret, &cluster.founder).await);
    }
    assert!(joins("e", &old, &member).await);
    cluster
        .founder
        .port
        .set_secrets(vec![new.clone(), old.clone()]);
    // At last the old one is forgotten.
    for member in members {
        member.port.set_secrets(vec![new.clone()]);
    }
    assert!(!joins("f", &old, &cluster.founder).await);
    assert!(joins("g", &new, &cluster.founder).await);
    assert!(joins("h", &new, &member).await);
    let (_, revision) = cluster.map.sealed().expect("sealed");
    assert_eq!(revision.0, before.0 + 1, "sealed anew once");
}
