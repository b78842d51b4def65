//! RFC 6120 §4: negotiation of client streams, from the first byte to an authenticated stream
//!
//! [`negotiate`] is a future of its own that its caller boxes and drops before the
//! session runs: nothing of it stays in the memory of a logged-in connection.

mod authenticate;
mod connection;
mod features;
mod negotiation;
mod passwords;
mod random;
mod sasl;
mod secret;
#[cfg(test)]
pub(crate) mod tests;
mod transport;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use aws_lc_rs::rand::SecureRandom;
use bytes::BytesMut;
use eider_storage::{LoginRecord, Storage};
use eider_xmpp::framing::Framer;
use eider_xmpp::jid::BareJid;
use eider_xmpp::limits::Limits;
use eider_xmpp::sasl::{DecoySecret, Mechanism};
use eider_xmpp::stanza::Stanza;
use eider_xmpp::stream::StreamContext;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use crate::access::{Admission, Attempts, ConnectionPermit, Meter, Policy, PreLoginPermit};
use crate::admin::metrics::Metrics;
use crate::config::{Config, ConfigWatch, TlsMode};
use crate::tls::{TlsContext, TlsFacts};

pub use negotiation::negotiate;
pub use passwords::{Overloaded, PasswordWorkers};
pub use secret::decoy_secret;
pub use transport::Transport;

/// Who a stream belongs to: fixed once, at SASL success, and never derived again.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The account's bare JID; for an anonymous user one made up for this stream.
    pub account: BareJid,
    /// How it was proven.
    pub mechanism: Mechanism,
    /// Whether there is no account behind it (SASL ANONYMOUS).
    pub anonymous: bool,
}

/// A stream after login: the features of RFC 6120 §7 are sent, binding comes next.
#[derive(Debug)]
pub struct Authenticated {
    /// The connection. Dropping it frees its place in every limit.
    pub transport: Transport,
    /// Behind the header of the stream that follows login, with the limits after login.
    pub framer: Framer,
    /// Bytes received and not framed yet.
    pub buffered: BytesMut,
    /// What the stream's header said.
    pub context: StreamContext,
    /// Who it is.
    pub identity: Identity,
    /// What login read from the storage; `None` for anonymous users.
    pub login: Option<LoginRecord>,
    /// The client's address, behind a proxy the client's own.
    pub peer: SocketAddr,
    /// When it has to have bound a resource or resumed a session.
    pub deadline: Instant,
    /// The id of the stream.
    pub stream_id: String,
    /// What was negotiated for TLS.
    pub tls: TlsFacts,
    /// Counts what the session sends against its traffic class.
    pub meter: Meter,
}

/// A connection as a listener hands it over.
#[derive(Debug)]
pub struct Accepted {
    /// The socket, nothing read from it but a PROXY protocol header.
    pub socket: TcpStream,
    /// The client's address, behind a proxy the client's own.
    pub peer: SocketAddr,
    /// How TLS begins.
    pub mode: TlsMode,
    /// When it was accepted; the deadline for login counts from here.
    pub at: Instant,
    /// Its place at the listener.
    pub connection: ConnectionPermit,
    /// Its place among those that are not logged in.
    pub before_login: PreLoginPermit,
}

/// Answers what a client may ask before it has logged in: registration (XEP-0077).
#[async_trait]
pub trait BeforeLogin: Send + Sync {
    /// Whether there is anything to ask at this host, so that the stream features say so.
    fn is_offered(&self, host: &str, peer: SocketAddr) -> bool;

    /// The answer; `None` where nothing but `not-authorized` can be said.
    async fn answer(&self, host: &str, peer: SocketAddr, request: &Stanza) -> Option<Stanza>;
}

/// What negotiation reaches.
pub struct StreamParts {
    /// The configuration valid now.
    pub config: ConfigWatch,
    /// Certificates.
    pub tls: Arc<TlsContext>,
    /// Access rules and traffic classes.
    pub policy: Arc<Policy>,
    /// Places before and after login.
    pub admission: Arc<Admission>,
    /// Tries to log in.
    pub attempts: Arc<Attempts>,
    /// Accounts.
    pub storage: Arc<dyn Storage>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Where passwords are derived into keys.
    pub passwords: PasswordWorkers,
    /// Keys of accounts that do not exist.
    pub decoys: DecoySecret,
    /// Nonces, stream ids and anonymous names.
    pub random: Arc<dyn SecureRandom + Send + Sync>,
    /// More stream features after login for a host, as XML in `jabber:client`: the
    /// caps of the host (XEP-0115).
    pub features: Arc<dyn Fn(&str) -> String + Send + Sync>,
    /// Registration.
    pub before_login: Option<Arc<dyn BeforeLogin>>,
    /// Cancelled when streams still negotiating are to end with `system-shutdown`.
    pub stop: CancellationToken,
}

/// Limits of stanzas before login.
pub fn limits_before_login(config: &Config) -> Limits {
    Limits {
        stanza_bytes: config.limits.stanza_bytes_before_login as usize,
        ..Limits::BEFORE_LOGIN
    }
}

/// Limits of stanzas after login.
pub fn limits_after_login(config: &Config) -> Limits {
    Limits {
        stanza_bytes: config.limits.stanza_bytes as usize,
        depth: config.limits.element_depth as usize,
        attributes_per_element: config.limits.attributes_per_element as usize,
        elements_per_stanza: config.limits.elements_per_stanza as usize,
        ..Limits::AFTER_LOGIN
    }
}
