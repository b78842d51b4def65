//! Accounts on either engine.

use eider_storage::{
    ArchivePreferences, Error, LastActivity, PendingRequest, RosterItem, SavedSession, VCard,
};

use super::*;

pub async fn account_life(bench: &mut Bench) {
    let s = &bench.storage;
    let id = account(s, "alice").await;
    let again = s
        .account_create(FENCE, "example.org", "alice", &keys(9), NOW)
        .await;
    assert!(matches!(again, Err(Error::Conflict(_))));
    assert_ne!(
        s.account_create(FENCE, "example.net", "alice", &keys(1), NOW)
            .await
            .unwrap(),
        id
    );
    assert_eq!(
        s.account_id("example.org", "alice").await.unwrap(),
        Some(id)
    );
    assert_eq!(s.account_id("example.org", "nobody").await.unwrap(), None);
    assert!(s.account_set_keys(FENCE, id, &keys(5)).await.unwrap());
    assert_eq!(
        s.account_login("example.org", "alice")
            .await
            .unwrap()
            .unwrap()
            .credentials,
        keys(5)
    );
    assert!(s.account_set_disabled(FENCE, id, true).await.unwrap());
    assert!(s.account_by_id(id).await.unwrap().unwrap().disabled);
    assert!(s.account_remove(FENCE, id).await.unwrap());
    assert!(!s.account_remove(FENCE, id).await.unwrap());
    assert!(!s.account_set_keys(FENCE, id, &keys(5)).await.unwrap());
    assert_eq!(s.account_login("example.org", "alice").await.unwrap(), None);
    let next = account(s, "alice").await;
    assert!(next > id, "an id is never used again");
    bench.reopen().await;
    assert_eq!(
        bench
            .storage
            .account_id("example.org", "alice")
            .await
            .unwrap(),
        Some(next)
    );
}

async fn acknowledge_one(s: &Arc<dyn Storage>, id: AccountId) {
    let mut commit = single("hello", vec![row(id, 0, "bob@example.org", OWED, NOW)]);
    let watermark = eider_storage::Watermark {
        acked_up_to: Position(1),
        acked_above: vec![],
    };
    commit.watermarks.push((id, watermark));
    s.archive_commit(commit).await.unwrap();
}

pub async fn login_record(bench: &mut Bench) {
    let s = &bench.storage;
    let id = account(s, "alice").await;
    let fresh = s
        .account_login("example.org", "alice")
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (
            fresh.id,
            fresh.disabled,
            fresh.roster_version,
            fresh.pending_requests
        ),
        (id, false, 0, 0)
    );
    assert_eq!(
        (
            fresh.archive_preferences,
            fresh.last_activity,
            fresh.block_list.jids.len()
        ),
        (None, None, 0)
    );
    let item = RosterItem {
        jid: "bob@example.org".into(),
        ..Default::default()
    };
    s.roster_put(FENCE, id, &item, eider_storage::Expect::Any, 10)
        .await
        .unwrap();
    let request = PendingRequest {
        from: "carol@example.org".into(),
        stanza: Bytes::from("<presence/>"),
        at: NOW,
    };
    s.pending_put(FENCE, id, &request, 10).await.unwrap();
    s.blocking_add(FENCE, id, &["spam@example.net".into()], 10)
        .await
        .unwrap();
    s.archive_preferences_set(FENCE, id, &ArchivePreferences::default())
        .await
        .unwrap();
    let last = LastActivity {
        at: at(5),
        status: "gone — fishing".into(),
    };
    s.account_set_last_activity(FENCE, id, &last).await.unwrap();
    acknowledge_one(s, id).await;
    let record = s
        .account_login("example.org", "alice")
        .await
        .unwrap()
        .unwrap();
    assert_eq!(record.credentials, keys(1));
    assert_eq!((record.roster_version, record.pending_requests), (1, 1));
    assert_eq!(record.block_list.jids, ["spam@example.net"]);
    assert_eq!(
        record.archive_preferences,
        Some(ArchivePreferences::default())
    );
    assert_eq!(record.last_activity, Some(last));
    assert_eq!(record.watermark.acked_up_to, Position(1));
    assert_eq!(s.account_by_id(id).await.unwrap().unwrap(), record);
}

pub async fn listing(bench: &mut Bench) {
    let s = &bench.storage;
    for name in ["dora", "alice", "bob", "al%ice"] {
        account(s, name).await;
    }
    let names = |list: Vec<eider_storage::AccountSummary>| {
        list.into_iter().map(|a| a.localpart).collect::<Vec<_>>()
    };
    assert_eq!(
        names(s.account_list("example.org", None, None, 2).await.unwrap()),
        ["al%ice", "alice"]
    );
    assert_eq!(
        names(
            s.account_list("example.org", Some("alice"), None, 9)
                .await
                .unwrap()
        ),
        ["bob", "dora"]
    );
    assert_eq!(
        names(
            s.account_list("example.org", None, Some("%"), 9)
                .await
                .unwrap()
        ),
        ["al%ice"]
    );
    assert_eq!(s.account_count("example.org").await.unwrap(), 4);
    assert_eq!(s.account_count("example.net").await.unwrap(), 0);
    let shown = s.account_show("example.org", "bob").await.unwrap().unwrap();
    assert_eq!(
        (shown.host.as_str(), shown.created_at, shown.disabled),
        ("example.org", NOW, false)
    );
}

pub async fn removal_takes_everything(bench: &mut Bench) {
    let s = &bench.storage;
    let (alice, bob) = (account(s, "alice").await, account(s, "bob").await);
    for n in 0..20 {
        let rows = vec![
            row(alice, 0, "bob@example.org", SENT, at(n)),
            row(bob, 0, "alice@example.org", OWED, at(n)),
        ];
        s.archive_commit(single("both", rows)).await.unwrap();
        s.archive_commit(single(
            "own",
            vec![row(alice, 0, "x@example.net", OWED, at(n))],
        ))
        .await
        .unwrap();
    }
    let item = RosterItem {
        jid: "bob@example.org".into(),
        ..Default::default()
    };
    s.roster_put(FENCE, alice, &item, eider_storage::Expect::Any, 10)
        .await
        .unwrap();
    s.vcard_set(
        FENCE,
        alice,
        Some(&VCard {
            xml: "<vCard/>".into(),
            photo_hash: String::new(),
        }),
    )
    .await
    .unwrap();
    s.pubsub_create(FENCE, "alice@example.org", "urn:n", b"{}", 10, NOW)
        .await
        .unwrap();
    let session = SavedSession {
        id: "s".into(),
        account: alice,
        state: Bytes::new(),
        expires_at: at(100),
    };
    s.sessions_save(FENCE, &[session]).await.unwrap();
    assert!(s.account_remove(FENCE, alice).await.unwrap());
    assert_eq!(s.roster_items(alice).await.unwrap().items.len(), 0);
    assert_eq!(s.vcard_get(alice).await.unwrap(), None);
    assert_eq!(
        s.pubsub_node("alice@example.org", "urn:n").await.unwrap(),
        None
    );
    assert_eq!(s.sessions_take(FENCE, 9).await.unwrap(), []);
    assert_eq!(s.archive_metadata(alice).await.unwrap(), Default::default());
    // A commit under way for an account that is gone leaves nothing and hurts nobody.
    let rows = vec![
        row(alice, 0, "bob@example.org", SENT, at(30)),
        row(bob, 0, "alice@example.org", OWED, at(30)),
    ];
    assert_eq!(
        s.archive_commit(single("late", rows)).await.unwrap(),
        positions(&[0, 21])
    );
    while s.sweep(FENCE, Timestamp(0)).await.unwrap() > 0 {}
    let counts = s.counts(&|_, _| {}).await.unwrap();
    let rows = |table: &str| counts.iter().find(|c| c.table == table).unwrap().rows;
    assert_eq!(
        (rows("message"), rows("archive"), rows("removed_account")),
        (21, 21, 0)
    );
}
