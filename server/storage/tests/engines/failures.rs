//! PostgreSQL that crashes, hangs, turns read-only or loses a connection in the middle of a commit.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::conformance::{FENCE, NOW, OWED, SENT, account, at, row, single};
use crate::server::Postgres;
use eider_storage::{
    AccountId, ArchiveFilter, CommitError, Config, Direction, Error, PageRequest, Position,
    PostgresConfig, Storage,
};

async fn open(server: &Postgres) -> Arc<dyn Storage> {
    let url = server.database("eider").expect("a database can be made");
    let config = Config::Postgres(PostgresConfig::new(url));
    eider_storage::open(&config)
        .await
        .expect("PostgreSQL opens")
}

async fn send(
    s: &Arc<dyn Storage>,
    alice: AccountId,
    bob: AccountId,
    text: &str,
) -> Result<Vec<Position>, CommitError> {
    let rows = vec![
        row(alice, 0, "bob@example.org", SENT, NOW),
        row(bob, 0, "alice@example.org", OWED, NOW),
    ];
    s.archive_commit(single(text, rows)).await
}

/// What a server does: waits until it is known.
async fn settle(
    s: &Arc<dyn Storage>,
    result: Result<Vec<Position>, CommitError>,
) -> Option<Vec<Position>> {
    match result {
        Ok(positions) => Some(positions),
        Err(CommitError::Failed(_)) => None,
        Err(CommitError::Unknown(unknown)) => loop {
            match s.archive_resolve(&unknown).await {
                Ok(fate) => return fate,
                Err(Error::Unavailable(_)) => tokio::time::sleep(Duration::from_millis(20)).await,
                Err(other) => panic!("{other}"),
            }
        },
    }
}

async fn everything(s: &Arc<dyn Storage>, owner: AccountId) -> Vec<(i64, String)> {
    let page = PageRequest {
        direction: Direction::Forward,
        anchor: None,
        limit: 1_000_000,
        bytes_max: u64::MAX,
        count_max: 0,
    };
    let rows = s
        .archive_query(owner, &ArchiveFilter::default(), &page)
        .await
        .expect("the archive can be read")
        .rows;
    rows.into_iter()
        .map(|row| (row.pos.0, String::from_utf8_lossy(&row.bytes).into_owned()))
        .collect()
}

/// Every accepted message is there once, at its position; every refused one is not; positions have no holes that a
/// later commit could fill.
async fn check(s: &Arc<dyn Storage>, bob: AccountId, outcomes: &[(String, Option<Vec<Position>>)]) {
    let stored = everything(s, bob).await;
    let bodies: HashSet<_> = stored.iter().map(|(_, body)| body.clone()).collect();
    assert_eq!(bodies.len(), stored.len(), "stored twice");
    for (text, fate) in outcomes {
        let body = format!("<message><body>{text}</body></message>");
        match fate {
            Some(positions) => {
                assert!(
                    stored.contains(&(positions[1].0, body)),
                    "{text} is not at {positions:?}"
                );
            }
            None => assert!(!bodies.contains(&body), "{text} was refused and is there"),
        }
    }
    assert_eq!(
        stored.len(),
        outcomes.iter().filter(|(_, fate)| fate.is_some()).count()
    );
}

/// Commits until told to stop; answers each text's fate.
fn writer(
    s: &Arc<dyn Storage>,
    alice: AccountId,
    bob: AccountId,
    name: usize,
    stop: &Arc<std::sync::atomic::AtomicBool>,
) -> tokio::task::JoinHandle<Vec<(String, Option<Vec<Position>>)>> {
    let (s, stop) = (s.clone(), stop.clone());
    tokio::spawn(async move {
        let mut outcomes = Vec::new();
        while !stop.load(std::sync::atomic::Ordering::Relaxed) {
            let text = format!("{name}-{}", outcomes.len());
            let began = Instant::now();
            let result = send(&s, alice, bob, &text).await;
            assert!(
                began.elapsed() < Duration::from_secs(5),
                "an answer took {:?}",
                began.elapsed()
            );
            let failed = result.is_err();
            outcomes.push((text, settle(&s, result).await));
            if failed {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        outcomes
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn crashes_during_commits() {
    let mut server = Postgres::start(&[]).expect("PostgreSQL starts");
    let s = open(&server).await;
    let (alice, bob) = (account(&s, "alice").await, account(&s, "bob").await);
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let writers: Vec<_> = (0..4)
        .map(|name| writer(&s, alice, bob, name, &stop))
        .collect();
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_millis(400)).await;
        server.kill();
        server.run().expect("PostgreSQL starts again");
    }
    // It comes back by itself.
    let began = Instant::now();
    while send(&s, alice, alice, "back").await.is_err() {
        assert!(began.elapsed() < Duration::from_secs(5));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let mut outcomes = Vec::new();
    for writer in writers {
        outcomes.extend(writer.await.expect("a writer does not panic"));
    }
    assert!(outcomes.len() > 100, "{} commits", outcomes.len());
    check(&s, bob, &outcomes).await;
    s.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_lost_during_commits() {
    let server = Postgres::start(&[]).expect("PostgreSQL starts");
    let s = open(&server).await;
    let (alice, bob) = (account(&s, "alice").await, account(&s, "bob").await);
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let writers: Vec<_> = (0..4)
        .map(|name| writer(&s, alice, bob, name, &stop))
        .collect();
    for _ in 0..25 {
        tokio::time::sleep(Duration::from_millis(60)).await;
        let kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'eider'";
        server.sql("postgres", kill).expect("backends can be ended");
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let mut outcomes = Vec::new();
    for writer in writers {
        outcomes.extend(writer.await.expect("a writer does not panic"));
    }
    check(&s, bob, &outcomes).await;
    s.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hanging_server() {
    let server = Postgres::start(&[]).expect("PostgreSQL starts");
    let s = open(&server).await;
    let (alice, bob) = (account(&s, "alice").await, account(&s, "bob").await);
    let mut outcomes = Vec::new();
    let before = send(&s, alice, bob, "before").await;
    outcomes.push(("before".to_owned(), settle(&s, before).await));
    server.pause();
    let within = |began: Instant| {
        assert!(
            began.elapsed() < Duration::from_secs(5),
            "{:?}",
            began.elapsed()
        )
    };
    let began = Instant::now();
    let login = s.account_login("example.org", "alice").await;
    assert!(matches!(login, Err(Error::Unavailable(_))), "{login:?}");
    within(began);
    let began = Instant::now();
    let hung = send(&s, alice, bob, "hung").await;
    assert!(matches!(hung, Err(CommitError::Unknown(_))), "{hung:?}");
    within(began);
    // While that one's fate is open nothing overtakes it.
    let began = Instant::now();
    let next = send(&s, alice, bob, "next").await;
    assert!(
        matches!(next, Err(CommitError::Failed(Error::Unavailable(_)))),
        "{next:?}"
    );
    within(began);
    outcomes.push(("next".into(), None));
    let Err(CommitError::Unknown(unknown)) = &hung else {
        unreachable!("checked above")
    };
    assert!(matches!(
        s.archive_resolve(unknown).await,
        Err(Error::Unavailable(_))
    ));
    let began = Instant::now();
    assert!(s.meta_set(FENCE, "k", b"v").await.is_err());
    within(began);
    server.resume();
    let began = Instant::now();
    outcomes.push(("hung".into(), settle(&s, hung).await));
    let after = send(&s, alice, bob, "after").await;
    let after = settle(&s, after).await;
    assert!(after.is_some());
    outcomes.push(("after".into(), after));
    assert!(
        s.account_login("example.org", "alice")
            .await
            .expect("it is back")
            .is_some()
    );
    within(began);
    check(&s, bob, &outcomes).await;
    // Nothing late comes of what was given up.
    tokio::time::sleep(Duration::from_secs(1)).await;
    check(&s, bob, &outcomes).await;
    s.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_only_server() {
    let server = Postgres::start(&[]).expect("PostgreSQL starts");
    let s = open(&server).await;
    let (alice, bob) = (account(&s, "alice").await, account(&s, "bob").await);
    send(&s, alice, bob, "before").await.expect("commits");
    let set = |value: &str| {
        server
            .sql(
                "postgres",
                &format!("ALTER SYSTEM SET default_transaction_read_only = {value}"),
            )
            .expect("sets");
        server
            .sql("postgres", "SELECT pg_reload_conf()")
            .expect("reloads");
    };
    set("on");
    tokio::time::sleep(Duration::from_millis(300)).await;
    let refused = send(&s, alice, bob, "refused").await;
    assert!(
        matches!(refused, Err(CommitError::Failed(Error::Unavailable(_)))),
        "{refused:?}"
    );
    assert!(matches!(
        s.meta_set(FENCE, "k", b"v").await,
        Err(Error::Unavailable(_))
    ));
    assert!(
        s.account_login("example.org", "alice")
            .await
            .expect("reading goes on")
            .is_some()
    );
    assert!(s.describe().await.expect("describes").read_only);
    set("off");
    let began = Instant::now();
    while send(&s, alice, bob, "after").await.is_err() {
        assert!(began.elapsed() < Duration::from_secs(5));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    s.meta_set(FENCE, "k", b"v").await.expect("writes again");
    assert_eq!(everything(&s, bob).await.len(), 2);
    s.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pools_are_apart() {
    let server = Postgres::start(&["fsync=off"]).expect("PostgreSQL starts");
    let url = server.database("eider").expect("a database can be made");
    let mut config = PostgresConfig::new(&url);
    config.login_connections = 2;
    config.archive_connections = 2;
    let s = eider_storage::open(&Config::Postgres(config))
        .await
        .expect("PostgreSQL opens");
    let (alice, bob) = (account(&s, "alice").await, account(&s, "bob").await);
    send(&s, alice, bob, "x").await.expect("commits");
    // Archive pages that hold every connection of theirs: a lock on the table stops them.
    let lock = "BEGIN; LOCK TABLE message IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(3); COMMIT";
    let page = PageRequest {
        direction: Direction::Forward,
        anchor: None,
        limit: 10,
        bytes_max: u64::MAX,
        count_max: 0,
    };
    let pages: Vec<_> = std::thread::scope(|scope| {
        let holder = scope.spawn(|| server.sql("eider", lock));
        std::thread::sleep(Duration::from_millis(500));
        let pages = (0..6).map(|_| {
            let s = s.clone();
            tokio::spawn(
                async move { s.archive_query(bob, &ArchiveFilter::default(), &page).await },
            )
        });
        let pages: Vec<_> = pages.collect();
        std::thread::sleep(Duration::from_millis(200));
        let login = tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(async {
                let began = Instant::now();
                s.account_login("example.org", "alice")
                    .await
                    .expect("logins go on")
                    .expect("alice");
                began.elapsed()
            })
        });
        assert!(login < Duration::from_secs(1), "{login:?}");
        holder.join().expect("no panic").expect("locks");
        pages
    });
    for page in pages {
        page.await
            .expect("no panic")
            .expect("a page after the lock");
    }
    s.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pools_leak_nothing() {
    let mut server = Postgres::start(&["fsync=off"]).expect("PostgreSQL starts");
    let url = server.database("eider").expect("a database can be made");
    let mut config = PostgresConfig::new(&url);
    config.login_connections = 2;
    let s = eider_storage::open(&Config::Postgres(config))
        .await
        .expect("PostgreSQL opens");
    account(&s, "alice").await;
    // Connections die under their pools again and again; none of the permits is lost.
    for _ in 0..6 {
        server.kill();
        let lost: Vec<_> = (0..8)
            .map(|_| s.account_login("example.org", "alice"))
            .collect();
        for lost in futures_util::future::join_all(lost).await {
            assert!(lost.is_err());
        }
        server.run().expect("PostgreSQL starts again");
    }
    let logins: Vec<_> = (0..8)
        .map(|_| s.account_login("example.org", "alice"))
        .collect();
    for login in futures_util::future::join_all(logins).await {
        login.expect("logins go on");
    }
    for pool in s.pools() {
        assert_eq!((pool.in_use, pool.waiting), (0, 0), "{pool:?}");
        assert!(pool.connections_open <= pool.connections_max, "{pool:?}");
    }
    s.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn durability_is_raised() {
    let server = Postgres::start(&["synchronous_commit=off"]).expect("PostgreSQL starts");
    let s = open(&server).await;
    let about = s.describe().await.expect("describes");
    assert!(about.durable, "{about:?}");
    s.close().await;
    let mut config = PostgresConfig::new(server.url("eider"));
    config.synchronous_commit = Some("off".into());
    let s = eider_storage::open(&Config::Postgres(config))
        .await
        .expect("PostgreSQL opens");
    let about = s.describe().await.expect("describes");
    assert!(!about.durable && !about.findings.is_empty(), "{about:?}");
    s.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_by_month() {
    let server = Postgres::start(&["fsync=off"]).expect("PostgreSQL starts");
    let s = open(&server).await;
    let alice = account(&s, "alice").await;
    s.prepare_ahead(NOW).await.expect("makes partitions");
    let month = 31 * 24 * 3600;
    for n in 0..6 {
        let rows = vec![row(alice, 0, "bob@example.org", OWED, at(n * month))];
        s.archive_commit(single(&n.to_string(), rows))
            .await
            .expect("commits");
    }
    let spread = "SELECT string_agg(tableoid::regclass::text, ' ' ORDER BY pos) FROM archive";
    let tables = server.sql("eider", spread).expect("reads");
    let tables: Vec<_> = tables.split(' ').collect();
    assert_eq!(
        tables[..3],
        ["archive_2026_09", "archive_2026_10", "archive_default"]
    );
    assert_eq!(everything(&s, alice).await.len(), 6);
    assert_eq!(
        s.archive_debts(alice, Position(2), 9, u64::MAX)
            .await
            .expect("reads")
            .rows
            .len(),
        4
    );
    // A month that began without a partition stays in the default one; the next gets its own.
    s.prepare_ahead(at(5 * month))
        .await
        .expect("makes partitions");
    let rows = vec![row(alice, 0, "bob@example.org", OWED, at(6 * month))];
    assert_eq!(
        s.archive_commit(single("6", rows)).await.expect("commits"),
        [Position(7)]
    );
    s.close().await;
}

/// Two servers on one database: the second says so and does not start; once the first is gone it does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_server_has_the_database() {
    let server = Postgres::start(&["fsync=off"]).expect("PostgreSQL starts");
    let first = open(&server).await;
    first.claim().await.expect("nobody has it");
    let (alice, bob) = (account(&first, "alice").await, account(&first, "bob").await);
    let second = open_again(&server).await;
    let refused = second.claim().await;
    assert!(
        matches!(&refused, Err(Error::InUse(holder)) if holder.contains("process")),
        "{refused:?}"
    );
    send(&first, alice, bob, "undisturbed")
        .await
        .expect("commits");
    // A process that is killed leaves nothing but a closed connection.
    let kill = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'";
    server.sql("eider", kill).expect("the backend ends");
    let began = Instant::now();
    second.claim().await.expect("the first is gone");
    assert!(began.elapsed() < Duration::from_secs(5));
    send(&second, alice, bob, "on").await.expect("commits");
    assert!(send(&first, alice, bob, "late").await.is_err());
    second.close().await;
    first.claim().await.expect("the second has closed");
    first.close().await;
}

/// A newer server started beside the one that serves changes nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_in_use_are_not_migrated() {
    let server = Postgres::start(&["fsync=off"]).expect("PostgreSQL starts");
    let first = open(&server).await;
    first.claim().await.expect("nobody has it");
    // As an older version has left them.
    let older =
        "DROP INDEX resend_key_at; DELETE FROM schema_migration WHERE version = 5; SELECT 1";
    server.sql("eider", older).expect("it is older");
    let config = || Config::Postgres(PostgresConfig::new(server.url("eider")));
    let refused = eider_storage::open(&config()).await.err();
    assert!(matches!(refused, Some(Error::InUse(_))), "{refused:?}");
    let there = "SELECT count(*) FROM pg_indexes WHERE indexname = 'resend_key_at'";
    assert_eq!(server.sql("eider", there).expect("counts"), "0");
    first.close().await;
    let second = eider_storage::open(&config())
        .await
        .expect("it has the database now");
    assert_eq!(server.sql("eider", there).expect("counts"), "1");
    second.claim().await.expect("it keeps it");
    second.close().await;
}

/// A backup that takes its time holds nothing that upkeep and checks need.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_keeps_nobody_waiting() {
    let server = Postgres::start(&["fsync=off"]).expect("PostgreSQL starts");
    let mut config = PostgresConfig::new(server.database("eider").expect("makes"));
    config.console_connections = 1;
    let s = eider_storage::open(&Config::Postgres(config)).await;
    let s = s.expect("opens");
    let folder = crate::sqlite::Directory::new();
    let lock = "BEGIN; LOCK TABLE private_xml IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(3); COMMIT";
    let backup = std::thread::scope(|scope| {
        let holder = scope.spawn(|| server.sql("eider", lock));
        std::thread::sleep(Duration::from_millis(500));
        let (s, file) = (s.clone(), folder.file("backup"));
        let backup = tokio::spawn({
            let s = s.clone();
            async move { s.backup(&file, &|_, _| {}).await }
        });
        tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(async {
                tokio::time::sleep(Duration::from_millis(300)).await;
                let began = Instant::now();
                s.sweep(FENCE, NOW).await.expect("sweeps");
                s.describe().await.expect("describes");
                assert!(!backup.is_finished() && began.elapsed() < Duration::from_secs(2));
            });
        });
        holder.join().expect("no panic").expect("locks");
        backup
    });
    backup.await.expect("no panic").expect("is written");
    s.close().await;
}

/// A server waits for another one's migration as long as that takes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_may_take_longer_than_a_request() {
    let server = Postgres::start(&["fsync=off"]).expect("PostgreSQL starts");
    let mut config = PostgresConfig::new(server.database("eider").expect("makes"));
    config.deadline = Duration::from_secs(1);
    let lock = "SELECT pg_advisory_lock(x'6569646572000001'::bigint), pg_sleep(2.5)";
    std::thread::scope(|scope| {
        let holder = scope.spawn(|| server.sql("eider", lock));
        std::thread::sleep(Duration::from_millis(500));
        tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(async {
                let s = eider_storage::open(&Config::Postgres(config)).await;
                s.expect("opens in the end").close().await;
            });
        });
        holder.join().expect("no panic").expect("locks");
    });
}

/// A database of the version before, with a restored message and one of a month without a partition.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copied_messages_leave_the_default_partition() {
    let server = Postgres::start(&["fsync=off"]).expect("PostgreSQL starts");
    server.database("eider").expect("makes");
    let made = [
        include_str!("../../migrations/postgres/0001_initial.sql"),
        include_str!("../../migrations/postgres/0002_text_of_messages.sql"),
        "CREATE TABLE schema_migration (version bigint PRIMARY KEY, at timestamptz DEFAULT now());
         INSERT INTO schema_migration VALUES (1), (2);
         INSERT INTO archive_owner (owner) VALUES (1);
         INSERT INTO message (month, id, owners, bytes) VALUES (0, 7, 1, 'seven'), (24312, 8, 1, 'eight');
         INSERT INTO archive (owner, pos, month, at, message, flags, kind, peer)
         VALUES (1, 1, 0, 1, 7, 3, 1, 'bob@example.org'), (1, 2, 24312, 1, 8, 3, 1, 'bob@example.org');",
    ];
    for sql in made {
        server.sql("eider", sql).expect("makes");
    }
    let s = open_again(&server).await;
    let alice = AccountId(1);
    let expected = [(1, "seven".to_owned()), (2, "eight".to_owned())];
    assert_eq!(everything(&s, alice).await, expected);
    let spread =
        "SELECT string_agg(a.tableoid::regclass || ' ' || m.tableoid::regclass, ' ' ORDER BY pos)
                  FROM archive a JOIN message m ON m.id = a.message";
    assert_eq!(
        server.sql("eider", spread).expect("reads").trim(),
        "archive_copied message_copied archive_default message_default"
    );
    let page = s.archive_debts(alice, Position(0), 9, u64::MAX).await;
    assert_eq!(page.expect("reads").rows.len(), 2);
    s.close().await;
}

async fn open_again(server: &Postgres) -> Arc<dyn Storage> {
    let config = Config::Postgres(PostgresConfig::new(server.url("eider")));
    eider_storage::open(&config).await.expect("opens")
}
