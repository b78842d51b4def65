//! The log alone: puts of 100 bytes, one at a time and 1,024 at a time, beside the bare disk with the same bytes.

use super::disk::{Directory, Times, bare};
use bytes::Bytes;
use raft_store::disk::{Disk, FileDisk};
use raft_store::log::{Counters, Entry, Log, LogId, Settings};
use raft_store::random::SystemRandom;
use raft_store::spawner::Threads;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

const PUT_BYTES: usize = 100;
const MANY: usize = 1024;
const WARM_UP: Duration = Duration::from_millis(500);

struct Puts {
    log: Log,
    next: u64,
    tell: Sender<Duration>,
    told: Receiver<Duration>,
}

impl Puts {
    fn new(log: Log) -> Self {
        let (tell, told) = channel();
        let next = log.log_state().last.map_or(0, |id| id.index + 1);
        Self {
            log,
            next,
            tell,
            told,
        }
    }

    fn put(&mut self) {
        let id = LogId {
            term: 1,
            node: 1,
            index: self.next,
        };
        self.next += 1;
        let body = Bytes::from(vec![0x5a; PUT_BYTES]);
        let (tell, begin) = (self.tell.clone(), Instant::now());
        let done = Box::new(move |result: std::io::Result<()>| {
            result.expect("durable");
            // Nobody waits for the last ones.
            let _ = tell.send(begin.elapsed());
        });
        let entry = Entry { id, body };
        self.log.append(vec![entry], done).expect("accepted");
        if self.next.is_multiple_of(10_000) {
            let id = LogId {
                index: id.index - 5000,
                ..id
            };
            self.log.publish(id);
            self.log.purge(id).expect("noted");
        }
    }

    /// Keeps `in_flight` puts under way for `time`.
    fn run(&mut self, in_flight: usize, time: Duration) -> (Times, Counters) {
        let before = self.log.counters();
        let (mut each, begin) = (Vec::new(), Instant::now());
        (0..in_flight).for_each(|_| self.put());
        while begin.elapsed() < time {
            each.push(self.told.recv().expect("this holds a sender"));
            self.put();
            // What is answered already is answered by new puts at once.
            while let Ok(took) = self.told.try_recv() {
                each.push(took);
                self.put();
            }
        }
        let all = begin.elapsed();
        for _ in 0..in_flight {
            self.told.recv().expect("each is answered");
        }
        let after = self.log.counters();
        let counters = Counters {
            frames: after.frames - before.frames,
            entries: after.entries - before.entries,
            bytes: after.bytes - before.bytes,
        };
        (Times { each, all }, counters)
    }
}

fn measure(within: &Path, puts: &mut Puts, in_flight: usize, time: Duration) {
    let (_, warm) = puts.run(in_flight, WARM_UP);
    let bytes = (warm.bytes / warm.frames.max(1)) as usize;
    println!("\n{in_flight} in flight, {PUT_BYTES} bytes a put, about {bytes} bytes a frame");
    let mut before = bare(within, bytes, time);
    before.print("bare disk, before");
    let (mut times, counters) = puts.run(in_flight, time);
    let frames = counters.frames as f64 / times.all.as_secs_f64();
    times.print("puts");
    println!(
        "{:<28} {frames:>10.0}/s   {:.1} entries and {:.0} bytes a sync",
        "syncs",
        counters.entries as f64 / counters.frames as f64,
        counters.bytes as f64 / counters.frames as f64
    );
    let mut after = bare(within, bytes, time);
    after.print("bare disk, after");
    let disk = (before.rate() + after.rate()) / 2.0;
    println!(
        "{:<28} {:>9.0} %   of the bare disk's rate (mean of both)",
        "syncs",
        100.0 * frames / disk
    );
}

pub fn run(within: &Path, time: Duration) {
    let directory = Directory::new(within);
    let disk = Arc::new(FileDisk::open(&directory.0).expect("a directory can be made"));
    let mut settings = Settings::new("log", 1);
    let open = |settings: &Settings| {
        let random = Arc::new(SystemRandom);
        Log::open(settings.clone(), disk.clone(), random, &Threads).expect("it opens")
    };
    let log = open(&settings);
    let mut puts = Puts::new(log.clone());
    measure(within, &mut puts, 1, time);
    measure(within, &mut puts, MANY, time);
    settings.published = log.log_state().purged;
    drop(puts);
    log.close();
    let files = disk.list(&settings.dir).expect("listed").len();
    let begin = Instant::now();
    let log = open(&settings);
    let took = begin.elapsed().as_secs_f64() * 1e3;
    println!("\nopening {files} segments of 64 MiB, the spare included: {took:.0} ms");
    log.close();
}
