//! What streams and core read of the log when it is no longer in memory: by a job, and of one reign.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use openraft::RaftLogReader;
use openraft::entry::RaftEntry;
use openraft::storage::RaftLogStorage;
use tokio::time::timeout;

use crate::disk::SimDisk;
use crate::log::{self, Log, Settings};
use crate::raft::log_store::{LogStore, Opening};
use crate::raft::types::{Entry, from_log_id, to_logged};
use crate::random::Seeded;
use crate::spawner::Inline;

/// Longer than a stream waits for a disk before it sends a heartbeat.
const SLICE: Duration = Duration::from_millis(300);

/// A log that keeps hardly anything in memory, whose jobs run when they are told to.
struct World {
    jobs: Inline,
    log: Log,
    store: LogStore,
}

fn id(term: u64, index: u64) -> log::LogId {
    let node = 1;
    log::LogId { term, node, index }
}

impl World {
    fn new() -> Self {
        let jobs = Inline::default();
        let random = Arc::new(Seeded::new(1, "log"));
        let disk = Arc::new(SimDisk::new(random.clone()));
        let mut settings = Settings::new("log", 1);
        settings.segment_bytes = 8 << 10;
        settings.frame_bytes = 1 << 10;
        settings.tail_cache_bytes = 500;
        let log = Log::open(settings, disk, random, &jobs).expect("an empty disk");
        let (pacing, opening) = (Arc::default(), Arc::new(Opening::at(None)));
        let store = LogStore::new(log.clone(), pacing, opening, Default::default());
        Self { jobs, log, store }
    }

    /// Durably, an entry a frame.
    fn append(&self, term: u64, indexes: std::ops::Range<u64>) {
        for index in indexes {
            let entry = Entry::new_blank(from_log_id(id(term, index)));
            let entry = to_logged(&entry).expect("small");
            let done = Box::new(|written: std::io::Result<()>| written.expect("durable"));
            self.log.append(vec![entry], done).expect("next");
            self.jobs.run();
        }
    }

    fn truncate(&self, since: u64) {
        let done = Box::new(|written: std::io::Result<()>| written.expect("durable"));
        self.log.truncate(since, done).expect("it is there");
    }
}

fn ids(entries: &[Entry]) -> Vec<(u64, u64)> {
    let ids = entries.iter().map(|entry| entry.log_id);
    ids.map(|id| (id.leader_id.term, id.index)).collect()
}

/// What is known without anything else running.
async fn at_once<F: Future>(mut future: Pin<&mut F>) -> Option<F::Output> {
    poll_fn(|context| {
        Poll::Ready(match future.as_mut().poll(context) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        })
    })
    .await
}

#[tokio::test]
async fn old_entries_are_read_by_a_job() {
    let mut world = World::new();
    world.append(1, 0..50);
    let mut stream = world.store.get_log_reader().await;
    let newest = at_once(pin!(stream.limited_get_log_entries(48, 50))).await;
    let newest = newest.expect("in memory").expect("readable");
    assert_eq!(ids(&newest), [(1, 48), (1, 49)]);
    let mut old = pin!(stream.limited_get_log_entries(3, 6));
    let early = at_once(old.as_mut()).await;
    assert!(early.is_none(), "read where it was asked for");
    world.jobs.run();
    let old = old.await.expect("readable");
    assert_eq!(ids(&old), [(1, 3), (1, 4), (1, 5)]);
    // The core's own reads as well.
    let mut all = pin!(world.store.try_get_log_entries(0..=49));
    assert!(at_once(all.as_mut()).await.is_none());
    world.jobs.run();
    assert_eq!(all.await.expect("readable").len(), 50);
}

#[tokio::test]
async fn what_is_purged_meanwhile_is_nothing() {
    let mut world = World::new();
    world.append(1, 0..300);
    let mut stream = world.store.get_log_reader().await;
    let mut old = pin!(stream.limited_get_log_entries(3, 200));
    assert!(at_once(old.as_mut()).await.is_none());
    world.log.publish(id(1, 250));
    world.log.purge(id(1, 150)).expect("a note");
    // The files are gone before the job reads.
    world.jobs.run();
    assert_eq!(ids(&old.await.expect("no damage")), []);
    let mut stream = world.store.get_log_reader().await;
    let mut left = pin!(stream.limited_get_log_entries(151, 153));
    assert!(at_once(left.as_mut()).await.is_none());
    world.jobs.run();
    assert_eq!(ids(&left.await.expect("readable")), [(1, 151), (1, 152)]);
}

/// Behind entries that a peer has of one leader, and the next leader has not, that peer must not get what the next one
/// wrote: it would match there and keep the others.
#[tokio::test]
async fn a_stream_whose_reign_is_over_reads_nothing_of_the_next() {
    let mut world = World::new();
    world.append(1, 0..50);
    let mut stream = world.store.get_log_reader().await;
    let mut asked_before = world.store.get_log_reader().await;
    let mut asked_before = pin!(asked_before.limited_get_log_entries(30, 50));
    assert!(at_once(asked_before.as_mut()).await.is_none());
    world.truncate(20);
    world.append(2, 20..50);
    assert_eq!(ids(&asked_before.await.expect("readable")), []);
    for start in [30, 49] {
        let mut read = pin!(stream.limited_get_log_entries(start, 50));
        let early = at_once(read.as_mut()).await;
        world.jobs.run();
        let read = match early {
            Some(read) => read,
            None => read.await,
        };
        assert_eq!(ids(&read.expect("readable")), []);
    }
    let mut stream = world.store.get_log_reader().await;
    let newest = stream.limited_get_log_entries(49, 50).await;
    assert_eq!(ids(&newest.expect("readable")), [(2, 49)]);
}

#[tokio::test(start_paused = true)]
async fn a_slow_disk_holds_up_no_heartbeat_and_one_that_hangs_does() {
    let mut world = World::new();
    world.append(1, 0..50);
    let mut stream = world.store.get_log_reader().await;
    for _ in 0..2 {
        for _ in 0..5 {
            let read = timeout(SLICE, stream.limited_get_log_entries(3, 6)).await;
            assert_eq!(ids(&read.expect("in time").expect("no error")), []);
        }
        let mut read = pin!(stream.limited_get_log_entries(3, 6));
        let hangs = timeout(10 * SLICE, read.as_mut()).await;
        assert!(hangs.is_err(), "its peer looks for another leader");
        world.jobs.run();
        assert_eq!(read.await.expect("readable").len(), 3, "when it is there");
    }
}

#[tokio::test]
async fn nobody_waits_for_a_log_that_has_ended() {
    let mut world = World::new();
    world.append(1, 0..50);
    let mut stream = world.store.get_log_reader().await;
    let mut old = pin!(stream.limited_get_log_entries(3, 6));
    assert!(at_once(old.as_mut()).await.is_none());
    world.jobs.kill();
    let told = at_once(old.as_mut()).await;
    assert!(told.expect("told").is_err());
    let later = at_once(pin!(world.store.try_get_log_entries(0..5))).await;
    assert!(later.expect("told").is_err());
}
