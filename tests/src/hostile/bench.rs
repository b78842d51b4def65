//! The servers under attack: their health and memory around each case.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Error, Result, bail};
use tokio::time::{Instant, sleep, timeout};

use super::Options;
use super::report::Row;
use crate::harness::{Kind, Server};
use crate::load::scram::PASSWORD;
use crate::scripts::client::Client;

/// What a case may leave in the server's memory, KiB: heap that the allocator keeps for the next such input, and
/// the few pages that a first use of some code touches.
const CASE_KIB_MAX: u64 = 4 * 1024;
/// How long memory may take to come back, with sessions ending in the background.
const SETTLES: Duration = Duration::from_secs(5);
/// What no case takes.
const CASE_MAX: Duration = Duration::from_secs(180);
/// The account that looks whether the server is well.
pub const WATCHER: &str = "watcher";

/// What a case found.
#[derive(Debug, Default)]
pub struct Finding {
    /// What was sent, in short.
    pub sent: String,
    /// What came back, in short.
    pub got: String,
    /// Why that is wrong, where it is.
    pub wrong: Option<String>,
    /// Memory before, KiB, where the case measures it itself: after a warm-up of its own.
    pub before_kib: Option<u64>,
    /// What may be left in memory, KiB, where it is not the usual.
    pub kib_max: Option<u64>,
}

impl Finding {
    /// What came of a case that says why it failed.
    pub fn of(sent: impl Into<String>, outcome: Result<String>) -> Self {
        let (got, wrong) = match outcome {
            Ok(got) => (got, None),
            Err(error) => (error.root_cause().to_string(), Some(format!("{error:#}"))),
        };
        Finding {
            sent: sent.into(),
            got,
            wrong,
            ..Finding::default()
        }
    }
}

/// Servers by configuration, and the rows so far.
pub struct Bench<'a> {
    options: &'a Options,
    servers: BTreeMap<String, Arc<Server>>,
    number: usize,
    rows: Vec<Row>,
}

impl<'a> Bench<'a> {
    pub fn new(options: &'a Options) -> Self {
        Bench {
            options,
            servers: BTreeMap::new(),
            number: 0,
            rows: Vec::new(),
        }
    }

    /// Whether the options name this case.
    pub fn wants(&self, group: &str, case: &str) -> bool {
        let words = &self.options.words;
        let name = format!("{group}: {case}");
        words.is_empty() || words.iter().any(|word| name.contains(word.as_str()))
    }

    /// A number no other case has, to keep accounts apart.
    pub fn number(&mut self) -> usize {
        self.number += 1;
        self.number
    }

    /// The server with this configuration, started and warm.
    pub async fn server(&mut self, config: &str) -> Result<Arc<Server>> {
        if let Some(server) = self.servers.get(config) {
            return Ok(server.clone());
        }
        // A storm logs in with one account and does nothing else.
        let unlimited = "login.logins_per_account_per_minute = 0\n";
        let server = Server::start(Kind::Eider, &format!("{unlimited}{config}"))?;
        server.add_accounts(&[WATCHER.to_owned()], PASSWORD).await?;
        warm_up(&server).await.context("before the first case")?;
        let server = Arc::new(server);
        self.servers.insert(config.to_owned(), server.clone());
        Ok(server)
    }

    /// Runs a case, and looks at the server before and after.
    pub async fn judge(
        &mut self,
        (group, case): (&str, &str),
        server: &Arc<Server>,
        finding: impl Future<Output = Finding>,
    ) -> Result<()> {
        let mut before_kib = resident_kib(server)?;
        let finding = timeout(CASE_MAX, finding).await;
        let mut finding = finding.unwrap_or_else(|_| Finding {
            wrong: Some("takes too long".to_owned()),
            ..Finding::default()
        });
        before_kib = finding.before_kib.unwrap_or(before_kib);
        let most = finding.kib_max.unwrap_or(CASE_KIB_MAX);
        let mut why: Vec<String> = finding.wrong.take().into_iter().collect();
        if let Err(error) = healthy(server).await {
            why.push(format!("the server is unwell: {error:#}"));
        }
        let after_kib = settled(server, before_kib + most).await?;
        if after_kib > before_kib + most {
            why.push(format!("more than {most} KiB are left in memory"));
        }
        self.rows.push(Row {
            group: group.to_owned(),
            case: case.to_owned(),
            sent: finding.sent,
            got: finding.got,
            ok: why.is_empty(),
            why: why.join("; "),
            before_kib,
            after_kib,
        });
        Ok(())
    }

    /// Ends the servers.
    pub fn finish(self) -> Vec<Row> {
        self.rows
    }
}

/// Logs in with a new connection and gets an answer to a ping.
pub async fn healthy(server: &Server) -> Result<()> {
    let mut client = log_in(server, WATCHER).await?;
    client.barrier().await?;
    client.send(b"</stream:stream>").await?;
    Ok(())
}

/// A session without presence, of an account with [`PASSWORD`].
pub async fn log_in(server: &Server, user: &str) -> Result<Client> {
    let mut client = Client::connect(server, user, false).await?;
    client.open().await?;
    client.start_tls(server).await?;
    client.authenticate(PASSWORD).await?;
    client.bind("r").await?;
    Ok(client)
}

/// What any server does in its first seconds, so that it counts against no case.
async fn warm_up(server: &Server) -> Result<()> {
    for _ in 0..12 {
        healthy(server).await?;
    }
    let mut client = log_in(server, WATCHER).await?;
    for kib in [4, 64, 240] {
        let body = "x".repeat(kib * 1024);
        let message = format!(
            "<message to='{WATCHER}@{}'><body>{body}</body></message>",
            server.domain
        );
        client.send(message.as_bytes()).await?;
        client.barrier().await?;
    }
    client.send(b"</stream:stream>").await
}

/// Resident memory of the server's process, KiB.
pub fn resident_kib(server: &Server) -> Result<u64> {
    let id = server.process_id().context("the server has no process")?;
    let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let Some(line) = line else {
        bail!("the server has ended");
    };
    line.trim()
        .trim_end_matches("kB")
        .trim()
        .parse()
        .map_err(Error::from)
}

/// Memory once it is at most `wanted`, or as it is in the end.
async fn settled(server: &Server, wanted: u64) -> Result<u64> {
    let until = Instant::now() + SETTLES;
    loop {
        let now = resident_kib(server)?;
        if now <= wanted || Instant::now() >= until {
            return Ok(now);
        }
        sleep(Duration::from_millis(50)).await;
    }
}
