//! The rows of archived messages put bare into PostgreSQL, in a process of its own: one statement of
//! binary UNNESTs per commit, as many messages in each as the server had.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use eider_storage::{Config, PostgresConfig};
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use sqlx::{Connection, PgConnection, Postgres as Database};

use crate::load::process;
use crate::load::report::Row;
use crate::load::server::Site;
use crate::load::stats::per_op_us;

/// Accounts that the messages are between.
const ACCOUNTS: u64 = 100;

/// What the part did.
#[derive(Debug, Serialize, Deserialize)]
struct Done {
    messages: u64,
    seconds: f64,
    own_us: f64,
}

/// The part: inserts for so many seconds and prints what it did.
pub async fn insert(url: &str, batch: u32, seconds: u32, rate: u32) -> Result<()> {
    let mut connection = PgConnection::connect(url).await?;
    let cpu = process::cpu(std::process::id());
    let (begun, mut messages) = (Instant::now(), 0_u64);
    let limit = Duration::from_secs(seconds.into());
    while begun.elapsed() < limit {
        bound(messages, batch).execute(&mut connection).await?;
        messages += u64::from(batch);
        if rate > 0 {
            let due = Duration::from_secs_f64(messages as f64 / f64::from(rate));
            tokio::time::sleep(due.saturating_sub(begun.elapsed())).await;
        }
    }
    let own_us = per_op_us(process::cpu(std::process::id()) - cpu, messages);
    let done = Done {
        messages,
        seconds: begun.elapsed().as_secs_f64(),
        own_us,
    };
    println!("{}", serde_json::to_string(&done)?);
    Ok(())
}

/// One statement with the rows of `batch` messages: bytes once, an archive row and the words for each
/// side, as Eider's own statement has them.
fn bound<'q>(first: u64, batch: u32) -> Query<'q, Database, PgArguments> {
    let (mut ids, mut stanzas) = (Vec::new(), Vec::new());
    let (mut owners, mut positions, mut messages) = (Vec::new(), Vec::new(), Vec::new());
    let (mut peers, mut resources, mut words) = (Vec::new(), Vec::new(), Vec::new());
    for n in (first..).take(batch as usize) {
        let from = n % (ACCOUNTS / 2) * 2;
        let (to, id) = (from + 1, n as i64);
        ids.push(id);
        stanzas.push(stanza(n, from, to).into_bytes());
        for (owner, peer, resource) in [(from, to, None), (to, from, Some("load"))] {
            owners.push(owner as i64);
            positions.push(id);
            messages.push(id);
            peers.push(format!("u{peer}@localhost"));
            resources.push(resource);
        }
        words.push(format!(":{from} :{to} {n:012} {WORDS}"));
    }
    let query = sqlx::query(STATEMENT)
        .bind(ids)
        .bind(stanzas)
        .bind(owners)
        .bind(positions);
    query.bind(messages).bind(peers).bind(resources).bind(words)
}

/// The text of [`stanza`] as words.
const WORDS: &str = "shall we meet at the harbour at seven or is that too late for you";

fn stanza(n: u64, from: u64, to: u64) -> String {
    format!(
        "<message from='u{from}@localhost/load' to='u{to}@localhost' type='chat' id='m{n}'><body>{n:012} \
         Shall we meet at the harbour at seven, or is that too late for you?</body></message>"
    )
}

/// Into Eider's own tables.
const STATEMENT: &str = "
    WITH m AS (INSERT INTO message (month, id, owners, bytes)
        SELECT 24000, id, 2, bytes FROM UNNEST($1::bigint[], $2::bytea[]) AS u (id, bytes)),
    a AS (INSERT INTO archive (month, owner, pos, message, peer, peer_resource, at, flags, kind)
        SELECT 24000, u.*, 1700000000000000, 1, 0
        FROM UNNEST($3::bigint[], $4::bigint[], $5::bigint[], $6::text[], $7::text[]) AS u)
    INSERT INTO message_text (message, content)
        SELECT * FROM UNNEST($1::bigint[], $8::text[]) AS u";

/// Runs the part with this batch size beside the row of the same scenario.
pub async fn measure(
    site: &Site,
    scenario: &str,
    batch: f64,
    seconds: u32,
    rate: u32,
) -> Result<Row> {
    let postgres = site.postgres()?;
    let url = postgres.database("bare").await?;
    // Opening it makes the tables.
    drop(eider_storage::open(&Config::Postgres(PostgresConfig::new(&url))).await?);
    let whole = batch.round().max(1.0);
    let arguments = [
        "insert",
        &url,
        &whole.to_string(),
        &seconds.to_string(),
        &rate.to_string(),
    ]
    .map(str::to_owned);
    let before = process::cpu(postgres.pid());
    let output = tokio::task::spawn_blocking(move || {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        super::part(&arguments)?
            .stderr(std::process::Stdio::inherit())
            .output()
            .context("inserting bare")
    })
    .await??;
    ensure!(output.status.success(), "inserting bare: {}", output.status);
    let done: Done = serde_json::from_str(&super::first_line(output.stdout.as_slice())?)?;
    Ok(Row {
        server_us: Some(done.own_us),
        database_us: Some(per_op_us(
            process::cpu(postgres.pid()) - before,
            done.messages,
        )),
        per_second: Some(done.messages as f64 / done.seconds),
        batch: Some(whole),
        ..Row::new(scenario, "bare insert").note("the same rows, binary UNNEST, same batch size")
    })
}
