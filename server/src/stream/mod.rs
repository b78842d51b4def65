//! RFC 6120 §4: negotiation of client streams, from the first byte to an authenticated stream

mod transport;

use std::net::SocketAddr;

use bytes::BytesMut;
use eider_storage::LoginRecord;
use eider_xmpp::framing::Framer;
use eider_xmpp::jid::BareJid;
use eider_xmpp::sasl::Mechanism;
use eider_xmpp::stream::StreamContext;

use crate::access::Meter;
use crate::tls::TlsFacts;

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
    /// The id of the stream.
    pub stream_id: String,
    /// What was negotiated for TLS.
    pub tls: TlsFacts,
    /// Counts what the session sends against its traffic class.
    pub meter: Meter,
}
