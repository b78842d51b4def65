//! RFC 5802 §5: the server's half of an exchange

use aws_lc_rs::constant_time;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::message::{self, BindingFlag};
use super::{ScramError, ScramHash, ScramKeys};
use crate::sasl::{BindingKind, Mechanism};

/// The channel binding data of a TLS connection; a type that is `None` is not
/// offered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChannelBindings {
    /// RFC 9266: 32 bytes of keying material, on TLS 1.3 only.
    pub tls_exporter: Option<[u8; 32]>,
    /// RFC 5929 §4.1: hash of the server's certificate.
    pub tls_server_end_point: Option<Vec<u8>>,
}

impl ChannelBindings {
    /// The types there is data for, strongest first.
    pub fn kinds(&self) -> impl Iterator<Item = BindingKind> + '_ {
        let exporter = self.tls_exporter.as_ref().map(|_| BindingKind::TlsExporter);
        let end_point = self
            .tls_server_end_point
            .as_ref()
            .map(|_| BindingKind::TlsServerEndPoint);
        exporter.into_iter().chain(end_point)
    }

    /// Whether there is none, so that no `-PLUS` mechanism can be offered.
    pub fn is_empty(&self) -> bool {
        self.tls_exporter.is_none() && self.tls_server_end_point.is_none()
    }

    fn data(&self, name: &str) -> Option<&[u8]> {
        match self.kinds().find(|kind| kind.as_str() == name)? {
            BindingKind::TlsExporter => self.tls_exporter.as_ref().map(|data| &data[..]),
            BindingKind::TlsServerEndPoint => self.tls_server_end_point.as_deref(),
        }
    }
}

/// A client-first-message that was accepted.
#[derive(Debug)]
pub struct ClientFirst {
    hash: ScramHash,
    username: String,
    authzid: Option<String>,
    bare: String,
    client_nonce: String,
    /// What `c=` has to hold: the GS2 header and the binding data.
    expected_binding: Vec<u8>,
}

impl ClientFirst {
    /// Reads the first message of `SCRAM-<hash>` or, with `plus`, of its `-PLUS`
    /// form. `plus_offered` says whether this stream's features named any `-PLUS`
    /// mechanism: a client that then claims to have seen none (`y`) was lied to.
    ///
    /// # Errors
    /// The [`ScramError`] to answer with.
    pub fn parse(
        hash: ScramHash,
        plus: bool,
        plus_offered: bool,
        bindings: &ChannelBindings,
        message: &[u8],
    ) -> Result<ClientFirst, ScramError> {
        let first = message::first(message)?;
        let mut expected_binding = first.header.as_bytes().to_vec();
        match (first.flag, plus) {
            (BindingFlag::Unsupported, false) => {}
            (BindingFlag::NotOffered, _) if plus_offered => {
                return Err(ScramError::ServerDoesSupportChannelBinding);
            }
            (BindingFlag::NotOffered, false) => {}
            (BindingFlag::Used(name), true) => {
                let data = bindings
                    .data(name)
                    .ok_or(ScramError::UnsupportedChannelBindingType)?;
                expected_binding.extend_from_slice(data);
            }
            (BindingFlag::Used(_), false) => return Err(ScramError::ChannelBindingNotSupported),
            (BindingFlag::Unsupported | BindingFlag::NotOffered, true) => {
                return Err(ScramError::OtherError);
            }
        }
        Ok(ClientFirst {
            hash,
            authzid: first.authzid,
            bare: first.bare.to_owned(),
            client_nonce: first.nonce.to_owned(),
            username: first.username,
            expected_binding,
        })
    }

    /// Authentication identity as sent, not yet prepared as a localpart.
    pub fn username(&self) -> &str {
        &self.username
    }

    /// Authorization identity as sent, if any.
    pub fn authzid(&self) -> Option<&str> {
        self.authzid.as_deref()
    }

    /// The hash of the mechanism in use, for which keys are needed.
    pub fn hash(&self) -> ScramHash {
        self.hash
    }

    /// Answers with server-first-message. `server_nonce` is fresh randomness in
    /// printable ASCII without commas; `downgrade` is [`downgrade_hash`]'s value
    /// (XEP-0474), left out where `None`.
    ///
    /// # Errors
    /// [`ScramError::OtherError`] where `keys` belong to another hash.
    pub fn challenge(
        self,
        keys: ScramKeys,
        server_nonce: &str,
        downgrade: Option<&str>,
    ) -> Result<(Challenged, String), ScramError> {
        if keys.hash != self.hash {
            return Err(ScramError::OtherError);
        }
        let nonce = format!("{}{server_nonce}", self.client_nonce);
        let mut server_first = format!(
            "r={nonce},s={},i={}",
            STANDARD.encode(&keys.salt),
            keys.iterations
        );
        if let Some(hash) = downgrade {
            server_first.push_str(",h=");
            server_first.push_str(hash);
        }
        let auth_message = format!("{},{server_first},", self.bare);
        let expected_binding = self.expected_binding;
        Ok((
            Challenged {
                keys,
                nonce,
                auth_message,
                expected_binding,
            },
            server_first,
        ))
    }
}

/// An exchange that waits for client-final-message.
#[derive(Debug)]
pub struct Challenged {
    keys: ScramKeys,
    nonce: String,
    /// AuthMessage so far: both first messages, each with its comma.
    auth_message: String,
    expected_binding: Vec<u8>,
}

impl Challenged {
    /// Checks the proof and returns server-final-message (`v=...`).
    ///
    /// # Errors
    /// The [`ScramError`] to answer with. A proof is looked at only after nonce
    /// and binding fit, and compared in constant time.
    pub fn finish(mut self, message: &[u8]) -> Result<String, ScramError> {
        let client = message::finale(message)?;
        let equal = |a: &[u8], b: &[u8]| constant_time::verify_slices_are_equal(a, b).is_ok();
        if !equal(client.nonce.as_bytes(), self.nonce.as_bytes()) {
            return Err(ScramError::OtherError);
        }
        if !equal(&client.binding, &self.expected_binding) {
            return Err(ScramError::ChannelBindingsDontMatch);
        }
        let hash = self.keys.hash;
        if client.proof.len() != hash.len_bytes() {
            return Err(ScramError::InvalidProof);
        }
        self.auth_message.push_str(client.without_proof);
        let signature = hash.hmac(&self.keys.stored_key, self.auth_message.as_bytes());
        let client_key: Vec<u8> = client
            .proof
            .iter()
            .zip(signature.as_ref())
            .map(|(p, s)| p ^ s)
            .collect();
        if !equal(hash.hash(&client_key).as_ref(), &self.keys.stored_key) {
            return Err(ScramError::InvalidProof);
        }
        let verifier = hash.hmac(&self.keys.server_key, self.auth_message.as_bytes());
        Ok(format!("v={}", STANDARD.encode(verifier.as_ref())))
    }
}

/// XEP-0474 §6.1: hash over what the stream's features offered, in base64.
pub fn downgrade_hash(
    hash: ScramHash,
    mechanisms: &[Mechanism],
    bindings: &[BindingKind],
) -> String {
    let mut names: Vec<&str> = mechanisms.iter().map(|m| m.as_str()).collect();
    names.sort_unstable();
    let mut list = names.join("\u{1e}");
    if !bindings.is_empty() {
        let mut names: Vec<&str> = bindings.iter().map(|b| b.as_str()).collect();
        names.sort_unstable();
        list.push('\u{1f}');
        list.push_str(&names.join("\u{1e}"));
    }
    STANDARD.encode(hash.hash(list.as_bytes()).as_ref())
}
