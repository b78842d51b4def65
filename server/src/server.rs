//! The composition root, in reading order: configuration, build, run, drain.

pub mod core;
pub mod extensions;

use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::rand::SystemRandom;
use eider_storage::Storage;
use tokio::net::TcpListener;

use self::core::Core;
use crate::access::{Admission, Attempts, Policy};
use crate::admin::commands::{Commands, ConfigSource, Live};
use crate::admin::log::LogControl;
use crate::admin::metrics::Metrics;
use crate::admin::reload::Reloader;
use crate::admin::trace::Tracer;
use crate::admin::{health, http, socket, upkeep};
use crate::c2s::bind;
use crate::clock;
use crate::config::{Config, ConfigWatch, Sources};
use crate::lifecycle::{self, DataDirectory, Lifecycle, Readiness};
use crate::listener;
use crate::stream::{self, PasswordWorkers, StreamParts};
use crate::tls::{self, TlsContext};
use crate::xep::disco;

/// Why the server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file, socket or signal handler.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The data directory.
    #[error("{0}: another eider uses it; see: eider status")]
    InUse(String),
    /// The database.
    #[error(transparent)]
    Storage(#[from] eider_storage::Error),
    /// The certificates.
    #[error(transparent)]
    Tls(#[from] tls::Error),
}

impl Error {
    fn system(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        |source| Self::System { what, source }
    }
}

/// Takes the data directory for this process.
fn take(path: &std::path::Path) -> Result<DataDirectory, Error> {
    DataDirectory::take(path).map_err(|e| match e.kind() {
        std::io::ErrorKind::WouldBlock => Error::InUse(path.display().to_string()),
        _ => Error::system(path.display().to_string())(e),
    })
}

fn open_control(config: &Config) -> Result<socket::ControlSocket, Error> {
    let path = config.control_socket();
    socket::bind(&path).map_err(Error::system(path.display().to_string()))
}

fn watch_signals(lifecycle: &Lifecycle, reloader: &Arc<Reloader>) -> Result<(), Error> {
    let reloader = reloader.clone();
    let reload = move || drop(reloader.reload());
    lifecycle::watch_signals(lifecycle, reload).map_err(Error::system("signals"))
}

async fn restore_sessions(core: &Core) -> Result<(), Error> {
    let waiting = core.restore_sessions(clock::timestamp()).await?;
    if waiting > 0 {
        tracing::info!(waiting, "sessions of the last run wait for their clients");
    }
    Ok(())
}

/// Between two tries to open a database that is away.
const STORAGE_RETRY: Duration = Duration::from_secs(1);
/// What systemd is told that a start may take longer, from each such try on.
const STORAGE_PATIENCE: Duration = Duration::from_secs(60);

/// Opens the database and takes it for this server. One that is away, as after a reboot or in a failover, is waited for;
/// whoever started the server may end it meanwhile.
async fn open_storage(config: &Config) -> Result<Arc<dyn Storage>, eider_storage::Error> {
    let mut waits = false;
    loop {
        let error = match open_and_claim(config).await {
            Ok(storage) => {
                if waits {
                    tracing::info!("the database is there");
                }
                return Ok(storage);
            }
            Err(error) if !error.is_transient() => return Err(error),
            Err(error) => error,
        };
        if !waits {
            tracing::error!("cannot start yet, the database is waited for: {error}");
        }
        waits = true;
        lifecycle::tell_systemd_waiting("waits for the database", STORAGE_PATIENCE);
        tokio::time::sleep(STORAGE_RETRY).await;
    }
}

async fn open_and_claim(config: &Config) -> Result<Arc<dyn Storage>, eider_storage::Error> {
    let storage = eider_storage::open(&config.storage_config()).await?;
    match storage.claim().await {
        Ok(()) => Ok(storage),
        Err(error) => {
            storage.close().await;
            Err(error)
        }
    }
}

/// What the server starts with.
pub struct Start {
    /// Where the configuration is read again from.
    pub sources: Sources,
    /// The configuration they gave.
    pub config: Config,
    /// The log.
    pub log: LogControl,
    /// How the program was called, for the commands it tells people to type.
    pub program: String,
}

/// Runs the server until it is told to stop; everything durable on return.
///
/// # Errors
/// Why it cannot start.
pub async fn run(start: Start) -> Result<(), Error> {
    let Start {
        sources,
        config,
        log,
        program,
    } = start;
    let started = Instant::now();
    let _directory = take(&config.data_directory)?;
    let lifecycle = Lifecycle::new();
    let metrics = Arc::new(Metrics::new());
    let tracer = Tracer::new();
    let control = open_control(&config)?;

    // Before the database is there: probes are told that the server starts.
    let http = serve_http(&config, &metrics, &lifecycle).await?;
    let storage = open_storage(&config).await?;
    let (tls, findings) = TlsContext::load(&config, clock::now())?;
    let tls = Arc::new(tls);
    report(&findings);

    let reloader = Arc::new(Reloader::new(sources, config.clone(), log.clone()));
    reload_certificates(&reloader, &tls, &lifecycle);
    // Before sessions are taken up: told to stop from here on, the server drains them again.
    watch_signals(&lifecycle, &reloader)?;
    let policy = Arc::new(Policy::new(&config));
    let follow = policy.clone();
    reloader.before(move |config| {
        follow.reload(config);
        Vec::new()
    });
    let core = Core::build(
        reloader.watch(),
        storage.clone(),
        metrics.clone(),
        tracer.clone(),
        policy.clone(),
    )
    .await?;
    restore_sessions(&core).await?;

    let streams = Arc::new(stream_parts(
        &config, &reloader, tls, &lifecycle, policy, &core,
    )?);
    let mut listeners = serve_clients(&config, &core, &streams, &lifecycle)?;
    listeners.extend(http);
    let live = Live {
        sessions: core.live_sessions(),
        reloader: reloader.clone(),
        log,
        tracer,
        lifecycle: lifecycle.clone(),
        started,
        listeners: listeners.clone(),
    };
    let commands = Commands {
        storage: storage.clone(),
        config: ConfigSource::Watched(reloader.watch()),
        live: Some(live),
    };
    tokio::spawn(control.serve(Arc::new(commands), lifecycle.hard_stop().clone()));
    look_after(&storage, &reloader, &core, &metrics, &lifecycle);

    lifecycle.set_readiness(Readiness::Ready);
    announce(&config, &listeners, &program);
    let writer = core.parts.writer.pulse();
    let beats = move || writer.beats(tokio::time::Instant::now());
    lifecycle::tell_systemd_ready(&lifecycle, "serving", beats);
    tracing::info!(ready_ms = started.elapsed().as_millis() as u64, "ready");

    lifecycle.soft_stop().cancelled().await;
    drain(&reloader.current(), &lifecycle, core, &*storage).await;
    Ok(())
}

/// Watches the database, shows its pools, and does what has to be done now and then.
fn look_after(
    storage: &Arc<dyn Storage>,
    reloader: &Reloader,
    core: &Core,
    metrics: &Metrics,
    lifecycle: &Lifecycle,
) {
    health::show_queues(metrics, &core.parts.sessions, core.parts.writer.depth());
    health::show_pools(metrics, storage.clone());
    tokio::spawn(health::watch(
        storage.clone(),
        core.parts.writer.pulse(),
        lifecycle.clone(),
    ));
    let stop = lifecycle.soft_stop().clone();
    tokio::spawn(upkeep::run(storage.clone(), reloader.watch(), stop));
}

/// What the last bytes of streams get in any case once sessions have ended.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Ends everything in order: sessions first, then what they still had to write.
async fn drain(config: &Config, lifecycle: &Lifecycle, core: Core, storage: &dyn Storage) {
    let grace = Duration::from_secs(config.shutdown.grace_seconds.into());
    let began = Instant::now();
    tokio::select! {
        () = core.drain(grace) => {}
        () = lifecycle.hard_stop().cancelled() => {}
    }
    let rest = grace.saturating_sub(began.elapsed()).max(LAST_WORDS);
    if !lifecycle.drained(rest).await {
        tracing::warn!("not everything ended in time");
    }
    core.stop().await;
    storage.close().await;
    tracing::info!("stopped");
}

/// What negotiation reaches.
fn stream_parts(
    config: &Config,
    reloader: &Reloader,
    tls: Arc<TlsContext>,
    lifecycle: &Lifecycle,
    policy: Arc<Policy>,
    core: &Core,
) -> Result<StreamParts, Error> {
    let random = Arc::new(SystemRandom::new());
    let decoys = stream::decoy_secret(&config.data_directory, random.as_ref())
        .map_err(Error::system(config.data_directory.display().to_string()))?;
    Ok(StreamParts {
        config: reloader.watch(),
        tls,
        policy,
        admission: Arc::new(Admission::default()),
        attempts: Arc::new(Attempts::default()),
        storage: core.parts.storage.clone(),
        metrics: core.parts.metrics.clone(),
        passwords: PasswordWorkers::new(
            std::thread::available_parallelism().map_or(1, usize::from),
        ),
        decoys,
        random,
        features: host_features(reloader.watch()),
        before_login: Some(core.extensions.registration.clone()),
        stop: lifecycle.soft_stop().clone(),
    })
}

/// What the stream features say of a host beyond those of the stream: its capabilities (XEP-0115 §6.3).
fn host_features(config: ConfigWatch) -> Arc<dyn Fn(&str) -> String + Send + Sync> {
    Arc::new(move |host| {
        let config = config.borrow();
        let caps = config.host(host);
        let caps = caps.and_then(|host| disco::host_caps(&config, host));
        caps.map(|caps| caps.to_xml()).unwrap_or_default()
    })
}

/// Accepts clients on every listener; a line for each.
fn serve_clients(
    config: &Config,
    core: &Core,
    streams: &Arc<StreamParts>,
    lifecycle: &Lifecycle,
) -> Result<Vec<String>, Error> {
    let mut lines = Vec::new();
    for (place, settings) in config.listeners.c2s.iter().enumerate() {
        let what = format!("listeners.c2s, {}:{}", settings.address, settings.port);
        let bound = listener::bind(settings, place).map_err(Error::system(what))?;
        lines.push(bound.describe());
        let parts = core.parts.clone();
        let serve = move |authenticated| bind::serve(parts.clone(), authenticated);
        tokio::spawn(listener::serve(
            bound,
            streams.clone(),
            lifecycle.tasks().clone(),
            serve,
        ));
    }
    Ok(lines)
}

/// How often the files of the certificate directory are looked at.
const CERTIFICATE_LOOK: Duration = Duration::from_secs(30);
/// How often they are read in any case, for the local authority to renew its own.
const CERTIFICATE_READ: Duration = Duration::from_secs(3_600);

/// Reads certificates again at every reload, when their files change, and hourly.
fn reload_certificates(reloader: &Arc<Reloader>, tls: &Arc<TlsContext>, lifecycle: &Lifecycle) {
    let follow = tls.clone();
    reloader.before(move |config| read_certificates(&follow, config));
    let (reloader, tls) = (reloader.clone(), tls.clone());
    let stop = lifecycle.soft_stop().clone();
    tokio::spawn(async move {
        let mut read_at = Instant::now();
        loop {
            tokio::select! {
                () = tokio::time::sleep(CERTIFICATE_LOOK) => {}
                () = stop.cancelled() => return,
            }
            let due = read_at.elapsed() >= CERTIFICATE_READ;
            let (reloader, tls) = (reloader.clone(), tls.clone());
            let read = tokio::task::spawn_blocking(move || {
                reloader.in_turn(|config| {
                    let wanted = due || tls.is_stale(config);
                    wanted.then(|| read_certificates(&tls, config))
                })
            });
            match read.await {
                Ok(None) => continue,
                Ok(Some(findings)) => findings.iter().for_each(|found| tracing::warn!("{found}")),
                Err(e) => tracing::error!("certificates not read again: {e}"),
            }
            read_at = Instant::now();
        }
    });
}

/// Reads the certificates again; what is wrong with them.
fn read_certificates(tls: &TlsContext, config: &Config) -> Vec<String> {
    match tls.reload(config, clock::now()) {
        Ok(findings) => findings.iter().map(ToString::to_string).collect(),
        Err(e) => vec![format!("certificates not read again: {e}")],
    }
}

fn report(findings: &[tls::Error]) {
    for finding in findings {
        tracing::warn!("{finding}");
    }
}

async fn serve_http(
    config: &Config,
    metrics: &Arc<Metrics>,
    lifecycle: &Lifecycle,
) -> Result<Option<String>, Error> {
    let http = &config.listeners.http;
    if !http.enabled {
        return Ok(None);
    }
    let addresses = http.socket_addresses().unwrap_or_default();
    let what = format!("listeners.http, {}:{}", http.address, http.port);
    let listener = TcpListener::bind(&*addresses)
        .await
        .map_err(Error::system(what))?;
    let bound = listener
        .local_addr()
        .map_err(Error::system("listeners.http"))?;
    let stop = lifecycle.hard_stop().clone();
    tokio::spawn(http::serve(
        listener,
        metrics.clone(),
        lifecycle.clone(),
        stop,
    ));
    Ok(Some(format!("http {bound} /metrics /healthz /readyz")))
}

/// Tells whoever started the server where it listens and what to type next.
fn announce(config: &Config, listeners: &[String], program: &str) {
    let mut text = String::new();
    let names: Vec<_> = config.hosts.iter().map(|h| h.name.as_str()).collect();
    text += &format!(
        "eider {} serves {}\n",
        env!("CARGO_PKG_VERSION"),
        names.join(", ")
    );
    for line in listeners {
        text += &format!("  listening  {line}\n");
    }
    let data = std::path::absolute(&config.data_directory);
    let data = data.unwrap_or_else(|_| config.data_directory.clone());
    text += &format!("  data       {}\n", data.display());
    let authority = tls::authority_file(&data);
    if authority.exists() {
        text += &format!(
            "  trust      {} (certificate authority, for your client)\n",
            authority.display()
        );
    }
    let host = names.first().copied().unwrap_or("localhost");
    text += &format!("Next, in another terminal: {program} user add anna@{host}\n");
    // Who started it may not read along.
    let _ = std::io::stdout().write_all(text.as_bytes());
}
