//! `loss`: kills Eider at every moment and counts what was lost; `loss --help` says how.

use clap::Parser;
use eider_tests::loss::{Options, run};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    run(Options::parse()).await
}
