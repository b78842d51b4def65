//! Administration: control socket and its commands, metrics and health, log, trace, reload.

pub mod accounts;
pub mod check;
pub mod cli;
pub mod commands;
pub mod health;
pub mod http;
pub mod live_sessions;
pub mod log;
pub mod metrics;
pub mod protocol;
pub mod reload;
pub mod sessions;
pub mod socket;
pub mod trace;
pub mod upkeep;
