//! Delivery debts on either engine.

use eider_storage::{DEBT_LOOK_ROWS_MAX, DebtPage, DebtTotal, DebtTotals, PosRange, Watermark};

use super::*;

const BOB: &str = "bob@example.org";

async fn owed(s: &Arc<dyn Storage>, owner: AccountId, after: i64) -> Vec<i64> {
    let page = s
        .archive_debts(owner, Position(after), 1000, u64::MAX)
        .await
        .unwrap();
    page.rows.into_iter().map(|row| row.pos.0).collect()
}

/// Writes a watermark.
pub async fn acknowledge(s: &Arc<dyn Storage>, owner: AccountId, up_to: i64, above: &[(i64, i64)]) {
    let ranges = above.iter().map(|(first, last)| PosRange {
        first: Position(*first),
        last: Position(*last),
    });
    let mut commit = Commit::new(FENCE);
    let watermark = Watermark {
        acked_up_to: Position(up_to),
        acked_above: ranges.collect(),
    };
    commit.watermarks.push((owner, watermark.clone()));
    s.archive_commit(commit).await.unwrap();
}

pub async fn debts_follow_the_watermark(bench: &mut Bench) {
    let s = &bench.storage;
    let alice = account(s, "alice").await;
    for n in 1..=10 {
        let flags = if n == 4 { SENT } else { OWED };
        s.archive_commit(single(
            &format!("m{n}"),
            vec![row(alice, 0, BOB, flags, at(n))],
        ))
        .await
        .unwrap();
    }
    assert_eq!(owed(s, alice, 0).await, [1, 2, 3, 5, 6, 7, 8, 9, 10]);
    assert_eq!(owed(s, alice, 6).await, [7, 8, 9, 10]);
    acknowledge(s, alice, 2, &[(5, 6), (9, 9)]).await;
    assert_eq!(owed(s, alice, 0).await, [3, 7, 8, 10]);
    bench.reopen().await;
    let s = &bench.storage;
    assert_eq!(owed(s, alice, 0).await, [3, 7, 8, 10]);
    let stored = s.archive_watermark(alice).await.unwrap();
    assert_eq!(
        (stored.acked_up_to, stored.acked_above.len()),
        (Position(2), 2)
    );
    let rows = s
        .archive_debts(alice, Position(0), 1, u64::MAX)
        .await
        .unwrap()
        .rows;
    assert_eq!(
        (&rows[0].bytes[..], rows[0].at),
        (&b"<message><body>m3</body></message>"[..], at(3))
    );
    acknowledge(s, alice, 10, &[]).await;
    assert_eq!(owed(s, alice, 0).await, Vec::<i64>::new());
    assert_eq!(
        s.archive_debt_total(alice, 100).await.unwrap(),
        DebtTotals::default()
    );
}

pub async fn unarchived_debts(bench: &mut Bench) {
    let s = &bench.storage;
    let alice = account(s, "alice").await;
    for n in 1..=4 {
        s.archive_commit(single("x", vec![row(alice, 0, BOB, OWED_ONLY, at(n))]))
            .await
            .unwrap();
    }
    let archived = s
        .archive_commit(single("x", vec![row(alice, 0, BOB, OWED, at(5))]))
        .await
        .unwrap()[0];
    assert_eq!(archived, Position(5));
    acknowledge(s, alice, 2, &[(4, 5)]).await;
    assert_eq!(forget_paid(s, 100).await, 2, "what the watermark is past");
    assert_eq!(owed(s, alice, 0).await, [3]);
    acknowledge(s, alice, 5, &[]).await;
    assert_eq!(forget_paid(s, 100).await, 2, "not what is archived");
    let counts = s.counts(&|_, _| {}).await.unwrap();
    let rows = |table: &str| counts.iter().find(|c| c.table == table).unwrap().rows;
    assert_eq!((rows("archive"), rows("message")), (1, 1));
    let metadata = s.archive_metadata(alice).await.unwrap();
    assert_eq!(metadata.first.unwrap().0, archived);
}

/// Every step until all accounts were looked at; answers how many rows went.
async fn forget_paid(s: &Arc<dyn Storage>, limit: u32) -> u64 {
    let (mut gone, mut next) = (0, Some(AccountId(0)));
    while let Some(from) = next {
        let step = s.archive_forget_paid(FENCE, from, limit).await.unwrap();
        assert!(step.rows_deleted <= u64::from(limit));
        gone += step.rows_deleted;
        next = step.next;
    }
    while s.sweep(FENCE, Timestamp(0)).await.unwrap() > 0 {}
    gone
}

pub async fn paid_debts_of_many_accounts(bench: &mut Bench) {
    let s = &bench.storage;
    let mut commit = single("x", vec![]);
    let mut accounts = Vec::new();
    for n in 0..150 {
        let owner = account(s, &format!("a{n}")).await;
        for _ in 0..3 {
            commit.rows.push(row(owner, 0, BOB, OWED_ONLY, at(n)));
        }
        accounts.push(owner);
    }
    s.archive_commit(commit).await.unwrap();
    assert_eq!(forget_paid(s, 7).await, 0);
    for owner in &accounts {
        acknowledge(s, *owner, 2, &[]).await;
    }
    assert_eq!(forget_paid(s, 7).await, 300);
    assert_eq!(owed(s, accounts[149], 0).await, [3]);
    bench.reopen().await;
    let s = &bench.storage;
    acknowledge(s, accounts[0], 3, &[]).await;
    assert_eq!(forget_paid(s, 7).await, 1);
    bench.reopen().await;
    let again = single("y", vec![row(accounts[0], 0, BOB, OWED_ONLY, at(200))]);
    let given = bench.storage.archive_commit(again).await.unwrap();
    assert_eq!(given, [Position(4)], "no position is given twice");
}

pub async fn watermark_never_falls(bench: &mut Bench) {
    let s = &bench.storage;
    let alice = account(s, "alice").await;
    for n in 1..=5 {
        s.archive_commit(single("x", vec![row(alice, 0, BOB, OWED, at(n))]))
            .await
            .unwrap();
    }
    acknowledge(s, alice, 4, &[]).await;
    acknowledge(s, alice, 2, &[]).await;
    assert_eq!(owed(s, alice, 0).await, [5]);
    // Two in one batch: the later one counts.
    let mut commit = Commit::new(FENCE);
    for up_to in [4, 5] {
        commit.watermarks.push((
            alice,
            Watermark {
                acked_up_to: Position(up_to),
                acked_above: vec![],
            },
        ));
    }
    s.archive_commit(commit).await.unwrap();
    assert_eq!(owed(s, alice, 0).await, Vec::<i64>::new());
    // For an account that does not exist nothing is kept.
    acknowledge(s, AccountId(alice.0 + 99), 4, &[]).await;
    assert_eq!(
        s.archive_watermark(AccountId(alice.0 + 99)).await.unwrap(),
        Watermark::default()
    );
}

pub async fn messages_go_with_their_last_owner(bench: &mut Bench) {
    let s = &bench.storage;
    let (alice, bob) = (account(s, "alice").await, account(s, "bob").await);
    let rows = vec![
        row(alice, 0, BOB, OWED_ONLY, at(0)),
        row(bob, 0, "a@x", OWED_ONLY, at(0)),
    ];
    s.archive_commit(single("x", rows)).await.unwrap();
    for (owner, left) in [(alice, 1), (bob, 0)] {
        acknowledge(s, owner, 1, &[]).await;
        assert_eq!(forget_paid(s, 100).await, 1);
        let counts = s.counts(&|_, _| {}).await.unwrap();
        assert_eq!(
            counts.iter().find(|c| c.table == "message").unwrap().rows,
            left
        );
    }
}

/// Most of what lies above the watermark was sent: a page looks at so many rows and says how far it looked.
pub async fn debts_among_sent_rows(bench: &mut Bench) {
    let s = &bench.storage;
    let alice = account(s, "alice").await;
    let page = async |after: i64, limit: u32| {
        let page = s.archive_debts(alice, Position(after), limit, u64::MAX);
        let page = page.await.unwrap();
        let rows: Vec<_> = page.rows.iter().map(|row| row.pos.0).collect();
        (rows, page.up_to.0, page.complete)
    };
    assert_eq!(page(0, 9).await, (vec![], 0, true));
    let look = i64::from(DEBT_LOOK_ROWS_MAX);
    let debts = [look + 2, look + 4];
    let mut commit = single("x", vec![]);
    for pos in 1..=look + 5 {
        let flags = if debts.contains(&pos) { OWED } else { SENT };
        commit.rows.push(row(alice, 0, BOB, flags, at(pos)));
        if commit.rows.len() == 1000 || pos == look + 5 {
            s.archive_commit(commit.clone()).await.unwrap();
            commit.rows.clear();
        }
    }
    assert_eq!(page(0, 9).await, (vec![], look, false));
    assert_eq!(page(look, 1).await, (vec![look + 2], look + 2, false));
    assert_eq!(page(look, 2).await, (debts.to_vec(), look + 5, true));
    assert_eq!(page(look + 4, 9).await, (vec![], look + 5, true));
    assert_eq!(page(look + 5, 9).await, (vec![], look + 5, true));
    assert_eq!(
        s.archive_debt_total(alice, 9).await.unwrap().archived.rows,
        2
    );
    acknowledge(s, alice, look + 5, &[]).await;
    assert_eq!(page(0, 9).await, (vec![], look + 5, true));
}

pub async fn limits(bench: &mut Bench) {
    let s = &bench.storage;
    let alice = account(s, "alice").await;
    let size = message("12345").bytes.len() as u64;
    for n in 1..=10 {
        s.archive_commit(single("12345", vec![row(alice, 0, BOB, OWED, at(n))]))
            .await
            .unwrap();
    }
    let got = |page: DebtPage| page.rows.len();
    assert_eq!(
        got(s
            .archive_debts(alice, Position(0), 3, u64::MAX)
            .await
            .unwrap()),
        3
    );
    assert_eq!(
        got(s
            .archive_debts(alice, Position(0), 100, size * 4)
            .await
            .unwrap()),
        4
    );
    assert_eq!(
        got(s.archive_debts(alice, Position(0), 100, 1).await.unwrap()),
        1
    );
    assert_eq!(
        got(s
            .archive_debts(alice, Position(9), 100, u64::MAX)
            .await
            .unwrap()),
        1
    );
    let total = s.archive_debt_total(alice, 100).await.unwrap();
    assert_eq!(
        total,
        DebtTotals {
            archived: DebtTotal {
                rows: 10,
                bytes: size * 10
            },
            unarchived: DebtTotal::default(),
        }
    );
    // Each kind is counted for itself.
    let bob = account(s, "bob").await;
    let rows = [OWED, OWED_ONLY, OWED_ONLY].map(|flags| row(bob, 0, BOB, flags, at(1)));
    s.archive_commit(single("12345", rows.to_vec()))
        .await
        .unwrap();
    let total = s.archive_debt_total(bob, 100).await.unwrap();
    let sizes = [total.archived, total.unarchived].map(|kind| (kind.rows, kind.bytes));
    assert_eq!(sizes, [(1, size), (2, size * 2)]);
    assert_eq!(
        s.archive_debt_total(alice, 4).await.unwrap().archived.rows,
        4
    );
    // More ranges than are kept: the later ones are owed again, none is lost.
    for n in 11..=600 {
        s.archive_commit(single("x", vec![row(alice, 0, BOB, OWED, at(n))]))
            .await
            .unwrap();
    }
    let above: Vec<_> = (1..300).map(|n| (n * 2, n * 2)).collect();
    acknowledge(s, alice, 0, &above).await;
    let left = owed(s, alice, 0).await;
    assert_eq!(left.len(), 600 - Watermark::RANGES_MAX);
}
