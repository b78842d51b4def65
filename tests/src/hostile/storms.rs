//! Storms of presences, requests and reconnections: all are answered, and others still get in.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::bench::{Bench, Finding, healthy, log_in};
use crate::harness::Server;
use crate::load::scram::PASSWORD;
use crate::scripts::client::{Client, PATIENCE, Received};

const GROUP: &str = "storms";
/// Clients of a storm.
const CLIENTS: usize = 8;
/// Stanzas a client sends before it reads.
const BATCH: usize = 100;
/// What the heap of 8 busy sessions may keep, KiB.
const KIB_MAX: u64 = 12 * 1024;
/// Requests whose answers nobody reads.
const UNREAD: usize = 40_000;

#[derive(Clone, Copy)]
enum Storm {
    Presences,
    Requests,
    Reconnections,
    Connections,
}

/// A batch of presences; over once the last has come back to its own sender.
async fn presences(client: &mut Client, round: u64) -> Result<usize> {
    let mut text = String::new();
    for number in 0..BATCH {
        text.push_str(&format!(
            "<presence><status>{round}-{number}</status></presence>"
        ));
    }
    client.send(text.as_bytes()).await?;
    let (own, last) = (client.jid.clone(), format!("{round}-{}", BATCH - 1));
    client
        .until(|node| {
            let status = node.children().find(|child| child.name == "status");
            node.attr("from") == Some(&own) && status.is_some_and(|status| status.text() == last)
        })
        .await?;
    client.queue.clear();
    client.log.clear();
    Ok(BATCH)
}

async fn requests(client: &mut Client, round: u64, domain: &str) -> Result<usize> {
    let mut text = String::new();
    for number in 0..BATCH {
        text.push_str(&format!(
            "<iq type='get' id='{round}-{number}' to='{domain}'><ping xmlns='urn:xmpp:ping'/></iq>"
        ));
    }
    client.send(text.as_bytes()).await?;
    for number in 0..BATCH {
        let id = format!("{round}-{number}");
        let node = client.until(|node| node.name == "iq").await?;
        ensure!(node.attr("id") == Some(&id), "not in order: {node}");
    }
    client.log.clear();
    Ok(BATCH)
}

/// One client until `end`; how much it did.
async fn blow(
    storm: Storm,
    server: Arc<Server>,
    (number, user): (usize, String),
    end: Instant,
) -> Result<usize> {
    let mut done = 0;
    let mut client = match storm {
        Storm::Presences | Storm::Requests => {
            let mut client = Client::connect(&server, &user, false).await?;
            client.open().await?;
            client.start_tls(&server).await?;
            client.authenticate(PASSWORD).await?;
            client.bind(&format!("r{number}")).await?;
            Some(client)
        }
        Storm::Reconnections | Storm::Connections => None,
    };
    let mut round = 0;
    while Instant::now() < end {
        round += 1;
        done += match (&mut client, storm) {
            (Some(client), Storm::Presences) => presences(client, round).await?,
            (Some(client), _) => requests(client, round, &server.domain).await?,
            (None, Storm::Reconnections) => {
                // Dropped without a word.
                drop(log_in(&server, &user).await?);
                1
            }
            (None, _) => {
                drop(TcpStream::connect(("127.0.0.1", server.port)).await?);
                1
            }
        };
    }
    Ok(done)
}

async fn flow(
    storm: Storm,
    server: &Arc<Server>,
    number: usize,
    length: Duration,
) -> Result<String> {
    // Presences go to the other resources of the same account.
    let one_account = matches!(storm, Storm::Presences);
    let users: Vec<String> = (0..CLIENTS)
        .map(|client| match one_account {
            true => format!("storm-{number}"),
            false => format!("storm-{number}-{client}"),
        })
        .collect();
    let mut accounts = users.clone();
    accounts.dedup();
    server.add_accounts(&accounts, PASSWORD).await?;
    let end = Instant::now() + length;
    let mut clients = JoinSet::new();
    for client in users.into_iter().enumerate() {
        clients.spawn(blow(storm, server.clone(), client, end));
    }
    let mut slowest = Duration::ZERO;
    while Instant::now() < end {
        let began = Instant::now();
        healthy(server).await.context("a login during the storm")?;
        slowest = slowest.max(began.elapsed());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let mut done = 0;
    while let Some(client) = clients.join_next().await {
        done += client??;
    }
    Ok(format!(
        "{done} in {} s, all answered; others' logins took {} ms at most",
        length.as_secs(),
        slowest.as_millis()
    ))
}

/// A client that asks and asks and never reads an answer.
async fn unread(server: &Server, number: usize) -> Result<String> {
    let user = format!("unread-{number}");
    server
        .add_accounts(std::slice::from_ref(&user), PASSWORD)
        .await?;
    let mut client = log_in(server, &user).await?;
    let mut text = String::new();
    for number in 0..BATCH {
        text.push_str(&format!(
            "<iq type='get' id='{number}' to='{}'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>",
            server.domain
        ));
    }
    let mut sent = 0;
    while sent < UNREAD {
        // It stops taking them, or ends the session: both are fine.
        let sending = tokio::time::timeout(Duration::from_secs(2), client.send(text.as_bytes()));
        if !matches!(sending.await, Ok(Ok(()))) {
            break;
        }
        client.log.clear();
        sent += BATCH;
    }
    healthy(server).await.context("a login meanwhile")?;
    let mut answers = 0;
    let end = loop {
        match client.read(PATIENCE).await? {
            Received::Node(node) if node.name == "iq" => answers += 1,
            Received::Node(node) => break node.summary(),
            Received::Silence => break "still there".to_owned(),
            Received::End | Received::Cut => break "connection ended".to_owned(),
            Received::Header(_) => {}
        }
        client.log.clear();
        if answers == sent {
            break "all answered".to_owned();
        }
    };
    Ok(format!(
        "{sent} taken, {answers} answers in the socket; {end}"
    ))
}

/// All storms.
pub async fn cases(bench: &mut Bench<'_>, all: bool) -> Result<()> {
    let length = Duration::from_secs(if all { 20 } else { 2 });
    for (case, storm) in [
        ("presences, 8 resources of an account", Storm::Presences),
        ("iqs, 8 clients", Storm::Requests),
        ("reconnections, 8 clients", Storm::Reconnections),
        ("connections without a word, 8 clients", Storm::Connections),
    ] {
        if bench.wants(GROUP, case) {
            let number = bench.number();
            let server = bench.server("").await?;
            let finding = async {
                let outcome = flow(storm, &server, number, length).await;
                Finding {
                    kib_max: Some(KIB_MAX),
                    ..Finding::of("as fast as they are answered", outcome)
                }
            };
            bench.judge((GROUP, case), &server, finding).await?;
        }
    }
    let case = "iqs whose answers nobody reads";
    if bench.wants(GROUP, case) {
        let number = bench.number();
        let server = bench.server("").await?;
        let sent = format!("up to {UNREAD} times disco#info");
        let finding = async { Finding::of(sent, unread(&server, number).await) };
        bench.judge((GROUP, case), &server, finding).await?;
    }
    Ok(())
}
