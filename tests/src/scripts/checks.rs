//! Steps of protocol scripts that look at a whole: rosters, pending requests, what never came.

use super::client::Client;
use super::parse::Step;
use super::pattern;
use super::run::Run;
use super::steps;
use anyhow::{Context, Result, anyhow, bail, ensure};

const ROSTER: &str = "jabber:iq:roster";

/// Nothing that came and was not asked for fits the block.
pub async fn has_not_got(run: &mut Run<'_>, who: &str, step: &Step) -> Result<()> {
    run.barrier().await?;
    for unwanted in run.block(step)? {
        let mut values = run.values.clone();
        let client: &mut Client = run.client(who)?;
        for node in &client.queue {
            if pattern::matches(&unwanted, node, &mut values).is_ok() {
                bail!("got {node}");
            }
        }
    }
    Ok(())
}

/// The last stream features are those of the block.
pub fn has_features(run: &mut Run<'_>, who: &str, step: &Step) -> Result<()> {
    let features = run
        .client(who)?
        .features
        .clone()
        .context("no features yet")?;
    let block = run.block(step)?;
    let compared = pattern::matches(&block[0], &features, &mut run.values);
    compared.map_err(|why| anyhow!("{why}: {features}"))
}

/// The subscription in the roster; `none` also where there is no item.
pub async fn sees(run: &mut Run<'_>, who: &str, other: &str, state: &[&str]) -> Result<()> {
    let jid = run.values[other].clone();
    let query = format!("<query xmlns='{ROSTER}'/>");
    let roster = run.client(who)?.ask("get", "sees", &query).await?;
    let items = roster.child("query", ROSTER);
    let mut items = items.into_iter().flat_map(|query| query.children());
    let item = items.find(|item| item.attr("jid") == Some(&jid));
    let subscription = item
        .and_then(|item| item.attr("subscription"))
        .unwrap_or("none");
    let asked = item.is_some_and(|item| item.attr("ask") == Some("subscribe"));
    let same = state.first() == Some(&subscription) && asked == state.contains(&"asked");
    ensure!(
        same,
        "the roster says {subscription}, asked: {asked}: {roster}"
    );
    Ok(())
}

/// Whether a new session is shown a request for subscription.
pub async fn asked(run: &mut Run<'_>, who: &str, other: &str, expected: bool) -> Result<()> {
    let (name, from) = (format!("{who}/asked"), run.values[other].clone());
    steps::log_in(run, &name, &["watch"]).await?;
    run.barrier().await?;
    let mut client = run.clients.remove(&name).expect("it has just logged in");
    let request = client.queue.iter().any(|node| {
        node.name == "presence"
            && node.attr("type") == Some("subscribe")
            && node.attr("from") == Some(&from)
    });
    client.close().await?;
    run.settle().await?;
    ensure!(request == expected, "request of {from} shown: {request}");
    Ok(())
}
