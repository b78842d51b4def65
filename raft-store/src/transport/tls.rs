//! TLS 1.3 between members: what is offered, and who is believed. What a connection is for is its protocol name (ALPN),
//! so that it is settled before anything is read from it.
//!
//! Names and addresses prove nothing: the only question is whether the certificate is the authority's. Usages in it are
//! not looked at. Sessions are never resumed: each connection proves both ends anew.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientConfig, Resumption};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, ServerConfig};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, SignatureScheme, version::TLS13,
};

use super::certificate::{self, Authority, Facts};
use super::credentials::Credentials;
use crate::clock::{Clock, WallClock};
use crate::random::Random;
use crate::seldom::Seldom;

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Members talk to each other.
    Talk,
    /// A member wants its certificate renewed.
    Renew,
    /// Somebody wants to become a member, or one whose certificate is too old wants to be one again.
    Join,
}

impl Purpose {
    pub(crate) const ALL: [Purpose; 3] = [Purpose::Talk, Purpose::Renew, Purpose::Join];

    pub(crate) fn protocol(self) -> &'static [u8] {
        match self {
            Self::Talk => b"raft-store/1",
            Self::Renew => b"raft-store-renew/1",
            Self::Join => b"raft-store-join/1",
        }
    }

    /// The one that is named.
    pub(crate) fn of(protocol: &[u8]) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|purpose| purpose.protocol() == protocol)
    }
}

/// What the port has met since the start, for whoever looks after the member.
#[derive(Default)]
pub(crate) struct Seen {
    /// Handshakes and exchanges that came to nothing.
    pub(crate) failed: AtomicU64,
    /// Connections that were closed because newer ones came.
    pub(crate) displaced: AtomicU64,
    /// Certificates that are none of the cluster's.
    pub(crate) foreign: AtomicU64,
    /// Certificates whose dates are wrong by less than 30 days: accepted.
    pub(crate) dates_tolerated: AtomicU64,
    /// Wrong by more: refused.
    pub(crate) dates_refused: AtomicU64,
    /// Joiners that did not know the secret.
    pub(crate) wrong_secret: AtomicU64,
    pub(crate) said: Said,
}

/// What the log says seldom, since anybody, or any member, can make it happen.
#[derive(Default)]
pub(crate) struct Said {
    pub(crate) no_socket: Seldom,
    pub(crate) wrong_secret: Seldom,
    pub(crate) no_certificate: Seldom,
    pub(crate) other_cluster: Seldom,
    dates_tolerated: Seldom,
    dates_refused: Seldom,
}

pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Judges the certificates of peers.
pub(crate) struct Judge {
    pub(crate) wall: Arc<dyn WallClock>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) seen: Arc<Seen>,
}

impl Judge {
    /// A peer's certificate, on a connection of members.
    pub(crate) fn member(
        &self,
        authority: &Authority,
        der: &[u8],
    ) -> Result<Facts, certificate::Error> {
        let checked = authority.check(der).and_then(|facts| {
            let now = self.wall.unix_seconds();
            facts
                .check_dates(now)
                .map(|()| (facts, facts.wrong_by(now)))
        });
        match checked {
            Ok((facts, 0)) => Ok(facts),
            Ok((facts, seconds)) => {
                count(&self.seen.dates_tolerated);
                if self.seen.said.dates_tolerated.may(self.clock.now()) {
                    let days = seconds / certificate::DAY_SECONDS;
                    tracing::warn!(member = %facts.member, days, "clock or certificate: a member's dates are wrong");
                }
                Ok(facts)
            }
            Err(error @ certificate::Error::ClockOrCertificate { .. }) => {
                count(&self.seen.dates_refused);
                if self.seen.said.dates_refused.may(self.clock.now()) {
                    tracing::error!(%error, "a member is refused");
                }
                Err(error)
            }
            Err(error) => {
                count(&self.seen.foreign);
                Err(error)
            }
        }
    }
}

/// What a verifier lets through.
enum Trust {
    /// Certificates of this authority.
    Members(Authority),
    /// A key that signs for itself, with a member's name: of a joiner, which proves itself afterwards.
    SelfSigned,
    /// Any key: that of a member that is asked to let this one join, and proves itself afterwards.
    Any,
}

struct Verifier {
    trust: Trust,
    judge: Arc<Judge>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verifier")
    }
}

impl Verifier {
    fn check(&self, der: &[u8]) -> Result<(), rustls::Error> {
        let checked = match &self.trust {
            Trust::Members(authority) => self.judge.member(authority, der),
            Trust::SelfSigned => certificate::check_self_signed(der),
            Trust::Any => return Ok(()),
        };
        checked.map(|_| ()).map_err(|error| {
            rustls::Error::InvalidCertificate(match error {
                certificate::Error::Foreign => CertificateError::UnknownIssuer,
                // The peer is told what may be wrong with it, too.
                certificate::Error::ClockOrCertificate { .. } => CertificateError::Expired,
                certificate::Error::Unreadable => CertificateError::BadEncoding,
                _ => CertificateError::ApplicationVerificationFailure,
            })
        })
    }

    fn refuse_old(&self) -> Result<HandshakeSignatureValid, rustls::Error> {
        // Only TLS 1.3 is offered: nobody comes here.
        Err(rustls::Error::General("TLS 1.3 alone is spoken".into()))
    }

    fn verify(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.check(end_entity)
            .map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.refuse_old()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verify(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.check(end_entity)
            .map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.refuse_old()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verify(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

/// What this member shows and believes now. Replaced whole when its certificate is; connections that are open stay.
pub(crate) struct Setup {
    /// Without a certificate nobody is talked to.
    members: Option<Pair>,
    joining: Pair,
    /// The certificate as it was granted.
    pub(crate) facts: Option<Facts>,
    pub(crate) authority: Option<Authority>,
}

struct Pair {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

impl Setup {
    pub(crate) fn new(
        credentials: &Credentials,
        judge: &Arc<Judge>,
        random: &dyn Random,
    ) -> Result<Self, super::tcp::Error> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let key = credentials.key.serialized_der();
        let now = judge.wall.unix_seconds();
        let own = certificate::self_signed(credentials.member, &credentials.key, now, random)?;
        let granted = credentials.granted.as_ref();
        let shown = granted.map_or(&own, |granted| &granted.certificate);
        let members = match granted {
            None => None,
            Some(granted) => {
                let trust = || Trust::Members(granted.authority.clone());
                let purposes = [Purpose::Talk, Purpose::Renew];
                Some(Pair {
                    server: server(&provider, judge, trust(), shown, key, &purposes)?,
                    client: client(&provider, judge, trust(), shown, key)?,
                })
            }
        };
        let purposes = [Purpose::Join];
        let joining = Pair {
            server: server(&provider, judge, Trust::SelfSigned, shown, key, &purposes)?,
            client: client(&provider, judge, Trust::Any, &own, key)?,
        };
        Ok(Self {
            members,
            joining,
            facts: granted.map(|granted| granted.facts),
            authority: granted.map(|granted| granted.authority.clone()),
        })
    }

    fn pair(&self, purpose: Purpose) -> Option<&Pair> {
        match purpose {
            Purpose::Talk | Purpose::Renew => self.members.as_ref(),
            Purpose::Join => Some(&self.joining),
        }
    }

    /// For a connection that was accepted. `None`: this member has no certificate.
    pub(crate) fn server(&self, purpose: Purpose) -> Option<Arc<ServerConfig>> {
        Some(self.pair(purpose)?.server.clone())
    }

    /// For a connection that is opened.
    pub(crate) fn client(&self, purpose: Purpose) -> Option<ClientConfig> {
        let mut config = ClientConfig::clone(&self.pair(purpose)?.client);
        config.alpn_protocols = vec![purpose.protocol().to_vec()];
        Some(config)
    }
}

fn verifier(provider: &CryptoProvider, judge: &Arc<Judge>, trust: Trust) -> Arc<Verifier> {
    Arc::new(Verifier {
        trust,
        judge: judge.clone(),
        algorithms: provider.signature_verification_algorithms,
    })
}

fn private(key: &[u8]) -> PrivateKeyDer<'static> {
    PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.to_vec()))
}

fn server(
    provider: &Arc<CryptoProvider>,
    judge: &Arc<Judge>,
    trust: Trust,
    shown: &CertificateDer<'static>,
    key: &[u8],
    purposes: &[Purpose],
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(verifier(provider, judge, trust))
        .with_single_cert(vec![shown.clone()], private(key))?;
    let protocols = purposes.iter().map(|purpose| purpose.protocol().to_vec());
    config.alpn_protocols = protocols.collect();
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

fn client(
    provider: &Arc<CryptoProvider>,
    judge: &Arc<Judge>,
    trust: Trust,
    shown: &CertificateDer<'static>,
    key: &[u8],
) -> Result<Arc<ClientConfig>, rustls::Error> {
    let mut config = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier(provider, judge, trust))
        .with_client_auth_cert(vec![shown.clone()], private(key))?;
    config.resumption = Resumption::disabled();
    config.enable_sni = false;
    Ok(Arc::new(config))
}

/// rustls wants a name to connect to; nobody reads it.
pub(crate) fn no_name() -> ServerName<'static> {
    ServerName::try_from("member.invalid").expect("a name")
}
