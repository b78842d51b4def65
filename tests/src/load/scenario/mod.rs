//! The scenarios, one file each; every one starts the servers it needs and stops by itself.

pub mod archive;
pub mod chat;
pub mod idle;
pub mod iq;
pub mod login;
pub mod presence;
pub mod ready;
pub mod storm;

use anyhow::Result;

use super::options::{RunOptions, Scenario};
use super::report::Report;
use super::server::Site;

/// What every scenario is given.
pub struct Run<'a> {
    /// What all servers share.
    pub site: &'a Site,
    /// The command line.
    pub options: &'a RunOptions,
    /// Where rows go.
    pub report: &'a mut Report,
}

/// Measures one scenario on all chosen servers. A server that fails costs its rows, not the run.
pub async fn measure(run: &mut Run<'_>, scenario: Scenario) -> Result<()> {
    match scenario {
        Scenario::Ready => ready::measure(run).await,
        Scenario::Login => login::measure(run).await,
        Scenario::Iq => iq::measure(run).await,
        Scenario::Chat => chat::measure(run).await,
        Scenario::Archive => archive::measure(run).await,
        Scenario::Presence => presence::measure(run, presence::Size::Small).await,
        Scenario::PresenceLarge => presence::measure(run, presence::Size::Large).await,
        Scenario::Idle => idle::measure(run).await,
        Scenario::Storm => storm::measure(run, false).await,
        Scenario::StormRestart => storm::measure(run, true).await,
    }
}

/// Says that a server's row is missing and why.
fn failed(what: &str, server: &str, error: &anyhow::Error) {
    eprintln!("{what}: {server}: {error:#}");
}
