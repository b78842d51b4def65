//! Payloads: one file per specification

pub mod blocking;
pub mod commands;
pub mod last_activity;
pub mod private;
pub mod pubsub;
pub mod register;
pub mod roster;
pub mod time;
pub mod vcard;
pub mod version;
