//! TLS: where certificates are and which versions are spoken.

use std::path::PathBuf;

use super::schema::{choice, section};

section! {
    /// TLS of all listeners. Only suites with forward secrecy and authenticated encryption are spoken.
    pub struct Tls {
        /// The directory of certificates: for each host `<host>.pem` (chain and private key),
        /// `<host>.crt` with `<host>.key`, or `<host>/fullchain.pem` with `<host>/privkey.pem`. It is
        /// read again when something in it changes. Unset: `certificates` in the data directory.
        pub certificate_directory: Option<PathBuf> = None,
        /// Whether a host without a certificate gets one from this server's own certificate authority,
        /// made in the data directory. Clients must be told to trust that authority.
        pub local_authority: bool = true,
        /// The oldest version spoken.
        pub min_version: TlsVersion = TlsVersion::V1_2,
        /// The host whose certificate is shown to clients that name none (no SNI). Unset: the first host;
        /// with STARTTLS, that of the stream's host comes before it. Clients that name one for which there is no
        /// certificate get the alert unrecognized_name (RFC 6066 §3) and nothing else.
        pub default_host: Option<String> = None,
        /// File with the authorities (PEM) that client certificates are checked against, for hosts
        /// with `external = true`.
        pub client_authorities: Option<PathBuf> = None,
        /// TLS sessions remembered for resumption.
        pub session_cache_entries: u32 = 16_384,
    }
}

choice! {
    /// A version of TLS.
    pub enum TlsVersion {
        /// TLS 1.2 (RFC 5246).
        V1_2 = "1.2",
        /// TLS 1.3 (RFC 8446).
        V1_3 = "1.3",
    }
}
