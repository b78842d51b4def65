//! XEP-0199: pings to the server, each client with one in flight, and with several.

use std::convert::Infallible;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::{Run, failed};
use crate::load::baseline::echo::{Echo, EchoClient};
use crate::load::client::Wishes;
use crate::load::connection::Connection;
use crate::load::measure::{Meter, Recorder, Subject, Workers, window};
use crate::load::report::Row;
use crate::load::server::{HOST, Kind, Plan, Server};

/// Pings in flight per client in the second row: what an answer costs where system calls are shared.
const IN_FLIGHT: u32 = 10;

/// Every chosen server.
pub async fn measure(run: &mut Run<'_>) -> Result<()> {
    for in_flight in [1, IN_FLIGHT] {
        for kind in run.options.kinds() {
            match one(run, kind, in_flight).await {
                Ok(row) => run.report.add(row),
                Err(error) => failed("iq", kind.name(), &error),
            }
        }
        if in_flight == 1 {
            let row = bare(run).await?;
            run.report.add(row);
        }
    }
    Ok(())
}

/// As many clients of a bare echo server.
async fn bare(run: &Run<'_>) -> Result<Row> {
    let echo = Echo::start(run.site).await?;
    let (meter, mut workers) = (Arc::new(Meter::default()), Workers::new());
    for index in 0..run.options.pairs {
        let client = EchoClient::connect(&echo, run.site, index).await?;
        workers.spawn(client.round_trips(meter.recorder()));
    }
    let row = Row::new("iq ping", "bare echo").note("150 bytes there and back over tokio-rustls");
    window(
        &mut Subject::Echo(&echo),
        run.options.timing(),
        &meter,
        workers,
        row,
    )
    .await
}

async fn one(run: &Run<'_>, kind: Kind, in_flight: u32) -> Result<Row> {
    let count = run.options.pairs;
    let mut server = Server::start(kind, run.site, &Plan::accounts(count)).await?;
    let patience = Duration::from_secs(60);
    let connections = server
        .clients()
        .login_all(0..count, 8, Wishes::LOGIN, patience)
        .await?;
    let meter = Arc::new(Meter::default());
    let mut workers = Workers::new();
    for connection in connections {
        workers.spawn(pings(connection, in_flight, meter.recorder()));
    }
    let name = if in_flight == 1 {
        "iq ping".to_owned()
    } else {
        format!("iq ping, {in_flight} in flight")
    };
    let row = Row::new(name, kind.name()).note(format!("{count} clients"));
    window(
        &mut Subject::Server(&mut server),
        run.options.timing(),
        &meter,
        workers,
        row,
    )
    .await
}

/// Sends `in_flight` pings at once and waits for all answers.
async fn pings(
    mut connection: Connection,
    in_flight: u32,
    recorder: Recorder,
) -> Result<Infallible> {
    let ping = format!("<iq type='get' id='p' to='{HOST}'><ping xmlns='urn:xmpp:ping'/></iq>");
    loop {
        for _ in 0..in_flight {
            connection.push_stanza(&ping);
        }
        let begun = Instant::now();
        let mut answered = 0;
        while answered < in_flight {
            poll_fn(|context| connection.poll_progress(context)).await?;
            connection.drain(|stanza| answered += u32::from(stanza.starts_with(b"<iq")))?;
        }
        recorder.count(u64::from(in_flight) - 1);
        recorder.done(u64::try_from(begun.elapsed().as_nanos())?);
    }
}
