//! One run: actors, kills, restarts, the end.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Moment;
use super::powercut::PowerCut;
use super::receiver::{Habit, Receiver, random};
use super::record::Record;
use super::sender::Sender;
use super::verdict::{Verdict, verdict};
use crate::load::certs;
use crate::load::postgres::Postgres;
use crate::load::scram::KeyCache;
use crate::load::server::{Archive, Engine, Kind, Plan, Rosters, Server, Site, eider_binary};

/// Senders: the first half with origin-ids.
const SENDERS: u32 = 4;
/// A kill that does not come is given up after this.
const KILL_MAX: Duration = Duration::from_secs(20);

/// `loss --help`.
#[derive(Debug, Parser)]
#[command(
    about = "Kills the server at every moment and counts what was lost, doubled or disordered"
)]
pub struct Options {
    /// Where messages are kept.
    #[arg(long, value_enum, default_value = "sqlite")]
    pub engine: Engine,
    /// Kills at each named point.
    #[arg(long, default_value_t = 20)]
    pub hits: u32,
    /// Kills at random times.
    #[arg(long, default_value_t = 20)]
    pub blind: u32,
    /// Cuts of the power (SQLite).
    #[arg(long, default_value_t = 50)]
    pub power_cuts: u32,
    /// Restarts by SIGTERM.
    #[arg(long, default_value_t = 10)]
    pub drains: u32,
    /// Kills of the database (PostgreSQL).
    #[arg(long, default_value_t = 20)]
    pub database_kills: u32,
    /// Commits do not wait for the disk: this run has to fail.
    #[arg(long)]
    pub no_sync: bool,
    /// Messages a second, all senders together.
    #[arg(long, default_value_t = 200)]
    pub rate: u32,
    /// Accounts do not archive: only debts are kept.
    #[arg(long)]
    pub no_archive: bool,
    /// Eider's binary, built with debug assertions; without it the one beside this program.
    #[arg(long)]
    pub eider: Option<PathBuf>,
}

/// Runs and prints the table. Fails where a promise was broken.
///
/// # Errors
/// A broken promise, or a server that does not start.
pub async fn run(options: Options) -> Result<()> {
    let directory = std::env::temp_dir().join(format!(
        "eider-loss-{}-{}",
        std::process::id(),
        random(1 << 30)
    ));
    std::fs::create_dir_all(&directory)?;
    let outcome = run_in(&options, directory.clone()).await;
    let _ = std::fs::remove_dir_all(&directory);
    let failed = outcome?;
    ensure!(failed == 0, "{failed} runs broke a promise");
    Ok(())
}

async fn run_in(options: &Options, directory: PathBuf) -> Result<usize> {
    let postgres = match options.engine {
        Engine::Sqlite => None,
        Engine::Postgres => Some(Postgres::start(&directory).await?),
    };
    let mut site = Site {
        certificate: certs::Certificate::make(&directory, "localhost")?,
        directory,
        postgres,
        eider: eider_binary(options.eider.clone())?,
        tls: certs::client_config()?,
        keys: Arc::new(KeyCache::default()),
    };
    let points = Moment::POINTS
        .into_iter()
        .map(|point| (Moment::Point(point), options.hits));
    let sqlite = options.engine == Engine::Sqlite;
    let moments = points.chain([
        (Moment::Blind, options.blind),
        (Moment::Drain, options.drains),
        (
            Moment::PowerCut,
            if sqlite { options.power_cuts } else { 0 },
        ),
        (
            Moment::Database,
            if sqlite { 0 } else { options.database_kills },
        ),
    ]);
    println!(
        "engine    moment                kills   sent  acknowledged  refused  missing  undelivered  twice  disordered  resumed"
    );
    let mut failed = 0;
    for (moment, kills) in moments.filter(|(_, kills)| *kills > 0) {
        let (killed, verdict) = one(options, &mut site, moment, kills).await?;
        println!(
            "{:<9} {:<21} {killed:>5}  {:>5}  {:>12}  {:>7}  {:>7}  {:>11}  {:>5}  {:>10}  {}/{}",
            options.engine.name(),
            moment.name(),
            verdict.sent,
            verdict.acknowledged,
            verdict.refused,
            verdict.missing,
            verdict.undelivered,
            verdict.twice,
            verdict.disordered,
            verdict.resumed,
            verdict.returned,
        );
        failed += usize::from(!verdict.holds() || killed < kills);
    }
    Ok(failed)
}

/// A server, without syncs where that is to be seen to lose.
async fn start(options: &Options, site: &mut Site, plan: &Plan) -> Result<Server> {
    let mut server = Server::start(Kind::Eider, site, plan).await?;
    if options.no_sync {
        server.kill();
        server.environment("EIDER_UNSAFE_NO_SYNC", "yes");
        server.launch().await?;
    }
    Ok(server)
}

async fn one(
    options: &Options,
    site: &mut Site,
    moment: Moment,
    kills: u32,
) -> Result<(u32, Verdict)> {
    let receivers = Habit::ALL.len() as u32;
    let plan = Plan {
        accounts: SENDERS + receivers,
        rosters: Rosters::Empty,
        archive: if options.no_archive {
            Archive::Owed
        } else {
            Archive::On
        },
        engine: options.engine,
    };
    let mut server = start(options, site, &plan).await?;
    let record = Record::default();
    let (stop_sending, stop_receiving) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicBool::new(false)),
    );
    let mut senders = JoinSet::new();
    for account in 0..SENDERS {
        let sender = Sender {
            clients: server.clients(),
            account,
            recipients: (SENDERS..SENDERS + receivers).collect(),
            origin_ids: account < SENDERS / 2,
            interval: Duration::from_secs(1) * SENDERS / options.rate.max(1),
            record: record.clone(),
            stop: stop_sending.clone(),
        };
        senders.spawn(sender.run());
    }
    let receivers = receivers_of(&server, &record, &stop_receiving);
    let mut receiving = JoinSet::new();
    receivers
        .iter()
        .cloned()
        .for_each(|receiver| drop(receiving.spawn(receiver.run())));

    let killed = match moment {
        Moment::Drain => drain(&mut server, kills).await?,
        Moment::PowerCut => cut_power(&mut server, site, kills).await?,
        Moment::Database => kill_database(site, kills).await?,
        _ => kill_and_restart(&mut server, moment, kills).await?,
    };
    stop_sending.store(true, Ordering::Relaxed);
    while senders.join_next().await.is_some() {}
    stop_receiving.store(true, Ordering::Relaxed);
    while receiving.join_next().await.is_some() {}
    let mut collecting = JoinSet::new();
    receivers
        .into_iter()
        .for_each(|receiver| drop(collecting.spawn(receiver.collect())));
    while collecting.join_next().await.is_some() {}
    server.kill();
    let storage = server.storage(site, &plan).await?;
    let verdict = verdict(
        &record,
        storage.as_ref(),
        plan.accounts,
        !options.no_archive,
    )
    .await;
    storage.close().await;
    Ok((killed, verdict?))
}

fn receivers_of(server: &Server, record: &Record, stop: &Arc<AtomicBool>) -> Vec<Receiver> {
    let mut receivers = Vec::new();
    for (account, habit) in (SENDERS..).zip(Habit::ALL) {
        let resources: &[&'static str] = if habit == Habit::Pair {
            &["one", "two"]
        } else {
            &["one"]
        };
        receivers.extend(resources.iter().map(|resource| Receiver {
            clients: server.clients(),
            account,
            habit,
            resource,
            record: record.clone(),
            stop: stop.clone(),
        }));
    }
    receivers
}

/// Kills so often, and starts again each time; how often it came to a kill.
async fn kill_and_restart(server: &mut Server, moment: Moment, kills: u32) -> Result<u32> {
    let mut killed = 0;
    for _ in 0..kills {
        server.kill();
        if let Moment::Point(point) = moment {
            server.environment("EIDER_KILL_AT", &format!("{point}:{}", 20 + random(150)));
        }
        server
            .launch()
            .await
            .context("starting again after a kill")?;
        let until = Instant::now() + KILL_MAX;
        let blind = Duration::from_millis(300 + random(1_200));
        if moment == Moment::Blind {
            tokio::time::sleep(blind).await;
            killed += 1;
            continue;
        }
        while !server.has_ended() && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        killed += u32::from(server.has_ended());
    }
    server.kill();
    server.environment("EIDER_KILL_AT", "");
    server.launch().await?;
    Ok(killed)
}

/// Cuts the power so often: killed, what was not synced taken back, started again.
async fn cut_power(server: &mut Server, site: &Site, cuts: u32) -> Result<u32> {
    server.kill();
    let power = PowerCut::new(&site.directory, server.directory())?;
    for (key, value) in power.environment() {
        server.environment(key, &value);
    }
    for cut in 0..cuts {
        server
            .launch()
            .await
            .context("starting again after a power cut")?;
        tokio::time::sleep(Duration::from_millis(300 + random(1_200))).await;
        server.kill();
        power.cut(cut % 2 == 0)?;
    }
    server.environment("LD_PRELOAD", "");
    server.launch().await?;
    Ok(cuts)
}

/// Kills PostgreSQL so often under a server that goes on.
async fn kill_database(site: &mut Site, kills: u32) -> Result<u32> {
    let postgres = site
        .postgres
        .as_mut()
        .context("this moment needs PostgreSQL")?;
    for _ in 0..kills {
        tokio::time::sleep(Duration::from_millis(500 + random(1_500))).await;
        postgres.crash().await?;
    }
    Ok(kills)
}

/// Stops the server by SIGTERM so often, and starts it again.
async fn drain(server: &mut Server, drains: u32) -> Result<u32> {
    for _ in 0..drains {
        tokio::time::sleep(Duration::from_millis(300 + random(1_200))).await;
        server.restart().await?;
    }
    Ok(drains)
}
