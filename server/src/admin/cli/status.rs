//! `eider status`: how the server is. `eider reload`: reads the configuration again.

use super::ask::ask;
use super::{Global, output};
use crate::admin::protocol::{Failure, Reloaded, Request, Status};

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
    println!("state       {state}");
    println!(
        "version     {}, process {}",
        status.version, status.process_id
    );
    println!("running     {}", output::seconds(status.uptime_seconds));
    println!("hosts       {}", status.hosts.join(", "));
    for listener in &status.listeners {
        println!("listener    {listener}");
    }
    println!("database    {}", status.engine);
    println!("data        {}", status.data_directory.display());
    println!("sessions    {}", status.sessions);
    println!("memory      {}", output::bytes(status.resident_bytes));
    println!("log         {}", status.log_levels);
    Ok(())
}

/// Has the server read its configuration and certificates again.
///
/// # Errors
/// Where no server runs or the configuration has problems; the old one stays then.
pub async fn reload(global: &Global) -> Result<(), Failure> {
    let reloaded: Reloaded = ask(global, Request::Reload).await?;
    if global.json {
        output::json(&reloaded);
        return Ok(());
    }
    match reloaded.applied.as_slice() {
        [] => println!("certificates read again; nothing else changed"),
        keys => println!("changed: {}", keys.join(", ")),
    }
    if !reloaded.restart.is_empty() {
        println!("after a restart: {}", reloaded.restart.join(", "));
    }
    Ok(())
}
