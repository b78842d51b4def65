//! A start while the database is away: it is waited for, and probes are told so.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use eider_tests::harness::postgres::Postgres;
use eider_tests::harness::{Kind, Server};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_away_at_the_start_is_waited_for() -> Result<()> {
    let mut database = Postgres::start(&["fsync=off"])?;
    let url = database.database("eider")?;
    let server = Server::start(
        Kind::Eider,
        &format!("[storage]\nengine = 'postgres'\ndsn = '{url}'"),
    )?;
    server.terminate()?;
    database.kill();
    std::thread::scope(|scope| -> Result<()> {
        let started = scope.spawn(|| server.run());
        let began = Instant::now();
        let log = || std::fs::read_to_string(server.log_file());
        while !log()?.contains("the database is waited for") {
            ensure!(!started.is_finished(), "it gave up");
            ensure!(began.elapsed() < PATIENCE, "it does not say that it waits");
            std::thread::sleep(Duration::from_millis(50));
        }
        let probed = tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(server.fetch("/readyz"))
        })?;
        ensure!(
            probed.contains(" 503 ") && probed.contains("starting"),
            "{probed}"
        );
        // Long enough for another try.
        std::thread::sleep(Duration::from_millis(1_500));
        ensure!(log()?.matches("the database is waited for").count() == 1);
        database.run()?;
        started.join().expect("it does not panic")
    })?;
    server.add_accounts(&["anna".to_owned()], "pencil").await
}

#[test]
fn a_database_that_cannot_be_used_has_its_exit_code() -> Result<()> {
    let database = Postgres::start(&["fsync=off"])?;
    let url = database.url("nowhere");
    let started = Server::start(
        Kind::Eider,
        &format!("[storage]\nengine = 'postgres'\ndsn = '{url}'"),
    );
    let said = started.err().map(|error| error.to_string());
    let said = said.unwrap_or_default();
    ensure!(said.contains("exit status: 7"), "{said}");
    Ok(())
}
