//! Bad input, case by case: what was sent, what came back, and what it cost the server in memory.
//!
//! Most cases are the protocol scripts `bad-input-*` and a few others; those that need many connections, long floods or a
//! login that lies are written here. After every case a fresh login and a ping must succeed, and the server's
//! resident memory must be where it was.

mod bench;
mod crowd;
mod logins;
mod never_reads;
mod report;
mod scripted;
mod slow;
mod storms;

use anyhow::{Result, ensure};
use clap::Parser;

use bench::Bench;
use report::Row;

/// `hostile --help`.
#[derive(Debug, Default, Parser)]
#[command(about = "Sends every kind of bad input and shows what came back")]
pub struct Options {
    /// Only cases whose group or name contains one of these words.
    pub words: Vec<String>,
    /// Also 15,000 open connections, and storms of ten times the length.
    #[arg(long)]
    pub all: bool,
    /// JSON instead of a table.
    #[arg(long)]
    pub json: bool,
}

/// Runs the cases and prints the table.
///
/// # Errors
/// A case that was answered wrongly, cost too much, or left the server unwell.
pub async fn run(options: &Options) -> Result<()> {
    let mut bench = Bench::new(options);
    let outcome = cases(&mut bench, options).await;
    let rows = bench.finish();
    report::print(&rows, options.json)?;
    outcome?;
    ensure!(!rows.is_empty(), "no such case");
    let wrong: Vec<String> = rows.iter().filter_map(Row::wrong).collect();
    let (count, all) = (wrong.len(), rows.len());
    ensure!(
        wrong.is_empty(),
        "{count} of {all} cases went wrong: {}",
        wrong.join(" | ")
    );
    Ok(())
}

async fn cases(bench: &mut Bench<'_>, options: &Options) -> Result<()> {
    scripted::cases(bench).await?;
    logins::cases(bench).await?;
    slow::cases(bench).await?;
    never_reads::cases(bench).await?;
    storms::cases(bench, options.all).await?;
    crowd::cases(bench, options.all).await
}
