//! Chat between pairs: the sender's next message goes when the last has arrived (closed loop), or by
//! a schedule (fixed rate).

use std::convert::Infallible;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use anyhow::{Result, bail};

use super::{Run, failed};
use crate::load::client::Wishes;
use crate::load::connection::Connection;
use crate::load::measure::{Meter, Recorder, Subject, Workers, window};
use crate::load::pacer::Pacer;
use crate::load::report::Row;
use crate::load::server::{Archive, Kind, Plan, Server};
use crate::load::wire::{contains, text_after};

/// What people write: the body is this long, behind the time it was due.
const TEXT: &str = "Shall we meet at the harbour at seven, or is that too late for you?";

/// How messages are sent.
#[derive(Debug, Clone, Copy)]
pub enum Pace {
    /// So many in flight per pair.
    Closed(u32),
    /// So many per second in all, pair after pair.
    Rate(u32),
    /// So many per second in all, every pair at the same moment.
    InStep(u32),
}

impl Pace {
    /// For the name of a row.
    pub fn name(self) -> String {
        match self {
            Self::Closed(1) => "closed loop".to_owned(),
            Self::Closed(n) => format!("closed loop of {n}"),
            Self::Rate(rate) => format!("{rate} msg/s"),
            Self::InStep(rate) => format!("{rate} msg/s, all at once"),
        }
    }

    /// Messages per second, where that is fixed.
    pub fn rate(self) -> Option<u32> {
        match self {
            Self::Closed(_) => None,
            Self::Rate(rate) | Self::InStep(rate) => Some(rate),
        }
    }
}

/// Every chosen server without an archive; Eider also with debts kept.
pub async fn measure(run: &mut Run<'_>) -> Result<()> {
    let rates = run
        .options
        .rate
        .iter()
        .flat_map(|r| [Pace::Rate(*r), Pace::InStep(*r)]);
    let paces: Vec<Pace> = std::iter::once(Pace::Closed(run.options.window))
        .chain(rates)
        .collect();
    for pace in paces {
        for kind in run.options.kinds() {
            for archive in [Archive::Off, Archive::Owed] {
                if archive == Archive::Owed && kind != Kind::Eider {
                    continue;
                }
                let plan = Plan {
                    archive,
                    ..Plan::accounts(2 * run.options.pairs)
                };
                let (server, note) = match (kind, archive) {
                    (Kind::Eider, Archive::Owed) => ("eider, debts", "archive off, debts kept"),
                    (Kind::Eider, _) => ("eider", "archive and offline storage off: no debts"),
                    _ => (kind.name(), "no archive"),
                };
                let row = Row::new(format!("chat, {}", pace.name()), server).note(note);
                match one(run, kind, &plan, pace, row).await {
                    Ok(row) => run.report.add(row),
                    Err(error) => failed("chat", server, &error),
                }
            }
        }
    }
    Ok(())
}

/// One row of chat.
pub async fn one(run: &Run<'_>, kind: Kind, plan: &Plan, pace: Pace, row: Row) -> Result<Row> {
    let mut server = Server::start(kind, run.site, plan).await?;
    let clients = server.clients();
    let patience = Duration::from_secs(120);
    let mut connections = clients
        .login_all(0..plan.accounts, 8, Wishes::ALL, patience)
        .await?
        .into_iter();
    let meter = Arc::new(Meter::default());
    let stop = Arc::new(AtomicBool::new(false));
    let pairs = plan.accounts / 2;
    let rate = f64::from(pace.rate().unwrap_or(1));
    let pacer = Pacer::new(pairs as usize, rate, matches!(pace, Pace::InStep(_)));
    let mut workers = Workers::new();
    for pair in 0..pairs {
        let (Some(from), Some(to)) = (connections.next(), connections.next()) else {
            bail!("no pair")
        };
        let recorder = meter.recorder();
        let jid = clients.jid(2 * pair + 1);
        let pair = Pair {
            from,
            to,
            jid,
            pace,
            pacer: pacer.clone(),
            slot: pair as usize,
            sent: 0,
            arrived: 0,
        };
        workers.spawn(pair.run(recorder));
    }
    let schedule = pace.rate().map(|_| pacer.run(stop.clone()));
    let outcome = window(
        &mut Subject::Server(&mut server),
        run.options.timing(),
        &meter,
        workers,
        row,
    )
    .await;
    stop.store(true, Ordering::Relaxed);
    if let Some(schedule) = schedule {
        let _ = schedule.join();
    }
    outcome.map(|row| told_if_slow(row, pace))
}

/// A server that cannot keep up has latencies that grow for as long as one measures.
fn told_if_slow(row: Row, pace: Pace) -> Row {
    let reached = row.per_second.unwrap_or_default();
    match pace.rate() {
        Some(rate) if reached < 0.95 * f64::from(rate) => {
            let note = format!("{} THE RATE WAS NOT REACHED", row.note);
            row.note(note.trim())
        }
        _ => row,
    }
}

struct Pair {
    from: Connection,
    to: Connection,
    jid: String,
    pace: Pace,
    pacer: Pacer,
    slot: usize,
    sent: u64,
    arrived: u64,
}

impl Pair {
    async fn run(mut self, recorder: Recorder) -> Result<Infallible> {
        loop {
            self.send();
            self.progress().await?;
            let (pacer, mut bounced) = (&self.pacer, None);
            let arrived = &mut self.arrived;
            self.to.drain(|stanza| {
                let due =
                    text_after(stanza, "<body").and_then(|b| b.split(' ').next()?.parse().ok());
                if let Some(due) = due {
                    *arrived += 1;
                    recorder.done(pacer.now().saturating_sub(due));
                }
            })?;
            self.from.drain(|stanza| {
                if contains(stanza, "type='error'") {
                    bounced = Some(String::from_utf8_lossy(stanza).into_owned());
                }
            })?;
            if let Some(bounced) = bounced {
                bail!("a message came back: {bounced}");
            }
        }
    }

    /// Queues every message whose time has come.
    fn send(&mut self) {
        let wanted = match self.pace {
            Pace::Closed(window) => self.arrived + u64::from(window),
            _ => self.pacer.slots[self.slot].due(),
        };
        while self.sent < wanted {
            let due = match self.pace {
                Pace::Closed(_) => self.pacer.now(),
                _ => self.pacer.due_at(self.slot, self.sent),
            };
            let stanza = format!(
                "<message to='{}' type='chat' id='m{}'><body>{due} {TEXT}</body></message>",
                self.jid, self.sent
            );
            self.from.push_stanza(&stanza);
            self.sent += 1;
        }
    }

    /// Until something came, or is to be sent.
    async fn progress(&mut self) -> Result<()> {
        poll_fn(|context| {
            let mut moved = false;
            for connection in [&mut self.from, &mut self.to] {
                if let Poll::Ready(outcome) = connection.poll_progress(context) {
                    outcome?;
                    moved = true;
                }
            }
            let due = self.pacer.slots[self.slot].poll_due(context);
            moved |= self.pace.rate().is_some() && due > self.sent;
            if moved {
                Poll::Ready(Ok(()))
            } else {
                Poll::Pending
            }
        })
        .await
    }
}
