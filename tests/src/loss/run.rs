//! One run: actors, kills, restarts, the end.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use eider_storage::{ArchiveDefault, ArchivePreferences, Fence};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Moment;
use super::powercut::PowerCut;
use super::receiver::{Habit, Receiver, random};
use super::record::Record;
use super::sender::Sender;
use super::verdict::{Accounts, Verdict, verdict};
use crate::load::certs;
use crate::load::client::localpart;
use crate::load::postgres::Postgres;
use crate::load::scram::KeyCache;
use crate::load::server::{Archive, Engine, HOST, Kind, Plan, Rosters, Server, Site, eider_binary};

/// Senders.
const SENDERS: u32 = 5;
/// The first of them send origin-ids.
const WITH_ORIGIN_IDS: u32 = 2;
/// This one does without stream management.
const UNMANAGED: u32 = SENDERS - 1;
/// A kill that does not come is given up after this.
const KILL_MAX: Duration = Duration::from_secs(60);

/// `loss --help`.
#[derive(Debug, Parser)]
#[command(
    about = "Kills the server at every moment and counts what was lost, doubled or disordered"
)]
pub struct Options {
    /// Where messages are kept.
    #[arg(long, value_enum, default_value = "sqlite")]
    pub engine: Engine,
    /// Kills at each named point; they exist in builds with debug assertions only.
    #[arg(long, default_value_t = 20)]
    pub hits: u32,
    /// Kills at random times.
    #[arg(long, default_value_t = 20)]
    pub blind: u32,
    /// Cuts of the power (SQLite).
    #[arg(long, default_value_t = 50)]
    pub power_cuts: u32,
    /// Restarts by SIGTERM.
    #[arg(long, default_value_t = 20)]
    pub drains: u32,
    /// Kills of the database (PostgreSQL).
    #[arg(long, default_value_t = 20)]
    pub database_kills: u32,
    /// Commits do not wait for the disk: a run of power cuts, or of kills of the database, has to fail.
    /// Builds with debug assertions only.
    #[arg(long)]
    pub no_sync: bool,
    /// Everything in one data directory, in one row of the table, with one look at the end.
    #[arg(long)]
    pub together: bool,
    /// Messages a second, all senders together.
    #[arg(long, default_value_t = 200)]
    pub rate: u32,
    /// Accounts do not archive: only debts are kept.
    #[arg(long)]
    pub no_archive: bool,
    /// Eider's binary; without it the one beside this program.
    #[arg(long)]
    pub eider: Option<PathBuf>,
}

impl Options {
    /// What is done, and how often.
    fn moments(&self) -> Vec<(Moment, u32)> {
        let sqlite = self.engine == Engine::Sqlite;
        let (cuts, kills) = match sqlite {
            true => (self.power_cuts, 0),
            false => (0, self.database_kills),
        };
        let points = Moment::POINTS
            .into_iter()
            .map(|point| (Moment::Point(point), self.hits));
        points
            .chain([
                (Moment::Blind, self.blind),
                (Moment::Drain, self.drains),
                (Moment::PowerCut, cuts),
                (Moment::Database, kills),
            ])
            .filter(|(_, times)| *times > 0)
            .collect()
    }
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
    let moments = options.moments();
    println!("{HEAD}");
    let mut failed = 0;
    let rows: Vec<&[(Moment, u32)]> = match options.together {
        true => vec![&moments],
        false => moments.chunks(1).collect(),
    };
    for row in rows {
        let (killed, verdict) = one(options, &mut site, row).await?;
        let wanted: u32 = row.iter().map(|(_, times)| times).sum();
        let name = match row {
            [(moment, _)] => moment.name(),
            _ => "together",
        };
        println!("{}", line(options, name, killed, &verdict));
        verdict
            .findings
            .iter()
            .for_each(|finding| println!("    {finding}"));
        failed += usize::from(!verdict.holds() || killed < wanted);
    }
    Ok(failed)
}

const HEAD: &str = "engine    archive  moment                kills   sent  acknowledged  refused  copies  missing  \
                    undelivered  twice  repeated  disordered  unlike archive  resumed";

fn line(options: &Options, name: &str, killed: u32, verdict: &Verdict) -> String {
    format!(
        "{:<9} {:<7}  {name:<21} {killed:>5}  {:>5}  {:>12}  {:>7}  {:>6}  {:>7}  {:>11}  {:>5}  {:>8}  {:>10}  {:>14}  {}/{}",
        options.engine.name(),
        if options.no_archive { "off" } else { "on" },
        verdict.sent,
        verdict.acknowledged,
        verdict.refused,
        verdict.copies,
        verdict.missing,
        verdict.undelivered,
        verdict.twice,
        verdict.repeated,
        verdict.disordered,
        verdict.unlike_archive,
        verdict.resumed,
        verdict.returned,
    )
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

/// Clients talk while the server meets the moments one after another; then everything is looked at.
async fn one(
    options: &Options,
    site: &mut Site,
    moments: &[(Moment, u32)],
) -> Result<(u32, Verdict)> {
    let plan = Plan {
        accounts: SENDERS + Habit::ALL.len() as u32,
        rosters: Rosters::Empty,
        archive: if options.no_archive {
            Archive::Owed
        } else {
            Archive::On
        },
        engine: options.engine,
    };
    let mut server = start(options, site, &plan).await?;
    let accounts = accounts(options, &server, site, &plan).await?;
    let record = Record::default();
    let (stop_sending, stop_receiving) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicBool::new(false)),
    );
    let mut senders = send(options, &server, &record, &stop_sending);
    let receivers = receivers_of(&server, &record, &stop_receiving);
    let mut receiving = JoinSet::new();
    receivers
        .iter()
        .cloned()
        .for_each(|receiver| drop(receiving.spawn(receiver.run())));

    let mut killed = 0;
    for (moment, times) in moments.iter().copied() {
        killed += match moment {
            Moment::Drain => drain(&mut server, times).await?,
            Moment::PowerCut => cut_power(&mut server, site, times).await?,
            Moment::Database => kill_database(site, times).await?,
            _ => kill_and_restart(&mut server, moment, times).await?,
        };
    }
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
    let verdict = verdict(&record, storage.as_ref(), &accounts).await;
    storage.close().await;
    Ok((killed, verdict?))
}

/// Who archives, and who has one resource. Accounts that do not archive say so in their preferences.
async fn accounts(
    options: &Options,
    server: &Server,
    site: &Site,
    plan: &Plan,
) -> Result<Accounts> {
    let habits = || (SENDERS..).zip(Habit::ALL);
    let single = habits().filter(|(_, habit)| habit.resources().len() == 1);
    let mut accounts = Accounts {
        archiving: HashSet::new(),
        single: single.map(|(account, _)| account).collect(),
    };
    if options.no_archive {
        return Ok(accounts);
    }
    accounts.archiving.extend(0..plan.accounts);
    let storage = server.storage(site, plan).await?;
    for (account, _) in habits().filter(|(_, habit)| *habit == Habit::Unarchived) {
        accounts.archiving.remove(&account);
        let id = storage.account_id(HOST, &localpart(account)).await?;
        let never = ArchivePreferences {
            default: ArchiveDefault::Never,
            always: Vec::new(),
            never: Vec::new(),
        };
        let id = id.context("an account that was just made is not there")?;
        storage
            .archive_preferences_set(Fence::single(), id, &never)
            .await?;
    }
    storage.close().await;
    Ok(accounts)
}

fn send(
    options: &Options,
    server: &Server,
    record: &Record,
    stop: &Arc<AtomicBool>,
) -> JoinSet<()> {
    let receivers = Habit::ALL.len() as u32;
    let mut senders = JoinSet::new();
    for account in 0..SENDERS {
        let sender = Sender {
            clients: server.clients(),
            account,
            recipients: (SENDERS..SENDERS + receivers).collect(),
            managed: account != UNMANAGED,
            origin_ids: account < WITH_ORIGIN_IDS,
            interval: Duration::from_secs(1) * SENDERS / options.rate.max(1),
            record: record.clone(),
            stop: stop.clone(),
        };
        senders.spawn(sender.run());
    }
    senders
}

fn receivers_of(server: &Server, record: &Record, stop: &Arc<AtomicBool>) -> Vec<Receiver> {
    let resources = (SENDERS..).zip(Habit::ALL).flat_map(|(account, habit)| {
        let resources = habit.resources().iter();
        resources.map(move |(resource, priority)| (account, habit, *resource, *priority))
    });
    resources
        .map(|(account, habit, resource, priority)| Receiver {
            clients: server.clients(),
            account,
            habit,
            resource,
            priority,
            record: record.clone(),
            stop: stop.clone(),
        })
        .collect()
}

/// Kills so often, and starts again each time; how often it came to a kill.
async fn kill_and_restart(server: &mut Server, moment: Moment, kills: u32) -> Result<u32> {
    let mut killed = 0;
    for kill in 0..kills {
        server.kill();
        // Every second comes while clients have just come back and sent again what the last one cut off.
        let hasty = kill % 2 == 1;
        if let Moment::Point(point) = moment {
            let times = random(if hasty { 8 } else { moment.per_hit() });
            server.environment("EIDER_KILL_AT", &format!("{point}:{}", 1 + times));
        }
        if let Err(error) = server.launch().await {
            // A point may be reached before this program has seen the server answer.
            let at_point = matches!(moment, Moment::Point(_));
            if at_point && error.root_cause().to_string().contains("signal: 9") {
                killed += 1;
                continue;
            }
            return Err(error.context("starting again after a kill"));
        }
        let until = Instant::now() + KILL_MAX;
        let blind = match hasty {
            true => 20 + random(180),
            false => 300 + random(1_200),
        };
        if moment == Moment::Blind {
            tokio::time::sleep(Duration::from_millis(blind)).await;
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
