//! The loss test in short (DESIGN §1): each kill point once, a few kills, cuts, drains, on each engine.
//!
//! `target/debug/loss` runs it in full; `--help` says how.

use anyhow::{Result, bail, ensure};
use clap::Parser as _;
use eider_tests::harness::eider;
use eider_tests::loss::{Options, run};

async fn lossless(arguments: &[&str]) -> Result<()> {
    let program = ["loss", "--together"].iter().chain(arguments);
    let mut options = Options::try_parse_from(program)?;
    options.eider = Some(eider()?);
    run(options).await
}

/// A run that does not wait for the disk loses something, or the test sees nothing.
async fn loses(arguments: &[&str]) -> Result<()> {
    let Err(error) = lossless(arguments).await else {
        bail!("nothing was lost, or it was not noticed");
    };
    ensure!(
        error.to_string().contains("broke a promise"),
        "not what was looked for: {error:#}"
    );
    Ok(())
}

fn block_on(run: impl Future<Output = Result<()>>) {
    let runtime = tokio::runtime::Runtime::new().expect("the system gives threads");
    if let Err(error) = runtime.block_on(run) {
        panic!("{error:#}");
    }
}

#[test]
fn nothing_is_lost_on_sqlite() {
    block_on(lossless(&[
        "--engine=sqlite",
        "--hits=2",
        "--blind=3",
        "--power-cuts=4",
        "--drains=1",
    ]));
}

#[test]
fn nothing_is_lost_on_sqlite_without_archive() {
    block_on(lossless(&[
        "--engine=sqlite",
        "--no-archive",
        "--hits=2",
        "--blind=2",
        "--power-cuts=2",
        "--drains=1",
    ]));
}

#[test]
fn nothing_is_lost_on_postgres() {
    block_on(lossless(&[
        "--engine=postgres",
        "--hits=2",
        "--blind=3",
        "--drains=1",
        "--database-kills=1",
    ]));
}

#[test]
fn a_server_that_does_not_sync_is_found_out_on_sqlite() {
    block_on(loses(&[
        "--engine=sqlite",
        "--no-sync",
        "--hits=0",
        "--blind=0",
        "--power-cuts=3",
        "--drains=0",
    ]));
}

#[test]
fn a_server_that_does_not_sync_is_found_out_on_postgres() {
    block_on(loses(&[
        "--engine=postgres",
        "--no-sync",
        "--hits=0",
        "--blind=0",
        "--drains=0",
        "--database-kills=4",
    ]));
}
