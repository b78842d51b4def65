//! A small key-value daemon of one member, with a protocol of lines on a loopback port.
//!
//! `kvd DIRECTORY [ADDRESS]` prints `listening ADDRESS` and serves until it is killed; it exits with 1 when the store
//! fails. A line is a request and is answered by one line (`watch`: by one for each event, until the client goes):
//!
//! | Request | Answer |
//! |---|---|
//! | `get KEY` | `value REVISION VALUE` or `none` |
//! | `put KEY VALUE` | `written REVISION` |
//! | `put-if KEY REVISION VALUE` (0: the key is not there) | `written REVISION`, `conflict REVISION` (0: not there) |
//! | `delete KEY` | `written REVISION` |
//! | `watch PREFIX` | `put REVISION KEY VALUE`, `removed REVISION KEY`, `orphaned REVISION OWNER`, `resync REVISION` |
//! | `status` | `status FIELD=VALUE …` |
//!
//! Anything that goes wrong is `error REASON`. Keys and values are words.

use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use raft_store::disk::FileDisk;
use raft_store::founding::Alone;
use raft_store::gate::Tasks;
use raft_store::ids::Revision;
use raft_store::random::SystemRandom;
use raft_store::spawner::Threads;
use raft_store::watch::Event;
use raft_store::{Error, Expect, Parts, Settings, Store, WriteOutcome};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

/// How long a request may take.
const DEADLINE: Duration = Duration::from_secs(5);
const LINE_BYTES: u64 = 128 << 10;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some(directory) = arguments.first() else {
        eprintln!("usage: kvd DIRECTORY [ADDRESS]");
        return ExitCode::from(2);
    };
    let address = arguments.get(1).map_or("127.0.0.1:0", String::as_str);
    run(Path::new(directory), address)
}

/// The whole daemon.
pub fn run(directory: &Path, address: &str) -> ExitCode {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    match runtime.block_on(serve(directory, address)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kvd: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(directory: &Path, address: &str) -> Result<(), Box<dyn std::error::Error>> {
    let disk = Arc::new(FileDisk::open(directory)?);
    let parts = Parts {
        clock: Arc::new(raft_store::clock::SystemClock),
        transport: Arc::new(raft_store::transport::Nowhere),
        founding: Arc::new(Alone::new(disk.clone(), "member")),
        discovery: Arc::new([]),
        disk,
        random: Arc::new(SystemRandom),
        spawner: Arc::new(Threads),
        tasks: Tasks::system(),
    };
    let (store, mut fatal) = raft_store::open(Settings::new("member"), parts).await?;
    store.ready(Instant::now() + DEADLINE).await?;
    let listener = TcpListener::bind(address.parse::<SocketAddr>()?).await?;
    println!("listening {}", listener.local_addr()?);
    loop {
        tokio::select! {
            biased;
            // Dead inside and alive outside is the worst that a daemon can be.
            failed = fatal.wait() => return failed.map_or(Ok(()), |failed| Err(failed.into())),
            accepted = listener.accept() => {
                let (stream, _) = accepted?;
                tokio::spawn(client(stream, store.clone()));
            }
        }
    }
}

/// Serves a connection until it ends; what goes wrong with it concerns nobody else.
async fn client(mut stream: TcpStream, store: Store) -> std::io::Result<()> {
    let (read, mut write) = stream.split();
    let mut read = BufReader::new(read);
    loop {
        let mut line = String::new();
        let length = (&mut read).take(LINE_BYTES).read_line(&mut line).await?;
        if length == 0 {
            return Ok(());
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        if let ["watch", prefix] = words[..] {
            return watch(&mut write, &store, prefix).await;
        }
        let answer = answer(&store, &words).await;
        let answer = answer.unwrap_or_else(|error| format!("error {error}"));
        write.write_all(format!("{answer}\n").as_bytes()).await?;
    }
}

async fn answer(store: &Store, words: &[&str]) -> Result<String, Error> {
    let deadline = Instant::now() + DEADLINE;
    let put = |key: &str, value: &str, expect| {
        let (key, value) = (key.to_owned(), value.to_owned());
        async move {
            store
                .put_if(key.as_bytes(), value.into(), expect, None, deadline)
                .await
        }
    };
    match *words {
        ["get", key] => {
            let (found, _) = store.get_linearizable(key.as_bytes(), deadline).await?;
            Ok(found.map_or("none".into(), |found| {
                let value = String::from_utf8_lossy(&found.value);
                format!("value {} {value}", found.revision)
            }))
        }
        ["put", key, value] => put(key, value, Expect::Any).await.map(told),
        ["put-if", key, revision, value] => {
            let expect = match revision.parse() {
                Ok(0) => Expect::Absent,
                Ok(revision) => Expect::Revision(Revision(revision)),
                Err(_) => return Ok("error the revision is no number".into()),
            };
            put(key, value, expect).await.map(told)
        }
        ["delete", key] => {
            let deleted = store.delete_if(key.as_bytes(), Expect::Any, deadline);
            deleted.await.map(told)
        }
        ["status"] => status(store),
        _ => Ok("error no such request".into()),
    }
}

fn told(outcome: WriteOutcome) -> String {
    match outcome {
        WriteOutcome::Written(revision) => format!("written {revision}"),
        WriteOutcome::Conflict(found) => {
            format!("conflict {}", found.map_or(0, |found| found.revision.0))
        }
    }
}

fn status(store: &Store) -> Result<String, Error> {
    let status = store.status()?;
    let number = |index: Option<u64>| index.map_or("-".into(), |index| index.to_string());
    Ok(format!(
        "status member={} incarnation={} leading={} revision={} keys={} bytes={} hash={:032x} snapshot={} purged={} last={} syncs={} entries={}",
        status.member,
        number(status.incarnation.map(|incarnation| incarnation.0)),
        status.leading,
        status.revision,
        status.keys,
        status.store_bytes,
        status.state_hash,
        number(status.snapshot),
        number(status.log_purged),
        number(status.log_last),
        status.log_written.frames,
        status.log_written.entries,
    ))
}

async fn watch(
    write: &mut (impl AsyncWriteExt + Unpin),
    store: &Store,
    prefix: &str,
) -> std::io::Result<()> {
    let mut watch = match store.watch(prefix.as_bytes(), None) {
        Ok(watch) => watch,
        Err(error) => return write.write_all(format!("error {error}\n").as_bytes()).await,
    };
    write.write_all(b"watching\n").await?;
    while let Some(event) = watch.next().await {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let line = match event {
            Event::Put {
                key,
                value,
                revision,
                ..
            } => format!("put {revision} {} {}\n", text(&key), text(&value)),
            Event::Removed { key, revision } => format!("removed {revision} {}\n", text(&key)),
            Event::Orphaned { owner, revision } => format!("orphaned {revision} {owner}\n"),
            Event::Resync { at } => {
                // A client that needs every event scans now; this one only looks on.
                watch.resume(at);
                format!("resync {at}\n")
            }
        };
        write.write_all(line.as_bytes()).await?;
    }
    Ok(())
}
