//! Runs the protocol scripts of `tests/scripts/`, all at once over a few servers.
//!
//! `cargo test --test scripts -- NAME…` runs those whose name contains one of the words.

use anyhow::{Context, Result};
use eider_tests::harness::{Kind, Server, repository};
use eider_tests::scripts::{Script, parse, run};
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// Scripts under way at once.
const PARALLEL: usize = 8;
/// Scripts that may fail among the others and are run once more.
const DOUBTFUL_MAX: usize = 3;
/// Where the numbers of their accounts begin.
const AGAIN: usize = 100_000;
/// What no script takes.
const LONGEST: Duration = Duration::from_secs(120);

fn scripts() -> Result<Vec<Script>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(repository().join("tests/scripts"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|ending| ending == "script") {
            paths.push(path);
        }
    }
    paths.sort();
    let mut scripts = Vec::new();
    for path in paths {
        scripts.extend(parse::load(&path)?);
    }
    Ok(scripts)
}

fn servers(kind: Kind, scripts: &[Script]) -> Result<BTreeMap<String, Arc<Server>>> {
    let mut servers = BTreeMap::new();
    for script in scripts {
        if !servers.contains_key(&script.config) {
            let server = Server::start(kind, &script.config)
                .with_context(|| format!("for {}: {}", script.name, script.config))?;
            servers.insert(script.config.clone(), Arc::new(server));
        }
    }
    Ok(servers)
}

async fn run_all(scripts: Vec<Script>, servers: BTreeMap<String, Arc<Server>>) -> Result<usize> {
    let permits = Arc::new(Semaphore::new(PARALLEL));
    let mut running = Vec::new();
    for (number, script) in scripts.into_iter().enumerate() {
        let (permits, server) = (permits.clone(), servers[&script.config].clone());
        let name = script.name.clone();
        let task = tokio::spawn(async move {
            let _permit = permits.acquire_owned().await?;
            let done = once(&script, &server, number).await;
            anyhow::Ok((script, server, done))
        });
        running.push((name, task));
    }
    let mut doubtful = Vec::new();
    for (name, task) in running {
        match task.await?? {
            (_, _, Ok(())) => println!("ok      {name}"),
            (script, server, Err(why)) => {
                println!("again   {name}\n    {why:#}");
                doubtful.push((script, server));
            }
        }
    }
    again(doubtful).await
}

async fn once(script: &Script, server: &Arc<Server>, number: usize) -> Result<()> {
    tokio::time::timeout(LONGEST, run::run(script, server, number))
        .await
        .context("takes too long")?
}

/// Runs once more, alone and with accounts of their own, what failed among all the others: where a script orders what two
/// clients see, a busy machine may show it otherwise. More than a few are no accident.
async fn again(doubtful: Vec<(Script, Arc<Server>)>) -> Result<usize> {
    if doubtful.len() > DOUBTFUL_MAX {
        return Ok(doubtful.len());
    }
    let mut failed = 0;
    for (number, (script, server)) in doubtful.into_iter().enumerate() {
        match once(&script, &server, AGAIN + number).await {
            Ok(()) => println!("ok      {} (again)", script.name),
            Err(why) => {
                failed += 1;
                println!("FAILED  {}\n    {why:#}", script.name);
            }
        }
    }
    Ok(failed)
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let mut kind = Kind::Eider;
    let mut words = Vec::new();
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--against-prosody" => kind = Kind::Prosody,
            other if other.starts_with("--") => {}
            other => words.push(other.to_owned()),
        }
    }
    let mut all = scripts()?;
    if !words.is_empty() {
        all.retain(|script| words.iter().any(|word| script.name.contains(word)));
    }
    if kind == Kind::Prosody {
        all.iter_mut().for_each(|script| script.config.clear());
    }
    let total = all.len();
    let servers = servers(kind, &all)?;
    let failed = run_all(all, servers).await?;
    println!(
        "\nprotocol scripts: {} passed, {failed} failed",
        total - failed
    );
    Ok(if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
