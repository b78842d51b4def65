//! Copies between engines, backups and their restoring.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::conformance::{ARCHIVED, account, at, fill, row, single};
use crate::server::Postgres;
use crate::sqlite::Directory;
use eider_storage::{
    AccountId, ArchiveFilter, Config, Direction, Error, PageRequest, Position, PostgresConfig,
    SqliteConfig, Storage,
};

/// How many rows of the archive have this word.
async fn found(s: &Arc<dyn Storage>, owner: AccountId, word: &str) -> usize {
    let filter = ArchiveFilter {
        text: Some(word.into()),
        ..Default::default()
    };
    let page = PageRequest {
        direction: Direction::Forward,
        anchor: None,
        limit: 10,
        bytes_max: u64::MAX,
        count_max: 0,
    };
    s.archive_query(owner, &filter, &page)
        .await
        .expect("finds")
        .rows
        .len()
}

/// Something in most tables and many messages; answers an account and the id of one that is gone.
async fn filled(config: &Config, messages: i64) -> (AccountId, AccountId) {
    let s = eider_storage::open(config).await.expect("opens");
    let alice = fill(&s).await;
    let gone = account(&s, "gone").await;
    for n in 0..messages {
        let rows = vec![row(alice, 0, "bob@example.org", ARCHIVED, at(100 + n))];
        s.archive_commit(single(&format!("bulk{n}"), rows))
            .await
            .expect("commits");
    }
    s.account_remove(crate::conformance::FENCE, gone)
        .await
        .expect("removes");
    s.close().await;
    (alice, gone)
}

/// The database at `config` is used like the one it is a copy of.
async fn goes_on(config: &Config, alice: AccountId, next: i64) -> Vec<eider_storage::TableCount> {
    let s = eider_storage::open(config).await.expect("opens");
    assert_eq!(found(&s, alice, "bulk77").await, 1);
    let rows = vec![row(alice, 0, "bob@example.org", ARCHIVED, at(9999))];
    assert_eq!(
        s.archive_commit(single("on", rows)).await.expect("commits"),
        [Position(next)]
    );
    let counts = s.counts(&|_, _| {}).await.expect("counts");
    s.close().await;
    counts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn there_and_back() {
    let (server, directory) = (
        Postgres::start(&["fsync=off"]).expect("PostgreSQL starts"),
        Directory::new(),
    );
    let url = server.database("eider").expect("a database can be made");
    let from = Config::Sqlite(SqliteConfig::new(directory.file("first")));
    let to = Config::Postgres(PostgresConfig::new(url));
    let (alice, gone) = filled(&from, 2500).await;

    let told = AtomicU64::new(0);
    let progress = |_: &str, rows: u64| {
        told.fetch_add(rows, Ordering::Relaxed);
    };
    let copied = eider_storage::copy(&from, &to, &progress)
        .await
        .expect("copies");
    assert!(told.load(Ordering::Relaxed) > 2500);
    let again = eider_storage::copy(&from, &to, &progress).await;
    assert!(matches!(again, Err(Error::Conflict(_))));
    let s = eider_storage::open(&to).await.expect("opens");
    assert_eq!(s.counts(&|_, _| {}).await.expect("counts"), copied);
    // Ids and positions go on after what was copied.
    assert!(account(&s, "new").await > gone);
    s.close().await;
    let before = goes_on(&to, alice, 2531).await;

    let back = Config::Sqlite(SqliteConfig::new(directory.file("second")));
    assert_eq!(
        eider_storage::copy(&to, &back, &|_, _| {})
            .await
            .expect("copies back"),
        before
    );
    goes_on(&back, alice, 2532).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupted_copy_goes_on() {
    let server = Postgres::start(&["fsync=off"]).expect("PostgreSQL starts");
    let url = server.database("eider").expect("a database can be made");
    let directory = Directory::new();
    let from = Config::Sqlite(SqliteConfig::new(directory.file("source")));
    let to = Config::Postgres(PostgresConfig::new(url));
    filled(&from, 5000).await;
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
    // Nobody takes half of it for the whole.
    let opened = eider_storage::open(&to).await.map(drop);
    assert!(matches!(opened, Err(Error::Unfinished(_))), "{opened:?}");
    let other = Config::Sqlite(SqliteConfig::new(directory.file("other")));
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
    let s = eider_storage::open(&to).await.expect("opens");
    s.close().await;
}

async fn alice_of(s: &Arc<dyn Storage>) -> AccountId {
    let login = s.account_login("example.org", "alice").await;
    login.expect("reads").expect("is there").id
}

/// One more message in the archive; answers its position.
async fn receive(s: &Arc<dyn Storage>, owner: AccountId) -> Position {
    let rows = vec![row(owner, 0, "bob@example.org", ARCHIVED, at(9999))];
    let given = s.archive_commit(single("later", rows)).await;
    given.expect("commits")[0]
}

async fn roster_version(s: &Arc<dyn Storage>, account: AccountId) -> i64 {
    s.roster_items(account).await.expect("reads").version
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backups_are_restored_on_either_engine() {
    let directory = Directory::new();
    let server = Postgres::start(&["fsync=off"]).expect("PostgreSQL starts");
    let sqlite = Config::Sqlite(SqliteConfig::new(directory.file("live")));
    let postgres = Config::Postgres(PostgresConfig::new(
        server.database("eider").expect("makes"),
    ));
    for (config, other) in [(&sqlite, "one"), (&postgres, "two")] {
        let s = eider_storage::open(config).await.expect("opens");
        fill(&s).await;
        let target = directory.file(&format!("backup-{other}"));
        // What an interrupted backup left is in nobody's way.
        std::fs::write(directory.file(&format!("backup-{other}.part")), "half").expect("writes");
        let written = s.backup(&target, &|_, _| {}).await.expect("backs up");
        assert!(!directory.file(&format!("backup-{other}.part")).exists());
        // Clients see what no backup has.
        let alice = alice_of(&s).await;
        let seen = receive(&s, alice).await;
        let version = roster_version(&s, alice).await;
        s.close().await;
        let database = server.database(other).expect("makes");
        for restored in [
            Config::Sqlite(SqliteConfig::new(
                directory.file(&format!("restored-{other}")),
            )),
            Config::Postgres(PostgresConfig::new(database)),
        ] {
            let counts = eider_storage::restore(&target, &restored, &|_, _| {})
                .await
                .expect("restores");
            assert_eq!(counts, written);
            let s = eider_storage::open(&restored).await.expect("opens");
            let alice = alice_of(&s).await;
            assert!(receive(&s, alice).await > seen);
            assert!(roster_version(&s, alice).await > version);
            s.close().await;
        }
    }
    let missing = eider_storage::restore(&directory.file("none"), &sqlite, &|_, _| {}).await;
    assert!(missing.is_err());
}

/// What is read and written at once is bounded by bytes too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_messages_are_copied_a_few_at_once() {
    const COUNT: u64 = 40;
    let directory = Directory::new();
    let server = Postgres::start(&["fsync=off"]).expect("PostgreSQL starts");
    let from = Config::Sqlite(SqliteConfig::new(directory.file("large")));
    let to = Config::Postgres(PostgresConfig::new(
        server.database("eider").expect("makes"),
    ));
    let s = eider_storage::open(&from).await.expect("opens");
    let alice = account(&s, "alice").await;
    let mut commit = single("large", vec![]);
    commit.messages[0].bytes = vec![b'x'; 1 << 20].into();
    commit.messages = vec![commit.messages[0].clone(); COUNT as usize];
    for message in 0..COUNT as usize {
        let at = at(message as i64);
        commit
            .rows
            .push(row(alice, message, "bob@example.org", ARCHIVED, at));
    }
    s.archive_commit(commit).await.expect("commits");
    s.close().await;
    // Rows told of: since the last time, and the most at once.
    let told = parking_lot::Mutex::new((0, 0));
    let progress = |table: &str, rows: u64| {
        if table == "message" {
            let (last, most) = *told.lock();
            *told.lock() = (rows, most.max(rows.saturating_sub(last)));
        }
    };
    eider_storage::copy(&from, &to, &progress)
        .await
        .expect("copies");
    let s = eider_storage::open(&to).await.expect("opens");
    let backup = directory.file("backup");
    let written = s.backup(&backup, &progress).await.expect("backs up");
    s.close().await;
    let messages = written.iter().find(|count| count.table == "message");
    assert_eq!(messages.expect("a table").rows, COUNT);
    assert_eq!(*told.lock(), (COUNT, 8));
}

/// A backup of the version before, whose tables were the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_backup_is_restored() {
    let directory = Directory::new();
    let backup = directory.file("backup");
    let file = rusqlite::Connection::open(&backup).expect("makes a file");
    for sql in [
        include_str!("../../migrations/sqlite/0001_initial.sql"),
        include_str!("../../migrations/sqlite/0002_text_of_messages.sql"),
        "PRAGMA user_version = 2;
         INSERT INTO account (id, host, localpart, credentials, created_at)
         VALUES (1, 'example.org', 'alice', x'01000000', 1);",
    ] {
        file.execute_batch(sql).expect("fills it");
    }
    drop(file);
    let to = Config::Sqlite(SqliteConfig::new(directory.file("restored")));
    eider_storage::restore(&backup, &to, &|_, _| {})
        .await
        .expect("restores");
    let s = eider_storage::open(&to).await.expect("opens");
    assert_eq!(alice_of(&s).await, AccountId(1));
    s.close().await;
}
