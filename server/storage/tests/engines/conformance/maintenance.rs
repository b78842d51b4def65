//! Server values, fences, checks and backups on either engine.

use eider_storage::{CommitError, Error, Expect, RosterItem, VCard};

use super::*;

pub async fn meta_is_made_once(bench: &mut Bench) {
    let s = &bench.storage;
    assert_eq!(s.meta_get("key").await.unwrap(), None);
    let tasks: Vec<_> = (0..8_u8)
        .map(|n| {
            let s = s.clone();
            tokio::spawn(async move { s.meta_init(FENCE, "key", &[n]).await.unwrap() })
        })
        .collect();
    let mut seen = Vec::new();
    for task in tasks {
        seen.push(task.await.unwrap());
    }
    assert!(seen.iter().all(|value| *value == seen[0]));
    s.meta_set(FENCE, "key", b"other").await.unwrap();
    bench.reopen().await;
    assert_eq!(
        bench.storage.meta_get("key").await.unwrap().unwrap(),
        b"other"
    );
    assert!(bench.storage.ping().await.unwrap() < 4_000_000);
}

pub async fn fences(bench: &mut Bench) {
    let s = &bench.storage;
    let alice = account(s, "alice").await;
    let fence = Fence::member(41);
    let commit = |fence| {
        let mut commit = single("x", vec![row(alice, 0, "b@x", OWED, NOW)]);
        commit.fence = fence;
        commit
    };
    let fenced = |result: Result<Vec<Position>, CommitError>| {
        assert!(
            matches!(result, Err(CommitError::Failed(Error::Fenced))),
            "{result:?}"
        );
    };
    fenced(s.archive_commit(commit(fence)).await);
    s.fence_register(41).await.unwrap();
    assert_eq!(
        s.archive_commit(commit(fence)).await.unwrap(),
        positions(&[1])
    );
    s.meta_set(fence, "k", b"v").await.unwrap();
    s.fence_kill(41).await.unwrap();
    s.fence_register(41).await.unwrap();
    fenced(s.archive_commit(commit(fence)).await);
    assert!(matches!(
        s.meta_set(fence, "k", b"w").await,
        Err(Error::Fenced)
    ));
    let item = RosterItem {
        jid: "b@x".into(),
        ..Default::default()
    };
    assert!(matches!(
        s.roster_put(fence, alice, &item, Expect::Any, 9).await,
        Err(Error::Fenced)
    ));
    assert_eq!(
        s.archive_commit(commit(FENCE)).await.unwrap(),
        positions(&[2])
    );
}

pub async fn description(bench: &mut Bench) {
    let about = bench.storage.describe().await.unwrap();
    assert_eq!(about.schema_version, about.schema_expected);
    assert!(
        about.encoding.to_ascii_uppercase().contains("UTF"),
        "{}",
        about.encoding
    );
    assert!(!about.read_only && !about.version.is_empty() && !about.durability.is_empty());
    assert!(about.size_bytes > 0);
    assert!(
        bench
            .storage
            .pools()
            .iter()
            .all(|pool| pool.in_use <= pool.connections_max)
    );
    bench.storage.prepare_ahead(NOW).await.unwrap();
    bench.storage.prepare_ahead(NOW).await.unwrap();
}

/// Something in most tables.
pub async fn fill(s: &Arc<dyn Storage>) -> AccountId {
    let (alice, bob) = (account(s, "alice").await, account(s, "bob").await);
    let item = RosterItem {
        jid: "bob@example.org".into(),
        name: Some("Bøb".into()),
        ..Default::default()
    };
    s.roster_put(FENCE, alice, &item, Expect::Any, 9)
        .await
        .unwrap();
    s.vcard_set(
        FENCE,
        alice,
        Some(&VCard {
            xml: "<vCard/>".into(),
            photo_hash: "aa".into(),
        }),
    )
    .await
    .unwrap();
    s.meta_set(FENCE, "secret", &[0, 255, 7]).await.unwrap();
    s.pubsub_create(FENCE, "alice@example.org", "n", b"{}", 9, NOW)
        .await
        .unwrap();
    for n in 0..30 {
        let rows = vec![
            row(alice, 0, "bob@example.org", SENT, at(n)),
            row(bob, 0, "alice@example.org", OWED, at(n)),
        ];
        s.archive_commit(single(&format!("word{n} common"), rows))
            .await
            .unwrap();
    }
    alice
}

pub async fn backup_is_whole(bench: &mut Bench) {
    let s = &bench.storage;
    fill(s).await;
    let target =
        std::env::temp_dir().join(format!("eider-backup-{}-{}", std::process::id(), line!()));
    let target = target.with_extension(s.describe().await.unwrap().engine);
    drop(std::fs::remove_file(&target));
    let written = s.backup(&target, &|_, _| {}).await.unwrap();
    assert_eq!(written, s.counts(&|_, _| {}).await.unwrap());
    assert_eq!(
        written.iter().find(|c| c.table == "archive").unwrap().rows,
        60
    );
    assert!(matches!(
        s.backup(&target, &|_, _| {}).await,
        Err(Error::Conflict(_))
    ));
    std::fs::remove_file(&target).unwrap();
}

pub async fn closed_is_unavailable(bench: &mut Bench) {
    bench.storage.close().await;
    let s = &bench.storage;
    assert!(matches!(
        s.account_login("example.org", "x").await,
        Err(Error::Unavailable(_))
    ));
    assert!(matches!(
        s.meta_set(FENCE, "k", b"v").await,
        Err(Error::Unavailable(_))
    ));
    let commit = single("x", vec![row(AccountId(1), 0, "b@x", OWED, NOW)]);
    let result = s.archive_commit(commit).await;
    assert!(
        matches!(result, Err(CommitError::Failed(Error::Unavailable(_)))),
        "{result:?}"
    );
    bench.reopen().await;
    account(&bench.storage, "alice").await;
}
