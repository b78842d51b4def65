//! RFC 4422: server side of the SASL mechanisms, as pure state machines
//!
//! Nothing here reads a clock, a random source or a database: nonces, channel
//! binding data and keys are arguments. The stream layer frames the messages
//! (RFC 6120 §6.4) and looks accounts up between the steps.

mod anonymous;
mod external;
mod failure;
mod mechanism;
mod payload;
mod plain;
mod prepare;
pub mod scram;

pub use anonymous::trace;
pub use external::requested_identity;
pub use failure::Failure;
pub use mechanism::{BindingKind, Mechanism};
pub use payload::{decode, encode};
pub use plain::Plain;
pub use prepare::{PasswordError, prepare_password};
pub use scram::{ChannelBindings, ClientFirst, DecoySecret, ScramError, ScramHash, ScramKeys};
