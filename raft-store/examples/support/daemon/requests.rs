//! What clients ask, a line each, and the lines they are answered.

use raft_store::ids::{ClusterId, MemberId, Revision};
use raft_store::watch::Event;
use raft_store::{Error, Expect, Lease, Prefix, Role, Status, Store, WriteOutcome};
use std::path::{Component, Path};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;

/// A removal may take longer than what a member was granted before, some 7 s, and goes on only as long as it is asked
/// for.
const REMOVAL: Duration = Duration::from_secs(20);

fn removed_by(deadline: Instant) -> Instant {
    deadline.max(Instant::now() + REMOVAL)
}

fn removed((): ()) -> String {
    "removed".into()
}

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
        ["hand-over"] => Ok(hand_over(store, None, deadline).await),
        ["hand-over", to] => Ok(match member(to) {
            Some(to) => hand_over(store, Some(to), deadline).await,
            None => "error usage a member is 16 hexadecimal digits".into(),
        }),
        ["remove", id] => match member(id) {
            Some(id) => store.remove(id, removed_by(deadline)).await.map(removed),
            None => Ok("error usage a member is 16 hexadecimal digits".into()),
        },
        ["leave"] => store.leave(removed_by(deadline)).await.map(removed),
        ["save", file] => Ok(save(store, file).await),
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
        Error::NotRemoved(_) => "not-removed",
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

fn member(id: &str) -> Option<MemberId> {
    u64::from_str_radix(id, 16).ok().map(MemberId)
}

async fn hand_over(store: &Store, to: Option<MemberId>, deadline: Instant) -> String {
    match store.hand_over(to, deadline).await {
        Ok(leader) => format!("handed-over {leader}"),
        Err(error) => format!("error refused {error}"),
    }
}

/// Clients name a file in the daemon's directory and nothing elsewhere.
async fn save(store: &Store, file: &str) -> String {
    let parts: Vec<_> = Path::new(file).components().collect();
    let [Component::Normal(name)] = parts[..] else {
        return "error usage a snapshot's name is one without directories".into();
    };
    match store.save_snapshot(name.as_ref()).await {
        Ok(saved) => format!("saved {} {file}", saved.index),
        Err(error) => format!("error refused {error}"),
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

/// Also while the store opens, or waits for others.
pub fn status(store: Option<&Store>) -> String {
    let Some(store) = store else {
        return "status open=false".into();
    };
    let belongs = store.belonging();
    let words = |text: String| text.replace(' ', "_");
    let waiting = or_dash(belongs.waiting.map(|waiting| words(waiting.what)));
    let cluster = or_dash(belongs.cluster.map(hex));
    let other = or_dash(belongs.other.map(hex));
    let Ok(status) = store.status() else {
        return format!("status open=true cluster={cluster} other={other} waiting={waiting}");
    };
    let lease = match status.lease {
        Lease::Awaited => "awaited",
        Lease::Held { .. } => "held",
        Lease::Lost => "lost",
    };
    let of = |roles: &[Role]| ids(&status, roles);
    let fields = [
        ("cluster", cluster),
        ("other", other),
        ("waiting", waiting),
        ("member", status.member.to_string()),
        ("incarnation", or_dash(status.incarnation)),
        ("lease", lease.into()),
        ("leading", status.leading.to_string()),
        ("leader", or_dash(status.leader)),
        ("term", status.term.to_string()),
        ("voters", of(&[Role::Leader, Role::Voter])),
        ("learners", of(&[Role::Learner])),
        ("joining", of(&[Role::Joining])),
        ("dead", of(&[Role::Dead])),
        ("removed", status.removed.to_string()),
        ("next", or_dash(status.next_step.map(words))),
        ("format", status.cluster_format.to_string()),
        (
            "held-back-by",
            listed(status.format_held_back_by.iter().map(MemberId::to_string)),
        ),
        ("applied", or_dash(status.applied_next.checked_sub(1))),
        ("revision", status.revision.to_string()),
        ("keys", status.keys.to_string()),
        ("bytes", status.store_bytes.to_string()),
        ("prefixes", listed(status.prefixes.iter().map(prefix))),
        ("hash", format!("{:032x}", status.state_hash)),
        ("snapshot", or_dash(status.snapshot)),
        ("purged", or_dash(status.log_purged)),
        ("last", or_dash(status.log_last)),
        ("syncs", status.log_written.frames.to_string()),
        ("entries", status.log_written.entries.to_string()),
        ("watches", status.watches.to_string()),
    ];
    let fields = fields
        .iter()
        .map(|(name, content)| format!(" {name}={content}"));
    format!("status open=true{}", fields.collect::<String>())
}

fn hex(id: ClusterId) -> String {
    id.0.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The members that have one of these roles.
fn ids(status: &Status, roles: &[Role]) -> String {
    let members = status.members.iter();
    let members = members.filter(|member| roles.contains(&member.role));
    listed(members.map(|member| member.member.to_string()))
}

fn prefix(prefix: &Prefix) -> String {
    // One word, whatever a key is made of.
    let name = prefix.prefix.escape_ascii().to_string();
    let name = name.replace(' ', "\\x20").replace(',', "\\x2c");
    format!("{name}:{}:{}", prefix.keys, prefix.payload_bytes)
}

fn listed(all: impl Iterator<Item = String>) -> String {
    let all: Vec<String> = all.collect();
    or_dash((!all.is_empty()).then(|| all.join(",")))
}

fn or_dash(what: Option<impl std::fmt::Display>) -> String {
    what.map_or("-".into(), |what| what.to_string())
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
