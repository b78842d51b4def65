//! Checks of certificates: one for each host, with its name, valid, complete, of a good kind.

use std::path::{Path, PathBuf};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;

use super::dns::is_public;
use super::finding::{Finding, Kind, Severity, Symptom};
use crate::config::Config;
use crate::tls;

/// Days before the end from which a certificate should have been renewed.
const RENEW_DAYS: i64 = 14;

const MISSING: Kind = Kind {
    id: "certificate-missing",
    severity: Severity::Error,
    symptom: Symptom::Certificates,
    what: "no certificate in {directory} names {host}",
    effect: "clients break off: the certificate is for another name",
    remedy: "certbot certonly --standalone -d {host}, then put {host}.crt and {host}.key into {directory}: eider reload",
};

const LOCAL: Kind = Kind {
    id: "certificate-local",
    severity: Severity::Warning,
    symptom: Symptom::Certificates,
    what: "{host} is a public domain and its certificate is from this server's own authority",
    effect: "clients warn of an unknown authority or refuse to connect",
    remedy: "certbot certonly --standalone -d {host}, then put {host}.crt and {host}.key into {directory}: eider reload",
};

const UNREADABLE: Kind = Kind {
    id: "certificate-unreadable",
    severity: Severity::Error,
    symptom: Symptom::Certificates,
    what: "{file} cannot be used: {reason}",
    effect: "get the certificate loaded before, or none",
    remedy: "openssl x509 -in {file} -noout -text",
};

const EXPIRED: Kind = Kind {
    id: "certificate-expired",
    severity: Severity::Error,
    symptom: Symptom::Certificates,
    what: "the certificate {file} for {host} ended {days} days ago",
    effect: "clients refuse to connect",
    remedy: "certbot renew, copy the files to the certificate directory, eider reload",
};

const ENDS_SOON: Kind = Kind {
    id: "certificate-ends-soon",
    severity: Severity::Warning,
    symptom: Symptom::Certificates,
    what: "the certificate {file} for {host} ends in {days} days",
    effect: "nothing yet; then clients refuse to connect",
    remedy: "certbot renew, copy the files to the certificate directory, eider reload",
};

const NOT_YET: Kind = Kind {
    id: "certificate-not-yet-valid",
    severity: Severity::Error,
    symptom: Symptom::Certificates,
    what: "the certificate {file} for {host} is not valid yet",
    effect: "clients refuse to connect",
    remedy: "timedatectl (is the clock right?)",
};

const CHAIN: Kind = Kind {
    id: "certificate-chain-incomplete",
    severity: Severity::Error,
    symptom: Symptom::Certificates,
    what: "{file} lacks the certificate of \"{issuer}\", or the order is wrong: leaf first, then who signed it",
    effect: "some clients refuse to connect, those that know the issuer from elsewhere do not",
    remedy: "use the full chain (certbot: fullchain.pem), then: eider reload",
};

const KEY_WEAK: Kind = Kind {
    id: "certificate-key-weak",
    severity: Severity::Error,
    symptom: Symptom::Certificates,
    what: "the key of {file} is too short: {key}",
    effect: "clients refuse to connect",
    remedy: "certbot certonly --key-type ecdsa --elliptic-curve secp256r1 -d {host}",
};

const KEY_SLOW: Kind = Kind {
    id: "certificate-key-rsa",
    severity: Severity::Note,
    symptom: Symptom::Certificates,
    what: "the key of {file} is {key}",
    effect: "nothing; each login costs the server ten times the work of ECDSA P-256",
    remedy: "certbot certonly --key-type ecdsa --elliptic-curve secp256r1 -d {host}",
};

/// Every kind of this area.
pub const KINDS: &[&Kind] = &[
    &MISSING,
    &LOCAL,
    &UNREADABLE,
    &EXPIRED,
    &ENDS_SOON,
    &NOT_YET,
    &CHAIN,
    &KEY_WEAK,
    &KEY_SLOW,
];

/// What is looked at in one file.
struct Facts {
    file: PathBuf,
    names: Vec<String>,
    /// Seconds since 1970.
    not_before: i64,
    not_after: i64,
    /// As `RSA 2048`.
    key: String,
    key_bits: usize,
    is_rsa: bool,
    /// Who is missing from the chain.
    missing_issuer: Option<String>,
}

/// Checks the certificate of each host at a time, in seconds since 1970.
pub fn check(config: &Config, now: i64) -> Vec<Finding> {
    let directory = config.certificate_directory();
    let mut findings = Vec::new();
    let mut certificates = Vec::new();
    for (chain, key) in tls::pairs(&directory).unwrap_or_default() {
        match read(&chain, &key) {
            Ok(facts) => certificates.push(facts),
            Err(reason) => {
                findings.push(UNREADABLE.found(&[("file", &chain.display()), ("reason", &reason)]));
            }
        }
    }
    for host in &config.hosts {
        let values: [(&str, &dyn std::fmt::Display); 2] =
            [("host", &host.name), ("directory", &directory.display())];
        let name = tls::ascii(&host.name);
        // Of several the one that lives longest, as the server chooses.
        let fitting = certificates.iter().filter(|c| covers(&c.names, &name));
        match fitting.max_by_key(|c| c.not_after) {
            Some(facts) => findings.extend(judge(facts, &host.name, now)),
            None if !config.tls.local_authority => findings.push(MISSING.found(&values)),
            None if is_public(&host.name) => findings.push(LOCAL.found(&values)),
            None => {}
        }
    }
    findings
}

/// RFC 9525 §6.3: exactly, or a wildcard for the first label.
pub(super) fn covers(names: &[String], domain: &str) -> bool {
    let parent = domain.split_once('.').map(|(_, parent)| parent);
    names.iter().any(|name| match name.strip_prefix("*.") {
        Some(base) => parent == Some(base),
        None => name == domain,
    })
}

fn judge(facts: &Facts, host: &str, now: i64) -> Vec<Finding> {
    let file = facts.file.display();
    let days = (facts.not_after - now).abs() / 86_400;
    let issuer = facts.missing_issuer.as_deref().unwrap_or_default();
    let values: [(&str, &dyn std::fmt::Display); 5] = [
        ("file", &file),
        ("host", &host),
        ("days", &days),
        ("key", &facts.key),
        ("issuer", &issuer),
    ];
    let mut kinds = Vec::new();
    if facts.not_after < now {
        kinds.push(&EXPIRED);
    } else if facts.not_after < now + RENEW_DAYS * 86_400 {
        kinds.push(&ENDS_SOON);
    }
    if facts.not_before > now {
        kinds.push(&NOT_YET);
    }
    if facts.missing_issuer.is_some() {
        kinds.push(&CHAIN);
    }
    if facts.is_rsa && facts.key_bits < 2_048 || facts.key_bits < 224 {
        kinds.push(&KEY_WEAK);
    } else if facts.is_rsa {
        kinds.push(&KEY_SLOW);
    }
    kinds.into_iter().map(|kind| kind.found(&values)).collect()
}

fn read(chain_file: &Path, key_file: &Path) -> Result<Facts, String> {
    let file = |path: &Path| std::fs::read(path).map_err(|e| format!("{}: {e}", path.display()));
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&file(chain_file)?)
        .collect::<Result<_, _>>()
        .map_err(|e| format!("no PEM file: {e}"))?;
    let key = PrivateKeyDer::from_pem_slice(&file(key_file)?)
        .map_err(|e| format!("no private key in {}: {e}", key_file.display()))?;
    rustls::sign::CertifiedKey::from_der(chain.clone(), key, &provider())
        .map_err(|e| format!("the key does not fit: {e}"))?;
    let parsed: Vec<X509Certificate<'_>> = chain
        .iter()
        .map(|der| X509Certificate::from_der(der).map(|(_, certificate)| certificate))
        .collect::<Result<_, _>>()
        .map_err(|e| e.to_string())?;
    let leaf = parsed.first().ok_or("no certificate in it")?;
    let names = tls::dns_names(leaf);
    if names.is_empty() {
        return Err("it names no domain (subjectAltName)".to_owned());
    }
    let (key, key_bits, is_rsa) = key_kind(leaf);
    Ok(Facts {
        file: chain_file.to_owned(),
        names,
        not_before: leaf.validity().not_before.timestamp(),
        not_after: leaf.validity().not_after.timestamp(),
        key,
        key_bits,
        is_rsa,
        missing_issuer: missing_issuer(&parsed),
    })
}

fn provider() -> rustls::crypto::CryptoProvider {
    rustls::crypto::aws_lc_rs::default_provider()
}

fn key_kind(leaf: &X509Certificate<'_>) -> (String, usize, bool) {
    match leaf.public_key().parsed() {
        Ok(PublicKey::RSA(key)) => (format!("RSA {}", key.key_size()), key.key_size(), true),
        Ok(PublicKey::EC(point)) => (
            format!("ECDSA {}", point.key_size()),
            point.key_size(),
            false,
        ),
        // Ed25519, which x509-parser does not name: as strong as ECDSA P-256.
        _ => ("other".to_owned(), 256, false),
    }
}

/// Who signed the last certificate of the chain, where that is neither itself nor in the chain in order.
fn missing_issuer(chain: &[X509Certificate<'_>]) -> Option<String> {
    for pair in chain.windows(2) {
        if pair[0].issuer() != pair[1].subject() {
            return Some(pair[0].issuer().to_string());
        }
    }
    // A leaf alone is complete only where it signed itself; longer chains end before the root on purpose.
    match chain {
        [leaf] if leaf.issuer() != leaf.subject() => Some(leaf.issuer().to_string()),
        _ => None,
    }
}

#[cfg(test)]
#[path = "certificates/tests.rs"]
mod tests;
