//! The log with its jobs on threads of their own.

use crate::support::{disk, entry, id, outcome, small};
use raft_store::disk::{Disk, FileDisk};
use raft_store::log::Log;
use raft_store::random::{Random, Seeded, SystemRandom};
use raft_store::spawner::Threads;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};

#[test]
fn threads_write_the_same_log() {
    let root = std::env::temp_dir().join(format!("raft-store-log-{:016x}", SystemRandom.u64()));
    let disk = Arc::new(FileDisk::open(&root).expect("a new directory"));
    let open = || {
        let random = Arc::new(SystemRandom);
        Log::open(small(), disk.clone(), random, &Threads).expect("it opens")
    };
    let log = open();
    let (tell, told) = mpsc::channel();
    for index in 0..300 {
        let tell = tell.clone();
        let done = Box::new(move |result| tell.send(result).expect("somebody waits"));
        log.append(vec![entry(1, index, 200)], done).expect("next");
    }
    for _ in 0..300 {
        told.recv().expect("each is answered").expect("durable");
    }
    assert!(log.counters().frames < 300, "batched");
    // Closing writes what is queued, over several segments.
    for index in 300..600 {
        let tell = tell.clone();
        let done = Box::new(move |result| tell.send(result).expect("somebody waits"));
        log.append(vec![entry(1, index, 200)], done).expect("next");
    }
    log.close();
    assert!(told.try_iter().all(|result| result.is_ok()));
    let log = open();
    let read = log.read(0..600, usize::MAX).expect("readable");
    assert!((0..600).map(|index| entry(1, index, 200)).eq(read));
    log.close();
    std::fs::remove_dir_all(&root).expect("cleaned up");
}

/// Reads race with frames, eviction from the cache, purges and the removal of files.
#[test]
fn readers_beside_a_writer() {
    let disk = Arc::new(disk(1));
    let random = Arc::new(Seeded::new(1, "log"));
    let log = Log::open(small(), disk.clone(), random, &Threads).expect("it opens");
    let stop = Arc::new(AtomicBool::new(false));
    let reader = |name: &'static str| {
        let (log, stop) = (log.clone(), stop.clone());
        std::thread::spawn(move || {
            let random = Seeded::new(1, name);
            let mut read = 0;
            while !stop.load(Ordering::Relaxed) {
                let state = log.log_state();
                let first = state.purged.map_or(0, |id| id.index + 1);
                let last = state.last.map_or(0, |id| id.index);
                let start = first + random.below(last - first.min(last) + 1);
                let limit = random.below(3000) as usize;
                let entries = log.read(start..start + 50, limit).expect("readable");
                let begin = entries.first().map_or(start, |first| first.id.index);
                assert!(begin >= start, "{begin} from {start}");
                let expected = (begin..).map(|index| entry(1, index, 150));
                assert!(
                    expected
                        .zip(&entries)
                        .all(|(expected, read)| expected == *read)
                );
                read += entries.len();
            }
            read
        })
    };
    let readers = [reader("one"), reader("two")];
    for index in 0..6000 {
        let (_, done) = outcome();
        log.append(vec![entry(1, index, 150)], done).expect("next");
        if index % 100 == 99 {
            log.publish(id(1, index - 60));
            log.purge(id(1, index - 60)).expect("a note");
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    }
    stop.store(true, Ordering::Relaxed);
    for reader in readers {
        assert!(reader.join().expect("no assertion failed") > 1000);
    }
    log.close();
    let left = disk.list(Path::new("log")).expect("listed").len();
    assert!(left < 40, "{left} segments of 150 are left");
}
