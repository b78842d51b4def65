//! A client that takes nothing of 20 MB: the server's memory does not pay for it, and nothing of it is lost.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::bench::{Bench, Finding, log_in, resident_kib};
use crate::harness::Server;
use crate::load::scram::PASSWORD;
use crate::scripts::client::{Client, PATIENCE, Received};

const GROUP: &str = "never reads";
const MESSAGES: usize = 1_250;
const BODY_BYTES: usize = 16 * 1024;
/// What 20 MB to someone who does not read may add to the resident memory, KiB. The goal is 1 MiB of ours; what the
/// allocator keeps of the writer's own work meanwhile cannot be told from it.
const KIB_MAX: u64 = 2 * 1024;
/// How many who do not read are tried: a slow disk makes the writer gather more at once than it did before, which the
/// allocator then has; what a session that is not read costs, it costs each time.
const TRIES: usize = 3;
/// Messages that may come on both connections, under the same stanza-id: what was being written when the session
/// ended, `session_queue_bytes` at most.
const TWICE_MAX: usize = 32;
/// What they may cost while they are read slowly, the database's page caches included, KiB.
const SLOW_KIB_MAX: u64 = 4 * 1024;
const SLOWLY: Duration = Duration::from_millis(50);
/// Messages between two looks at the server's memory.
const BETWEEN_LOOKS: usize = 25;

/// Logs in with presence; with stream management that never acknowledges where `management`.
async fn online(server: &Server, user: &str, management: bool) -> Result<Client> {
    let mut client = log_in(server, user).await?;
    if management {
        client.manage(true, false).await?;
    }
    client.send(b"<presence/>").await?;
    let own = client.jid.clone();
    client
        .until(|node| node.name == "presence" && node.attr("from") == Some(&own))
        .await?;
    Ok(client)
}

/// Sends all messages to an account; the most memory that was seen, KiB.
async fn write_all(server: &Server, writer: &mut Client, to: &str) -> Result<u64> {
    let body = "x".repeat(BODY_BYTES);
    let mut most = 0;
    for number in 0..MESSAGES {
        let message = format!(
            "<message type='chat' id='{number}' to='{to}@{}'><body>{body}</body></message>",
            server.domain
        );
        writer.send(message.as_bytes()).await?;
        if number.is_multiple_of(BETWEEN_LOOKS) {
            most = most.max(resident_kib(server)?);
        }
    }
    writer.barrier().await.context("after the last message")?;
    Ok(most.max(resident_kib(server)?))
}

/// A message as it came: its number, and its stanza-id, by which a client knows one that came before.
type Came = (usize, String);

/// Reads messages until the last one has come or the stream ends; looks on the way, and then waits so long.
async fn read(client: &mut Client, mut look: impl FnMut() -> Duration) -> Result<Vec<Came>> {
    let mut numbers: Vec<Came> = Vec::new();
    while numbers
        .last()
        .is_none_or(|(number, _)| *number + 1 < MESSAGES)
    {
        match client.receive(PATIENCE).await? {
            Received::Node(node) if node.name == "message" => {
                let number = node.attr("id").context("no id")?.parse()?;
                let id = node.child("stanza-id", "urn:xmpp:sid:0");
                let id = id.and_then(|id| id.attr("id")).context("no stanza-id")?;
                numbers.push((number, id.to_owned()));
                if numbers.len().is_multiple_of(BETWEEN_LOOKS) {
                    tokio::time::sleep(look()).await;
                }
                // The texts are of no further use.
                client.log.clear();
            }
            Received::Silence => bail!("nothing more after {} messages", numbers.len()),
            Received::End | Received::Cut => break,
            Received::Node(_) | Received::Header(_) => {}
        }
    }
    Ok(numbers)
}

/// Reads without a pause.
fn at_once() -> Duration {
    Duration::ZERO
}

/// Whether every message has come, and each connection had them in order; how many came on both.
fn check(first: &[Came], then: &[Came]) -> Result<usize> {
    ensure!(first.is_sorted() && then.is_sorted(), "out of order");
    let distinct: BTreeSet<&Came> = first.iter().chain(then).collect();
    ensure!(
        distinct.len() == MESSAGES,
        "{} of {MESSAGES} came",
        distinct.len()
    );
    let twice = first.len() + then.len() - distinct.len();
    ensure!(twice <= TWICE_MAX, "{twice} came twice");
    Ok(twice)
}

/// Someone who has read nothing of all messages, and what that cost.
struct Deaf {
    user: String,
    client: Client,
    /// Resident memory before, KiB.
    before_kib: u64,
    cost_kib: u64,
}

/// Sends all messages to someone who does not read, another one while that seems to cost too much.
async fn write_to_deaf(
    server: &Server,
    writer: &mut Client,
    number: usize,
    management: bool,
) -> Result<Deaf> {
    let mut costs = Vec::new();
    for attempt in 0..TRIES {
        let user = format!("deaf-{number}-{attempt}");
        server
            .add_accounts(std::slice::from_ref(&user), PASSWORD)
            .await?;
        let before_kib = resident_kib(server)?;
        let client = online(server, &user, management).await?;
        let most_kib = write_all(server, writer, &user).await?;
        let cost_kib = most_kib.saturating_sub(before_kib);
        if cost_kib <= KIB_MAX {
            return Ok(Deaf {
                user,
                client,
                before_kib,
                cost_kib,
            });
        }
        costs.push(cost_kib);
    }
    bail!("cost {costs:?} KiB of memory");
}

async fn flow(server: &Server, number: usize, management: bool) -> Result<Finding> {
    let [reader, writer] = ["reader", "writer"].map(|role| format!("{role}-{number}"));
    let users = [reader.clone(), writer.clone()];
    server.add_accounts(&users, PASSWORD).await?;
    let mut writer = log_in(server, &writer).await?;
    // The same to someone who reads, now and later, so that only not reading is measured.
    for _ in 0..2 {
        write_all(server, &mut writer, &reader).await?;
        read(&mut online(server, &reader, false).await?, at_once).await?;
    }

    let deaf = write_to_deaf(server, &mut writer, number, management).await?;
    let (before_kib, cost, mut old) = (deaf.before_kib, deaf.cost_kib, deaf.client);
    // Slowly: the server always has more than is taken.
    let mut slowest = 0;
    let mut slowly = || {
        slowest = slowest.max(resident_kib(server).unwrap_or(u64::MAX));
        SLOWLY
    };
    let first = if management {
        // Whatever its socket holds, it acknowledged nothing.
        old.cut();
        Vec::new()
    } else {
        // Its session has gone on: over its bound messages stayed owed, and follow as it reads.
        read(&mut old, &mut slowly).await?
    };
    let mut back = online(server, &deaf.user, false).await?;
    let then = if first.len() < MESSAGES {
        read(&mut back, &mut slowly).await?
    } else {
        Vec::new()
    };
    let slow_cost = slowest.saturating_sub(before_kib);
    ensure!(
        slow_cost <= SLOW_KIB_MAX,
        "read slowly it cost {slow_cost} KiB"
    );
    back.barrier().await?;
    let more = back.queue.iter().filter(|node| node.name == "message");
    ensure!(more.count() == 0, "more came than was sent");
    let twice = check(&first, &then)?;
    Ok(Finding {
        got: format!(
            "+{cost} KiB meanwhile; {} in the socket, {} at the next login ({twice} again), read slowly +{slow_cost} KiB",
            first.len(),
            then.len()
        ),
        before_kib: Some(before_kib),
        ..Finding::default()
    })
}

/// With and without stream management.
pub async fn cases(bench: &mut Bench<'_>) -> Result<()> {
    for (case, management) in [
        ("20 MB, never acknowledged", true),
        ("20 MB, without stream management", false),
    ] {
        if bench.wants(GROUP, case) {
            let number = bench.number();
            let server = bench.server("").await?;
            let sent = format!("{MESSAGES} messages of {BODY_BYTES} bytes");
            let finding = async {
                let outcome = flow(&server, number, management).await;
                let finding = outcome.unwrap_or_else(|error| Finding::of("", Err(error)));
                Finding { sent, ..finding }
            };
            bench.judge((GROUP, case), &server, finding).await?;
        }
    }
    Ok(())
}
