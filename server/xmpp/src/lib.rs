//! The XMPP wire: addresses, framing, stanzas, errors, SASL and payloads
//!
//! No I/O and nothing asynchronous: bytes in, values out, and the other way round. From the outside
//! in:
//!
//! - [`framing::Framer`] cuts a stream of hostile bytes into its header, its top-level elements and
//!   its end, under [`Limits`], at a cost linear in the bytes however they trickle in.
//! - [`stanza::Received::parse`] checks one such element once and for all (XML 1.0, Namespaces in
//!   XML, RFC 6120 §11) and gives a [`Stanza`]: the received bytes with an index of what routing
//!   needs, made independent of the stream it came by; or an [`Element`] for everything that is
//!   not a stanza (SASL, stream management, client state).
//! - [`Stanza::rewrite`] makes the next stanza out of one with one allocation.
//! - [`Element`] is the owned tree for payloads; [`payload`] has one file per XEP.
//!
//! Everywhere inside `jabber:client` stands for the content namespace of whatever stream a stanza
//! came by or goes to.

pub mod datetime;
pub mod element;
pub mod error;
pub mod framing;
pub mod jid;
pub mod limits;
pub mod ns;
pub mod payload;
pub mod sasl;
pub mod stanza;
pub mod stream;
pub mod xml;

#[cfg(test)]
mod testing;

pub use element::{Element, Node};
pub use error::{ErrorType, StanzaCondition, StanzaError, StreamCondition, StreamError};
pub use framing::{Frame, Framer};
pub use jid::{BareJid, FullJid, Jid, JidError};
pub use limits::Limits;
pub use stanza::{Child, Fragment, IqType, Kind, MessageType, PresenceType, Received, Stanza};
pub use stream::{StreamContext, StreamHeader};
pub use xml::ParseError;
