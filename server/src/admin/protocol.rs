//! What the command line and the server say to each other over the control socket: one JSON object per
//! line, one request per connection, replies until `done` or `failed`.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::sessions::SessionInfo;
use super::trace::TraceEvent;
use crate::config::Level;

/// The longest line either side reads.
pub const LINE_BYTES: usize = 4 * 1024 * 1024;

/// What is asked of the server, or of the database where no server runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case")]
pub enum Request {
    /// How the server is; answered with [`Status`].
    Status,
    /// Makes an account.
    UserAdd {
        /// Bare JID.
        account: String,
        /// As typed.
        password: Password,
    },
    /// Replaces the password.
    UserPasswd {
        /// Bare JID.
        account: String,
        /// As typed.
        password: Password,
    },
    /// Removes the account and all that belongs to it.
    UserRemove {
        /// Bare JID.
        account: String,
    },
    /// Shows one account; answered with [`AccountInfo`].
    UserShow {
        /// Bare JID.
        account: String,
    },
    /// Lists accounts; answered with a list of [`AccountInfo`].
    UserList {
        /// Of this host alone.
        host: Option<String>,
        /// Those whose localpart contains this.
        search: Option<String>,
        /// At most so many per host.
        limit: u32,
    },
    /// Lets an account log in, or not.
    UserEnable {
        /// Bare JID.
        account: String,
        /// Whether it may log in.
        enabled: bool,
    },
    /// Lists sessions; answered with a list of [`SessionInfo`].
    SessionList {
        /// Of this account (bare JID) alone.
        account: Option<String>,
    },
    /// Ends sessions; answered with [`Count`].
    SessionKick {
        /// A full JID, or a bare one for all sessions of the account.
        jid: String,
    },
    /// Describes the database; answered with [`DatabaseInfo`].
    Database,
    /// Reads the configuration and the certificates again; answered with [`Reloaded`].
    Reload,
    /// Writes a backup; progress, then [`Tables`].
    Backup {
        /// A file that does not exist, absolute.
        target: std::path::PathBuf,
    },
    /// Changes the level of the log; answered with [`Levels`].
    Log {
        /// The new level; `None` only asks for the present ones.
        level: Option<Level>,
        /// Of this module alone.
        module: Option<String>,
        /// For so long; else until the restart.
        for_seconds: Option<u64>,
    },
    /// Follows the stanzas of an account: events until the asker goes away.
    Trace {
        /// Bare JID.
        account: String,
    },
}

/// A line of the server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "kebab-case")]
pub enum Reply {
    /// The work goes on.
    Progress {
        /// What is worked on, as a table.
        what: String,
        /// How much of it is done.
        done: u64,
    },
    /// A stanza of a traced account.
    Event {
        /// Its header.
        event: TraceEvent,
    },
    /// The work is done.
    Done {
        /// As the request says.
        result: serde_json::Value,
    },
    /// The work is not done.
    Failed {
        /// Why.
        failure: Failure,
    },
}

impl Reply {
    /// The reply that ends a request.
    pub fn end(result: Result<serde_json::Value, Failure>) -> Self {
        match result {
            Ok(result) => Self::Done { result },
            Err(failure) => Self::Failed { failure },
        }
    }
}

/// Kinds of failure; each has its exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// Anything without a kind of its own.
    Failed,
    /// The arguments make no sense.
    Usage,
    /// There is no such account, session, file.
    NotFound,
    /// It exists already.
    Exists,
    /// The server does not run, or does not answer.
    NotRunning,
    /// The configuration has problems.
    Configuration,
    /// The database cannot be used now.
    Database,
    /// A check found problems.
    Findings,
}

impl FailureKind {
    /// The exit code of the command.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NotFound => 3,
            Self::Exists => 4,
            Self::NotRunning => 5,
            Self::Configuration => 6,
            Self::Database => 7,
            Self::Findings => 8,
        }
    }
}

/// Why a request failed, and what to type next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{what}")]
pub struct Failure {
    /// Its kind.
    pub kind: FailureKind,
    /// What is wrong.
    pub what: String,
    /// What to type next.
    pub hint: Option<String>,
}

impl Failure {
    /// A failure without a hint.
    pub fn new(kind: FailureKind, what: impl Into<String>) -> Self {
        Self {
            kind,
            what: what.into(),
            hint: None,
        }
    }

    /// The same with what to type next.
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self {
            hint: Some(hint.into()),
            ..self
        }
    }
}

impl From<eider_storage::Error> for Failure {
    fn from(e: eider_storage::Error) -> Self {
        let kind = match e {
            eider_storage::Error::Conflict(_) => FailureKind::Exists,
            _ => FailureKind::Database,
        };
        Self::new(kind, e.to_string()).hint("eider check")
    }
}

/// A password on its way to the server. Never printed or logged.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Password(pub String);

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(crate::config::secret::HIDDEN)
    }
}

/// How the server is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// `starting`, `ready`, `degraded`, `draining`, `stopped`.
    pub state: String,
    /// What is missing where the state is `degraded`.
    pub reason: Option<String>,
    /// The server's version.
    pub version: String,
    /// Its process.
    pub process_id: u32,
    /// Seconds since its start.
    pub uptime_seconds: u64,
    /// The hosts it serves.
    pub hosts: Vec<String>,
    /// Its listeners, as `c2s *:5222 starttls`.
    pub listeners: Vec<String>,
    /// `sqlite` or `postgres`.
    pub engine: String,
    /// Where its files are, absolute.
    pub data_directory: std::path::PathBuf,
    /// Sessions bound.
    pub sessions: u64,
    /// Memory in RAM.
    pub resident_bytes: u64,
    /// Files and sockets it may have open at once; `None` without a limit, and from servers that do not say.
    #[serde(default)]
    pub files_max: Option<u64>,
    /// Levels of its log.
    pub log_levels: String,
}

/// One account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountInfo {
    /// Bare JID.
    pub account: String,
    /// Whether it may log in.
    pub enabled: bool,
    /// When it was made: `2026-03-01T12:00:00Z`.
    pub created: String,
    /// When its last session ended; `None` where none did.
    pub last_seen: Option<String>,
    /// Its sessions; empty where no server runs.
    pub sessions: Vec<SessionInfo>,
}

/// How many.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// So many.
    pub count: u64,
}

/// Levels of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Levels {
    /// As `info, eider::stream=debug`.
    pub levels: String,
}

/// What a reload changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// Keys valid at once.
    pub applied: Vec<String>,
    /// Keys that wait for a restart.
    pub restart: Vec<String>,
    /// What is wrong though the configuration is valid, as a certificate that cannot be read.
    #[serde(default)]
    pub findings: Vec<String>,
}

/// One table of the database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// Its name.
    pub table: String,
    /// Its rows.
    pub rows: u64,
    /// A sum over them, the same on both engines.
    pub checksum: u64,
}

/// What a backup, a restore or a copy holds, read back from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tables {
    /// All tables.
    pub tables: Vec<Table>,
    /// Rows of all tables.
    pub rows: u64,
}

impl From<Vec<eider_storage::TableCount>> for Tables {
    fn from(counts: Vec<eider_storage::TableCount>) -> Self {
        let rows = counts.iter().map(|t| t.rows).sum();
        let tables = counts.into_iter();
        let tables = tables
            .map(|t| Table {
                table: t.table,
                rows: t.rows,
                checksum: t.checksum,
            })
            .collect();
        Self { tables, rows }
    }
}

/// The database, as checks want to know it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseInfo {
    /// `sqlite` or `postgres`.
    pub engine: String,
    /// The engine's version.
    pub version: String,
    /// Its encoding of text.
    pub encoding: String,
    /// The newest migration that has run.
    pub schema_version: i64,
    /// The newest migration this program knows.
    pub schema_expected: i64,
    /// Settings that decide about durability.
    pub durability: Vec<(String, String)>,
    /// Whether what is acknowledged survives a crash of the machine.
    pub durable: bool,
    /// Whether the loss of the primary is covered.
    pub survives_primary: bool,
    /// Whether it takes no writes.
    pub read_only: bool,
    /// The engine's limit on connections.
    pub connections_max: Option<u32>,
    /// Connections all pools may open.
    pub connections_wanted: u32,
    /// Bytes on disk.
    pub size_bytes: u64,
    /// One round trip.
    pub latency_us: u64,
    /// What the engine itself finds wrong: problem, effect, remedy.
    pub findings: Vec<(String, String, String)>,
}

impl From<eider_storage::Description> for DatabaseInfo {
    fn from(d: eider_storage::Description) -> Self {
        let findings = d
            .findings
            .into_iter()
            .map(|f| (f.problem, f.effect, f.remedy))
            .collect();
        Self {
            engine: d.engine.to_owned(),
            version: d.version,
            encoding: d.encoding,
            schema_version: d.schema_version,
            schema_expected: d.schema_expected,
            durability: d.durability,
            durable: d.durable,
            survives_primary: d.survives_primary,
            read_only: d.read_only,
            connections_max: d.connections_max,
            connections_wanted: d.connections_wanted,
            size_bytes: d.size_bytes,
            latency_us: d.latency_us,
            findings,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_travel_but_are_not_shown() {
        let account = "anna@localhost".to_owned();
        let request = Request::UserAdd {
            account,
            password: Password("hunter2".to_owned()),
        };
        assert!(!format!("{request:?}").contains("hunter2"));
        let line = serde_json::to_string(&request).unwrap();
        assert_eq!(serde_json::from_str::<Request>(&line).unwrap(), request);
    }
}
