//! The archive on either engine.

use eider_storage::{
    ArchiveFilter, ArchivePage, ArchivedRow, Direction, Keep, PageRequest, Position, ResendKey,
    Timestamp,
};

use super::debts::acknowledge;
use super::*;

pub const BOB: &str = "bob@example.org";

pub async fn say(
    s: &Arc<dyn Storage>,
    owner: AccountId,
    peer: &str,
    text: &str,
    seconds: i64,
) -> i64 {
    s.archive_commit(single(
        text,
        vec![row(owner, 0, peer, ARCHIVED, at(seconds))],
    ))
    .await
    .unwrap()[0]
        .0
}

pub fn forward(anchor: Option<i64>, limit: u32) -> PageRequest {
    PageRequest {
        direction: Direction::Forward,
        anchor: anchor.map(Position),
        limit,
        bytes_max: u64::MAX,
        count_max: 1000,
    }
}

pub fn backward(anchor: Option<i64>, limit: u32) -> PageRequest {
    PageRequest {
        direction: Direction::Backward,
        ..forward(anchor, limit)
    }
}

pub fn places(page: &ArchivePage) -> Vec<i64> {
    page.rows.iter().map(|row| row.pos.0).collect()
}

pub async fn positions_are_dense(bench: &mut Bench) {
    let s = &bench.storage;
    let (alice, bob) = (account(s, "alice").await, account(s, "bob").await);
    let mut commit = Commit::new(FENCE);
    for n in 0..5 {
        commit.messages.push(message(&format!("m{n}")));
        commit.rows.push(row(alice, n, BOB, SENT, at(n as i64)));
        if n % 2 == 0 {
            commit
                .rows
                .push(row(bob, n, "alice@example.org", OWED, at(n as i64)));
        }
    }
    assert_eq!(
        s.archive_commit(commit).await.unwrap(),
        positions(&[1, 1, 2, 3, 2, 4, 5, 3])
    );
    assert_eq!(say(s, bob, "x@y", "later", 9).await, 4);
    assert_eq!(s.archive_last_position(alice).await.unwrap(), Position(5));
    let page = s
        .archive_query(bob, &ArchiveFilter::default(), &forward(None, 10))
        .await
        .unwrap();
    let bodies: Vec<_> = page
        .rows
        .iter()
        .map(|row| String::from_utf8_lossy(&row.bytes).into_owned())
        .collect();
    assert_eq!(bodies[1], "<message><body>m2</body></message>");
    assert_eq!(
        (
            page.rows[0].peer.as_str(),
            page.rows[0].peer_resource.as_deref()
        ),
        ("alice@example.org", Some("phone"))
    );
    assert_eq!(
        (page.rows[0].flags, page.rows[0].kind),
        (OWED, MessageKind::Chat)
    );
    assert_eq!(s.archive_commit(Commit::new(FENCE)).await.unwrap(), []);
}

pub async fn positions_survive(bench: &mut Bench) {
    let alice = account(&bench.storage, "alice").await;
    for n in 0..4 {
        say(&bench.storage, alice, BOB, "x", n).await;
    }
    let keep = Keep {
        rows_max: Some(0),
        ..Default::default()
    };
    assert_eq!(
        bench
            .storage
            .archive_retain(FENCE, alice, keep, 100)
            .await
            .unwrap()
            .rows_deleted,
        4
    );
    bench.reopen().await;
    let s = &bench.storage;
    assert_eq!(s.archive_last_position(alice).await.unwrap(), Position(4));
    assert_eq!(say(s, alice, BOB, "x", 9).await, 5);
}

pub async fn time_is_monotone(bench: &mut Bench) {
    let alice = account(&bench.storage, "alice").await;
    say(&bench.storage, alice, BOB, "a", 100).await;
    say(&bench.storage, alice, BOB, "b", 50).await;
    bench.reopen().await;
    let s = &bench.storage;
    say(s, alice, BOB, "c", 60).await;
    say(s, alice, BOB, "d", 101).await;
    let page = s
        .archive_query(alice, &ArchiveFilter::default(), &forward(None, 9))
        .await
        .unwrap();
    let times: Vec<_> = page.rows.iter().map(|row| row.at).collect();
    assert_eq!(times, [at(100), at(100), at(100), at(101)]);
}

pub async fn pages(bench: &mut Bench) {
    let s = &bench.storage;
    let alice = account(s, "alice").await;
    for n in 1..=10 {
        say(s, alice, BOB, "x", n).await;
    }
    let all = ArchiveFilter::default();
    let page = s
        .archive_query(alice, &all, &forward(None, 4))
        .await
        .unwrap();
    assert_eq!(
        (places(&page), page.complete, page.count),
        (vec![1, 2, 3, 4], false, Some(10))
    );
    let page = s
        .archive_query(alice, &all, &forward(Some(6), 4))
        .await
        .unwrap();
    assert_eq!((places(&page), page.complete), (vec![7, 8, 9, 10], true));
    let page = s
        .archive_query(alice, &all, &backward(None, 3))
        .await
        .unwrap();
    assert_eq!((places(&page), page.complete), (vec![8, 9, 10], false));
    let page = s
        .archive_query(alice, &all, &backward(Some(3), 5))
        .await
        .unwrap();
    assert_eq!((places(&page), page.complete), (vec![1, 2], true));
    let page = s
        .archive_query(alice, &all, &forward(Some(10), 5))
        .await
        .unwrap();
    assert_eq!((places(&page), page.complete), (vec![], true));
    let page = s
        .archive_query(alice, &all, &forward(None, 0))
        .await
        .unwrap();
    assert_eq!(
        (places(&page), page.complete, page.count),
        (vec![], false, Some(10))
    );
    let bounded = PageRequest {
        count_max: 9,
        ..forward(None, 1)
    };
    assert_eq!(
        s.archive_query(alice, &all, &bounded).await.unwrap().count,
        None
    );
    let uncounted = PageRequest {
        count_max: 0,
        ..forward(None, 1)
    };
    assert_eq!(
        s.archive_query(alice, &all, &uncounted)
            .await
            .unwrap()
            .count,
        None
    );
}

pub async fn pages_of_bytes(bench: &mut Bench) {
    let s = &bench.storage;
    let alice = account(s, "alice").await;
    for n in 1..=10 {
        say(s, alice, BOB, "x", n).await;
    }
    let all = ArchiveFilter::default();
    for page in [forward(None, 5), backward(None, 5)] {
        let whole = s.archive_query(alice, &all, &page).await.unwrap();
        let size =
            |rows: &[ArchivedRow]| rows.iter().map(|row| row.bytes.len() as u64).sum::<u64>();
        let two = match page.direction {
            Direction::Forward => &whole.rows[..2],
            Direction::Backward => &whole.rows[3..],
        };
        for (bytes_max, count) in [(0, 1), (size(two), 2), (size(two) + 1, 2)] {
            let small = PageRequest { bytes_max, ..page };
            let found = s.archive_query(alice, &all, &small).await.unwrap();
            assert_eq!((found.rows.len(), found.complete), (count, false));
            let end = match page.direction {
                Direction::Forward => &whole.rows[..count],
                Direction::Backward => &whole.rows[5 - count..],
            };
            assert_eq!(found.rows, end);
        }
    }
}

pub async fn own_bytes_and_replace(bench: &mut Bench) {
    let s = &bench.storage;
    let (alice, bob) = (account(s, "alice").await, account(s, "bob").await);
    let mut own = row(alice, 0, BOB, SENT, at(0));
    own.own_bytes = Some(Bytes::from("<own/>"));
    let rows = vec![own, row(bob, 0, "alice@example.org", ARCHIVED, at(0))];
    s.archive_commit(single("shared", rows)).await.unwrap();
    let all = ArchiveFilter::default();
    assert_eq!(
        &s.archive_query(alice, &all, &forward(None, 9))
            .await
            .unwrap()
            .rows[0]
            .bytes[..],
        b"<own/>"
    );
    assert!(
        s.archive_replace(FENCE, bob, Position(1), b"<tombstone/>")
            .await
            .unwrap()
    );
    assert!(
        !s.archive_replace(FENCE, bob, Position(2), b"<tombstone/>")
            .await
            .unwrap()
    );
    assert_eq!(
        &s.archive_query(bob, &all, &forward(None, 9))
            .await
            .unwrap()
            .rows[0]
            .bytes[..],
        b"<tombstone/>"
    );
    while s.sweep(FENCE, Timestamp(0)).await.unwrap() > 0 {}
    let counts = s.counts(&|_, _| {}).await.unwrap();
    assert_eq!(
        counts.iter().find(|c| c.table == "message").unwrap().rows,
        0
    );
}

pub async fn retention(bench: &mut Bench) {
    let s = &bench.storage;
    let alice = account(s, "alice").await;
    for n in 1..=20 {
        let flags = if n == 3 || n == 15 { OWED } else { ARCHIVED };
        s.archive_commit(single("x", vec![row(alice, 0, BOB, flags, at(n))]))
            .await
            .unwrap();
    }
    let old = Keep {
        not_before: Some(at(6)),
        rows_max: None,
    };
    let step = s.archive_retain(FENCE, alice, old, 3).await.unwrap();
    assert_eq!((step.rows_deleted, step.more), (3, true));
    let step = s.archive_retain(FENCE, alice, old, 3).await.unwrap();
    assert_eq!((step.rows_deleted, step.more), (1, false));
    let all = ArchiveFilter::default();
    let page = s
        .archive_query(alice, &all, &forward(None, 3))
        .await
        .unwrap();
    assert_eq!(places(&page), [3, 6, 7], "what is owed stays");
    let quota = Keep {
        not_before: None,
        rows_max: Some(4),
    };
    assert!(
        !s.archive_retain(FENCE, alice, quota, 100)
            .await
            .unwrap()
            .more
    );
    let page = s
        .archive_query(alice, &all, &forward(None, 30))
        .await
        .unwrap();
    assert_eq!(places(&page), [3, 15, 17, 18, 19, 20]);
    acknowledge(s, alice, 2, &[(9, 16)]).await;
    s.archive_retain(FENCE, alice, quota, 100).await.unwrap();
    let page = s.archive_query(alice, &all, &forward(None, 30)).await;
    let left = places(&page.unwrap());
    assert_eq!(left, [3, 17, 18, 19, 20], "acknowledged out of order");
    acknowledge(s, alice, 20, &[]).await;
    s.archive_retain(FENCE, alice, quota, 100).await.unwrap();
    let page = s
        .archive_query(alice, &all, &forward(None, 30))
        .await
        .unwrap();
    assert_eq!(places(&page), [17, 18, 19, 20]);
    while s.sweep(FENCE, Timestamp(0)).await.unwrap() > 0 {}
    let counts = s.counts(&|_, _| {}).await.unwrap();
    assert_eq!(
        counts.iter().find(|c| c.table == "message").unwrap().rows,
        4
    );
}

pub async fn unknown_owners_are_left_out(bench: &mut Bench) {
    let s = &bench.storage;
    let alice = account(s, "alice").await;
    let rows = vec![
        row(AccountId(alice.0 + 500), 0, BOB, OWED, at(0)),
        row(alice, 0, BOB, OWED, at(0)),
    ];
    assert_eq!(
        s.archive_commit(single("x", rows)).await.unwrap(),
        positions(&[0, 1])
    );
    let rows = vec![row(AccountId(alice.0 + 500), 0, BOB, OWED, at(0))];
    assert_eq!(
        s.archive_commit(single("x", rows)).await.unwrap(),
        positions(&[0])
    );
    let counts = s.counts(&|_, _| {}).await.unwrap();
    assert_eq!(
        counts.iter().find(|c| c.table == "message").unwrap().rows,
        1
    );
    let mut wrong = single("x", vec![row(alice, 3, BOB, OWED, at(0))]);
    wrong.messages.clear();
    assert!(s.archive_commit(wrong).await.is_err());
    assert_eq!(say(s, alice, BOB, "x", 1).await, 2);
}

pub async fn sent_rows(bench: &mut Bench) {
    let s = &bench.storage;
    let alice = account(s, "alice").await;
    for n in 1..=6 {
        let flags = if n % 2 == 0 { SENT } else { OWED };
        s.archive_commit(single(
            &format!("m{n}"),
            vec![row(alice, 0, BOB, flags, at(n))],
        ))
        .await
        .unwrap();
    }
    let sent = s
        .archive_recent_sent(alice, 2, u64::MAX, at(0))
        .await
        .unwrap();
    assert_eq!(sent.iter().map(|row| row.pos.0).collect::<Vec<_>>(), [6, 4]);
    assert_eq!(
        (&sent[0].bytes[..], sent[0].peer.as_str()),
        (&b"<message><body>m6</body></message>"[..], BOB)
    );
    assert_eq!(
        s.archive_recent_sent(alice, 9, u64::MAX, at(3))
            .await
            .unwrap()
            .len(),
        2
    );
    let newest = s.archive_recent_sent(alice, 9, 1, at(0)).await.unwrap();
    assert_eq!(newest, sent[..1]);
    let key = |n: i64| ResendKey {
        account: alice,
        key: vec![n as u8; 32],
        at: at(n),
    };
    let mut commit = Commit::new(FENCE);
    commit.resend_keys = vec![key(1), key(2), key(3), key(3)];
    s.archive_commit(commit).await.unwrap();
    assert_eq!(
        s.archive_resend_keys(alice, 2, at(0)).await.unwrap(),
        [key(3), key(2)]
    );
    assert_eq!(
        s.archive_resend_keys(alice, 9, at(3)).await.unwrap(),
        [key(3)]
    );
    while s.sweep(FENCE, at(3)).await.unwrap() > 0 {}
    assert_eq!(
        s.archive_resend_keys(alice, 9, at(0)).await.unwrap(),
        [key(3)]
    );
}

pub async fn concurrent_commits(bench: &mut Bench) {
    let s = &bench.storage;
    let (alice, bob) = (account(s, "alice").await, account(s, "bob").await);
    let tasks: Vec<_> = (0..8)
        .map(|task| {
            let s = s.clone();
            tokio::spawn(async move {
                let mut given = Vec::new();
                for n in 0..25 {
                    let rows = vec![
                        row(alice, 0, BOB, SENT, at(n)),
                        row(bob, 0, "alice@example.org", OWED, at(n)),
                    ];
                    given.push((
                        task,
                        n,
                        s.archive_commit(single(&format!("{task}-{n}"), rows))
                            .await
                            .unwrap(),
                    ));
                }
                given
            })
        })
        .collect();
    let mut given = Vec::new();
    for task in tasks {
        given.extend(task.await.unwrap());
    }
    let page = s
        .archive_query(bob, &ArchiveFilter::default(), &forward(None, 500))
        .await
        .unwrap();
    assert_eq!(places(&page), (1..=200).collect::<Vec<_>>());
    for (task, n, places) in given {
        let stored = &page.rows[places[1].0 as usize - 1];
        assert_eq!(
            &stored.bytes[..],
            format!("<message><body>{task}-{n}</body></message>").as_bytes()
        );
    }
}

pub async fn metadata_and_existence(bench: &mut Bench) {
    let s = &bench.storage;
    let alice = account(s, "alice").await;
    assert_eq!(s.archive_metadata(alice).await.unwrap(), Default::default());
    for (n, flags) in [OWED_ONLY, ARCHIVED, OWED, OWED_ONLY]
        .into_iter()
        .enumerate()
    {
        s.archive_commit(single("x", vec![row(alice, 0, BOB, flags, at(n as i64))]))
            .await
            .unwrap();
    }
    let ends = s.archive_metadata(alice).await.unwrap();
    assert_eq!(
        (ends.first, ends.last),
        (Some((Position(2), at(1))), Some((Position(3), at(2))))
    );
    let exist = s
        .archive_exists(alice, &positions(&[3, 1, 2, 9, -1]))
        .await
        .unwrap();
    assert_eq!(exist, [true, false, true, false, false]);
}
