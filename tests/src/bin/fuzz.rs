//! `fuzz`: feeds damaged examples to every decoder; `fuzz --help` says how.

use clap::Parser;
use eider_tests::fuzz::{Options, run};

fn main() -> anyhow::Result<()> {
    run(&Options::parse())
}
