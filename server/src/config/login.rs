//! Login: mechanisms, tries and the time before one has to be logged in.

use super::schema::{choice, section};

section! {
    /// How clients log in.
    pub struct Login {
        /// SCRAM mechanisms offered, each also with channel binding (-PLUS), strongest first.
        pub mechanisms: Vec<Mechanism> =
            vec![Mechanism::ScramSha512, Mechanism::ScramSha256, Mechanism::ScramSha1],
        /// Whether PLAIN is offered (over TLS only, as everything).
        pub plain: bool = true,
        /// Rounds of key derivation for SCRAM, used when a password is set.
        pub iterations: u32 = 10_000,
        /// Seconds from accept until the client must be logged in and bound.
        pub deadline_seconds: u32 = 30,
        /// Failed tries on one stream; then it is closed.
        pub attempts_per_stream: u32 = 3,
        /// Failed tries for one account within `attempts_window_seconds`; further ones are refused
        /// with the seconds to wait. 0 means no limit.
        pub attempts_per_account: u32 = 20,
        /// Failed tries from one address (IPv6: one /64) within `attempts_window_seconds`; further ones
        /// are refused with the seconds to wait. 0 means no limit.
        pub attempts_per_address: u32 = 60,
        /// The window in which failed tries count.
        pub attempts_window_seconds: u32 = 300,
        /// Successful logins of one account in a minute; further ones are refused with the seconds to
        /// wait. 0 means no limit.
        pub logins_per_account_per_minute: u32 = 600,
        /// What happens to the older session when a client binds a resource that is in use.
        pub resource_conflict: ResourceConflict = ResourceConflict::ReplaceOld,
    }
}

choice! {
    /// A SASL mechanism with stored keys.
    pub enum Mechanism {
        /// SCRAM-SHA-512 and SCRAM-SHA-512-PLUS.
        ScramSha512 = "SCRAM-SHA-512",
        /// SCRAM-SHA-256 and SCRAM-SHA-256-PLUS (RFC 7677).
        ScramSha256 = "SCRAM-SHA-256",
        /// SCRAM-SHA-1 and SCRAM-SHA-1-PLUS (RFC 5802).
        ScramSha1 = "SCRAM-SHA-1",
    }
}

choice! {
    /// What happens when a resource is asked for that is bound already (RFC 6120 §7.7.2.2).
    pub enum ResourceConflict {
        /// The older session is closed with the stream error `conflict`.
        ReplaceOld = "replace-old",
        /// The new client gets a resource made by the server.
        NewResource = "new-resource",
        /// The new client is refused with the stanza error `conflict`.
        Refuse = "refuse",
    }
}
