//! Archive pages from a streaming replica, never staler than the bound.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::conformance::archive::{BOB, forward, say};
use crate::conformance::{FENCE, account};
use crate::server::Postgres;
use eider_storage::{
    AccountId, ArchiveFilter, Config, PageRequest, Position, PostgresConfig, Storage,
};

const BOUND: Duration = Duration::from_millis(400);

/// A page, and whether the replica gave it.
async fn page(s: &Arc<dyn Storage>, standby: &Postgres, owner: AccountId) -> (Vec<String>, bool) {
    let read_there = || {
        let sql = "SELECT max(query_start) FROM pg_stat_activity
                   WHERE application_name = 'eider' AND query LIKE 'WITH fitting%'";
        standby.sql("eider", sql).expect("the standby answers")
    };
    let before = read_there();
    let request = PageRequest {
        count_max: 0,
        ..forward(None, 9)
    };
    let filter = ArchiveFilter::default();
    let page = s.archive_query(owner, &filter, &request);
    let rows = page.await.expect("the page is read").rows;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let texts = rows.iter().map(|row| text(&row.bytes)).collect();
    let after = read_there();
    (texts, !after.is_empty() && after != before)
}

/// Reads until the replica gives the page.
async fn page_from_replica(
    s: &Arc<dyn Storage>,
    standby: &Postgres,
    owner: AccountId,
) -> Vec<String> {
    let began = Instant::now();
    loop {
        let (texts, replica) = page(s, standby, owner).await;
        if replica {
            return texts;
        }
        assert!(began.elapsed() < Duration::from_secs(20));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_come_from_a_fresh_replica() {
    let primary = Postgres::start(&["fsync=off"]).expect("PostgreSQL starts");
    let mut config = PostgresConfig::new(primary.database("eider").expect("makes"));
    let mut standby = primary.standby().expect("a standby starts");
    config.reader_url = Some(standby.url("eider"));
    config.reader_staleness_max = BOUND;
    let s = eider_storage::open(&Config::Postgres(config))
        .await
        .expect("opens");
    let alice = account(&s, "alice").await;
    say(&s, alice, BOB, "one", 0).await;
    assert_eq!(page_from_replica(&s, &standby, alice).await.len(), 1);
    // Nothing is written: however long ago the last commit was, the replica has it.
    tokio::time::sleep(BOUND * 2).await;
    assert_eq!(page_from_replica(&s, &standby, alice).await.len(), 1);

    // Behind: a new row is seen at once, a tombstone within the bound.
    let pause = "SELECT pg_wal_replay_pause()";
    standby.sql("eider", pause).expect("replay pauses");
    while standby
        .sql("eider", "SELECT pg_get_wal_replay_pause_state()")
        .expect("answers")
        != "paused"
    {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let replaced = s.archive_replace(FENCE, alice, Position(1), b"<gone/>");
    assert!(replaced.await.expect("replaces"));
    tokio::time::sleep(BOUND * 2).await;
    assert_eq!(
        page(&s, &standby, alice).await,
        (vec!["<gone/>".into()], false)
    );
    say(&s, alice, BOB, "two", 1).await;
    let (texts, replica) = page(&s, &standby, alice).await;
    assert!(texts.len() == 2 && !replica, "{texts:?}");

    // Caught up, it is read again; gone, the primary is.
    let resume = "SELECT pg_wal_replay_resume()";
    standby.sql("eider", resume).expect("replay goes on");
    let texts = page_from_replica(&s, &standby, alice).await;
    assert!(texts.len() == 2 && texts[0] == "<gone/>", "{texts:?}");
    standby.kill();
    let (filter, request) = (ArchiveFilter::default(), forward(None, 9));
    let page = s.archive_query(alice, &filter, &request).await;
    assert_eq!(page.expect("the primary answers").rows.len(), 2);
    s.close().await;
}
