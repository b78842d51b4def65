//! RFC 6066 §3: the certificates of all hosts, found by server name
//!
//! The directory may hold, for each host, `<host>.pem` (chain and key),
//! `<host>.crt` with `<host>.key`, or `<host>/fullchain.pem` with
//! `<host>/privkey.pem`. A certificate serves every name it states.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use super::config::ConfigFactory;
use super::{Error, HostCertificate, local};
use crate::config::Config;

/// All certificates in use.
#[derive(Debug, Default)]
pub struct CertificateSet {
    /// By the name a client asks for, in ASCII form; `*.` keys are wildcards.
    by_name: HashMap<String, Arc<HostCertificate>>,
    by_source: HashMap<PathBuf, Arc<HostCertificate>>,
    /// Shown to clients that name no host.
    default: Option<Arc<HostCertificate>>,
    /// Hosts in ASCII form where client certificates log in.
    external: HashSet<String>,
    /// The files of the directory as they were when they were read.
    seen: Vec<Seen>,
}

/// A file, when it was last changed and how long it is.
type Seen = (PathBuf, Option<SystemTime>, u64);

/// The form of a domain in certificates and server names: A-labels, lower case.
pub(crate) fn ascii(domain: &str) -> String {
    idna::domain_to_ascii(domain).unwrap_or_else(|_| domain.to_ascii_lowercase())
}

impl CertificateSet {
    /// Reads the directory and completes it from the local authority; returns
    /// with the set what is wrong in it. `old` is what stays for broken files.
    pub(super) fn load(
        config: &Config,
        factory: &ConfigFactory,
        old: &CertificateSet,
        now: SystemTime,
    ) -> Result<(Self, Vec<Error>), Error> {
        let mut set = CertificateSet::default();
        let mut findings = Vec::new();
        let pairs = pairs(&config.certificate_directory())?;
        // Before they are read: what changes meanwhile is seen as changed.
        set.seen = seen(&pairs);
        for (chain, key) in pairs {
            set.add(&chain, &key, factory, old, now, &mut findings);
        }
        for host in &config.hosts {
            let name = ascii(&host.name);
            if host.external {
                set.external.insert(name.clone());
            }
            if set.find(&name).is_some() {
                continue;
            }
            // A directory that is not mounted, a file between deleting and writing: no reason to show clients another's.
            let directory = config.certificate_directory();
            if let Some(gone) = old
                .find(&name)
                .filter(|old| old.source.starts_with(&directory))
            {
                findings.push(Error::Vanished {
                    path: gone.source.clone(),
                });
                set.keep(gone.clone(), now);
                continue;
            }
            if !config.tls.local_authority {
                findings.push(Error::NoCertificate {
                    host: host.name.clone(),
                });
                continue;
            }
            match local::certificate_for(&config.data_directory, &name, now) {
                Ok(file) => set.add(&file, &file, factory, old, now, &mut findings),
                Err(error) => findings.push(error),
            }
        }
        for certificate in set.by_source.values() {
            if !certificate.is_valid_at(now) {
                findings.push(Error::Expired {
                    path: certificate.source.clone(),
                });
            }
        }
        let default = config
            .tls
            .default_host
            .as_ref()
            .or(config.hosts.first().map(|h| &h.name));
        set.default = default.and_then(|host| set.find(&ascii(host)).cloned());
        Ok((set, findings))
    }

    fn add(
        &mut self,
        chain: &Path,
        key: &Path,
        factory: &ConfigFactory,
        old: &CertificateSet,
        now: SystemTime,
        findings: &mut Vec<Error>,
    ) {
        let certificate = match HostCertificate::load(chain, key, factory) {
            Ok(certificate) => Arc::new(certificate),
            Err(error) => {
                findings.push(error);
                match old.by_source.get(chain) {
                    Some(certificate) => certificate.clone(),
                    None => return,
                }
            }
        };
        self.keep(certificate, now);
    }

    fn keep(&mut self, certificate: Arc<HostCertificate>, now: SystemTime) {
        let worth = |one: &HostCertificate| (one.is_valid_at(now), one.not_after);
        for name in &certificate.names {
            let known = self.by_name.get(name);
            // Of two for one name, the one that is valid, and then the one that lives longer.
            if known.is_none_or(|known| worth(known) < worth(&certificate)) {
                self.by_name.insert(name.clone(), certificate.clone());
            }
        }
        self.by_source
            .insert(certificate.source.clone(), certificate);
    }

    /// Whether the directory is no longer as it was when it was read.
    pub(super) fn is_stale(&self, config: &Config) -> bool {
        match pairs(&config.certificate_directory()) {
            Ok(pairs) => seen(&pairs) != self.seen,
            // To be found out, and reported, by reading it again.
            Err(_) => true,
        }
    }

    /// Whether no certificate was loaded at all.
    pub fn is_empty(&self) -> bool {
        self.by_source.is_empty()
    }

    /// The certificate for a domain, prepared or in ASCII form: the exact name,
    /// else a wildcard for its first label.
    pub fn for_domain(&self, domain: &str) -> Option<&Arc<HostCertificate>> {
        self.find(&ascii(domain))
    }

    fn find(&self, name: &str) -> Option<&Arc<HostCertificate>> {
        self.by_name.get(name).or_else(|| {
            let (_, parent) = name.split_once('.')?;
            self.by_name.get(&format!("*.{parent}"))
        })
    }

    /// The certificate of `tls.default_host`, for clients that name no host.
    pub fn default_certificate(&self) -> Option<&Arc<HostCertificate>> {
        self.default.as_ref()
    }

    /// Whether clients of this host are asked for a certificate.
    pub fn asks_client(&self, domain: &str) -> bool {
        self.external.contains(&ascii(domain))
    }

    /// Every certificate in use, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<HostCertificate>> {
        self.by_source.values()
    }
}

/// The pairs of chain and key files in the directory, in the order of their
/// names. A directory that does not exist is an empty one.
pub(crate) fn pairs(directory: &Path) -> Result<Vec<(PathBuf, PathBuf)>, Error> {
    let failed = |source| Error::Io {
        path: directory.to_owned(),
        source,
    };
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut pairs = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        if path.is_dir() {
            let (chain, key) = (path.join("fullchain.pem"), path.join("privkey.pem"));
            if chain.exists() {
                pairs.push((chain, key));
            }
            continue;
        }
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("pem") => pairs.push((path.clone(), path)),
            Some("crt") => pairs.push((path.clone(), path.with_extension("key"))),
            _ => {}
        }
    }
    pairs.sort();
    Ok(pairs)
}

/// What tells that a file is another one than before.
fn seen(pairs: &[(PathBuf, PathBuf)]) -> Vec<Seen> {
    let files = pairs.iter().flat_map(|(chain, key)| [chain, key]);
    let look = |file: &PathBuf| {
        let metadata = std::fs::metadata(file);
        let changed = metadata
            .as_ref()
            .ok()
            .and_then(|metadata| metadata.modified().ok());
        (
            file.clone(),
            changed,
            metadata.map_or(0, |metadata| metadata.len()),
        )
    };
    files.map(look).collect()
}
