//! `load`: measures Eider beside prosody and ejabberd; `load --help` says how.

use clap::Parser;
use eider_tests::load::options::Options;
use eider_tests::load::run::run;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    run(Options::parse()).await
}
