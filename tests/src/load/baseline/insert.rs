//! The rows of archived messages put bare into PostgreSQL, in a process of its own: one statement of
//! binary UNNESTs per commit, as many messages in each as the server had.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
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

/// One statement with the rows of `batch` messages: bytes once, an owner's row for each side.
fn bound<'q>(first: u64, batch: u32) -> Query<'q, Database, PgArguments> {
    let (mut ids, mut stanzas) = (Vec::new(), Vec::new());
    let (mut owners, mut positions, mut of, mut peers, mut public) =
        (vec![], vec![], vec![], vec![], vec![]);
    for n in (first..).take(batch as usize) {
        let from = n % ACCOUNTS;
        let to = (from + 1) % ACCOUNTS;
        ids.push(n as i64);
        stanzas.push(stanza(n, from, to).into_bytes());
        for (owner, peer) in [(from, to), (to, from)] {
            owners.push(owner as i64);
            positions.push((n * 2 + u64::from(owner == to)) as i64);
            of.push(n as i64);
            peers.push(format!("u{peer}@localhost"));
            public.push(
                (u128::from(n) << 64 | u128::from(owner).wrapping_mul(0x9e37_79b9_7f4a_7c15))
                    .to_be_bytes()
                    .to_vec(),
            );
        }
    }
    sqlx::query(STATEMENT)
        .bind(ids)
        .bind(stanzas)
        .bind(owners)
        .bind(positions)
        .bind(of)
        .bind(peers)
        .bind(public)
}

fn stanza(n: u64, from: u64, to: u64) -> String {
    format!(
        "<message from='u{from}@localhost/load' to='u{to}@localhost' type='chat' id='m{n}'><body>{n:012} \
         Shall we meet at the harbour at seven, or is that too late for you?</body></message>"
    )
}

/// Tables as an archive needs them (DESIGN §6): bytes once, a row per owner with its place in the
/// owner's order, its peer and its public id.
const TABLES: &str = "
    CREATE TABLE bare_message (id bigint PRIMARY KEY, at timestamptz NOT NULL, stanza bytea NOT NULL);
    CREATE TABLE bare_owner (owner bigint, position bigint, message bigint NOT NULL, at timestamptz NOT NULL,
        peer text COLLATE \"C\" NOT NULL, public_id bytea NOT NULL, PRIMARY KEY (owner, position));
    CREATE INDEX bare_peer ON bare_owner (owner, peer, position);
    CREATE INDEX bare_public ON bare_owner (owner, public_id);
";

const STATEMENT: &str = "
    WITH m AS (INSERT INTO bare_message (id, at, stanza)
        SELECT id, now(), stanza FROM UNNEST($1::bigint[], $2::bytea[]) AS t (id, stanza))
    INSERT INTO bare_owner (owner, position, message, at, peer, public_id)
        SELECT owner, position, message, now(), peer, public_id
        FROM UNNEST($3::bigint[], $4::bigint[], $5::bigint[], $6::text[], $7::bytea[])
            AS t (owner, position, message, peer, public_id)";

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
    let mut connection = PgConnection::connect(&url).await?;
    sqlx::raw_sql(TABLES).execute(&mut connection).await?;
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
