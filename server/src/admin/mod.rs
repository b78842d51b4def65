//! Administration: control socket, metrics and health, log, trace, checks.

pub mod metrics;
pub mod sessions;
