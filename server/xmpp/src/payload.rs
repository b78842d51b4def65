//! Payloads: one file per specification

pub mod blocking;
pub mod caps;
pub mod carbons;
pub mod commands;
pub mod data_forms;
pub mod delay;
pub mod disco;
pub mod error_codes;
pub mod forwarding;
pub mod hints;
pub mod last_activity;
pub mod mam;
pub mod private;
pub mod pubsub;
pub mod register;
pub mod roster;
pub mod rsm;
pub mod stanza_id;
pub mod time;
pub mod vcard;
pub mod version;
