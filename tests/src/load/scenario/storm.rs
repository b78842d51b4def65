//! All clients return at once: after their connections broke, or after the server was restarted.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::{Run, failed};
use crate::load::client::{Clients, Wishes};
use crate::load::connection::{Connection, Management};
use crate::load::report::Row;
use crate::load::server::{Kind, Plan, Server};
use crate::load::stats::{Latencies, per_op_us};

/// After so long the row tells who is not back yet.
const LIMIT: Duration = Duration::from_secs(120);

/// Every chosen server.
pub async fn measure(run: &mut Run<'_>, restart: bool) -> Result<()> {
    for kind in run.options.kinds() {
        match one(run, kind, restart).await {
            Ok(row) => run.report.add(row),
            Err(error) => failed("storm", kind.name(), &error),
        }
    }
    Ok(())
}

async fn one(run: &Run<'_>, kind: Kind, restart: bool) -> Result<Row> {
    let options = run.options;
    let count = if kind == Kind::Eider {
        options.storm_clients
    } else {
        options.storm_clients_rival
    };
    let mut server = Server::start(kind, run.site, &Plan::accounts(count)).await?;
    let clients = server.clients();
    let patience = Duration::from_secs(300);
    let connections = clients
        .login_all(0..count, 32, Wishes::ALL, patience)
        .await?;
    let (cut, cutting) = watch::channel(false);
    let mut pumps = JoinSet::new();
    for (index, connection) in (0..count).zip(connections) {
        let cutting = cutting.clone();
        pumps.spawn(async move { (index, stay(connection, cutting).await) });
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let stopped = if restart {
        Some(server.restart().await?)
    } else {
        None
    };
    let cpu = if restart {
        Duration::ZERO
    } else {
        server.cpu().0
    };
    cut.send_replace(true);
    let old = pumps.join_all().await;
    let begun = Instant::now();
    let mut returning = JoinSet::new();
    let clients = Arc::new(clients);
    for (index, management) in old {
        let clients = clients.clone();
        returning.spawn(async move { come_back(&clients, index, management, begun).await });
    }
    let back = gather(returning).await;
    let cpu = server.cpu().0.saturating_sub(cpu);
    server.check()?;
    Ok(row(kind, count, restart, stopped, back, cpu))
}

/// Who came back.
#[derive(Default)]
struct Back {
    clients: u32,
    resumed: u32,
    tries: u32,
    last: Duration,
    latencies: Latencies,
}

fn row(
    kind: Kind,
    count: u32,
    restart: bool,
    stopped: Option<Duration>,
    mut back: Back,
    cpu: Duration,
) -> Row {
    let what = if restart {
        "storm after a restart"
    } else {
        "storm"
    };
    let mut note = format!(
        "{} of {count} back, {} resumed, {} tries",
        back.clients, back.resumed, back.tries
    );
    if let Some(stopped) = stopped {
        note.push_str(&format!(", stopped in {:.1} s", stopped.as_secs_f64()));
    }
    let seconds = back.last.as_secs_f64();
    Row {
        server_us: Some(per_op_us(cpu, back.clients.into())),
        per_second: Some(f64::from(back.clients) / seconds.max(1e-3)),
        p50_ms: back.latencies.percentile_ms(50.0),
        p99_ms: back.latencies.percentile_ms(99.0),
        ..Row::new(what, kind.name()).value(seconds, "s").note(note)
    }
}

async fn gather(mut returning: JoinSet<Result<Returned>>) -> Back {
    let mut back = Back::default();
    let mut connections = Vec::new();
    let deadline = tokio::time::Instant::now() + LIMIT;
    while let Ok(Some(ended)) = tokio::time::timeout_at(deadline, returning.join_next()).await {
        let Ok(Ok(returned)) = ended else { continue };
        back.clients += 1;
        back.resumed += u32::from(returned.resumed);
        back.tries += returned.tries;
        back.last = back.last.max(returned.after);
        back.latencies
            .add(u64::try_from(returned.after.as_nanos()).unwrap_or(u64::MAX));
        connections.push(returned.connection);
    }
    returning.shutdown().await;
    back
}

struct Returned {
    connection: Connection,
    resumed: bool,
    tries: u32,
    after: Duration,
}

/// Tries until it is back, with a growing pause that differs between clients.
async fn come_back(
    clients: &Clients,
    index: u32,
    old: Management,
    begun: Instant,
) -> Result<Returned> {
    let mut tries = 0;
    loop {
        tries += 1;
        match clients.resume(index, &old).await {
            Ok((connection, resumed)) => {
                return Ok(Returned {
                    connection,
                    resumed,
                    tries,
                    after: begun.elapsed(),
                });
            }
            Err(_) if begun.elapsed() < LIMIT => {
                let pause = 200 * u64::from(tries.min(10)) + u64::from(index % 500);
                tokio::time::sleep(Duration::from_millis(pause)).await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Stays connected until the connection ends or is cut; what to resume with.
async fn stay(mut connection: Connection, mut cutting: watch::Receiver<bool>) -> Management {
    loop {
        let progress = poll_fn(|context| connection.poll_progress(context));
        let go_on = tokio::select! {
            outcome = progress => outcome.is_ok(),
            _ = cutting.wait_for(|cut| *cut) => false,
        };
        if connection.drain(|_| ()).is_err() || !go_on {
            return connection.management.unwrap_or_default();
        }
    }
}
