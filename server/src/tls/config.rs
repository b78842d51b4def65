//! RFC 9325: rustls configurations: versions, suites, tickets, ALPN, client certificates

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{
    NoServerSessionStorage, ProducesTickets, ServerSessionMemoryCache, StoresServerSessions,
    WebPkiClientVerifier,
};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};

use super::Error;
use crate::config::{Config, TlsVersion};

/// ALPN protocol of client streams with direct TLS (XEP-0368 §4).
const ALPN_CLIENT: &[u8] = b"xmpp-client";

static BOTH_VERSIONS: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];
static NEWER_VERSION: &[&SupportedProtocolVersion] = &[&TLS13];

/// The configurations that show one certificate.
pub(super) struct Configs {
    pub starttls: Arc<ServerConfig>,
    pub direct: Arc<ServerConfig>,
    /// The same, asking for a client certificate (SASL EXTERNAL).
    pub starttls_external: Option<Arc<ServerConfig>>,
    pub direct_external: Option<Arc<ServerConfig>>,
}

/// What all configurations share, so that tickets outlive a change of certificates.
pub(super) struct ConfigFactory {
    provider: Arc<CryptoProvider>,
    versions: &'static [&'static SupportedProtocolVersion],
    tickets: Arc<dyn ProducesTickets>,
    sessions: Arc<dyn StoresServerSessions>,
    client_verifier: Option<Arc<dyn ClientCertVerifier>>,
}

impl ConfigFactory {
    /// From the settings that need a restart to change.
    pub fn new(config: &Config) -> Result<Self, Error> {
        // The provider's defaults are ECDHE with AEAD only.
        let provider = Arc::new(aws_lc_rs::default_provider());
        let versions = match config.tls.min_version {
            TlsVersion::V1_2 => BOTH_VERSIONS,
            TlsVersion::V1_3 => NEWER_VERSION,
        };
        let sessions: Arc<dyn StoresServerSessions> = match config.tls.session_cache_entries {
            0 => Arc::new(NoServerSessionStorage {}),
            entries => ServerSessionMemoryCache::new(entries as usize),
        };
        let client_verifier = match &config.tls.client_authorities {
            Some(file) => Some(client_verifier(file, &provider)?),
            None => None,
        };
        let tickets = aws_lc_rs::Ticketer::new()?;
        Ok(ConfigFactory {
            provider,
            versions,
            tickets,
            sessions,
            client_verifier,
        })
    }

    pub fn provider(&self) -> &CryptoProvider {
        &self.provider
    }

    /// The configurations for one certificate.
    pub fn configs(&self, key: Arc<CertifiedKey>) -> Result<Configs, Error> {
        let external = |direct| match &self.client_verifier {
            Some(verifier) => self.config(&key, direct, Some(verifier.clone())).map(Some),
            None => Ok(None),
        };
        Ok(Configs {
            starttls: self.config(&key, false, None)?,
            direct: self.config(&key, true, None)?,
            starttls_external: external(false)?,
            direct_external: external(true)?,
        })
    }

    fn config(
        &self,
        key: &Arc<CertifiedKey>,
        direct: bool,
        verifier: Option<Arc<dyn ClientCertVerifier>>,
    ) -> Result<Arc<ServerConfig>, Error> {
        let builder = ServerConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(self.versions)?;
        let builder = match verifier {
            Some(verifier) => builder.with_client_cert_verifier(verifier),
            None => builder.with_no_client_auth(),
        };
        let resolver = Arc::new(SingleCertAndKey::from(key.clone()));
        let mut config = builder.with_cert_resolver(resolver);
        config.ticketer = self.tickets.clone();
        config.session_storage = self.sessions.clone();
        // One ticket serves the one connection a client opens next; each costs
        // a write and an encryption.
        config.send_tls13_tickets = 1;
        if direct {
            config.alpn_protocols = vec![ALPN_CLIENT.to_vec()];
        }
        Ok(Arc::new(config))
    }
}

/// Client certificates are asked for, never demanded: who has none uses a password.
fn client_verifier(
    file: &Path,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, Error> {
    let bad = |reason: String| Error::ClientAuthorities {
        path: file.to_owned(),
        reason,
    };
    let pem = std::fs::read(file).map_err(|error| bad(error.to_string()))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| bad(error.to_string()))?;
        roots
            .add(certificate)
            .map_err(|error| bad(error.to_string()))?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .allow_unauthenticated()
        .build()
        .map_err(|error| bad(error.to_string()))?;
    Ok(verifier)
}
