//! Logins: TLS, SCRAM-SHA-256, bind, roster, presence, and the end of the stream.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;

use super::{Run, failed};
use crate::load::client::{Clients, Wishes};
use crate::load::measure::{Meter, Recorder, Subject, Workers, window};
use crate::load::report::Row;
use crate::load::server::{Kind, Plan, Server};

const ACCOUNTS: u32 = 2000;

/// Every chosen server, over STARTTLS and over direct TLS.
pub async fn measure(run: &mut Run<'_>) -> Result<()> {
    for kind in run.options.kinds() {
        for direct in [false, true] {
            match one(run, kind, direct).await {
                Ok(row) => run.report.add(row),
                Err(error) => failed("login", kind.name(), &error),
            }
        }
    }
    Ok(())
}

async fn one(run: &Run<'_>, kind: Kind, direct: bool) -> Result<Row> {
    let mut server = Server::start(kind, run.site, &Plan::accounts(ACCOUNTS)).await?;
    let clients = server.clients();
    let clients = if direct {
        clients.direct(server.ports.direct)
    } else {
        clients
    };
    let meter = Arc::new(Meter::default());
    let mut workers = Workers::new();
    let at_once = run.options.at_once.max(1);
    for worker in 0..at_once {
        workers.spawn(log_in_and_out(
            clients.clone(),
            worker,
            at_once,
            meter.recorder(),
        ));
    }
    let over = if direct { "direct TLS" } else { "STARTTLS" };
    let row = Row::new(format!("login, {over}"), kind.name()).note(format!("{at_once} at once"));
    window(
        &mut Subject::Server(&mut server),
        run.options.timing(),
        &meter,
        workers,
        row,
    )
    .await
}

async fn log_in_and_out(
    clients: Clients,
    first: u32,
    step: u32,
    recorder: Recorder,
) -> Result<std::convert::Infallible> {
    let mut account = first;
    loop {
        let begun = Instant::now();
        let connection = clients.login(account % ACCOUNTS, Wishes::LOGIN).await?;
        let took = begun.elapsed();
        connection.close().await?;
        recorder.done(u64::try_from(took.as_nanos())?);
        account += step;
    }
}
