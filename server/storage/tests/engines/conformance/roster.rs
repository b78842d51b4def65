//! Rosters on either engine.

use eider_storage::{Error, Expect, PendingRequest, RosterChange, RosterItem, Subscription};

use super::*;

fn item(jid: &str) -> RosterItem {
    RosterItem {
        jid: jid.into(),
        name: Some("Näme <&>".into()),
        groups: vec!["Friends".into(), "Ünïcode".into()],
        subscription: Subscription::Both,
        ask: true,
        approved: true,
        hidden: false,
        version: 0,
    }
}

pub async fn roster_life(bench: &mut Bench) {
    let s = &bench.storage;
    let alice = account(s, "alice").await;
    let mut bob = item("bob@example.org");
    bob.version = s
        .roster_put(FENCE, alice, &bob, Expect::Any, 2)
        .await
        .unwrap();
    assert_eq!(
        s.roster_item(alice, "bob@example.org").await.unwrap(),
        Some(bob.clone())
    );
    let mut carol = RosterItem {
        jid: "carol@example.org".into(),
        hidden: true,
        ..Default::default()
    };
    carol.version = s
        .roster_put(FENCE, alice, &carol, Expect::Any, 2)
        .await
        .unwrap();
    let third = s
        .roster_put(FENCE, alice, &item("dora@example.org"), Expect::Any, 2)
        .await;
    assert!(matches!(third, Err(Error::Conflict(_))));
    bob.subscription = Subscription::From;
    bob.version = s
        .roster_put(FENCE, alice, &bob, Expect::Any, 2)
        .await
        .unwrap();
    let snapshot = s.roster_items(alice).await.unwrap();
    assert_eq!((snapshot.version, snapshot.items), (3, vec![bob, carol]));
    assert_eq!(
        s.roster_remove(FENCE, alice, "nobody@example.org")
            .await
            .unwrap(),
        None
    );
    assert_eq!(
        s.roster_remove(FENCE, alice, "bob@example.org")
            .await
            .unwrap(),
        Some(4)
    );
    assert_eq!(s.roster_item(alice, "bob@example.org").await.unwrap(), None);
    bench.reopen().await;
    assert_eq!(bench.storage.roster_items(alice).await.unwrap().version, 4);
}

pub async fn roster_versions(bench: &mut Bench) {
    let s = &bench.storage;
    let alice = account(s, "alice").await;
    for n in 0..5 {
        s.roster_put(
            FENCE,
            alice,
            &item(&format!("c{n}@example.org")),
            Expect::Any,
            1000,
        )
        .await
        .unwrap();
    }
    s.roster_remove(FENCE, alice, "c1@example.org")
        .await
        .unwrap();
    s.roster_put(FENCE, alice, &item("c0@example.org"), Expect::Any, 1000)
        .await
        .unwrap();
    assert_eq!(s.roster_changes(alice, 7).await.unwrap(), Some(vec![]));
    assert_eq!(s.roster_changes(alice, 8).await.unwrap(), None);
    let changes = s.roster_changes(alice, 4).await.unwrap().unwrap();
    let seen: Vec<_> = changes
        .iter()
        .map(|change| match change {
            RosterChange::Set(item) => format!("+{}", item.jid),
            RosterChange::Removed { jid, .. } => format!("-{jid}"),
        })
        .collect();
    assert_eq!(
        seen,
        ["+c4@example.org", "-c1@example.org", "+c0@example.org"]
    );
    s.roster_put(FENCE, alice, &item("c1@example.org"), Expect::Any, 1000)
        .await
        .unwrap();
    assert_eq!(s.roster_changes(alice, 7).await.unwrap().unwrap().len(), 1);
    // Removals are remembered within bounds only.
    for n in 0..300 {
        s.roster_put(
            FENCE,
            alice,
            &item(&format!("t{n}@example.org")),
            Expect::Any,
            1000,
        )
        .await
        .unwrap();
        s.roster_remove(FENCE, alice, &format!("t{n}@example.org"))
            .await
            .unwrap();
    }
    assert_eq!(s.roster_changes(alice, 8).await.unwrap(), None);
    let newest = s.roster_items(alice).await.unwrap().version;
    assert_eq!(
        s.roster_changes(alice, newest - 100)
            .await
            .unwrap()
            .unwrap()
            .len(),
        50
    );
}

pub async fn roster_expectations(bench: &mut Bench) {
    let s = &bench.storage;
    let alice = account(s, "alice").await;
    let bob = item("bob@example.org");
    let conflict = |result| assert!(matches!(result, Err(Error::Conflict(_))));
    conflict(
        s.roster_put(FENCE, alice, &bob, Expect::Version(1), 10)
            .await,
    );
    let version = s
        .roster_put(FENCE, alice, &bob, Expect::Absent, 10)
        .await
        .unwrap();
    conflict(s.roster_put(FENCE, alice, &bob, Expect::Absent, 10).await);
    let next = s
        .roster_put(FENCE, alice, &bob, Expect::Version(version), 10)
        .await
        .unwrap();
    conflict(
        s.roster_put(FENCE, alice, &bob, Expect::Version(version), 10)
            .await,
    );
    // A refused change takes no version.
    assert_eq!(s.roster_items(alice).await.unwrap().version, next);
    // Of many that saw the same state one wins.
    let tasks = (0..8).map(|_| {
        let (s, bob) = (s.clone(), bob.clone());
        tokio::spawn(async move {
            s.roster_put(FENCE, alice, &bob, Expect::Version(next), 10)
                .await
                .is_ok()
        })
    });
    let mut won = 0;
    for task in tasks.collect::<Vec<_>>() {
        won += u32::from(task.await.unwrap());
    }
    assert_eq!(won, 1);
    conflict(
        s.roster_put(FENCE, AccountId(alice.0 + 999), &bob, Expect::Any, 10)
            .await,
    );
}

pub async fn pending_requests(bench: &mut Bench) {
    let s = &bench.storage;
    let alice = account(s, "alice").await;
    let request = |from: &str, n: i64| PendingRequest {
        from: from.into(),
        stanza: Bytes::from(format!("<presence n='{n}'/>")),
        at: at(n),
    };
    assert!(
        s.pending_put(FENCE, alice, &request("b@example.org", 1), 2)
            .await
            .unwrap()
    );
    assert!(
        s.pending_put(FENCE, alice, &request("a@example.org", 2), 2)
            .await
            .unwrap()
    );
    assert!(
        !s.pending_put(FENCE, alice, &request("c@example.org", 3), 2)
            .await
            .unwrap()
    );
    assert!(
        s.pending_put(FENCE, alice, &request("b@example.org", 4), 2)
            .await
            .unwrap()
    );
    let list = s.pending_list(alice).await.unwrap();
    assert_eq!(
        list,
        [request("a@example.org", 2), request("b@example.org", 4)]
    );
    for (sender, waits) in [("a@example.org", true), ("c@example.org", false)] {
        assert_eq!(s.pending_has(alice, sender).await.unwrap(), waits);
    }
    assert!(
        s.pending_remove(FENCE, alice, "a@example.org")
            .await
            .unwrap()
    );
    assert!(
        !s.pending_remove(FENCE, alice, "a@example.org")
            .await
            .unwrap()
    );
    assert!(
        !s.pending_put(
            FENCE,
            AccountId(alice.0 + 99),
            &request("b@example.org", 1),
            2
        )
        .await
        .unwrap()
    );
}
