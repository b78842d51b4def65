//! A core that cannot go on ends, and says why.

mod chaos;
mod installing;
mod places;
mod reading;
mod replication;
mod snapshots;
mod world;

use std::sync::Arc;
use std::time::Duration;

use super::core::{self, Receipt};
use crate::config::Settings;
use crate::disk::SimDisk;
use crate::entry::{Close, EntryBody};
use crate::gate::{Gate, Tasks};
use crate::ids::{BootNonce, MemberId};
use crate::limits::Limits;
use crate::link::Nobody;
use crate::raft::Command;
use crate::random::Seeded;
use crate::test_cluster::parts;
use crate::waiters::Waiters;

#[tokio::test(start_paused = true)]
async fn an_entry_that_cannot_be_applied_stops_the_member() {
    let random = Arc::new(Seeded::new(1, "core"));
    let tasks = Tasks::gated(Gate::new(Box::new(Seeded::new(1, "gate"))));
    let parts = parts(&SimDisk::new(random.clone()), 0, random, tasks);
    let mut settings = Settings::new("member");
    settings.segment_bytes = 1 << 20;
    let waiters = Waiters::new(BootNonce(1), &Limits::format_1());
    let member = MemberId(7);
    let recovered = core::recover(&settings, &parts, member, false).expect("an empty disk");
    let link = Arc::new(Nobody);
    let started = core::start(&settings, &parts, recovered, member, link, waiters.clone()).await;
    let (core, fatal) = started.expect("it starts");
    core.found().await.expect("an empty log");
    assert!(core.wait_leading(&waiters).await);
    let body = EntryBody {
        proposals: Vec::new(),
        close: Some(Close::Format(u16::MAX)),
    };
    let command = Command::new(body).expect("small");
    let mut receiver = core.propose(command).await.expect("it runs");
    assert_eq!(receiver.receipt().await, Receipt::Ended);
    let fatal = tokio::time::timeout(Duration::from_secs(1), fatal).await;
    let fatal = fatal.expect("at once").expect("told");
    assert!(fatal.reason.contains("65535"), "{}", fatal.reason);
    assert!(waiters.is_closed());
    assert!(core.machine().read().is_none());
    assert!(!core.wait_leading(&waiters).await);
}
