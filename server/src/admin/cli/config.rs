//! `eider config`: the example, the option reference, a check.

use clap::Subcommand;

use super::{Global, output};
use crate::admin::protocol::Failure;
use crate::config::render;
use crate::xep::published;

/// The configuration
#[derive(Debug, Subcommand)]
pub enum Config {
    /// Prints a file with every option, documented
    Example,
    /// Prints the option reference (Markdown)
    Reference,
    /// Prints the supported specifications (Markdown)
    Specs,
    /// Prints the supported specifications as DOAP
    Doap,
    /// Checks the configuration and says which keys differ from the defaults
    Check,
}

/// Runs the subcommand.
///
/// # Errors
/// Every problem of the configuration.
pub fn run(global: &Global, command: &Config) -> Result<(), Failure> {
    match command {
        Config::Example => output::text(format_args!("{}", render::example())),
        Config::Reference => output::text(format_args!("{}", render::reference())),
        Config::Specs => output::text(published::table()),
        Config::Doap => output::text(published::doap()),
        Config::Check => check(global)?,
    }
    Ok(())
}

fn check(global: &Global) -> Result<(), Failure> {
    let config = global.load()?;
    let changes = crate::config::Changes::between(&crate::config::Config::default(), &config);
    let mut keys = [changes.applied, changes.restart].concat();
    keys.sort();
    if global.json {
        output::json(&serde_json::json!({ "valid": true, "set": keys }));
        return Ok(());
    }
    match keys.as_slice() {
        [] => output::line("valid; every option has its default"),
        keys => output::line(format_args!("valid; set: {}", keys.join(", "))),
    }
    Ok(())
}
