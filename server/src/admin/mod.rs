//! Administration: control socket, metrics and health, log, trace, checks.

pub mod log;
pub mod metrics;
pub mod reload;
pub mod sessions;
pub mod trace;
