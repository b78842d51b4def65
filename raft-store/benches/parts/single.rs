//! A store of one member: puts one at a time and 1,024 at a time, beside the bare disk with the same bytes; a read.

use super::disk::{Directory, Times, bare};
use bytes::Bytes;
use raft_store::disk::FileDisk;
use raft_store::founding::Alone;
use raft_store::gate::Tasks;
use raft_store::random::SystemRandom;
use raft_store::spawner::Threads;
use raft_store::{Expect, Parts, Settings, Store, WriteOutcome};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

const VALUE_BYTES: usize = 67;
const MANY: usize = 1024;
const KEYS: u64 = 100_000;
const WARM_UP: Duration = Duration::from_secs(1);

/// 33 bytes.
fn key(number: u64) -> String {
    format!("session/{:025}", number % KEYS)
}

async fn put(store: &Store, number: u64) -> Duration {
    let begin = Instant::now();
    let value = Bytes::from(vec![0x5a; VALUE_BYTES]);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    let key = key(number);
    let put = store.put_if(key.as_bytes(), value, Expect::Any, None, deadline);
    let outcome = put.await.expect("written");
    assert!(matches!(outcome, WriteOutcome::Written(_)));
    begin.elapsed()
}

async fn puts(store: &Store, in_flight: usize, time: Duration) -> Times {
    let begin = Instant::now();
    let callers: Vec<_> = (0..in_flight as u64)
        .map(|caller| {
            let store = store.clone();
            tokio::spawn(async move {
                let mut each = Vec::new();
                let mut number = caller * 7919;
                while begin.elapsed() < time {
                    each.push(put(&store, number).await);
                    number += 104_729;
                }
                each
            })
        })
        .collect();
    let mut each = Vec::new();
    for caller in callers {
        each.extend(caller.await.expect("it does not panic"));
    }
    let all = begin.elapsed();
    Times { each, all }
}

async fn measure(within: &Path, store: &Store, in_flight: usize, time: Duration) {
    let written = || store.status().expect("open").log_written;
    let before = written();
    puts(store, in_flight, WARM_UP).await;
    let warm = written();
    let bytes = (warm.bytes - before.bytes) / (warm.frames - before.frames).max(1);
    println!("\n{in_flight} in flight, 100 bytes a put, about {bytes} bytes a sync");
    let mut disk_before = bare(within, bytes as usize, time);
    disk_before.print("bare disk, before");
    let before = written();
    let mut times = puts(store, in_flight, time).await;
    let after = written();
    times.print("puts");
    let frames = (after.frames - before.frames) as f64;
    println!(
        "{:<28} {:>10.0}/s   {:.2} entries and {:.1} proposals a sync",
        "syncs",
        frames / times.all.as_secs_f64(),
        (after.entries - before.entries) as f64 / frames,
        times.each.len() as f64 / frames,
    );
    let mut disk_after = bare(within, bytes as usize, time);
    disk_after.print("bare disk, after");
    let disk = (disk_before.rate() + disk_after.rate()) / 2.0;
    println!(
        "{:<28} {:>9.0} %   of the bare disk's rate (mean of both)",
        "syncs",
        100.0 * frames / times.all.as_secs_f64() / disk
    );
}

fn reads(store: &Store) {
    const READS: u64 = 1_000_000;
    let keys: Vec<String> = (0..KEYS).map(key).collect();
    let begin = Instant::now();
    let mut found = 0;
    for number in 0..READS {
        let key = &keys[(number * 7919 % KEYS) as usize];
        found += u64::from(store.get(key.as_bytes()).expect("open").0.is_some());
    }
    let nanoseconds = begin.elapsed().as_nanos() as f64 / READS as f64;
    println!("\nlocal read {nanoseconds:.0} ns ({found} of {READS} found)");
}

pub fn run(within: &Path, time: Duration) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let directory = Directory::new(within);
    runtime.block_on(async {
        let disk = FileDisk::open(&directory.0).expect("a directory can be made");
        let disk = Arc::new(disk);
        let parts = Parts {
            founding: Arc::new(Alone::new(disk.clone(), "member")),
            discovery: Arc::new([]),
            disk,
            random: Arc::new(SystemRandom),
            clock: Arc::new(raft_store::clock::SystemClock),
            transport: Arc::new(raft_store::transport::Nowhere),
            spawner: Arc::new(Threads),
            tasks: Tasks::system(),
        };
        let settings = Settings::new("member");
        let (store, _fatal) = raft_store::open(settings, parts).await.expect("it opens");
        let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
        store.ready(deadline).await.expect("registered");
        measure(within, &store, 1, time).await;
        measure(within, &store, MANY, time).await;
        reads(&store);
        store.shutdown().await;
    });
}
