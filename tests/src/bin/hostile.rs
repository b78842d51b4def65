//! `hostile`: sends every kind of bad input and shows what came back; `hostile --help` says how.

use clap::Parser;
use eider_tests::hostile::{Options, run};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    run(&Options::parse()).await
}
