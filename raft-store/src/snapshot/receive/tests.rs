//! Chunks in and out of place, damage, a disk that fails.

use std::path::Path;
use std::task::{Context, Poll, Waker};

use super::*;
use crate::disk::{Disk, Fault, SimDisk};
use crate::limits::{Limits, SNAPSHOT_CHUNK_BYTES};
use crate::random::Seeded;
use crate::snapshot::send::Outgoing;
use crate::spawner::Inline;
use crate::state::State;

/// A member's snapshots, and the jobs that write them.
struct Side {
    disk: SimDisk,
    snapshots: Snapshots,
    jobs: Inline,
}

impl Side {
    fn new() -> Self {
        let disk = SimDisk::new(Arc::new(Seeded::new(1, "disk")));
        let opened = Snapshots::open(
            Arc::new(disk.clone()),
            Path::new("snapshots"),
            Limits::format_1(),
        );
        Self {
            disk,
            snapshots: opened.expect("empty").0,
            jobs: Inline::default(),
        }
    }

    /// Publishes one of a state with so many bytes beside it.
    fn publish(&self, applied: u64, bytes: usize) {
        let mut state = State::new(Limits::format_1());
        state.pass(applied).expect("the first");
        let meta = vec![7; bytes];
        let built = Box::new(|built: Result<Published, Error>| drop(built.expect("built")));
        let job = self.snapshots.build(&self.jobs, state, meta, built);
        drop(job.expect("it starts"));
        self.jobs.run();
    }

    fn begin(&self, of: &Outgoing) -> Incoming {
        let (id, bytes) = (of.published.hash, of.published.bytes);
        Incoming::begin(&self.snapshots, &self.jobs, id, bytes).expect("it starts")
    }

    /// What a call comes to when the jobs have run.
    fn run<T>(&self, call: impl Future<Output = T>) -> T {
        let mut call = std::pin::pin!(call);
        let mut context = Context::from_waker(Waker::noop());
        assert!(call.as_mut().poll(&mut context).is_pending());
        self.jobs.run();
        match call.as_mut().poll(&mut context) {
            Poll::Ready(done) => done,
            Poll::Pending => panic!("nothing is told"),
        }
    }

    /// Sends chunks from `offset` on to the end.
    fn send(&self, (sender, from): (&Self, &Outgoing), to: &Incoming, mut offset: u64) {
        while offset < from.published.bytes {
            let (chunk, crc) = sender.run(from.chunk(offset)).expect("readable");
            assert_eq!(crc32c::crc32c(&chunk), crc);
            offset = self.run(to.chunk(offset, chunk)).expect("written");
        }
    }

    fn names(&self) -> usize {
        self.disk
            .list(Path::new("snapshots"))
            .expect("listed")
            .len()
    }
}

fn first(side: &Side, of: &Outgoing) -> Bytes {
    let (chunk, crc) = side.run(of.chunk(0)).expect("readable");
    assert_eq!(crc32c::crc32c(&chunk), crc);
    chunk
}

fn outgoing(bytes: usize) -> (Side, Outgoing) {
    let side = Side::new();
    side.publish(5, bytes);
    let outgoing = Outgoing::open(&side.snapshots, &side.jobs).expect("readable");
    (side, outgoing.expect("published"))
}

#[test]
fn what_was_received_is_published() {
    let (sender, outgoing) = outgoing(60_000);
    let side = Side::new();
    let incoming = side.begin(&outgoing);
    side.send((&sender, &outgoing), &incoming, 0);
    assert!(side.snapshots.published().is_none());
    let received = side.run(incoming.finish()).expect("whole");
    assert_eq!(received.loaded.state.applied(), 5);
    let published = side.snapshots.published().expect("there is one");
    assert_eq!(
        (published.hash, published.index),
        (outgoing.published.hash, 5)
    );
    drop(incoming);
    side.jobs.run();
    side.disk.power_cut();
    assert_eq!(side.names(), 1);
    assert_eq!(
        side.snapshots.load(&published).expect("whole").bytes,
        published.bytes
    );
}

#[test]
fn chunks_out_of_place_change_nothing() {
    let (sender, outgoing) = outgoing(60_000);
    let side = Side::new();
    let incoming = side.begin(&outgoing);
    let chunk = first(&sender, &outgoing);
    let half = chunk.slice(..1_000);
    let write = |offset, chunk: &Bytes| side.run(incoming.chunk(offset, chunk.clone()));
    assert_eq!(write(0, &half).expect("written"), 1_000);
    assert_eq!(write(0, &half).expect("again"), 1_000);
    assert_eq!(write(5_000, &half).expect("too far"), 1_000);
    assert_eq!(incoming.have(), 1_000);
    side.send((&sender, &outgoing), &incoming, 1_000);
    side.run(incoming.finish()).expect("whole");
}

#[test]
fn what_is_not_what_was_offered_is_not_published() {
    let (sender, outgoing) = outgoing(60_000);
    let chunk = first(&sender, &outgoing);
    assert!(chunk.len() < SNAPSHOT_CHUNK_BYTES, "all in one chunk");
    for at in (0..chunk.len()).step_by(997) {
        let side = Side::new();
        let incoming = side.begin(&outgoing);
        let mut damaged = chunk.to_vec();
        damaged[at] ^= 1;
        side.run(incoming.chunk(0, damaged.into()))
            .expect("written");
        assert!(side.run(incoming.finish()).is_err(), "byte {at}");
        assert!(side.snapshots.published().is_none());
        assert_eq!(side.names(), 0, "nothing stays");
        assert!(
            side.run(incoming.chunk(0, chunk.clone())).is_err(),
            "it has failed"
        );
    }
    // A whole one, but another.
    let (sender, other) = self::outgoing(50_000);
    let side = Side::new();
    let (id, bytes) = (outgoing.published.hash, other.published.bytes);
    let incoming = Incoming::begin(&side.snapshots, &side.jobs, id, bytes).expect("it starts");
    side.send((&sender, &other), &incoming, 0);
    assert!(side.run(incoming.finish()).is_err());
    // More than was offered, and less.
    let incoming = side.begin(&other);
    assert!(side.run(incoming.chunk(0, chunk.clone())).is_err());
    let incoming = side.begin(&outgoing);
    side.run(incoming.chunk(0, chunk.slice(1..)))
        .expect("written");
    assert!(side.run(incoming.finish()).is_err());
}

#[test]
fn one_that_is_given_up_leaves_nothing() {
    let (sender, outgoing) = outgoing(60_000);
    let side = Side::new();
    let incoming = side.begin(&outgoing);
    let chunk = first(&sender, &outgoing);
    side.run(incoming.chunk(0, chunk.slice(..100)))
        .expect("written");
    assert_eq!(side.names(), 1);
    drop(incoming);
    side.jobs.run();
    assert_eq!(side.names(), 0);
}

#[test]
fn a_disk_that_fails_is_told() {
    let (sender, outgoing) = outgoing(60_000);
    for operation in 0..4 {
        let side = Side::new();
        let incoming = side.begin(&outgoing);
        side.disk
            .fail_at(side.disk.operations() + operation, Fault::Refused);
        let chunk = first(&sender, &outgoing);
        let written = side.run(incoming.chunk(0, chunk));
        let finished = written.and_then(|_| side.run(incoming.finish()).map(|_| 0));
        assert!(finished.is_err(), "operation {operation}");
    }
}

#[test]
fn one_given_up_takes_nothing_of_the_next_one_with_it() {
    let (sender, outgoing) = outgoing(60_000);
    let side = Side::new();
    let first = side.begin(&outgoing);
    let half = self::first(&sender, &outgoing).slice(..100);
    side.run(first.chunk(0, half)).expect("written");
    // The same one again, and only then does the first one's job hear that it is given up.
    let second = side.begin(&outgoing);
    let half = self::first(&sender, &outgoing).slice(..100);
    side.run(second.chunk(0, half)).expect("written");
    drop(first);
    side.send((&sender, &outgoing), &second, 100);
    side.run(second.finish()).expect("whole");
    drop(second);
    side.jobs.run();
    assert_eq!(side.names(), 1);
    let published = side.snapshots.published().expect("there is one");
    side.snapshots.load(&published).expect("whole");
}

#[test]
fn a_disk_without_room_is_told_with_the_first_chunk() {
    let (sender, outgoing) = outgoing(60_000);
    let side = Side::new();
    side.disk.set_capacity_bytes(outgoing.published.bytes - 1);
    let incoming = side.begin(&outgoing);
    let begin = first(&sender, &outgoing).slice(..100);
    let refused = side.run(incoming.chunk(0, begin));
    assert!(
        matches!(refused, Err(Error::Io(error)) if error.kind() == std::io::ErrorKind::StorageFull)
    );
    assert_eq!(side.names(), 0, "and all the room is free");
}
