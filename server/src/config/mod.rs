//! Configuration: one file per section, all described once; layers defaults < credentials < TOML <
//! environment < command line. A [`Config`] is immutable and replaced whole on reload.

pub mod access;
pub mod archive;
pub mod compatibility;
pub mod hosts;
pub mod keepalive;
mod layers;
pub mod limits;
pub mod listeners;
pub mod load;
pub mod logging;
pub mod login;
pub mod registration;
pub mod reload;
pub mod render;
pub mod schema;
pub mod secret;
pub mod shutdown;
pub mod storage;
pub mod stream_management;
pub mod tls;
pub mod traffic;
mod validate;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use schema::section;

pub use access::{Access, AccessRule, Action};
pub use archive::Archive;
pub use compatibility::Compatibility;
pub use hosts::{ArchiveDefault, ArchiveForce, Contact, Feature, Host};
pub use keepalive::{Keepalive, ProbeKind};
pub use limits::Limits;
pub use listeners::{C2sListener, HttpListener, Listeners, TlsMode};
pub use load::{Error, Problem, Sources};
pub use logging::{Level, LogFormat, Logging};
pub use login::{Login, Mechanism, ResourceConflict};
pub use registration::Registration;
pub use reload::Changes;
pub use secret::Secret;
pub use shutdown::Shutdown;
pub use storage::{Engine, Storage};
pub use stream_management::StreamManagement;
pub use tls::{Tls, TlsVersion};
pub use traffic::{OverRate, Traffic, TrafficAssignment, TrafficClass};

/// Where parts read the configuration that is valid now: `borrow().clone()` gives the [`Arc`].
pub type ConfigWatch = tokio::sync::watch::Receiver<Arc<Config>>;

section! {
    /// The whole configuration.
    pub struct Config {
        /// Where the server keeps its files: database (SQLite), keys, certificates, control socket.
        pub data_directory: PathBuf = PathBuf::from("eider-data"),
        /// Threads that serve clients; 0 takes one per core.
        pub worker_threads: u32 = 0,
        /// The domains that are served. Naming any replaces the default.
        pub hosts: Vec<Host> = vec![Host::named("localhost")],
        /// Where connections are accepted.
        pub listeners: Listeners = Listeners::default(),
        /// TLS of all listeners.
        pub tls: Tls = Tls::default(),
        /// How clients log in.
        pub login: Login = Login::default(),
        /// Bounds on what one client, account or the process may hold.
        pub limits: Limits = Limits::default(),
        /// Sessions that outlive their connection (XEP-0198).
        pub stream_management: StreamManagement = StreamManagement::default(),
        /// Probes of silent clients.
        pub keepalive: Keepalive = Keepalive::default(),
        /// Who, and from where, may do what.
        pub access: Access = Access::default(),
        /// How much a session may send, and who is served first.
        pub traffic: Traffic = Traffic::default(),
        /// The archive of messages (XEP-0313).
        pub archive: Archive = Archive::default(),
        /// The database.
        pub storage: Storage = Storage::default(),
        /// Making accounts from a client (XEP-0077).
        pub registration: Registration = Registration::default(),
        /// The log, on standard error.
        pub logging: Logging = Logging::default(),
        /// Switches for old clients and strict rules.
        pub compatibility: Compatibility = Compatibility::default(),
        /// What happens on SIGTERM.
        pub shutdown: Shutdown = Shutdown::default(),
    }
}

impl Config {
    /// The settings of a host by its prepared domain.
    pub fn host(&self, domain: &str) -> Option<&Host> {
        self.hosts.iter().find(|h| h.name == domain)
    }

    /// The directory of certificates: as configured, else in the data directory.
    pub fn certificate_directory(&self) -> PathBuf {
        match &self.tls.certificate_directory {
            Some(directory) => directory.clone(),
            None => self.data_directory.join("certificates"),
        }
    }

    /// The SQLite file.
    pub fn sqlite_file(&self) -> PathBuf {
        self.data_directory.join("eider.sqlite")
    }

    /// The control socket.
    pub fn control_socket(&self) -> PathBuf {
        control_socket(&self.data_directory)
    }
}

/// The control socket of the server that owns this data directory.
pub fn control_socket(data_directory: &Path) -> PathBuf {
    data_directory.join("eider.sock")
}
