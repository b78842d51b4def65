//! What a commit of the archive costs on each engine, beside the same rows inserted bare: CPU of this process and of the
//! database, and the time. `cargo run --release -p eider-storage --example commit_speed`

#[path = "../../../tests/src/harness/postgres.rs"]
#[allow(dead_code, reason = "the harness can do more than is measured here")]
mod server;

use std::time::{Duration, Instant};

use bytes::Bytes;
use eider_storage::{
    AccountId, Commit, Config, Credentials, Fence, MessageKind, NewMessage, OwnerRow,
    PostgresConfig, RowFlags, SqliteConfig, Storage, Timestamp,
};
use sqlx::Connection;

const ACCOUNTS: i64 = 100;
const BATCHES: [usize; 4] = [1, 25, 50, 256];
const ROUND: Duration = Duration::from_secs(3);

fn stanza(n: usize) -> Bytes {
    let mut text = format!(
        "<message from='u{n}@localhost/load' to='u1@localhost' type='chat' id='m{n}'><body>"
    );
    while text.len() < 280 {
        text.push_str("shall we meet? ");
    }
    text.push_str("</body></message>");
    text.into()
}

/// One message, a row for its sender and one for its recipient.
fn batch(first: usize, size: usize) -> Commit {
    let mut commit = Commit::new(Fence::single());
    for n in 0..size {
        commit.messages.push(NewMessage {
            bytes: stanza(first + n),
            text: None,
        });
        let (from, to) = (
            (first + n) as i64 % ACCOUNTS + 1,
            (first + n + 1) as i64 % ACCOUNTS + 1,
        );
        for (owner, peer, outgoing) in [(from, to, true), (to, from, false)] {
            commit.rows.push(OwnerRow {
                owner: AccountId(owner),
                at: Timestamp(1_790_000_000_000_000 + (first + n) as i64),
                message: n,
                own_bytes: None,
                peer: format!("u{peer}@localhost"),
                peer_resource: Some("load".into()),
                flags: RowFlags {
                    archived: true,
                    debt: !outgoing,
                    outgoing,
                },
                kind: MessageKind::Chat,
            });
        }
    }
    commit
}

/// CPU time of a process and of its children that are there now, in microseconds.
fn cpu(pid: u32) -> u64 {
    let ticks = |pid: u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let fields: Vec<&str> = stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .collect();
        let field = |index: usize| {
            fields
                .get(index)
                .and_then(|f| f.parse::<u64>().ok())
                .unwrap_or(0)
        };
        field(11) + field(12)
    };
    let children =
        std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let children: u64 = children
        .split_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .map(ticks)
        .sum();
    (ticks(pid) + children) * 10_000
}

/// The same of all threads of this one.
fn own_cpu() -> u64 {
    let mut total = 0;
    for task in std::fs::read_dir("/proc/self/task")
        .into_iter()
        .flatten()
        .flatten()
    {
        let stat = std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        total += stat
            .split_whitespace()
            .next()
            .and_then(|f| f.parse::<u64>().ok())
            .unwrap_or(0);
    }
    total / 1000
}

struct Round {
    began: Instant,
    own: u64,
    database: u64,
    pid: Option<u32>,
}

impl Round {
    fn begin(pid: Option<u32>) -> Round {
        Round {
            began: Instant::now(),
            own: own_cpu(),
            database: pid.map_or(0, cpu),
            pid,
        }
    }

    fn end(self, name: &str, size: usize, messages: usize) {
        let per = |micros: u64| micros as f64 / messages as f64;
        let own = per(own_cpu() - self.own);
        let database = per(self.pid.map_or(0, cpu) - self.database);
        let wall = per(self.began.elapsed().as_micros() as u64);
        println!(
            "{name:24} batch {size:4}: {messages:7} messages, per message {own:6.1} µs own + {database:6.1} µs database \
             = {:6.1} µs CPU, {wall:7.1} µs wall",
            own + database
        );
    }
}

async fn ours(name: &str, storage: &dyn Storage, pid: Option<u32>) {
    let now = Timestamp(1);
    for n in 0..ACCOUNTS {
        let (name, nobody) = (format!("u{n}"), Credentials::default());
        let made = storage.account_create(Fence::single(), "localhost", &name, &nobody, now);
        made.await.expect("creates an account");
    }
    let mut first = 0;
    for size in BATCHES {
        for _ in 0..20 {
            storage
                .archive_commit(batch(first, size))
                .await
                .expect("commits");
            first += size;
        }
        let prepared = first;
        let round = Round::begin(pid);
        while round.began.elapsed() < ROUND {
            storage
                .archive_commit(batch(first, size))
                .await
                .expect("commits");
            first += size;
        }
        round.end(name, size, first - prepared);
    }
}

async fn bare_postgres(url: &str, pid: Option<u32>) {
    let mut connection = sqlx::PgConnection::connect(url).await.expect("connects");
    let sql = "WITH m AS (INSERT INTO message (id, owners, month, bytes)
               SELECT id, 2, 24320, bytes FROM unnest($1::bigint[], $2::bytea[]) u (id, bytes))
               INSERT INTO archive (owner, pos, at, message, flags, kind, peer, peer_resource, month)
               SELECT u.*, 24320 FROM unnest($3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::smallint[],
               $8::smallint[], $9::text[], $10::text[]) u (owner, pos, at, message, flags, kind, peer, peer_resource)";
    let mut first = 0;
    for size in BATCHES {
        let mut round = None;
        let mut messages = 0;
        for turn in 0.. {
            if turn == 20 {
                round = Some(Round::begin(pid));
                messages = 0;
            }
            if round
                .as_ref()
                .is_some_and(|round: &Round| round.began.elapsed() > ROUND)
            {
                break;
            }
            let batch = batch(first, size);
            let ids: Vec<_> = (0..size).map(|n| (first + n) as i64).collect();
            let bytes: Vec<_> = batch
                .messages
                .iter()
                .map(|message| &message.bytes[..])
                .collect();
            let rows = &batch.rows;
            sqlx::query(sql)
                .bind(ids)
                .bind(bytes)
                .bind(rows.iter().map(|row| row.owner.0).collect::<Vec<_>>())
                .bind(
                    (0..rows.len())
                        .map(|n| (first * 2 + n) as i64)
                        .collect::<Vec<_>>(),
                )
                .bind(rows.iter().map(|row| row.at.0).collect::<Vec<_>>())
                .bind(
                    rows.iter()
                        .map(|row| (first + row.message) as i64)
                        .collect::<Vec<_>>(),
                )
                .bind(vec![1_i16; rows.len()])
                .bind(vec![1_i16; rows.len()])
                .bind(rows.iter().map(|row| row.peer.as_str()).collect::<Vec<_>>())
                .bind(
                    rows.iter()
                        .map(|row| row.peer_resource.as_deref())
                        .collect::<Vec<_>>(),
                )
                .execute(&mut connection)
                .await
                .expect("inserts");
            first += size;
            messages += size;
        }
        if let Some(round) = round {
            round.end("bare on PostgreSQL", size, messages);
        }
    }
}

fn bare_sqlite(path: &std::path::Path) {
    let connection = rusqlite::Connection::open(path).expect("opens");
    connection
        .execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL")
        .expect("sets");
    connection.set_prepared_statement_cache_capacity(64);
    let mut first = 0;
    for size in BATCHES {
        let mut messages = 0;
        let round = Round::begin(None);
        while round.began.elapsed() < ROUND {
            let batch = batch(first, size);
            connection
                .prepare_cached("BEGIN IMMEDIATE")
                .and_then(|mut s| s.execute([]))
                .expect("begins");
            for (n, message) in batch.messages.iter().enumerate() {
                let sql = "INSERT INTO message (id, owners, bytes) VALUES (?1, 2, ?2)";
                let mut insert = connection.prepare_cached(sql).expect("prepares");
                insert
                    .execute(rusqlite::params![(first + n) as i64, &message.bytes[..]])
                    .expect("inserts");
            }
            for (n, row) in batch.rows.iter().enumerate() {
                let sql = "INSERT INTO archive (owner, pos, at, message, flags, kind, peer, peer_resource)
                           VALUES (?1, ?2, ?3, ?4, 1, 1, ?5, ?6)";
                let mut insert = connection.prepare_cached(sql).expect("prepares");
                let (pos, message) = ((first * 2 + n) as i64, (first + row.message) as i64);
                let values = rusqlite::params![
                    row.owner.0,
                    pos,
                    row.at.0,
                    message,
                    row.peer,
                    row.peer_resource
                ];
                insert.execute(values).expect("inserts");
            }
            connection
                .prepare_cached("COMMIT")
                .and_then(|mut s| s.execute([]))
                .expect("commits");
            first += size;
            messages += size;
        }
        round.end("bare on SQLite", size, messages);
    }
}

async fn schema(config: &Config) {
    eider_storage::open(config)
        .await
        .expect("opens")
        .close()
        .await;
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let directory = std::env::temp_dir().join(format!("eider-speed-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a directory can be made");
    let (bare, own) = (
        SqliteConfig::new(directory.join("bare.db")),
        SqliteConfig::new(directory.join("own.db")),
    );
    let bare_path = bare.path.clone();
    schema(&Config::Sqlite(bare)).await;
    bare_sqlite(&bare_path);
    let storage = eider_storage::open(&Config::Sqlite(own))
        .await
        .expect("opens");
    ours("archive on SQLite", &*storage, None).await;
    storage.close().await;
    std::fs::remove_dir_all(&directory).expect("the directory can be removed");

    let settings = [
        "shared_buffers=512MB",
        "max_wal_size=8GB",
        "checkpoint_timeout=30min",
        "autovacuum=off",
    ];
    let server = server::Postgres::start(&settings).expect("PostgreSQL starts");
    let pid = server.process_id();
    let config = Config::Postgres(PostgresConfig::new(server.database("bare").expect("makes")));
    schema(&config).await;
    bare_postgres(&server.url("bare"), pid).await;
    let config = Config::Postgres(PostgresConfig::new(server.database("own").expect("makes")));
    let storage = eider_storage::open(&config).await.expect("opens");
    ours("archive on PostgreSQL", &*storage, pid).await;
    storage.close().await;
}
