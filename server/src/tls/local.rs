//! RFC 5280: the server's own certificate authority, for hosts without a certificate
//!
//! Everything lies in the data directory: `ca.pem` to be trusted by clients,
//! `local-authority/ca.key` (mode 0600), `local-authority/<host>.pem` (0600).

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::Error;
use super::certificate::Facts;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// How long the authority is valid, in days.
const AUTHORITY_DAYS: u32 = 20 * 365;
/// How long a host's certificate is valid, in days; some clients refuse more than 398.
const HOST_DAYS: u32 = 397;
/// A host's certificate is made anew when fewer days are left.
const RENEW_DAYS: u32 = 30;

/// The certificate of the local authority, which clients have to trust.
pub fn authority_file(data_directory: &Path) -> PathBuf {
    data_directory.join("ca.pem")
}

/// The file with chain and key for a host (in ASCII form), made or renewed where
/// it is missing, near its end, unreadable or by another authority.
///
/// # Errors
/// [`Error`] where files cannot be read or written.
pub fn certificate_for(
    data_directory: &Path,
    host: &str,
    now: SystemTime,
) -> Result<PathBuf, Error> {
    let directory = data_directory.join("local-authority");
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&directory)
        .map_err(|source| Error::Io {
            path: directory.clone(),
            source,
        })?;
    let authority = Authority::open(data_directory, &directory, now)?;
    let file = directory.join(format!("{}.pem", host.replace(['/', '\0'], "_")));
    if !is_current(&file, host, &authority.pem, now) {
        authority.issue(&file, host, now)?;
    }
    Ok(file)
}

struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Reads the authority, or makes one on first use.
    fn open(data_directory: &Path, directory: &Path, now: SystemTime) -> Result<Self, Error> {
        let (certificate, key) = (authority_file(data_directory), directory.join("ca.key"));
        if !key.exists() || !certificate.exists() {
            Self::create(&certificate, &key, now)?;
        }
        let read = |path: &Path| {
            fs::read_to_string(path).map_err(|source| Error::Io {
                path: path.to_owned(),
                source,
            })
        };
        let pem = read(&certificate)?;
        let issuer = Issuer::from_ca_cert_pem(&pem, KeyPair::from_pem(&read(&key)?)?)?;
        Ok(Authority { pem, issuer })
    }

    fn create(certificate: &Path, key: &Path, now: SystemTime) -> Result<(), Error> {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = params(Vec::new(), "Eider local authority", now, AUTHORITY_DAYS)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let made = params.self_signed(&pair)?;
        // The key first: a certificate without its key would be made again anyway.
        write(key, &pair.serialize_pem(), 0o600)?;
        write(certificate, &made.pem(), 0o644)
    }

    fn issue(&self, file: &Path, host: &str, now: SystemTime) -> Result<(), Error> {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = params(vec![host.to_owned()], host, now, HOST_DAYS)?;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let made = params.signed_by(&pair, &self.issuer)?;
        let pem = format!("{}{}{}", made.pem(), self.pem, pair.serialize_pem());
        write(file, &pem, 0o600)
    }
}

fn params(
    names: Vec<String>,
    common_name: &str,
    now: SystemTime,
    days: u32,
) -> Result<CertificateParams, Error> {
    let mut params = CertificateParams::new(names)?;
    let mut subject = DistinguishedName::new();
    // X.520 bounds a common name to 64 characters; identity is in the SAN alone.
    subject.push(
        DnType::CommonName,
        common_name.chars().take(64).collect::<String>(),
    );
    params.distinguished_name = subject;
    params.not_before = (now - DAY).into();
    params.not_after = (now + DAY * days).into();
    Ok(params)
}

/// Whether the file holds a certificate for the host from this authority with
/// enough time left.
fn is_current(file: &Path, host: &str, authority: &str, now: SystemTime) -> bool {
    let Ok(pem) = fs::read_to_string(file) else {
        return false;
    };
    let Ok(leaf) = CertificateDer::from_pem_slice(pem.as_bytes()) else {
        return false;
    };
    let Ok(facts) = Facts::read(&leaf) else {
        return false;
    };
    pem.contains(authority.trim())
        && facts.names.iter().any(|name| name == host)
        && facts.not_before <= now
        && now + DAY * RENEW_DAYS < facts.not_after
}

/// Writes beside the file and renames, so that nobody reads half of it.
fn write(file: &Path, text: &str, mode: u32) -> Result<(), Error> {
    let temporary = file.with_extension("new");
    let result = (|| {
        let mut out = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(mode)
            .open(&temporary)?;
        out.write_all(text.as_bytes())?;
        out.sync_all()?;
        fs::rename(&temporary, file)
    })();
    result.map_err(|source| Error::Io {
        path: file.to_owned(),
        source,
    })
}
