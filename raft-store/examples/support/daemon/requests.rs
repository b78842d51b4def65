//! What clients ask, a line each, and the lines they are answered.

use raft_store::ids::Revision;
use raft_store::watch::Event;
use raft_store::{Error, Expect, Store, WriteOutcome};
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;

/// The answer to every request but `watch`.
pub async fn answer(store: &Store, words: &[&str], deadline: Instant) -> String {
    let answer = match *words {
        ["get", key] => get(store, key, deadline).await,
        ["put", key, value] => put(store, key, value, Expect::Any, deadline).await,
        ["put-if", key, revision, value] => match expect(revision) {
            Some(expect) => put(store, key, value, expect, deadline).await,
            None => Ok("error usage the revision is no number".into()),
        },
        ["delete", key] => delete(store, key, Expect::Any, deadline).await,
        ["delete", key, revision] => match expect(revision) {
            Some(expect) => delete(store, key, expect, deadline).await,
            None => Ok("error usage the revision is no number".into()),
        },
        ["status"] => status(store),
        ["drain"] => Ok(match store.drain(deadline).await {
            Ok(()) => "drained".into(),
            Err(error) => format!("error refused {error}"),
        }),
        _ => Ok("error usage no such request".into()),
    };
    answer.unwrap_or_else(|error| format!("error {} {error}", kind(&error)))
}

/// One word for programs. After `unknown` the write may have been applied or still be; after the others it was not and
/// will not be.
fn kind(error: &Error) -> &'static str {
    match error {
        Error::Busy => "busy",
        Error::NoQuorum => "no-quorum",
        // After the last two nobody knows either, and nobody can be asked.
        Error::Unknown(_) | Error::Stale | Error::Dead | Error::Closed => "unknown",
        Error::NotReady => "not-ready",
        Error::DiskFull => "disk-full",
        _ => "refused",
    }
}

fn expect(revision: &str) -> Option<Expect> {
    Some(match revision.parse().ok()? {
        0 => Expect::Absent,
        revision => Expect::Revision(Revision(revision)),
    })
}

async fn get(store: &Store, key: &str, deadline: Instant) -> Result<String, Error> {
    let (found, _) = store.get_linearizable(key.as_bytes(), deadline).await?;
    Ok(found.map_or("none".into(), |found| {
        let value = String::from_utf8_lossy(&found.value);
        format!("value {} {value}", found.revision)
    }))
}

async fn put(
    store: &Store,
    key: &str,
    value: &str,
    expect: Expect,
    deadline: Instant,
) -> Result<String, Error> {
    let value = value.to_owned().into();
    let put = store.put_if(key.as_bytes(), value, expect, None, deadline);
    put.await.map(told)
}

async fn delete(
    store: &Store,
    key: &str,
    expect: Expect,
    deadline: Instant,
) -> Result<String, Error> {
    let delete = store.delete_if(key.as_bytes(), expect, deadline);
    delete.await.map(told)
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
    let seen = store.inspect();
    let leader = seen.leader.map_or("-".into(), |leader| leader.to_string());
    let lease = if store.lease().is_held() {
        "held"
    } else {
        "lost"
    };
    Ok(format!(
        "status member={} incarnation={} leading={} leader={leader} term={} lease={lease} revision={} keys={} bytes={} hash={:032x} snapshot={} purged={} last={} syncs={} entries={}",
        status.member,
        number(status.incarnation.map(|incarnation| incarnation.0)),
        status.leading,
        seen.term,
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

/// One line for each event, until the client goes.
pub async fn watch(
    write: &mut (impl AsyncWriteExt + Unpin),
    store: &Store,
    prefix: &str,
) -> std::io::Result<()> {
    let mut watch = match store.watch(prefix.as_bytes(), None) {
        Ok(watch) => watch,
        Err(error) => {
            let line = format!("error {} {error}\n", kind(&error));
            return write.write_all(line.as_bytes()).await;
        }
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
