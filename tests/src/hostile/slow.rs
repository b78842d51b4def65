//! Connections that are silent or nearly so, where scripts do not reach: below TLS, and a byte a second.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::bench::{Bench, Finding};
use crate::harness::Server;
use crate::scripts::client::{Client, Received};

const GROUP: &str = "slow";
/// `login.deadline_seconds` of the server under test.
const DEADLINE: Duration = Duration::from_secs(2);
const CONFIG: &str = "login.deadline_seconds = 2\n";
/// How much later than the deadline the end may come, on a machine that is busy.
const LATE: Duration = Duration::from_secs(8);

/// Waits for the server to end a connection that speaks no TLS where TLS is due.
async fn silent_below_tls(server: &Server, bytes: &[u8]) -> Result<String> {
    let mut tcp = TcpStream::connect(("127.0.0.1", server.direct_port)).await?;
    tcp.write_all(bytes).await?;
    let began = Instant::now();
    let mut all = Vec::new();
    let end = timeout(DEADLINE + LATE, tcp.read_to_end(&mut all)).await;
    // A reset is an end as well.
    drop(end.context("still open")?);
    Ok(format!(
        "closed after {:.1} s",
        began.elapsed().as_secs_f32()
    ))
}

/// Sends a byte a second for as long as the server lets it.
async fn byte_a_second(server: &Server, until: &str) -> Result<String> {
    let mut client = Client::connect(server, "slow", false).await?;
    let mut text = "<?xml version='1.0'?><stream:stream xmlns='jabber:client' >";
    if until == "TLS" {
        client.open().await?;
        client.start_tls(server).await?;
        text = "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>";
    }
    let began = Instant::now();
    let mut error = None;
    for byte in text.as_bytes().chunks(1) {
        // Once the server has closed, writing fails: what it said is read below.
        let _ = client.send(byte).await;
        let read = client.read(Duration::from_secs(1)).await?;
        match read {
            Received::Silence | Received::Header(_) => {}
            Received::Node(node) => error = Some(node.summary()),
            Received::End | Received::Cut => break,
        }
        ensure!(began.elapsed() < DEADLINE + LATE, "still open");
    }
    match error.as_deref() {
        Some("stream error connection-timeout") => Ok(format!(
            "stream error connection-timeout after {:.1} s",
            began.elapsed().as_secs_f32()
        )),
        other => bail!("{}", other.unwrap_or("no stream error")),
    }
}

/// All of them.
pub async fn cases(bench: &mut Bench<'_>) -> Result<()> {
    let below = [
        ("silent where TLS is due", &b""[..], "(nothing)"),
        ("a third of a TLS record", b"\x16\x03\x01", "16 03 01"),
        (
            "no TLS where TLS is due",
            b"<stream:stream>",
            "<stream:stream>",
        ),
    ];
    for (case, bytes, sent) in below {
        if bench.wants(GROUP, case) {
            let server = bench.server(CONFIG).await?;
            let finding = async { Finding::of(sent, silent_below_tls(&server, bytes).await) };
            bench.judge((GROUP, case), &server, finding).await?;
        }
    }
    for (case, until) in [
        ("a byte a second, from the first", "connected"),
        ("a byte a second, behind TLS", "TLS"),
    ] {
        if bench.wants(GROUP, case) {
            let server = bench.server(CONFIG).await?;
            let finding =
                async { Finding::of("a byte a second", byte_a_second(&server, until).await) };
            bench.judge((GROUP, case), &server, finding).await?;
        }
    }
    Ok(())
}
