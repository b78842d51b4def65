//! Filters and full text of archive queries on either engine.

use eider_storage::{ArchiveFilter, Error, Keep, Position, Timestamp};

use super::archive::{BOB, backward, forward, places, say};
use super::*;

/// A filter and the positions that it lets through.
fn filter_cases() -> Vec<(ArchiveFilter, Vec<i64>)> {
    let with = |bare: &str, resource: Option<&str>| ArchiveFilter {
        with: Some((bare.into(), resource.map(String::from))),
        ..Default::default()
    };
    let between = |start: Option<Timestamp>, end: Option<Timestamp>| ArchiveFilter {
        start,
        end,
        ..Default::default()
    };
    let later = |at: Timestamp| Some(Timestamp(at.0 + 1));
    let earlier = |at: Timestamp| Some(Timestamp(at.0 - 1));
    let ids = |list: &[i64]| ArchiveFilter {
        ids: Some(positions(list)),
        ..Default::default()
    };
    let (after, before) = (Some(Position(3)), Some(Position(6)));
    let mixed = ArchiveFilter {
        start: Some(at(40)),
        before: Some(Position(10)),
        ..with("c@x", None)
    };
    vec![
        (with("c@x", None), vec![1, 4, 7, 10]),
        (with("c@x", Some("desk")), vec![4, 10]),
        (with("c", None), vec![]),
        (between(Some(at(100)), None), vec![10, 11, 12]),
        (between(later(at(100)), None), vec![11, 12]),
        (between(None, Some(at(20))), vec![1, 2]),
        (between(None, earlier(at(20))), vec![1]),
        (between(None, Some(at(0))), vec![]),
        (between(Some(at(500)), None), vec![]),
        (between(Some(at(30)), Some(at(50))), vec![3, 4, 5]),
        (
            ArchiveFilter {
                after,
                before,
                ..Default::default()
            },
            vec![4, 5],
        ),
        (ids(&[9, 2, 77, 13]), vec![2, 9]),
        (ids(&[]), vec![]),
        (mixed, vec![4, 7]),
    ]
}

pub async fn filters(bench: &mut Bench) {
    let s = &bench.storage;
    let alice = account(s, "alice").await;
    for n in 1..=12 {
        let mut one = row(
            alice,
            0,
            ["b@x", "c@x", "d@x"][n % 3],
            ARCHIVED,
            at(n as i64 * 10),
        );
        one.peer_resource = (n % 2 == 0).then(|| "desk".into());
        s.archive_commit(single("x", vec![one])).await.unwrap();
    }
    // A debt that is not archived is nobody's to see.
    s.archive_commit(single("x", vec![row(alice, 0, "b@x", OWED_ONLY, at(130))]))
        .await
        .unwrap();
    for (filter, expected) in filter_cases() {
        let page = s
            .archive_query(alice, &filter, &forward(None, 100))
            .await
            .unwrap();
        assert_eq!(places(&page), expected, "{filter:?}");
        assert_eq!(page.count, Some(expected.len() as u64), "{filter:?}");
        let last: Vec<_> = expected.iter().rev().take(2).rev().copied().collect();
        let page = s
            .archive_query(alice, &filter, &backward(None, 2))
            .await
            .unwrap();
        assert_eq!(places(&page), last, "{filter:?}");
    }
}

pub async fn full_text(bench: &mut Bench) {
    let s = &bench.storage;
    let (alice, bob) = (account(s, "alice").await, account(s, "bob").await);
    let texts = [
        "The quick brown fox",
        "a lazy dog",
        "Quick thinking, dog!",
        "Größe Äpfel",
        "привет мир",
    ];
    for (n, text) in texts.iter().enumerate() {
        let rows = vec![
            row(alice, 0, BOB, SENT, at(n as i64)),
            row(bob, 0, "a@x", OWED_ONLY, at(n as i64)),
        ];
        s.archive_commit(single(text, rows)).await.unwrap();
    }
    for (text, expected) in [
        ("quick", vec![1, 3]),
        ("QUICK dog", vec![3]),
        ("dog", vec![2, 3]),
        ("größe", vec![4]),
        ("ПРИВЕТ", vec![5]),
        ("absent", vec![]),
        ("qui", vec![]),
        ("  ", vec![]),
        ("\"quick\" OR dog* -- ' NEAR(", vec![]),
        ("owner:o1", vec![]),
    ] {
        let filter = ArchiveFilter {
            text: Some(text.into()),
            ..Default::default()
        };
        let page = s
            .archive_query(alice, &filter, &forward(None, 9))
            .await
            .unwrap();
        assert_eq!(places(&page), expected, "{text}");
        let page = s
            .archive_query(bob, &filter, &forward(None, 9))
            .await
            .unwrap();
        assert_eq!(places(&page), Vec::<i64>::new(), "{text}");
    }
}

pub async fn full_text_follows_deletions(bench: &mut Bench) {
    let s = &bench.storage;
    let alice = account(s, "alice").await;
    for (n, text) in ["a quick fox", "lazy", "Quick!"].iter().enumerate() {
        say(s, alice, BOB, text, n as i64).await;
    }
    let word = ArchiveFilter {
        text: Some("quick".into()),
        ..Default::default()
    };
    assert!(
        s.archive_replace(FENCE, alice, Position(1), b"<gone/>")
            .await
            .unwrap()
    );
    assert_eq!(
        places(
            &s.archive_query(alice, &word, &forward(None, 9))
                .await
                .unwrap()
        ),
        [3]
    );
    let keep = Keep {
        rows_max: Some(0),
        ..Default::default()
    };
    s.archive_retain(FENCE, alice, keep, 100).await.unwrap();
    assert_eq!(
        places(
            &s.archive_query(alice, &word, &forward(None, 9))
                .await
                .unwrap()
        ),
        Vec::<i64>::new()
    );
}

pub async fn hostile_text(bench: &mut Bench) {
    let s = &bench.storage;
    let alice = account(s, "alice").await;
    let nasty = "'; DROP TABLE archive; -- \u{1f980} \u{202e} \\ % _ $1 ?1";
    let mut one = row(alice, 0, nasty, ARCHIVED, at(0));
    one.peer_resource = Some(nasty.into());
    s.archive_commit(single(nasty, vec![one])).await.unwrap();
    let filter = ArchiveFilter {
        with: Some((nasty.into(), Some(nasty.into()))),
        ..Default::default()
    };
    assert_eq!(
        s.archive_query(alice, &filter, &forward(None, 9))
            .await
            .unwrap()
            .rows
            .len(),
        1
    );
    // U+0000 cannot come from XML; where it does, one row is refused, or kept, but nothing breaks.
    let result = s
        .archive_commit(single(
            "a\0b",
            vec![row(alice, 0, "b\0@x", ARCHIVED, at(0))],
        ))
        .await;
    assert!(
        result.is_ok()
            || matches!(
                result,
                Err(eider_storage::CommitError::Failed(Error::Other(_)))
            ),
        "{result:?}"
    );
    say(s, alice, BOB, "after", 1).await;
}
