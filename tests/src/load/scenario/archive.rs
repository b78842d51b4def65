//! Archived chat: sender's and recipient's archive, on SQLite and PostgreSQL, beside the same rows
//! inserted bare and a lone commit.

use anyhow::Result;

use super::chat::{Pace, one};
use super::{Run, failed};
use crate::load::baseline::{commit, insert};
use crate::load::report::Row;
use crate::load::server::{Archive, Engine, Kind, Plan};

/// Eider on its engines, rivals on PostgreSQL.
pub async fn measure(run: &mut Run<'_>) -> Result<()> {
    run.report.add(commit::sqlite(&run.site.directory)?);
    if run.site.postgres.is_some() {
        let row = commit::postgres(run.site.postgres()?).await?;
        run.report.add(row);
    }
    let rates = run.options.rate.iter().map(|r| Pace::Rate(*r));
    let closed = std::iter::once(Pace::Closed(run.options.window));
    let shared: Vec<Pace> = closed.chain(rates).collect();
    for pace in &shared {
        both_engines(run, *pace, true).await?;
    }
    for rate in run.options.archive_rate.clone() {
        both_engines(run, Pace::Rate(rate), false).await?;
    }
    Ok(())
}

async fn both_engines(run: &mut Run<'_>, pace: Pace, rivals: bool) -> Result<()> {
    for engine in run.options.engine.clone() {
        for kind in run.options.kinds() {
            if kind != Kind::Eider && (!rivals || engine != Engine::Postgres) {
                continue;
            }
            let plan = Plan {
                archive: Archive::On,
                engine,
                ..Plan::accounts(2 * run.options.pairs)
            };
            let scenario = format!("archived chat, {}, {}", engine.name(), pace.name());
            match one(run, kind, &plan, pace, Row::new(&scenario, kind.name())).await {
                Ok(row) => {
                    let batch = row.batch;
                    run.report.add(row);
                    if let (Some(batch), Engine::Postgres) = (batch, engine) {
                        bare(run, &scenario, batch, pace).await?;
                    }
                }
                Err(error) => failed(&scenario, kind.name(), &error),
            }
        }
    }
    Ok(())
}

async fn bare(run: &mut Run<'_>, scenario: &str, batch: f64, pace: Pace) -> Result<()> {
    let rate = pace.rate().unwrap_or(0);
    let row = insert::measure(run.site, scenario, batch, run.options.seconds, rate).await?;
    run.report.add(row);
    Ok(())
}
