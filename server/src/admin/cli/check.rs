//! `eider check`: looks at everything and says what is wrong.

use std::time::UNIX_EPOCH;

use clap::Args;

use super::ask::ask;
use super::{Global, output};
use crate::admin::check::{
    Finding, Severity, certificates, configuration, database, dns, listeners, page, system,
};
use crate::admin::protocol::{AccountInfo, DatabaseInfo, Failure, FailureKind, Request, Status};
use crate::clock;
use crate::config::{Config, Error};

/// A check.
#[derive(Debug, Clone, Args)]
pub struct Check {
    /// Does not ask the DNS
    #[arg(long)]
    no_dns: bool,
    /// Prints the troubleshooting page (Markdown) instead
    #[arg(long)]
    page: bool,
}

/// Runs all checks and prints the findings, worst first.
///
/// # Errors
/// `Findings` where an error is among them.
pub async fn run(global: &Global, check: Check) -> Result<(), Failure> {
    if check.page {
        output::text(format_args!("{}", page::page()));
        return Ok(());
    }
    let findings = match global.sources().load() {
        Ok(config) => all(global, &config, !check.no_dns).await,
        Err(Error::Problems(problems)) => configuration::invalid(&problems),
        Err(e) => return Err(Failure::new(FailureKind::Configuration, e.to_string())),
    };
    report(global, findings)
}

async fn all(global: &Global, config: &Config, with_dns: bool) -> Vec<Finding> {
    let mut findings = configuration::check(config, global.config.as_deref());
    let status = match ask::<Status>(global, Request::Status).await {
        Ok(status) => Some(status),
        Err(failure) if failure.kind == FailureKind::NotRunning => None,
        Err(failure) => {
            findings.push(listeners::unasked(&failure));
            return findings;
        }
    };
    let running = status.is_some();
    let now = clock::now();
    let seconds = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = seconds.as_secs().cast_signed();
    findings.extend(listeners::check(config, running, seconds).await);
    findings.extend(certificates::check(config, seconds));
    if with_dns {
        findings.extend(dns::check(config).await);
    }
    findings.extend(database_findings(global, config, running).await);
    findings.extend(system::check(config, now, status.as_ref()));
    findings
}

async fn database_findings(global: &Global, config: &Config, running: bool) -> Vec<Finding> {
    // Opening would make the directory and the file, which is for the server to do.
    let sqlite = config.storage.engine == crate::config::Engine::Sqlite;
    if sqlite && !running && !config.sqlite_file().exists() {
        return Vec::new();
    }
    let info: DatabaseInfo = match ask(global, Request::Database).await {
        Ok(info) => info,
        Err(failure) => return vec![database::unreachable(&failure)],
    };
    let mut findings = database::check(&info);
    let request = Request::UserList {
        host: None,
        search: None,
        limit: 10_000,
    };
    let accounts: Vec<AccountInfo> = match ask(global, request).await {
        Ok(accounts) => accounts,
        Err(failure) => return vec![database::unreachable(&failure)],
    };
    let has_accounts = |host: &str| {
        accounts
            .iter()
            .any(|a| a.account.split_once('@').is_some_and(|(_, of)| of == host))
    };
    let hosts = config
        .hosts
        .iter()
        .filter(|h| !h.anonymous && !has_accounts(&h.name));
    let empty: Vec<_> = hosts.map(|h| h.name.clone()).collect();
    let disabled: Vec<_> = accounts
        .iter()
        .filter(|a| !a.enabled)
        .map(|a| a.account.clone())
        .collect();
    findings.extend(database::check_accounts(&empty, &disabled));
    findings
}

fn report(global: &Global, mut findings: Vec<Finding>) -> Result<(), Failure> {
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    for finding in &findings {
        match global.json {
            true => output::json(finding),
            false => output::line(format_args!("{}", finding.line())),
        }
    }
    let errors = findings
        .iter()
        .filter(|f| f.severity == Severity::Error)
        .count();
    if errors > 0 {
        let what = format!("errors found: {errors}");
        return Err(Failure::new(FailureKind::Findings, what).hint("see server/TROUBLESHOOTING.md"));
    }
    if !global.json {
        match findings.len() {
            0 => output::line("everything is in order"),
            _ => output::line("nothing is broken"),
        }
    }
    Ok(())
}
