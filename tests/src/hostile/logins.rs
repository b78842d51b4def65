//! RFC 5802: logins whose proof is right and who lie about something else.

use anyhow::{Context, Result, bail, ensure};

use super::bench::{Bench, Finding, WATCHER};
use crate::harness::Server;
use crate::load::scram::{Exchange, Hash, KeyCache};
use crate::scripts::client::{Client, PATIENCE, Received, SASL};

const GROUP: &str = "SCRAM";
/// Who others log in for.
const OTHER: &str = "n,a=other@localhost,";

/// One lie.
struct Lie {
    case: &'static str,
    mechanism: &'static str,
    /// The first message's header.
    gs2: &'static str,
    /// What the last message says the channel is bound to.
    bound: Vec<u8>,
    /// The last message's nonce, from the server's.
    nonce: fn(&str) -> String,
    /// What comes back.
    expected: &'static str,
}

fn with(header: &str, data: &[u8]) -> Vec<u8> {
    [header.as_bytes(), data].concat()
}

fn honest() -> Lie {
    Lie {
        case: "the truth, for comparison",
        mechanism: "SCRAM-SHA-256",
        gs2: "n,,",
        bound: b"n,,".to_vec(),
        nonce: str::to_owned,
        expected: "success",
    }
}

/// Lies in the last message about the first.
fn lies_at_last() -> Vec<Lie> {
    // A nonce that is not the server's makes the message one of another exchange.
    let nonce = |case, nonce| Lie {
        case,
        nonce,
        expected: "failure malformed-request",
        ..honest()
    };
    let lie = |case, bound: &[u8]| Lie {
        case,
        bound: bound.to_vec(),
        expected: "failure not-authorized",
        ..honest()
    };
    vec![
        nonce("half of the nonce", |nonce| {
            nonce[..nonce.len() / 2].to_owned()
        }),
        nonce("the client's part of the nonce alone", |nonce| {
            nonce[..24].to_owned()
        }),
        nonce("a longer nonce", |nonce| format!("{nonce}x")),
        nonce("another nonce", |_| "rOprNGfwEbeRWgbNEkqO".to_owned()),
        lie("a header other than at first", b"y,,"),
        lie("someone else only in the last message", OTHER.as_bytes()),
    ]
}

/// Lies about the channel.
fn lies_about_the_channel() -> Vec<Lie> {
    let binds = |case, gs2, bound| Lie {
        case,
        mechanism: "SCRAM-SHA-256-PLUS",
        gs2,
        bound,
        expected: "failure not-authorized",
        ..honest()
    };
    let exporter = "p=tls-exporter,,";
    let end_point = "p=tls-server-end-point,,";
    vec![
        binds("bound to nothing", exporter, with(exporter, b"")),
        binds(
            "bound to another channel",
            exporter,
            with(exporter, &[7; 32]),
        ),
        binds(
            "bound to another certificate",
            end_point,
            with(end_point, &[7; 32]),
        ),
        binds(
            "bound by another kind at last",
            exporter,
            with(end_point, &[7; 32]),
        ),
        Lie {
            expected: "failure malformed-request",
            ..binds("-PLUS without a binding", "n,,", b"n,,".to_vec())
        },
    ]
}

fn lies() -> Vec<Lie> {
    let other = Lie {
        case: "for someone else, with a right proof",
        gs2: OTHER,
        expected: "failure invalid-authzid",
        ..honest()
    };
    let mut lies = vec![honest(), other];
    lies.extend(lies_at_last());
    lies.extend(lies_about_the_channel());
    lies
}

/// What an `<auth/>` or `<response/>` was answered with.
enum Answer {
    Challenge(String),
    Other(String),
}

async fn ask(client: &mut Client, element: &str) -> Result<Answer> {
    client.send(element.as_bytes()).await?;
    match client.read(PATIENCE).await? {
        Received::Node(node) if node.is("challenge", SASL) => Ok(Answer::Challenge(node.text())),
        Received::Node(node) => Ok(Answer::Other(node.summary())),
        other => bail!("got {other:?}"),
    }
}

fn auth(mechanism: &str, first: &str) -> String {
    format!("<auth xmlns='{SASL}' mechanism='{mechanism}'>{first}</auth>")
}

fn response(text: &str) -> String {
    format!("<response xmlns='{SASL}'>{text}</response>")
}

async fn secured(server: &Server) -> Result<Client> {
    let mut client = Client::connect(server, WATCHER, false).await?;
    client.open().await?;
    client.start_tls(server).await?;
    Ok(client)
}

async fn tell(lie: &Lie, server: &Server) -> Result<String> {
    let mut client = secured(server).await?;
    let (exchange, first) = Exchange::begin_with(Hash::Sha256, lie.gs2, WATCHER)?;
    let mut answer = ask(&mut client, &auth(lie.mechanism, &first)).await?;
    if let Answer::Challenge(challenge) = &answer {
        let keys = KeyCache::default();
        let last = exchange.answer_with(challenge, &keys, &lie.bound, lie.nonce)?;
        answer = ask(&mut client, &response(&last)).await?;
    }
    match answer {
        Answer::Other(got) if got == lie.expected => Ok(got),
        Answer::Other(got) => bail!("{got}, not {}", lie.expected),
        Answer::Challenge(_) => bail!("a second challenge"),
    }
}

/// The last message of a login that succeeded, sent to another challenge.
async fn replay(server: &Server) -> Result<String> {
    let keys = KeyCache::default();
    let mut last = String::new();
    let mut got = Vec::new();
    for _ in 0..2 {
        let mut client = secured(server).await?;
        let (exchange, first) = Exchange::begin(Hash::Sha256, WATCHER)?;
        let answer = ask(&mut client, &auth("SCRAM-SHA-256", &first)).await?;
        let Answer::Challenge(challenge) = answer else {
            bail!("no challenge");
        };
        if last.is_empty() {
            last = exchange.answer(&challenge, &keys)?;
        }
        if let Answer::Other(answer) = ask(&mut client, &response(&last)).await? {
            got.push(answer);
        }
    }
    ensure!(
        got == ["success", "failure malformed-request"],
        "{}",
        got.join("; ")
    );
    Ok(got.join("; "))
}

/// Every lie.
pub async fn cases(bench: &mut Bench<'_>) -> Result<()> {
    let server = bench.server("").await?;
    for lie in lies() {
        if bench.wants(GROUP, lie.case) {
            let bound = String::from_utf8_lossy(&lie.bound);
            let bound = bound.replace(|c: char| c.is_control(), "·");
            let sent = format!("{} {} … c={bound}", lie.mechanism, lie.gs2);
            let outcome = async { Finding::of(sent, tell(&lie, &server).await) };
            bench.judge((GROUP, lie.case), &server, outcome).await?;
        }
    }
    let case = "a last message sent again";
    if bench.wants(GROUP, case) {
        let sent = "the last message of a login before";
        let outcome = async { Finding::of(sent, replay(&server).await.context("replay")) };
        bench.judge((GROUP, case), &server, outcome).await?;
    }
    Ok(())
}
