//! RFC 5802: SCRAM, with SHA-256 (RFC 7677) and SHA-512
//!
//! The server's side in three steps: [`ClientFirst::parse`] reads the first
//! message, the caller finds the account's [`ScramKeys`] (or a decoy's),
//! [`ClientFirst::challenge`] answers, and [`Challenged::finish`] checks the proof.

mod error;
mod exchange;
mod keys;
mod message;
#[cfg(test)]
mod tests;

pub use error::ScramError;
pub use exchange::{Challenged, ChannelBindings, ClientFirst, downgrade_hash};
pub use keys::{DecoySecret, ScramHash, ScramKeys};

/// Bytes of salt made for new keys and shown for decoys.
pub const SALT_BYTES: usize = 16;
