//! The XMPP wire

pub mod sasl;
