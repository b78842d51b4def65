//! The servers under load: each started fresh for a row, with accounts and rosters already made.

mod eider;
mod ejabberd;
mod prosody;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use aws_lc_rs::rand;
use rustix::process::Signal;
use rustls::ClientConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::certs::Certificate;
use super::client::Clients;
use super::connection::Endpoint;
use super::postgres::Postgres;
use super::process::{self, Guard};
use super::scram::KeyCache;

pub use eider::binary as eider_binary;

/// The host that every server serves.
pub const HOST: &str = "localhost";

/// Whose server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum Kind {
    /// Eider.
    Eider,
    /// Debian's prosody.
    Prosody,
    /// Debian's ejabberd.
    Ejabberd,
}

impl Kind {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Eider => "eider",
            Self::Prosody => "prosody",
            Self::Ejabberd => "ejabberd",
        }
    }
}

/// Where what is said is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum Engine {
    /// One file.
    Sqlite,
    /// The run's own PostgreSQL.
    Postgres,
}

impl Engine {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgres",
        }
    }
}

/// What a server does with messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Archive {
    /// Neither archived nor owed: for Eider offline storage is off too. Rivals keep mod_offline, which
    /// touches no message to somebody online.
    Off,
    /// Not archived, but owed until delivered: Eider's promise without an archive.
    Owed,
    /// Archived for sender and recipient.
    On,
}

/// Who is in whose roster, each subscribed to the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rosters {
    /// Nobody.
    Empty,
    /// Each account with the `n` others of its group of `n + 1`.
    Groups(u32),
    /// Account 0 with all others.
    Star,
}

impl Rosters {
    /// The contacts of an account, of `accounts` in all.
    pub fn contacts(self, account: u32, accounts: u32) -> Vec<u32> {
        match self {
            Self::Empty => Vec::new(),
            Self::Groups(n) => {
                let first = account / (n + 1) * (n + 1);
                (first..(first + n + 1).min(accounts))
                    .filter(|c| *c != account)
                    .collect()
            }
            Self::Star if account == 0 => (1..accounts).collect(),
            Self::Star => vec![0],
        }
    }
}

/// What a row needs of its server.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Accounts `u0`, `u1` and so on.
    pub accounts: u32,
    /// Their rosters.
    pub rosters: Rosters,
    /// What happens to messages.
    pub archive: Archive,
    /// Where Eider keeps everything, and rivals their archive.
    pub engine: Engine,
}

impl Plan {
    /// So many accounts, nothing else.
    pub fn accounts(accounts: u32) -> Self {
        Self {
            accounts,
            rosters: Rosters::Empty,
            archive: Archive::Off,
            engine: Engine::Sqlite,
        }
    }
}

/// What all servers of a run share.
pub struct Site {
    /// The run's directory.
    pub directory: PathBuf,
    /// Their certificate.
    pub certificate: Certificate,
    /// The run's PostgreSQL, where a row needs one.
    pub postgres: Option<Postgres>,
    /// Eider's binary.
    pub eider: PathBuf,
    /// The clients' TLS settings.
    pub tls: Arc<ClientConfig>,
    /// The clients' keys.
    pub keys: Arc<KeyCache>,
}

impl Site {
    /// The run's PostgreSQL.
    pub fn postgres(&self) -> Result<&Postgres> {
        self.postgres.as_ref().context("this row needs PostgreSQL")
    }
}

/// Ports of one server.
#[derive(Debug, Clone, Copy)]
pub struct Ports {
    /// STARTTLS.
    pub starttls: u16,
    /// TLS from the first byte.
    pub direct: u16,
    /// Metrics, where the server has them.
    pub http: u16,
}

/// How a server is started once its directory is filled.
struct Prepared {
    command: Command,
    /// The process whose tree is its database.
    database: Option<u32>,
    /// Appears once accounts that are made by the server's start are there.
    marker: Option<PathBuf>,
}

/// A running server.
pub struct Server {
    /// Whose.
    pub kind: Kind,
    /// Its ports.
    pub ports: Ports,
    /// From starting the process until it answered a stream header.
    pub ready: Duration,
    guard: Option<Guard>,
    prepared: Prepared,
    directory: PathBuf,
    clients: Clients,
}

impl Server {
    /// Makes a directory with configuration and accounts, starts the server and waits until it answers.
    pub async fn start(kind: Kind, site: &Site, plan: &Plan) -> Result<Self> {
        let mut random = [0; 4];
        rand::fill(&mut random).context("random bytes")?;
        let suffix = u32::from_be_bytes(random);
        let directory = site.directory.join(format!("{}-{suffix:08x}", kind.name()));
        std::fs::create_dir_all(&directory)?;
        let ports = Ports {
            starttls: free_port()?,
            direct: free_port()?,
            http: free_port()?,
        };
        let prepared = match kind {
            Kind::Eider => eider::prepare(site, plan, &directory, ports).await,
            Kind::Prosody => prosody::prepare(site, plan, &directory, ports).await,
            Kind::Ejabberd => ejabberd::prepare(site, plan, &directory, ports).await,
        };
        let prepared = prepared.with_context(|| format!("preparing {}", kind.name()))?;
        let address = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), ports.starttls);
        let (host, tls) = (HOST.to_owned(), site.tls.clone());
        let endpoint = Endpoint {
            address,
            host,
            direct: false,
            tls,
        };
        let clients = Clients {
            endpoint,
            keys: site.keys.clone(),
        };
        let ready = Duration::ZERO;
        let mut server = Self {
            kind,
            ports,
            ready,
            guard: None,
            prepared,
            directory,
            clients,
        };
        server.launch().await?;
        Ok(server)
    }

    /// Clients of this server.
    pub fn clients(&self) -> Clients {
        self.clients.clone()
    }

    /// Where it keeps everything.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Sets an environment variable of the next start.
    pub fn environment(&mut self, key: &str, value: &str) {
        self.prepared.command.env(key, value);
    }

    /// Whether the process has ended, by itself or by a signal.
    pub fn has_ended(&mut self) -> bool {
        self.guard
            .as_mut()
            .is_none_or(|guard| guard.check().is_err())
    }

    /// SIGKILL, where it still runs.
    pub fn kill(&mut self) {
        if let Some(mut guard) = self.guard.take() {
            guard.stop_with(Signal::KILL, Duration::from_secs(10));
        }
    }

    /// Its storage, opened beside it: for looking at what an ended server has left.
    pub async fn storage(
        &self,
        site: &Site,
        plan: &Plan,
    ) -> Result<Arc<dyn eider_storage::Storage>> {
        eider::open(site, plan, &self.directory).await
    }

    /// Starts the process with what is in its directory, and waits until it answers.
    pub async fn launch(&mut self) -> Result<()> {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.directory.join("output.log"))?;
        self.prepared.command.stdout(log.try_clone()?).stderr(log);
        let begun = Instant::now();
        let mut guard = Guard::spawn(self.kind.name(), &mut self.prepared.command)?;
        while !answers(self.clients.endpoint.address).await {
            if let Err(error) = guard.check().and_then(|()| within(begun)) {
                return Err(error.context(tail(&self.directory.join("output.log"))));
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        self.ready = begun.elapsed();
        while self.prepared.marker.as_ref().is_some_and(|m| !m.exists()) {
            guard.check().and_then(|()| within(begun))?;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.guard = Some(guard);
        Ok(())
    }

    /// Stops the server with SIGTERM and starts it again with the same data; how long the stop took.
    pub async fn restart(&mut self) -> Result<Duration> {
        let mut guard = self.guard.take().context("the server is not running")?;
        let stopped =
            tokio::task::spawn_blocking(move || guard.stop(Duration::from_secs(60))).await?;
        self.launch().await?;
        Ok(stopped)
    }

    /// CPU time so far: of the server's process tree, and of its database's.
    pub fn cpu(&self) -> (Duration, Duration) {
        let server = self.guard.as_ref().map(|g| process::cpu(g.pid()));
        (
            server.unwrap_or_default(),
            self.prepared.database.map(process::cpu).unwrap_or_default(),
        )
    }

    /// Resident memory of the server's process tree, in KiB.
    pub fn resident_kib(&self) -> u64 {
        self.guard
            .as_ref()
            .map(|g| process::resident_kib(g.pid()))
            .unwrap_or_default()
    }

    /// Fails where the server has ended by itself.
    pub fn check(&mut self) -> Result<()> {
        let Some(guard) = &mut self.guard else {
            bail!("{} is not running", self.kind.name())
        };
        guard
            .check()
            .with_context(|| tail(&self.directory.join("output.log")))
    }

    /// Sum and number of a histogram in Eider's metrics.
    pub async fn histogram(&self, name: &str) -> Option<(f64, f64)> {
        if self.kind != Kind::Eider {
            return None;
        }
        let metrics = http_get(self.ports.http, "/metrics").await.ok()?;
        let value = |suffix: &str| {
            let start = format!("{name}_{suffix} ");
            metrics
                .lines()
                .find_map(|l| l.strip_prefix(&start))?
                .trim()
                .parse::<f64>()
                .ok()
        };
        Some((value("sum")?, value("count")?))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut guard) = self.guard.take() {
            // Nothing of this server is looked at any more.
            guard.stop(Duration::from_secs(3));
        }
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn within(begun: Instant) -> Result<()> {
    anyhow::ensure!(
        begun.elapsed() < Duration::from_secs(60),
        "no answer within 60 s"
    );
    Ok(())
}

/// The last lines of a log, for errors.
fn tail(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

/// Whether a stream header is answered with features.
async fn answers(address: SocketAddr) -> bool {
    let ask = async {
        let mut tcp = TcpStream::connect(address).await?;
        let header = format!(
            "<?xml version='1.0'?><stream:stream to='{HOST}' version='1.0' xmlns='jabber:client' \
             xmlns:stream='http://etherx.jabber.org/streams'>"
        );
        tcp.write_all(header.as_bytes()).await?;
        let (mut seen, mut buffer) = (Vec::new(), [0; 2048]);
        while !super::wire::contains(&seen, "<starttls") {
            match tcp.read(&mut buffer).await? {
                0 => bail!("closed"),
                n => seen.extend_from_slice(&buffer[..n]),
            }
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(Duration::from_secs(2), ask)
        .await
        .is_ok_and(|r| r.is_ok())
}

async fn http_get(port: u16, path: &str) -> Result<String> {
    let mut tcp = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    tcp.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    tcp.read_to_string(&mut answer).await?;
    Ok(answer)
}

/// A port nobody listens on, below those that the system gives to clients.
pub fn free_port() -> Result<u16> {
    for _ in 0..1000 {
        let mut random = [0; 2];
        rand::fill(&mut random).context("random bytes")?;
        let port = 15_000 + u16::from_be_bytes(random) % 15_000;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free port")
}
