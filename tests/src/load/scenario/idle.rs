//! Memory of idle connections, stream management and carbons on, beside a bare echo server's.

use std::future::poll_fn;
use std::time::Duration;

use anyhow::Result;
use tokio::task::JoinSet;

use super::{Run, failed};
use crate::load::baseline::echo::{Echo, EchoClient};
use crate::load::client::Wishes;
use crate::load::connection::Connection;
use crate::load::report::Row;
use crate::load::server::{Kind, Plan, Server};

struct Idle {
    name: &'static str,
    server: Server,
    before_kib: u64,
}

/// Every chosen server and the echo server, all idle during the same minute.
pub async fn measure(run: &mut Run<'_>) -> Result<()> {
    let count = run.options.idle_clients;
    let mut pumps = JoinSet::new();
    let mut idle = Vec::new();
    for kind in run.options.kinds() {
        match fill(run, kind, count, &mut pumps).await {
            Ok(one) => idle.push(one),
            Err(error) => failed("idle", kind.name(), &error),
        }
    }
    let echo = Echo::start(run.site).await?;
    let mut first = EchoClient::connect(&echo, run.site, 0).await?;
    first.round_trip().await?;
    let echo_before = echo.resident_kib();
    let mut clients = Vec::new();
    for index in 0..count {
        let mut client = EchoClient::connect(&echo, run.site, index).await?;
        client.round_trip().await?;
        clients.push(client);
    }
    tokio::time::sleep(Duration::from_secs(run.options.idle_seconds.into())).await;
    let per_connection =
        |before: u64, after: u64| after.saturating_sub(before) as f64 / f64::from(count);
    let bare = per_connection(echo_before, echo.resident_kib());
    for one in &mut idle {
        one.server.check()?;
        let kib = per_connection(one.before_kib, one.server.resident_kib());
        let over = kib - bare;
        let note = format!("{count} connections, {over:.1} KiB over the bare server's");
        run.report.add(
            Row::new("memory per idle connection", one.name)
                .value(kib, "KiB")
                .note(note),
        );
    }
    let row = Row::new("memory per idle connection", "bare echo").value(bare, "KiB");
    run.report
        .add(row.note(format!("tokio-rustls, {count} connections")));
    Ok(())
}

async fn fill(run: &Run<'_>, kind: Kind, count: u32, pumps: &mut JoinSet<()>) -> Result<Idle> {
    let server = Server::start(kind, run.site, &Plan::accounts(count)).await?;
    let patience = Duration::from_secs(300);
    // The first login brings what is made once: it does not count for a connection.
    let first = server.clients().login(0, Wishes::ALL).await?;
    first.close().await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before_kib = server.resident_kib();
    let connections = server
        .clients()
        .login_all(0..count, 16, Wishes::ALL, patience)
        .await?;
    for connection in connections {
        pumps.spawn(pump(connection));
    }
    Ok(Idle {
        name: kind.name(),
        server,
        before_kib,
    })
}

/// Answers what the server asks, as an idle client does.
async fn pump(mut connection: Connection) {
    while connection.drain(|_| ()).is_ok() {
        if poll_fn(|context| connection.poll_progress(context))
            .await
            .is_err()
        {
            return;
        }
    }
}
