//! Requests of administrators and what is done for them. The same code answers in the running server and,
//! for what needs only the database, in the command itself.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use eider_storage::Storage;
use rustix::process::{Resource, getrlimit};
use serde_json::Value;
use tokio::sync::mpsc;

use super::accounts::{self, Account, Change};
use super::live_sessions::LiveSessions;
use super::log::LogControl;
use super::metrics::resident_bytes;
use super::protocol::{
    Count, DatabaseInfo, Failure, FailureKind, Levels, Reloaded, Reply, Request, Status, Tables,
};
use super::reload::Reloader;
use super::sessions::SessionsAdmin;
use super::trace::Tracer;
use crate::c2s::control::Kick;
use crate::config::{Config, ConfigWatch};
use crate::lifecycle::{Lifecycle, Readiness};

/// The parts of a running server that requests are about.
pub struct Live {
    /// Its sessions.
    pub sessions: Arc<dyn SessionsAdmin>,
    /// Its configuration.
    pub reloader: Arc<Reloader>,
    /// Its log.
    pub log: LogControl,
    /// Its traces.
    pub tracer: Tracer,
    /// Its state.
    pub lifecycle: Lifecycle,
    /// When it started.
    pub started: Instant,
    /// Its listeners as people read them: `c2s *:5222 starttls`.
    pub listeners: Vec<String>,
}

/// Where a configuration is read from: fixed in a command, reloaded in a server.
pub enum ConfigSource {
    /// Read once.
    Fixed(Arc<Config>),
    /// The valid one.
    Watched(ConfigWatch),
}

impl ConfigSource {
    fn get(&self) -> Arc<Config> {
        match self {
            Self::Fixed(config) => config.clone(),
            Self::Watched(watch) => watch.borrow().clone(),
        }
    }
}

/// Answers requests.
pub struct Commands {
    /// The database.
    pub storage: Arc<dyn Storage>,
    /// The configuration.
    pub config: ConfigSource,
    /// The running server; `None` in a command beside a server that does not run.
    pub live: Option<Live>,
}

/// Where replies go. A send fails where the asker has gone away.
pub type Replies = mpsc::Sender<Reply>;

impl Commands {
    /// Does what is asked and sends every reply, the last included.
    pub async fn run(&self, request: Request, replies: &Replies) {
        let result = self.answer(request, replies).await;
        // The asker may be gone; then nobody waits for an end.
        let _ = replies.send(Reply::end(result)).await;
    }

    async fn answer(&self, request: Request, replies: &Replies) -> Result<Value, Failure> {
        match request {
            Request::Status => json(self.status()?),
            Request::UserAdd { .. }
            | Request::UserPasswd { .. }
            | Request::UserRemove { .. }
            | Request::UserShow { .. }
            | Request::UserList { .. }
            | Request::UserEnable { .. } => self.user(request).await,
            Request::SessionList { account } => {
                let live = self.live()?;
                json(live.sessions.list(account.as_deref()).await)
            }
            Request::SessionKick { jid } => self.kick(&jid).await,
            Request::Database => json(DatabaseInfo::from(self.storage.describe().await?)),
            Request::Reload => self.reload(),
            Request::Backup { target } => self.backup(&target, replies).await,
            Request::Log {
                level,
                module,
                for_seconds,
            } => {
                let log = &self.live()?.log;
                if let Some(level) = level {
                    log.set(
                        level,
                        module.as_deref(),
                        for_seconds.map(Duration::from_secs),
                    );
                    let levels = log.levels();
                    tracing::warn!(levels, "log levels changed by command");
                }
                json(Levels {
                    levels: log.levels(),
                })
            }
            Request::Trace { account } => self.trace(&account, replies).await,
        }
    }

    fn live(&self) -> Result<&Live, Failure> {
        self.live.as_ref().ok_or_else(not_running)
    }

    fn status(&self) -> Result<Status, Failure> {
        let live = self.live()?;
        let config = self.config.get();
        let readiness = live.lifecycle.readiness().borrow().clone();
        let directory = std::path::absolute(&config.data_directory);
        Ok(Status {
            state: readiness.as_str().to_owned(),
            reason: match readiness {
                Readiness::Degraded(reason) => Some(reason),
                _ => None,
            },
            version: env!("CARGO_PKG_VERSION").to_owned(),
            process_id: std::process::id(),
            uptime_seconds: live.started.elapsed().as_secs(),
            hosts: config.hosts.iter().map(|h| h.name.clone()).collect(),
            listeners: live.listeners.clone(),
            engine: config.storage.engine.to_string(),
            data_directory: directory.unwrap_or_else(|_| config.data_directory.clone()),
            sessions: live.sessions.count() as u64,
            resident_bytes: resident_bytes().unsigned_abs(),
            files_max: getrlimit(Resource::Nofile).current,
            log_levels: live.log.levels(),
        })
    }

    async fn user(&self, request: Request) -> Result<Value, Failure> {
        let config = self.config.get();
        let storage = &*self.storage;
        match request {
            Request::UserAdd { account, password } => {
                let account = Account::parse(&account, &config)?;
                self.change(&account, Change::Add(password.0.clone()))
                    .await?;
                json(accounts::show(storage, &account).await?)
            }
            Request::UserPasswd { account, password } => {
                let account = Account::parse(&account, &config)?;
                self.change(&account, Change::Password(password.0.clone()))
                    .await
            }
            Request::UserRemove { account } => {
                let account = Account::parse(&account, &config)?;
                self.change(&account, Change::Remove).await
            }
            Request::UserEnable { account, enabled } => {
                let account = Account::parse(&account, &config)?;
                self.change(&account, Change::Enable(enabled)).await
            }
            Request::UserShow { account } => {
                let account = Account::parse(&account, &config)?;
                let mut info = accounts::show(storage, &account).await?;
                if let Some(live) = &self.live {
                    info.sessions = live.sessions.list(Some(&account.jid())).await;
                }
                json(info)
            }
            Request::UserList {
                host,
                search,
                limit,
            } => {
                let (host, search) = (host.as_deref(), search.as_deref());
                json(accounts::list(storage, &config, host, search, limit).await?)
            }
            _ => Err(Failure::new(
                FailureKind::Usage,
                "no request about accounts",
            )),
        }
    }

    /// Changes an account; answers how many of its sessions ended.
    async fn change(&self, account: &Account, change: Change) -> Result<Value, Failure> {
        let config = self.config.get();
        let what = change.done();
        let sessions: Arc<dyn SessionsAdmin> = match &self.live {
            Some(live) => live.sessions.clone(),
            None => {
                let storage = self.storage.clone();
                Arc::new(LiveSessions::of_no_server(storage, config.clone()))
            }
        };
        let count = sessions
            .change(config, account.clone(), change, None)
            .await?;
        tracing::info!(account = account.jid(), "{what} by command");
        json(Count {
            count: count as u64,
        })
    }

    async fn kick(&self, jid: &str) -> Result<Value, Failure> {
        let count = self.live()?.sessions.kick(jid, Kick::Administrator).await;
        if count == 0 {
            let what = format!("there is no session of {jid}");
            return Err(Failure::new(FailureKind::NotFound, what).hint("eider session list"));
        }
        tracing::info!(jid, count, "sessions ended by command");
        json(Count {
            count: count as u64,
        })
    }

    fn reload(&self) -> Result<Value, Failure> {
        let reload = self.live()?.reloader.reload();
        let reload = reload.map_err(|e| Failure::new(FailureKind::Configuration, e.to_string()))?;
        json(Reloaded {
            applied: reload.changes.applied,
            restart: reload.changes.restart,
            findings: reload.findings,
        })
    }

    async fn backup(&self, target: &Path, replies: &Replies) -> Result<Value, Failure> {
        let target = new_file(target)?;
        let progress = |table: &str, rows: u64| {
            // Progress that the asker is too slow to read is left out.
            let _ = replies.try_send(Reply::Progress {
                what: table.to_owned(),
                done: rows,
            });
        };
        let counts = self.storage.backup(&target, &progress).await?;
        tracing::info!(target = %target.display(), "backup written");
        json(Tables::from(counts))
    }

    async fn trace(&self, account: &str, replies: &Replies) -> Result<Value, Failure> {
        let account = Account::parse(account, &self.config.get())?;
        accounts::show(&*self.storage, &account).await?;
        let live = self.live()?;
        let mut reader = live.tracer.follow(&account.jid());
        tracing::info!(account = account.jid(), "trace begins");
        loop {
            let event = tokio::select! {
                event = reader.next() => event,
                () = replies.closed() => None,
                () = live.lifecycle.soft_stop().cancelled() => None,
            };
            let Some(event) = event else { break };
            if replies.send(Reply::Event { event }).await.is_err() {
                break;
            }
        }
        tracing::info!(account = account.jid(), "trace ends");
        json(Value::Null)
    }
}

/// The path of a file that is to be made, absolute.
///
/// # Errors
/// `Exists` where it exists.
pub fn new_file(path: &Path) -> Result<PathBuf, Failure> {
    let path = std::path::absolute(path)
        .map_err(|e| Failure::new(FailureKind::Usage, format!("{}: {e}", path.display())))?;
    if path.exists() {
        let what = format!("{} exists already", path.display());
        return Err(Failure::new(FailureKind::Exists, what).hint("name a new file"));
    }
    Ok(path)
}

/// What is said where a server is needed and none runs.
pub fn not_running() -> Failure {
    Failure::new(FailureKind::NotRunning, "the server is not running here")
        .hint("start it with: eider serve (or name its configuration: eider --config FILE …)")
}

fn json(value: impl serde::Serialize) -> Result<Value, Failure> {
    serde_json::to_value(value).map_err(|e| Failure::new(FailureKind::Failed, e.to_string()))
}
