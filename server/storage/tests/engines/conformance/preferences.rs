//! What a user sets, on either engine.

use eider_storage::{ArchiveDefault, ArchivePreferences, Error, VCard};

use super::*;

fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(|s| (*s).to_owned()).collect()
}

pub async fn blocking(bench: &mut Bench) {
    let s = &bench.storage;
    let alice = account(s, "alice").await;
    let list = s
        .blocking_add(FENCE, alice, &strings(&["b@x", "a@x"]), 3)
        .await
        .unwrap();
    assert_eq!((list.version, list.jids), (1, strings(&["a@x", "b@x"])));
    assert_eq!(
        s.blocking_add(FENCE, alice, &strings(&["a@x"]), 3)
            .await
            .unwrap()
            .version,
        1
    );
    let over = s
        .blocking_add(FENCE, alice, &strings(&["c@x", "d@x"]), 3)
        .await;
    assert!(matches!(over, Err(Error::Conflict(_))));
    let list = s
        .blocking_remove(FENCE, alice, Some(&strings(&["a@x", "z@x"])))
        .await
        .unwrap();
    assert_eq!((list.version, list.jids), (2, strings(&["b@x"])));
    assert_eq!(
        s.blocking_list(alice).await.unwrap().jids,
        strings(&["b@x"])
    );
    let list = s.blocking_remove(FENCE, alice, None).await.unwrap();
    assert_eq!((list.version, list.jids.len()), (3, 0));
    let gone = s
        .blocking_add(FENCE, AccountId(alice.0 + 99), &strings(&["a@x"]), 3)
        .await;
    assert!(matches!(gone, Err(Error::Conflict(_))));
}

pub async fn private_and_vcard(bench: &mut Bench) {
    let s = &bench.storage;
    let alice = account(s, "alice").await;
    assert_eq!(
        s.private_get(alice, "storage:bookmarks", "storage")
            .await
            .unwrap(),
        None
    );
    s.private_set(
        FENCE,
        alice,
        "storage:bookmarks",
        "storage",
        "<storage/>",
        50,
    )
    .await
    .unwrap();
    s.private_set(
        FENCE,
        alice,
        "storage:bookmarks",
        "storage",
        "<storage>2</storage>",
        50,
    )
    .await
    .unwrap();
    // 44 bytes are stored; ten more are one too many for 53.
    let over = s.private_set(FENCE, alice, "other", "x", "<x/>", 53).await;
    assert!(matches!(over, Err(Error::Full(_))), "{over:?}");
    s.private_set(FENCE, alice, "other", "x", "<x/>", 54)
        .await
        .unwrap();
    // What takes no more than before fits into any bound.
    s.private_set(FENCE, alice, "other", "x", "<y/>", 1)
        .await
        .unwrap();
    let stored = s
        .private_get(alice, "storage:bookmarks", "storage")
        .await
        .unwrap();
    assert_eq!(stored.as_deref(), Some("<storage>2</storage>"));
    assert_eq!(s.vcard_get(alice).await.unwrap(), None);
    let card = VCard {
        xml: "<vCard><FN>Ål</FN></vCard>".into(),
        photo_hash: "ab12".into(),
    };
    s.vcard_set(FENCE, alice, Some(&card)).await.unwrap();
    assert_eq!(s.vcard_get(alice).await.unwrap(), Some(card));
    s.vcard_set(FENCE, alice, None).await.unwrap();
    assert_eq!(s.vcard_get(alice).await.unwrap(), None);
}

pub async fn archive_preferences(bench: &mut Bench) {
    let s = &bench.storage;
    let alice = account(s, "alice").await;
    let set = ArchivePreferences {
        default: ArchiveDefault::Roster,
        always: strings(&["a@x"]),
        never: strings(&["b@x", "\"quoted\"@x"]),
    };
    s.archive_preferences_set(FENCE, alice, &set).await.unwrap();
    assert_eq!(
        s.account_by_id(alice)
            .await
            .unwrap()
            .unwrap()
            .archive_preferences,
        Some(set)
    );
}
