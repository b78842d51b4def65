//! The conformance suite on SQLite, and what is particular to it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::conformance::archive::{BOB, forward, places, say};
use crate::conformance::{ARCHIVED, Bench, FENCE, NOW, account, row, single};
use eider_storage::{AccountId, ArchiveFilter, Config, Keep, SqliteConfig, Storage};

/// A directory that goes with its value.
pub struct Directory(PathBuf);

impl Directory {
    pub fn new() -> Directory {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "eider-sqlite-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("a temporary directory can be made");
        Directory(path)
    }
}

impl Directory {
    /// A file's path in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

pub async fn start() -> (Bench, Directory) {
    let directory = Directory::new();
    let config = Config::Sqlite(SqliteConfig::new(directory.0.join("eider.db")));
    let storage = eider_storage::open(&config).await.expect("SQLite opens");
    (Bench { storage, config }, directory)
}

crate::conformance!(crate::sqlite::start);

async fn found(s: &Arc<dyn Storage>, owner: AccountId, word: &str) -> Vec<i64> {
    let filter = ArchiveFilter {
        text: Some(word.into()),
        ..Default::default()
    };
    let page = s.archive_query(owner, &filter, &forward(None, 5000)).await;
    places(&page.expect("finds"))
}

/// Up to where words are indexed.
fn head(path: &std::path::Path) -> i64 {
    rusqlite::Connection::open(path)
        .and_then(|file| file.query_row("SELECT up_to FROM words_head", [], |row| row.get(0)))
        .expect("reads the head")
}

async fn until_indexed(path: &std::path::Path, up_to: i64) {
    let began = Instant::now();
    while head(path) < up_to {
        assert!(began.elapsed() < Duration::from_secs(20), "{}", head(path));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn words_are_found_before_and_after_they_are_indexed() {
    let directory = Directory::new();
    let path = directory.file("eider.db");
    let config = Config::Sqlite(SqliteConfig::new(&path));
    let s = eider_storage::open(&config).await.expect("opens");
    let alice = account(&s, "alice").await;
    let expected: Vec<i64> = (1..=1300).collect();
    for n in &expected {
        say(&s, alice, BOB, &format!("word n{n}"), *n).await;
        if n % 97 == 0 {
            assert_eq!(found(&s, alice, "WORD").await, expected[..*n as usize]);
            assert_eq!(found(&s, alice, &format!("n{n}")).await, [*n]);
        }
    }
    until_indexed(&path, 1300).await;
    assert_eq!(found(&s, alice, "word").await, expected);

    // What is deleted is not found, indexed or not, and its message's number is not given to an unfindable one.
    say(&s, alice, BOB, "word unindexed", 1301).await;
    let keep = Keep {
        rows_max: Some(0),
        ..Default::default()
    };
    s.archive_retain(FENCE, alice, keep, 5000)
        .await
        .expect("deletes");
    assert!(found(&s, alice, "word").await.is_empty());
    s.close().await;
    let s = eider_storage::open(&config).await.expect("opens");
    say(&s, alice, BOB, "word again", 1302).await;
    assert_eq!(found(&s, alice, "word").await, [1302]);
    until_indexed(&path, 1301).await;
    assert_eq!(found(&s, alice, "word").await, [1302]);
    s.close().await;
}

/// A file of the first version: its words are found.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn words_of_the_first_version_are_kept() {
    let directory = Directory::new();
    let path = directory.file("eider.db");
    let config = Config::Sqlite(SqliteConfig::new(&path));
    let file = rusqlite::Connection::open(&path).expect("makes a file");
    file.execute_batch(include_str!("../../migrations/sqlite/0001_initial.sql"))
        .and_then(|()| {
            file.execute_batch(
                "PRAGMA user_version = 1;
                 INSERT INTO account (id, host, localpart, credentials, created_at)
                 VALUES (1, 'example.org', 'alice', x'01000000', 1), (2, 'example.org', 'bob', x'01000000', 1);
                 INSERT INTO archive_owner (owner) VALUES (1), (2);
                 INSERT INTO message (id, owners, bytes) VALUES (7, 2, x'');
                 INSERT INTO archive (owner, pos, at, message, flags, kind, peer)
                 VALUES (1, 3, 1, 7, 1, 1, 'bob@example.org'), (2, 5, 1, 7, 1, 1, 'alice@example.org');
                 INSERT INTO archive_text (owner, pos, content) VALUES (1, 3, 'fox quick'), (2, 5, 'fox quick');",
            )
        })
        .expect("fills it");
    drop(file);
    let s = eider_storage::open(&config).await.expect("opens");
    for _ in 0..2 {
        assert_eq!(found(&s, AccountId(1), "quick").await, [3]);
        assert_eq!(found(&s, AccountId(2), "fox").await, [5]);
        until_indexed(&path, 7).await;
    }
    s.close().await;
}

/// Where the child process of the test below finds its database.
const DATABASE: &str = "EIDER_TEST_DATABASE";

/// The child: commits until the disk fails, and says what it is told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_in_a_process_of_its_own() {
    let Some(path) = std::env::var_os(DATABASE) else {
        return;
    };
    let config = Config::Sqlite(SqliteConfig::new(path));
    let s = eider_storage::open(&config).await.expect("opens");
    let alice = account(&s, "alice").await;
    let text = "x".repeat(10_000);
    for n in 1..10_000 {
        let rows = vec![row(alice, 0, BOB, ARCHIVED, NOW)];
        match s.archive_commit(single(&text, rows)).await {
            Ok(_) => println!("\nstored {n}"),
            Err(error) => return println!("\ntold {error}"),
        }
    }
}

/// A disk that fails in a commit may have the commit: the process ends without a word to anybody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_the_disk_fails_is_not_called_failed() {
    let directory = Directory::new();
    let path = directory.file("eider.db");
    let child = std::process::Command::new("sh")
        .arg("-c")
        .arg("trap '' XFSZ; ulimit -f 8000; exec \"$0\" --exact sqlite::commits_in_a_process_of_its_own --nocapture")
        .arg(std::env::current_exe().expect("this program has a path"))
        .env(DATABASE, &path)
        .output()
        .expect("runs");
    let said = String::from_utf8_lossy(&child.stdout);
    let stored = said
        .lines()
        .filter(|line| line.starts_with("stored "))
        .count();
    assert!(stored > 10 && !said.contains("told"), "{said}");
    assert_eq!(child.status.code(), Some(74), "{child:?}");
    let config = Config::Sqlite(SqliteConfig::new(&path));
    let s = eider_storage::open(&config).await.expect("opens again");
    let found = s.account_id("example.org", "alice").await;
    let alice = found.expect("reads").expect("alice is there");
    let last = s.archive_last_position(alice).await.expect("reads");
    assert!(last.0 as usize >= stored, "{last:?} of {stored}");
    s.close().await;
}
