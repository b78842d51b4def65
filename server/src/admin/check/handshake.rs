//! RFC 6120 §5, XEP-0368: the TLS handshake of a client with a listener, and the certificate it is shown.

use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::tls;

/// What a listener shows a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Domains the certificate names.
    pub names: Vec<String>,
    /// Seconds since 1970.
    pub not_before: i64,
    /// Seconds since 1970.
    pub not_after: i64,
}

/// Takes any certificate and keeps it: it is judged afterwards, and nothing is ever sent over the connection. Whoever
/// shows it must have its key all the same.
#[derive(Debug)]
struct Keeper {
    provider: CryptoProvider,
    leaf: Mutex<Option<CertificateDer<'static>>>,
}

impl ServerCertVerifier for Keeper {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        *self.leaf.lock() = Some(leaf.clone().into_owned());
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// Makes the handshake for a host, with the ALPN of XEP-0368 where TLS is `direct`.
///
/// # Errors
/// What fails in it.
pub async fn handshake(stream: TcpStream, host: &str, direct: bool) -> io::Result<Shown> {
    let other = |error: &dyn std::fmt::Display| io::Error::other(error.to_string());
    let keeper = Arc::new(Keeper {
        provider: aws_lc_rs::default_provider(),
        leaf: Mutex::default(),
    });
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| other(&error))?
        .dangerous()
        .with_custom_certificate_verifier(keeper.clone())
        .with_no_client_auth();
    if direct {
        config.alpn_protocols = vec![b"xmpp-client".to_vec()];
    }
    let name = ServerName::try_from(host.to_owned()).map_err(|error| other(&error))?;
    let connector = TlsConnector::from(Arc::new(config));
    connector.connect(name, stream).await?;
    let leaf = keeper.leaf.lock().take();
    let leaf = leaf.ok_or_else(|| other(&"no certificate"))?;
    let (_, leaf) = X509Certificate::from_der(&leaf).map_err(|error| other(&error))?;
    Ok(Shown {
        names: tls::dns_names(&leaf),
        not_before: leaf.validity().not_before.timestamp(),
        not_after: leaf.validity().not_after.timestamp(),
    })
}
