//! What the server does to its database beside storing, seen in the database.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use eider_tests::harness::{Kind, Server};
use eider_tests::scripts::{parse, run};
use rusqlite::Connection;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

fn database(server: &Server) -> Result<Connection> {
    let file = Connection::open(server.directory.join("data/eider.sqlite"))?;
    file.busy_timeout(PATIENCE)?;
    Ok(file)
}

/// Waits until the number that `sql` reads is `wanted`.
fn until(file: &Connection, sql: &str, wanted: i64) -> Result<()> {
    let began = Instant::now();
    loop {
        let is: i64 = file.query_row(sql, [], |row| row.get(0))?;
        if is == wanted {
            return Ok(());
        }
        ensure!(began.elapsed() < PATIENCE, "{sql}: {is}, not {wanted}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

async fn play(server: &Server, text: &str) -> Result<()> {
    for script in parse::parse("upkeep", text)? {
        run::run(&script, server, 0).await?;
    }
    Ok(())
}

#[tokio::test]
async fn the_watermark_moves_past_what_was_sent() -> Result<()> {
    let server = Server::start(Kind::Eider, "")?;
    play(
        &server,
        "account juliet
romeo/orchard logs in
romeo/orchard sends
    <message type='chat' to='{juliet}' id='m1'><body>one</body></message>
    <message type='chat' to='{juliet}' id='m2'><body>two</body></message>
    <message type='chat' to='{juliet}' id='m3'><body>three</body></message>
romeo/orchard gets nothing
romeo/orchard closes
romeo/orchard logs in
romeo/orchard gets nothing
romeo/orchard closes
",
    )
    .await?;
    let file = database(&server)?;
    let acked = "SELECT o.acked_up_to FROM archive_owner o JOIN account a ON a.id = o.owner
                 WHERE a.localpart = 'romeo-0'";
    until(&file, acked, 3)
}

#[tokio::test]
async fn an_account_that_cannot_be_cleaned_keeps_no_other_from_it() -> Result<()> {
    let server = Server::start(Kind::Eider, "archive.quota_messages = 1")?;
    play(
        &server,
        "account juliet
romeo/orchard logs in
juliet/balcony logs in
romeo/orchard sends
    <message type='chat' to='{juliet}' id='m1'><body>one</body></message>
    <message type='chat' to='{juliet}' id='m2'><body>two</body></message>
    <message type='chat' to='{juliet}' id='m3'><body>three</body></message>
juliet/balcony gets
    <message id='m1'>...</message>
    <message id='m2'>...</message>
    <message id='m3'>...</message>
romeo/orchard closes
juliet/balcony closes
",
    )
    .await?;
    server.terminate()?;
    let file = database(&server)?;
    let rows = "SELECT count(*) FROM archive r JOIN account a ON a.id = r.owner WHERE a.localpart = 'romeo-0'";
    until(&file, rows, 3)?;
    let damaged = file
        .execute(
            "UPDATE archive_owner SET acked_above = x'ffff' WHERE owner =
             (SELECT id FROM account WHERE localpart = 'juliet-0')",
            [],
        )
        .context("damages what is known of juliet")?;
    ensure!(damaged == 1);
    server.run()?;
    until(&file, rows, 1)
}

/// Waits until the server says that it is ready, or that it is not.
async fn until_ready(server: &Server, wanted: bool) -> Result<()> {
    let began = Instant::now();
    while server.fetch("/readyz").await?.contains(" 200 ") != wanted {
        ensure!(began.elapsed() < PATIENCE, "not: ready {wanted}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

#[tokio::test]
async fn a_database_that_takes_nothing_more_is_seen_each_time() -> Result<()> {
    let server = Server::start(Kind::Eider, "")?;
    let message = "account juliet
romeo/orchard logs in
romeo/orchard sends
    <message type='chat' to='{juliet}' id='m1'><body>one</body></message>
";
    let file = database(&server)?;
    for round in 0..2 {
        // Like a full disk: what changes nothing succeeds, and nothing else.
        file.execute_batch(
            "CREATE TRIGGER full_a AFTER INSERT ON archive BEGIN SELECT RAISE(ABORT, 'full'); END;
             CREATE TRIGGER full_b AFTER INSERT ON meta BEGIN SELECT RAISE(ABORT, 'full'); END;
             CREATE TRIGGER full_c AFTER UPDATE ON meta BEGIN SELECT RAISE(ABORT, 'full'); END;
             CREATE TRIGGER full_d AFTER UPDATE ON archive_owner BEGIN SELECT RAISE(ABORT, 'full'); END;",
        )?;
        for script in parse::parse(
            "upkeep",
            &format!("{message}romeo/orchard gets error wait resource-constraint\n"),
        )? {
            run::run(&script, &server, round).await?;
        }
        until_ready(&server, false).await?;
        // Two looks later it is so still.
        tokio::time::sleep(Duration::from_secs(3)).await;
        until_ready(&server, false).await?;
        for trigger in ["full_a", "full_b", "full_c", "full_d"] {
            file.execute_batch(&format!("DROP TRIGGER {trigger}"))?;
        }
        until_ready(&server, true).await?;
    }
    Ok(())
}
