//! RFC 8446 and RFC 5246: the server's handshake, with the certificate chosen by name

use std::io;

use eider_xmpp::sasl::ChannelBindings;
use rustls::ProtocolVersion;
use rustls::pki_types::CertificateDer;
use rustls::server::Acceptor;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use super::{CertificateSet, TlsContext};

/// Plaintext of a fatal `unrecognized_name` alert record (RFC 6066 §3).
const UNRECOGNIZED_NAME: [u8; 7] = [0x15, 0x03, 0x03, 0x00, 0x02, 0x02, 0x70];
/// Bytes rustls may hold back for a client that does not read.
const WRITE_BUFFER_BYTES: usize = 16 * 1024;

/// Why there is no TLS connection.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The client asked for a name without certificate here.
    #[error("no certificate for the name {0:?}")]
    UnknownName(String),
    /// The client named no host and there is no default certificate.
    #[error("no default certificate")]
    NoDefault,
    /// The handshake failed; rustls has told the client why.
    #[error("TLS handshake: {0}")]
    Io(#[from] io::Error),
}

/// How TLS starts on this connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsKind<'a> {
    /// After `<starttls/>`, in a stream to this host.
    Starttls {
        /// The prepared domain of the stream header's `to`.
        host: &'a str,
    },
    /// From the first byte (XEP-0368).
    Direct,
}

/// What later steps need to know of a finished handshake.
#[derive(Clone, Debug)]
pub struct TlsFacts {
    /// Negotiated version.
    pub version: ProtocolVersion,
    /// Name of the negotiated suite, as `TLS13_AES_256_GCM_SHA384`.
    pub suite: &'static str,
    /// The name the client asked for (SNI).
    pub server_name: Option<String>,
    /// Whether the client presented a certificate, which was then verified.
    pub client_certificate: Option<CertificateDer<'static>>,
}

/// Does the handshake. The certificate is the one for the server name; a client
/// that sends none gets the one for the stream's host, else the default one; a
/// name without certificate is answered with the alert `unrecognized_name`.
///
/// # Errors
/// [`HandshakeError`]; the connection is over then.
pub async fn accept(
    context: &TlsContext,
    socket: TcpStream,
    kind: TlsKind<'_>,
) -> Result<(Box<TlsStream<TcpStream>>, TlsFacts, ChannelBindings), HandshakeError> {
    let certificates = context.current();
    let mut start = LazyConfigAcceptor::new(Acceptor::default(), socket).await?;
    let name = start
        .client_hello()
        .server_name()
        .map(str::to_ascii_lowercase);
    let found = match (&name, kind) {
        (Some(name), _) => certificates.for_domain(name),
        (None, TlsKind::Starttls { host }) => certificates
            .for_domain(host)
            .or(certificates.default_certificate()),
        (None, TlsKind::Direct) => certificates.default_certificate(),
    };
    let Some(certificate) = found else {
        start.io.write_all(&UNRECOGNIZED_NAME).await?;
        start.io.shutdown().await?;
        return Err(name.map_or(HandshakeError::NoDefault, HandshakeError::UnknownName));
    };
    let configs = &certificate.configs;
    let asks_client = asks_client(&certificates, name.as_deref(), kind);
    let (plain, external) = match kind {
        TlsKind::Starttls { .. } => (&configs.starttls, &configs.starttls_external),
        TlsKind::Direct => (&configs.direct, &configs.direct_external),
    };
    let config = external
        .as_ref()
        .filter(|_| asks_client)
        .unwrap_or(plain)
        .clone();
    let accept = start.into_stream_with(config, |connection| {
        connection.set_buffer_limit(Some(WRITE_BUFFER_BYTES));
    });
    let stream = Box::new(accept.await?);
    let bindings = bindings(&stream, certificate.end_point.clone());
    let facts = facts(&stream, name);
    Ok((stream, facts, bindings))
}

fn asks_client(certificates: &CertificateSet, name: Option<&str>, kind: TlsKind<'_>) -> bool {
    match (name, kind) {
        (_, TlsKind::Starttls { host }) => certificates.asks_client(host),
        (Some(name), TlsKind::Direct) => certificates.asks_client(name),
        (None, TlsKind::Direct) => false,
    }
}

fn facts(stream: &TlsStream<TcpStream>, server_name: Option<String>) -> TlsFacts {
    let connection = stream.get_ref().1;
    let certificate = connection.peer_certificates().and_then(<[_]>::first);
    TlsFacts {
        version: connection
            .protocol_version()
            .unwrap_or(ProtocolVersion::Unknown(0)),
        suite: connection
            .negotiated_cipher_suite()
            .and_then(|suite| suite.suite().as_str())
            .unwrap_or("unknown"),
        server_name,
        client_certificate: certificate.map(|c| c.clone().into_owned()),
    }
}

/// Channel binding data: the exporter on TLS 1.3 only (RFC 9266 §4.2 asks TLS 1.2
/// for more than can be seen here), the certificate's hash on both.
fn bindings(stream: &TlsStream<TcpStream>, end_point: Option<Vec<u8>>) -> ChannelBindings {
    let connection = stream.get_ref().1;
    let exporter = (connection.protocol_version() == Some(ProtocolVersion::TLSv1_3))
        .then(|| {
            let label = b"EXPORTER-Channel-Binding";
            connection
                .export_keying_material([0u8; 32], label, Some(&[]))
                .ok()
        })
        .flatten();
    ChannelBindings {
        tls_exporter: exporter,
        tls_server_end_point: end_point,
    }
}
