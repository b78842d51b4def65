//! RFC 6121 §4.4: presence to everyone in a roster; one sender per group waits until all have it.

use std::convert::Infallible;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures_util::task::AtomicWaker;

use super::{Run, failed};
use crate::load::client::Wishes;
use crate::load::connection::Connection;
use crate::load::measure::{Meter, Recorder, Subject, Workers, window};
use crate::load::report::Row;
use crate::load::server::{Kind, Plan, Rosters, Server};
use crate::load::wire::contains;

/// Contacts of each account in the small row.
const CONTACTS: u32 = 20;
/// Groups in the small row.
const GROUPS: u32 = 10;

/// Which row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// Groups where everyone has everyone.
    Small,
    /// One account whom all others have.
    Large,
}

/// Every chosen server.
pub async fn measure(run: &mut Run<'_>, size: Size) -> Result<()> {
    for kind in run.options.kinds() {
        match one(run, kind, size).await {
            Ok(row) => run.report.add(row),
            Err(error) => failed("presence", kind.name(), &error),
        }
    }
    Ok(())
}

async fn one(run: &Run<'_>, kind: Kind, size: Size) -> Result<Row> {
    let (contacts, groups, rosters) = match size {
        Size::Small => (CONTACTS, GROUPS, Rosters::Groups(CONTACTS)),
        Size::Large => (run.options.contacts, 1, Rosters::Star),
    };
    let plan = Plan {
        rosters,
        ..Plan::accounts((contacts + 1) * groups)
    };
    let mut server = Server::start(kind, run.site, &plan).await?;
    let clients = server.clients();
    let patience = Duration::from_secs(300);
    let connections = clients
        .login_all(0..plan.accounts, 16, Wishes::ALL, patience)
        .await?;
    let meter = Arc::new(Meter::default());
    let mut workers = Workers::new();
    let mut connections = connections.into_iter();
    for _ in 0..groups {
        let group = Arc::new(Group::default());
        let sender = connections.next().context("no sender")?;
        workers.spawn(send(
            sender,
            group.clone(),
            contacts.into(),
            meter.recorder(),
        ));
        for receiver in connections.by_ref().take(contacts as usize) {
            workers.spawn(receive(receiver, group.clone(), meter.recorder()));
        }
    }
    let row = Row::new(
        format!("presence delivery, roster of {contacts}"),
        kind.name(),
    );
    let row = row.note("latency: until the last contact has it");
    window(
        &mut Subject::Server(&mut server),
        run.options.timing(),
        &meter,
        workers,
        row,
    )
    .await
}

#[derive(Default)]
struct Group {
    delivered: AtomicU64,
    waker: AtomicWaker,
}

async fn send(
    mut sender: Connection,
    group: Arc<Group>,
    contacts: u64,
    recorder: Recorder,
) -> Result<Infallible> {
    let mut round = 0;
    loop {
        round += 1;
        let show = if round % 2 == 0 { "away" } else { "dnd" };
        sender.push_stanza(&format!(
            "<presence><show>{show}</show><status>round {round}</status></presence>"
        ));
        let begun = Instant::now();
        poll_fn(|context| {
            group.waker.register(context.waker());
            while let Poll::Ready(outcome) = sender.poll_progress(context) {
                outcome?;
                sender.drain(|_| ())?;
            }
            if group.delivered.load(Ordering::Acquire) < round * contacts {
                return Poll::Pending;
            }
            Poll::Ready(anyhow::Ok(()))
        })
        .await?;
        recorder.latency(u64::try_from(begun.elapsed().as_nanos())?);
    }
}

async fn receive(
    mut receiver: Connection,
    group: Arc<Group>,
    recorder: Recorder,
) -> Result<Infallible> {
    loop {
        let mut delivered = 0;
        receiver.drain(|stanza| delivered += u64::from(contains(stanza, "<status>round")))?;
        if delivered > 0 {
            recorder.count(delivered);
            group.delivered.fetch_add(delivered, Ordering::AcqRel);
            group.waker.wake();
        }
        poll_fn(|context| receiver.poll_progress(context)).await?;
    }
}
