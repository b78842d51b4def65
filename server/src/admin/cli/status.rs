//! `eider status`: how the server is. `eider reload`: reads the configuration again.

use super::ask::ask;
use super::{Global, output};
use crate::admin::protocol::{Failure, FailureKind, Reloaded, Request, Status};

/// Shows the status.
///
/// # Errors
/// Where no server runs.
pub async fn run(global: &Global) -> Result<(), Failure> {
    let status: Status = ask(global, Request::Status).await?;
    if global.json {
        output::json(&status);
        return Ok(());
    }
    let state = match &status.reason {
        Some(reason) => format!("{}: {reason}", status.state),
        None => status.state.clone(),
    };
    output::line(format_args!("state       {state}"));
    output::line(format_args!(
        "version     {}, process {}",
        status.version, status.process_id
    ));
    output::line(format_args!(
        "running     {}",
        output::seconds(status.uptime_seconds)
    ));
    output::line(format_args!("hosts       {}", status.hosts.join(", ")));
    for listener in &status.listeners {
        output::line(format_args!("listener    {listener}"));
    }
    output::line(format_args!("database    {}", status.engine));
    output::line(format_args!(
        "data        {}",
        status.data_directory.display()
    ));
    output::line(format_args!("sessions    {}", status.sessions));
    output::line(format_args!(
        "memory      {}",
        output::bytes(status.resident_bytes)
    ));
    output::line(format_args!("log         {}", status.log_levels));
    Ok(())
}

/// Has the server read its configuration and certificates again.
///
/// # Errors
/// Where no server runs or the configuration has problems; the old one stays then. `Findings` where something else was
/// found wrong, as a certificate.
pub async fn reload(global: &Global) -> Result<(), Failure> {
    let reloaded: Reloaded = ask(global, Request::Reload).await?;
    if global.json {
        output::json(&reloaded);
        return found(&reloaded);
    }
    match reloaded.applied.as_slice() {
        [] => output::line("certificates read again; nothing else changed"),
        keys => output::line(format_args!("changed: {}", keys.join(", "))),
    }
    if !reloaded.restart.is_empty() {
        output::line(format_args!(
            "after a restart: {}",
            reloaded.restart.join(", ")
        ));
    }
    for finding in &reloaded.findings {
        output::line(format_args!("wrong: {finding}"));
    }
    found(&reloaded)
}

/// What was found wrong is a failure of the command, though the server goes on.
fn found(reloaded: &Reloaded) -> Result<(), Failure> {
    match reloaded.findings.len() {
        0 => Ok(()),
        count => Err(
            Failure::new(FailureKind::Findings, format!("found wrong: {count}"))
                .hint("eider check"),
        ),
    }
}
