//! Keepalive: finding out that a silent client is gone.

use super::schema::{choice, section};

section! {
    /// Probes of silent clients.
    pub struct Keepalive {
        /// Seconds of silence after which the client is probed. 0 never probes.
        pub interval_seconds: u32 = 300,
        /// What is sent as a probe.
        pub kind: ProbeKind = ProbeKind::Ping,
        /// Seconds in which something must come back after a ping; else the connection counts as lost.
        pub timeout_seconds: u32 = 60,
    }
}

choice! {
    /// What is sent to a silent client.
    pub enum ProbeKind {
        /// A ping that the client must answer (XEP-0199); a request for an acknowledgement where stream
        /// management is on.
        Ping = "ping",
        /// A space (RFC 6120 §4.6.1): finds only connections that are already broken.
        Whitespace = "whitespace",
    }
}
