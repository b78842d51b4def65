//! TLS of client streams: certificates with hot swap, configurations, handshakes (RFC 7590, RFC 9325)
//!
//! [`TlsContext`] is shared by all listeners. A handshake takes one snapshot of
//! it, so that the certificate named in the channel binding is the one shown.

mod certificate;
mod certificates;
mod client_identity;
mod config;
mod handshake;
pub mod local;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::RwLock;

use crate::config::Config;

pub use certificate::HostCertificate;
pub(crate) use certificate::dns_names;
pub use certificates::CertificateSet;
pub(crate) use certificates::{ascii, pairs};
pub use client_identity::xmpp_addresses;
pub use handshake::{HandshakeError, TlsFacts, TlsKind, accept};
pub use local::authority_file;

use config::ConfigFactory;

/// What can be wrong with certificates and keys.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or directory cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// What was read or written.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A file of the certificate directory is unusable; the one loaded before, if any, stays in use.
    #[error("{}: {reason}", path.display())]
    BadFile {
        /// The file with the certificate.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The certificate in use is no longer valid, or not yet.
    #[error("{}: the certificate is outside its validity period", path.display())]
    Expired {
        /// The file with the certificate.
        path: PathBuf,
    },
    /// The file of a certificate in use is gone; the certificate stays until the server ends.
    #[error("{}: the file is gone; its certificate is shown until the next start", path.display())]
    Vanished {
        /// The file that was there.
        path: PathBuf,
    },
    /// A host that is served has no certificate and may not have a local one.
    #[error("no certificate for the host {host}")]
    NoCertificate {
        /// The host as configured.
        host: String,
    },
    /// The local certificate authority failed.
    #[error("local certificate authority: {0}")]
    Local(#[from] rcgen::Error),
    /// rustls refuses the configuration.
    #[error("TLS configuration: {0}")]
    Rustls(#[from] rustls::Error),
    /// The file with authorities for client certificates is unusable.
    #[error("{}: {reason}", path.display())]
    ClientAuthorities {
        /// The configured file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// The certificates and configurations valid now, replaced whole on reload.
pub struct TlsContext {
    factory: ConfigFactory,
    current: RwLock<Arc<CertificateSet>>,
}

impl std::fmt::Debug for TlsContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsContext").finish_non_exhaustive()
    }
}

impl TlsContext {
    /// Loads the certificate directory, makes what the local authority owes, and
    /// returns with the context what is wrong though the server can run.
    ///
    /// # Errors
    /// [`Error`] where no host at all would have a certificate, or the
    /// configuration cannot be used.
    pub fn load(config: &Config, now: SystemTime) -> Result<(Self, Vec<Error>), Error> {
        let factory = ConfigFactory::new(config)?;
        let empty = CertificateSet::default();
        let (set, mut findings) = CertificateSet::load(config, &factory, &empty, now)?;
        if set.is_empty()
            && let Some(finding) = findings.pop()
        {
            return Err(finding);
        }
        Ok((
            Self {
                factory,
                current: RwLock::new(Arc::new(set)),
            },
            findings,
        ))
    }

    /// Reads the directory again. Handshakes from now on use the result; broken
    /// files keep what was loaded from them before. `min_version`, client
    /// authorities and the session cache stay as they were at the start.
    ///
    /// # Errors
    /// [`Error`] where the directory cannot be read: everything stays as it was.
    pub fn reload(&self, config: &Config, now: SystemTime) -> Result<Vec<Error>, Error> {
        let old = self.current();
        let (set, findings) = CertificateSet::load(config, &self.factory, &old, now)?;
        *self.current.write() = Arc::new(set);
        Ok(findings)
    }

    /// Whether files of the certificate directory have changed since they were
    /// read. Looks at the files: not for an async worker thread.
    pub fn is_stale(&self, config: &Config) -> bool {
        self.current().is_stale(config)
    }

    /// The certificates in use.
    pub fn current(&self) -> Arc<CertificateSet> {
        self.current.read().clone()
    }
}
