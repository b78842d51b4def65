//! RFC 5280: one certificate chain with its key, and what the server needs to know of it

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_lc_rs::digest;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;
use x509_parser::signature_algorithm::SignatureAlgorithm;

use super::Error;
use super::config::{ConfigFactory, Configs};

/// A certificate as it is shown to clients.
pub struct HostCertificate {
    /// The file it came from.
    pub source: PathBuf,
    /// dNSName entries in lower case, `*.` wildcards included, and addresses.
    pub names: Vec<String>,
    /// Start of its validity.
    pub not_before: SystemTime,
    /// End of its validity.
    pub not_after: SystemTime,
    /// Channel binding data of `tls-server-end-point` (RFC 5929 §4.1); `None`
    /// where the signature algorithm leaves it undefined.
    pub end_point: Option<Vec<u8>>,
    /// The rustls configurations that show it.
    pub(super) configs: Configs,
}

impl std::fmt::Debug for HostCertificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HostCertificate")
            .field("source", &self.source)
            .field("names", &self.names)
            .finish_non_exhaustive()
    }
}

impl HostCertificate {
    /// Loads chain and key; both may be the same file.
    pub(super) fn load(
        chain_file: &Path,
        key_file: &Path,
        factory: &ConfigFactory,
    ) -> Result<Self, Error> {
        let bad = |reason: String| Error::BadFile {
            path: chain_file.to_owned(),
            reason,
        };
        let read = |path: &Path| {
            std::fs::read(path).map_err(|source| Error::Io {
                path: path.to_owned(),
                source,
            })
        };
        let chain = CertificateDer::pem_slice_iter(&read(chain_file)?)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| bad(format!("not a PEM file: {error}")))?;
        let key = PrivateKeyDer::from_pem_slice(&read(key_file)?)
            .map_err(|error| bad(format!("no private key in {}: {error}", key_file.display())))?;
        let leaf = chain
            .first()
            .ok_or_else(|| bad("no certificate in it".to_owned()))?
            .clone();
        let key = CertifiedKey::from_der(chain, key, factory.provider())
            .map_err(|error| bad(error.to_string()))?;
        let facts = Facts::read(&leaf).map_err(bad)?;
        Ok(HostCertificate {
            source: chain_file.to_owned(),
            names: facts.names,
            not_before: facts.not_before,
            not_after: facts.not_after,
            end_point: facts.end_point,
            configs: factory.configs(Arc::new(key))?,
        })
    }

    /// Whether a certificate is valid at a time.
    pub fn is_valid_at(&self, now: SystemTime) -> bool {
        self.not_before <= now && now <= self.not_after
    }

    /// Whether it names the domain (in ASCII form), exactly or by a wildcard for
    /// its first label (RFC 9525 §6.3).
    pub fn covers(&self, domain: &str) -> bool {
        let parent = domain.split_once('.').map(|(_, parent)| parent);
        self.names.iter().any(|name| match name.strip_prefix("*.") {
            Some(base) => parent == Some(base),
            None => name == domain,
        })
    }
}

/// What is read from a leaf certificate.
pub(super) struct Facts {
    pub names: Vec<String>,
    pub not_before: SystemTime,
    pub not_after: SystemTime,
    pub end_point: Option<Vec<u8>>,
}

impl Facts {
    pub fn read(leaf: &CertificateDer<'_>) -> Result<Self, String> {
        let (_, certificate) = X509Certificate::from_der(leaf)
            .map_err(|error| format!("the certificate cannot be parsed: {error}"))?;
        let names = dns_names(&certificate);
        if names.is_empty() {
            return Err("the certificate names no domain (subjectAltName)".to_owned());
        }
        let at = |seconds: i64| {
            SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
        };
        Ok(Facts {
            names,
            not_before: at(certificate.validity().not_before.timestamp()),
            not_after: at(certificate.validity().not_after.timestamp()),
            end_point: end_point(&certificate, leaf),
        })
    }
}

/// What the subjectAltName names; nothing where there is none, or one that cannot be read.
pub(super) fn alternative_names<'a, 'der>(
    certificate: &'a X509Certificate<'der>,
) -> &'a [GeneralName<'der>] {
    match certificate.subject_alternative_name() {
        Ok(Some(extension)) => &extension.value.general_names,
        _ => &[],
    }
}

/// Domains and addresses of the subjectAltName.
pub(crate) fn dns_names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let names = alternative_names(certificate).iter();
    let names = names.filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        GeneralName::IPAddress(octets) => match octets.len() {
            4 => <[u8; 4]>::try_from(*octets)
                .ok()
                .map(|ip| IpAddr::from(ip).to_string()),
            _ => <[u8; 16]>::try_from(*octets)
                .ok()
                .map(|ip| IpAddr::from(ip).to_string()),
        },
        _ => None,
    });
    names.collect()
}

/// RFC 5929 §4.1: the certificate hashed with the hash of its signature, MD5 and
/// SHA-1 replaced by SHA-256. `None` for signatures without one hash (Ed25519).
fn end_point(certificate: &X509Certificate<'_>, der: &[u8]) -> Option<Vec<u8>> {
    let oid = certificate.signature_algorithm.algorithm.to_id_string();
    let pss = match SignatureAlgorithm::try_from(&certificate.signature_algorithm) {
        Ok(SignatureAlgorithm::RSASSA_PSS(parameters)) => {
            Some(parameters.hash_algorithm_oid().to_id_string())
        }
        _ => None,
    };
    let algorithm = match pss.as_deref().unwrap_or(&oid) {
        // With MD5, with SHA-1; plain SHA-1; with SHA-256; plain SHA-256.
        "1.2.840.113549.1.1.4"
        | "1.2.840.113549.1.1.5"
        | "1.2.840.10045.4.1"
        | "1.3.14.3.2.26"
        | "1.2.840.113549.1.1.11"
        | "1.2.840.10045.4.3.2"
        | "2.16.840.1.101.3.4.2.1" => &digest::SHA256,
        "1.2.840.113549.1.1.12" | "1.2.840.10045.4.3.3" | "2.16.840.1.101.3.4.2.2" => {
            &digest::SHA384
        }
        "1.2.840.113549.1.1.13" | "1.2.840.10045.4.3.4" | "2.16.840.1.101.3.4.2.3" => {
            &digest::SHA512
        }
        _ => return None,
    };
    Some(digest::digest(algorithm, der).as_ref().to_vec())
}
