//! Opening a store: what is on disk, the link, the core, and all that runs on them, in this order.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::{FatalWatch, Inner, Store, trust};
use crate::config::{Parts, Settings};
use crate::discovery::Search;
use crate::error::Error;
use crate::founding::{Belong, Settling, Standing};
use crate::hand_over::HandOver;
use crate::identity::Identity;
use crate::ids::{BootNonce, Incarnation, MemberId};
use crate::leases::Leases;
use crate::limits::CLUSTER_FORMAT_FIRST;
use crate::link::{self, AddressBook, Link};
use crate::membership::{Reconciler, Removed, hashes};
use crate::proposer::{Proposer, Queue, Registrar};
use crate::raft::compaction::Compaction;
use crate::raft::core::{self, Core};
use crate::raft::inbox::Inbox;
use crate::rounds::Rounds;
use crate::serve::{Running, Server, Who};
use crate::state;
use crate::waiters::Waiters;

/// Opens the store in `settings.dir`: recovers what is there, or founds a cluster or joins one, as the founding record
/// says. Reads files, so it blocks its thread for as long as that takes. The store serves local reads and writes when
/// [`Store::ready`] says so; [`Store::belonging`] tells what is missing until then. All that belongs to it runs on the
/// runtime that this is called on: in production one that nothing else runs on.
pub async fn open(mut settings: Settings, parts: Parts) -> Result<(Store, FatalWatch), Error> {
    let disk = parts.disk.clone();
    let mut identity = Identity::open(&*disk, &settings.dir, &*parts.random)?;
    let member = identity.member;
    let recovered = core::recover(&settings, &parts, member, identity.begun)?;
    let log_empty = recovered.is_empty();
    identity.begin(&*disk, &settings.dir)?;
    let nonce = BootNonce(parts.random.u64());
    let waiters = Waiters::new(nonce, &settings.limits);
    settings.info.formats = (CLUSTER_FORMAT_FIRST, settings.limits.format_known);
    let who = Who {
        member,
        nonce,
        info: settings.info.clone(),
    };
    // An empty directory belongs nowhere yet, whatever it was meant for.
    let belongs = identity.belongs.filter(|_| !log_empty);
    let cluster = belongs.map(|belongs| belongs.cluster);
    let standing = Standing::new(parts.clock.clone());
    let server = Server::new(who, recovered.log.clone(), cluster, standing.clone());
    // The core talks over the link, and the link begins by saying what the log holds.
    let book = AddressBook::default();
    let link = link::start(&parts, server.clone(), book.clone());
    let (over, told_by) = (link.clone(), waiters.clone());
    let started = core::start(&settings, &parts, recovered, member, over, told_by);
    let (core, told) = started.await?;
    let (running, hand_over) = parts_of(core, &waiters, &settings);
    server.begin(&running);
    let giving_way = hand_over.clone().give_way(waiters.clone());
    parts.tasks.spawn(giving_way);
    run(&settings, &parts, &running, &waiters, &link, member);
    let settling = Settling {
        search: Search::start(&parts, &book),
        parts: parts.clone(),
        dir: settings.dir.clone(),
        identity,
        log_empty,
        may_found: settings.may_found,
        link: link.clone(),
        standing: standing.clone(),
    };
    let belong = Belong {
        settling,
        server,
        core: running.core.clone(),
        waiters: waiters.clone(),
    };
    parts.tasks.spawn(belong.run());
    let book = keep_book(running.core.clone(), book, link);
    parts.tasks.spawn(book);
    let store = Store(Arc::new(Inner {
        core: running.core.clone(),
        waiters,
        queue: running.queue.clone(),
        rounds: running.rounds.clone(),
        leases: running.leases.clone(),
        hand_over,
        reconciler: running.reconciler.clone(),
        removed: running.removed.clone(),
        leaving: AtomicBool::default(),
        limits: running.limits,
        member,
        standing,
        disk,
        spawner: parts.spawner,
    }));
    parts.transport.attach(trust::Trust::new(&store));
    Ok((store, FatalWatch(told)))
}

/// What stands on the core, not running yet.
fn parts_of(core: Core, waiters: &Waiters, settings: &Settings) -> (Arc<Running>, HandOver) {
    let queue = Queue::default();
    let leases = Leases::new(core.clone(), waiters.clone(), queue.clone());
    let hand_over = HandOver::new(core.clone(), queue.clone());
    let rules = (settings.rules.clone(), settings.limits);
    let running = Running {
        inbox: Inbox::new(core.clone()),
        core: core.clone(),
        queue: queue.clone(),
        rounds: Rounds::default(),
        reconciler: Reconciler::new(core, queue, (hand_over.clone(), leases.clone()), rules),
        leases,
        removed: Removed::default(),
        limits: settings.limits,
    };
    (Arc::new(running), hand_over)
}

/// Keeps the addresses in the book as the rows of the state say, and the link told of runs that are over.
async fn keep_book(core: Core, book: AddressBook, link: Arc<dyn Link>) {
    let mut members = core.machine().members();
    loop {
        let rows = members.iter();
        book.set_rows(
            rows.map(|(id, row)| (id, row.info.addresses.clone()))
                .collect(),
        );
        let first_that_counts = |row: &state::Member| match row.live {
            true => row.incarnation,
            false => Incarnation(row.incarnation.0 + 1),
        };
        let rows = members.iter();
        link.runs_over(&rows.map(|(id, row)| (id, first_that_counts(row))).collect());
        match core.machine().wait_members(&members).await {
            Some(changed) => members = changed,
            None => return,
        }
    }
}

/// Starts what runs as long as the store is open.
fn run(
    settings: &Settings,
    parts: &Parts,
    running: &Arc<Running>,
    waiters: &Waiters,
    link: &Arc<dyn Link>,
    member: MemberId,
) {
    let tasks = &parts.tasks;
    let (core, waiters, link) = (running.core.clone(), waiters.clone(), link.clone());
    let proposer = Proposer {
        core: core.clone(),
        waiters: waiters.clone(),
        queue: running.queue.clone(),
        link: link.clone(),
    };
    tasks.spawn(proposer.run());
    let registrar = Registrar {
        core: core.clone(),
        waiters: waiters.clone(),
        queue: running.queue.clone(),
        rounds: running.rounds.clone(),
        link: link.clone(),
        member,
        info: settings.info.clone(),
    };
    tasks.spawn(registrar.run());
    tasks.spawn(running.leases.clone().hold());
    tasks.spawn(running.leases.clone().rule());
    tasks.spawn(
        running
            .rounds
            .clone()
            .run(core.clone(), waiters.clone(), link),
    );
    tasks.spawn(running.reconciler.clone().run(waiters.clone()));
    tasks.spawn(running.removed.clone().run(core.clone()));
    tasks.spawn(hashes::run(core.clone(), waiters.clone()));
    let (held, closed) = (running.clone(), waiters.clone());
    tasks.spawn(async move {
        closed.closed().await;
        drop(held);
    });
    let compaction = Compaction::new(core, settings.clone(), parts.spawner.clone());
    tasks.spawn(compaction.run(move || waiters.is_closed()));
}
