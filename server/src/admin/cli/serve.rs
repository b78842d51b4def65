//! `eider serve`: runs the server until it is told to stop.

use super::Global;
use crate::admin::log;
use crate::admin::protocol::{Failure, FailureKind};
use crate::{lifecycle, server};

/// Serves with the configuration.
///
/// # Errors
/// Why it cannot start or had to stop.
pub fn run(global: &Global) -> Result<(), Failure> {
    let config = global.load()?;
    let log = log::start(&config.logging);
    if let Some(limit) = lifecycle::raise_file_limit() {
        tracing::debug!(limit, "limit on open files");
    }
    let failed = |e: &dyn std::fmt::Display| Failure::new(FailureKind::Failed, e.to_string());
    let runtime = lifecycle::runtime(config.worker_threads).map_err(|e| failed(&e))?;
    let start = server::Start {
        sources: global.sources(),
        config,
        log,
        program: global.program(),
    };
    let result = runtime.block_on(server::run(start));
    // Threads that still read a file or resolve a name are not waited for.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    let kind = |e: &server::Error| match e {
        server::Error::Storage(_) => FailureKind::Database,
        _ => FailureKind::Failed,
    };
    result.map_err(|e| {
        Failure::new(kind(&e), e.to_string()).hint(format!("{} check", global.program()))
    })
}
