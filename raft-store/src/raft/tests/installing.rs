//! A snapshot that is installed takes the place of a state that may be large.

use std::path::Path;
use std::sync::Arc;

use openraft::storage::RaftStateMachine;

use crate::disk::SimDisk;
use crate::ids::BootNonce;
use crate::limits::Limits;
use crate::log;
use crate::raft::log_store::Opening;
use crate::raft::machine::{Around, Machine};
use crate::raft::types::{SnapshotFile, SnapshotMeta, from_log_id};
use crate::random::Seeded;
use crate::snapshot::publish::Snapshots;
use crate::spawner::Inline;
use crate::state::State;
use crate::waiters::Waiters;
use crate::watch::{Hub, HubLimits};

#[tokio::test]
async fn what_it_replaces_is_freed_by_a_job() {
    let (jobs, limits) = (Arc::new(Inline::default()), Limits::format_1());
    let disk = Arc::new(SimDisk::new(Arc::new(Seeded::new(1, "disk"))));
    let opened = Snapshots::open(disk, Path::new("snapshots"), limits);
    let (snapshots, _) = opened.expect("an empty disk");
    let state = State::new(limits);
    let around = Around {
        hub: Hub::new(state.revision(), HubLimits::default()),
        waiters: Waiters::new(BootNonce(1), &limits),
        snapshots,
        pacing: Arc::default(),
        opening: Arc::new(Opening::at(None)),
        observer: Default::default(),
        spawner: jobs.clone(),
    };
    let mut machine = Machine::new(state, None, around).expect("no meta");
    let part_of_old = Arc::downgrade(&machine.members());
    let node = 1;
    let meta = SnapshotMeta {
        last_log_id: Some(from_log_id(log::LogId {
            term: 1,
            node,
            index: 9,
        })),
        ..Default::default()
    };
    let state = Some(State::new(limits));
    let snapshot = Box::new(SnapshotFile { state });
    let installed = machine.install_snapshot(&meta, snapshot).await;
    installed.expect("it is whole");
    assert_eq!(machine.progress().next, 10);
    assert!(
        part_of_old.upgrade().is_some(),
        "freed where the core waits"
    );
    jobs.run();
    assert!(part_of_old.upgrade().is_none(), "freed");
}
