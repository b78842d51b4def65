//! Copies between engines, backups and their restoring.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::conformance::{ARCHIVED, account, at, fill, row, single};
use crate::server::Postgres;
use eider_storage::{
    ArchiveFilter, Config, Direction, Error, PageRequest, Position, PostgresConfig, SqliteConfig,
};

fn file(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("eider-copy-{}-{name}", std::process::id()));
    for suffix in ["", "-wal", "-shm"] {
        let mut file = path.clone().into_os_string();
        file.push(suffix);
        drop(std::fs::remove_file(file));
    }
    path
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn there_and_back() {
    let server = Postgres::start(&["fsync=off"]).expect("PostgreSQL starts");
    let url = server.database("eider").expect("a database can be made");
    let (first, second) = (file("first"), file("second"));
    let (from, to) = (
        Config::Sqlite(SqliteConfig::new(&first)),
        Config::Postgres(PostgresConfig::new(url)),
    );
    let s = eider_storage::open(&from).await.expect("opens");
    let alice = fill(&s).await;
    let gone = account(&s, "gone").await;
    for n in 0..2500 {
        let rows = vec![row(alice, 0, "bob@example.org", ARCHIVED, at(100 + n))];
        s.archive_commit(single(&format!("bulk{n}"), rows))
            .await
            .expect("commits");
    }
    s.account_remove(crate::conformance::FENCE, gone)
        .await
        .expect("removes");
    s.close().await;

    let told = AtomicU64::new(0);
    let progress = |_: &str, rows: u64| {
        told.fetch_add(rows, Ordering::Relaxed);
    };
    let copied = eider_storage::copy(&from, &to, &progress)
        .await
        .expect("copies");
    assert!(told.load(Ordering::Relaxed) > 2500);
    assert!(matches!(
        eider_storage::copy(&from, &to, &progress).await,
        Err(Error::Conflict(_))
    ));
    let s = eider_storage::open(&to).await.expect("opens");
    assert_eq!(s.counts(&|_, _| {}).await.expect("counts"), copied);
    let word = ArchiveFilter {
        text: Some("bulk77".into()),
        ..Default::default()
    };
    let page = PageRequest {
        direction: Direction::Forward,
        anchor: None,
        limit: 10,
        count_max: 0,
    };
    assert_eq!(
        s.archive_query(alice, &word, &page)
            .await
            .expect("finds")
            .rows
            .len(),
        1
    );
    // Ids and positions go on after what was copied.
    assert!(account(&s, "new").await > gone);
    let next = s
        .archive_commit(single(
            "on",
            vec![row(alice, 0, "bob@example.org", ARCHIVED, at(9999))],
        ))
        .await;
    assert_eq!(next.expect("commits"), [Position(2531)]);
    let before = s.counts(&|_, _| {}).await.expect("counts");
    s.close().await;

    let back = Config::Sqlite(SqliteConfig::new(&second));
    assert_eq!(
        eider_storage::copy(&to, &back, &|_, _| {})
            .await
            .expect("copies back"),
        before
    );
    let s = eider_storage::open(&back).await.expect("opens");
    assert_eq!(
        s.archive_query(alice, &word, &page)
            .await
            .expect("finds")
            .rows
            .len(),
        1
    );
    let rows = vec![row(alice, 0, "bob@example.org", ARCHIVED, at(9999))];
    assert_eq!(
        s.archive_commit(single("on", rows)).await.expect("commits"),
        [Position(2532)]
    );
    s.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupted_copy_goes_on() {
    let server = Postgres::start(&["fsync=off"]).expect("PostgreSQL starts");
    let url = server.database("eider").expect("a database can be made");
    let source = file("source");
    let (from, to) = (
        Config::Sqlite(SqliteConfig::new(&source)),
        Config::Postgres(PostgresConfig::new(url)),
    );
    let s = eider_storage::open(&from).await.expect("opens");
    let alice = fill(&s).await;
    for n in 0..5000 {
        let rows = vec![row(alice, 0, "bob@example.org", ARCHIVED, at(100 + n))];
        s.archive_commit(single("x", rows)).await.expect("commits");
    }
    s.close().await;
    // Ended in the middle of the messages: the future is dropped there.
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let stop = parking_lot::Mutex::new(Some(stop));
    let progress = |table: &str, rows: u64| {
        if table == "message" && rows >= 2000 {
            drop(stop.lock().take());
        }
    };
    tokio::select! {
        biased;
        _ = stopped => {}
        done = eider_storage::copy(&from, &to, &progress) => panic!("not interrupted: {done:?}"),
    }
    let partial = server
        .sql("eider", "SELECT count(*) FROM message")
        .expect("reads");
    assert!(
        (2000..5030).contains(&partial.parse::<u64>().expect("a number")),
        "{partial}"
    );
    let other = Config::Sqlite(SqliteConfig::new(file("other")));
    let s = eider_storage::open(&other).await.expect("opens");
    s.close().await;
    assert!(matches!(
        eider_storage::copy(&other, &to, &|_, _| {}).await,
        Err(Error::Conflict(_))
    ));
    let counts = eider_storage::copy(&from, &to, &|_, _| {})
        .await
        .expect("goes on");
    assert_eq!(
        counts
            .iter()
            .find(|count| count.table == "message")
            .expect("a table")
            .rows,
        5030
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backups_are_restored_on_either_engine() {
    let server = Postgres::start(&["fsync=off"]).expect("PostgreSQL starts");
    let sqlite = Config::Sqlite(SqliteConfig::new(file("live")));
    let postgres = Config::Postgres(PostgresConfig::new(
        server.database("eider").expect("makes"),
    ));
    for (config, other) in [(&sqlite, "one"), (&postgres, "two")] {
        let s = eider_storage::open(config).await.expect("opens");
        fill(&s).await;
        let target = file(&format!("backup-{other}"));
        let written = s.backup(&target, &|_, _| {}).await.expect("backs up");
        s.close().await;
        let database = server.database(other).expect("makes");
        for restored in [
            Config::Sqlite(SqliteConfig::new(file(&format!("restored-{other}")))),
            Config::Postgres(PostgresConfig::new(database)),
        ] {
            let counts = eider_storage::restore(&target, &restored, &|_, _| {})
                .await
                .expect("restores");
            assert_eq!(counts, written);
            let s = eider_storage::open(&restored).await.expect("opens");
            assert!(
                s.account_login("example.org", "alice")
                    .await
                    .expect("reads")
                    .is_some()
            );
            s.close().await;
        }
    }
    let missing = eider_storage::restore(&file("none"), &sqlite, &|_, _| {}).await;
    assert!(missing.is_err());
}
