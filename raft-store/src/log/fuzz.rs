//! Fuzz targets of recovery: damaged files, and files of frames with right sums whose records are damaged.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::frame::{self, Chain, Kind};
use super::segment::{FIRST_ID, FRAMES_AT, Header, path};
use super::{Entry, Error, Log, LogId, Settings, Vote};
use crate::codec::{Reader, Writer};
use crate::disk::{Disk, Open, SimDisk, read_exact_at};
use crate::fuzz;
use crate::random::Seeded;
use crate::spawner::Inline;

const DIR: &str = "log";
const SEGMENT_BYTES: usize = 16 << 10;

fn settings() -> Settings {
    let mut settings = Settings::new(DIR, 7);
    settings.segment_bytes = SEGMENT_BYTES as u64;
    settings.frame_bytes = 2 << 10;
    settings.tail_cache_bytes = 500;
    settings
}

fn disk() -> SimDisk {
    SimDisk::new(Arc::new(Seeded::new(1, "disk")))
}

fn open(disk: &SimDisk) -> Result<(Log, Inline), Error> {
    let jobs = Inline::default();
    let random = Arc::new(Seeded::new(1, "log"));
    let log = Log::open(settings(), Arc::new(disk.clone()), random, &jobs)?;
    Ok((log, jobs))
}

fn entry(term: u64, index: u64) -> Entry {
    let node = 7;
    let body = Bytes::from(vec![index as u8; 30 + 5 * index as usize]);
    let id = LogId { term, node, index };
    Entry { id, body }
}

/// The first segment of a log that holds each kind of record.
fn example() -> Vec<u8> {
    let disk = disk();
    let (log, jobs) = open(&disk).expect("begun");
    let (node, committed) = (7, true);
    for index in 0..12 {
        let append = log.append(vec![entry(1, index)], Box::new(drop));
        append.expect("next");
        jobs.run();
    }
    let vote = Vote {
        term: 2,
        node,
        committed,
    };
    log.save_vote(vote, Box::new(drop)).expect("open");
    log.truncate(10, Box::new(drop)).expect("not purged");
    log.save_committed(Some(entry(1, 8).id));
    log.append(vec![entry(2, 10), entry(2, 11)], Box::new(drop))
        .expect("next");
    jobs.run();
    drop((log, jobs));
    let file = disk.open(&path(Path::new(DIR), FIRST_ID), Open::Read);
    let mut bytes = vec![0; SEGMENT_BYTES];
    read_exact_at(&*file.expect("there"), &mut bytes, 0).expect("read");
    bytes
}

/// A disk whose log is this one segment.
fn holding(bytes: &[u8]) -> SimDisk {
    let disk = disk();
    let dir = Path::new(DIR);
    disk.create_dir(dir).expect("made");
    let mut file = disk.open(&path(dir, FIRST_ID), Open::Create).expect("new");
    file.write_at(bytes, 0).expect("written");
    file.sync_data().expect("synced");
    disk.sync_dir(dir).expect("synced");
    disk
}

type Told = (super::LogState, Option<Vote>, Option<LogId>, Vec<Entry>);

/// What a log says; all that it says it has can be read.
fn told(log: &Log) -> Told {
    let state = log.log_state();
    let next = |id: Option<LogId>| id.map_or(0, |id| id.index.saturating_add(1));
    let (mut from, to) = (next(state.purged), next(state.last));
    let mut all = Vec::new();
    while from < to {
        let read = log.read(from..to, 1 << 20).expect("readable");
        assert!(!read.is_empty(), "nothing from {from} to {to}");
        for entry in &read {
            assert_eq!(entry.id.index, from);
            from += 1;
        }
        all.extend(read);
    }
    (state, log.vote(), log.committed(), all)
}

/// It opens or is refused; what is opened can be read, and is the same when it is opened again.
fn open_twice(bytes: &[u8]) -> Option<Told> {
    let disk = holding(bytes);
    let (log, jobs) = open(&disk).ok()?;
    let first = told(&log);
    jobs.run();
    drop((log, jobs));
    let (log, _jobs) = open(&disk).expect("as before");
    assert_eq!(told(&log), first);
    Some(first)
}

/// Whatever happens to a file, no entry becomes another.
#[test]
fn fuzz_log_file() {
    let whole = example();
    let used = whole.iter().rposition(|byte| *byte != 0).expect("frames") + 8;
    let good = open_twice(&whole).expect("good");
    let examples = [whole[..used].to_vec()];
    fuzz::run("log_file", &examples, fuzz::BRIEFLY / 4, |input| {
        let mut bytes = input.to_vec();
        bytes.resize(SEGMENT_BYTES, 0);
        let Some((_, _, _, entries)) = open_twice(&bytes) else {
            return;
        };
        for entry in entries {
            let earlier = self::entry(1, entry.id.index);
            assert!(good.3.contains(&entry) || entry == earlier, "{entry:?}");
        }
    });
}

/// The bodies of a file's frames, each behind its length: what is damaged is what they say.
fn bodies(whole: &[u8], nonce: &[u8; 16]) -> Vec<u8> {
    let mut to = Writer::new(SEGMENT_BYTES);
    let mut at = FRAMES_AT as usize;
    while let Some(frame) = frame::decode(&whole[at..], nonce) {
        at += frame.bytes;
        if frame.kind == Kind::Batch {
            to.bytes(frame.body);
        }
    }
    to.finish("bodies").expect("shorter than before")
}

/// A file of frames with these bodies, as long as they fit.
fn forged(header: &Header, bodies: &[u8]) -> Vec<u8> {
    let mut bytes = header.encode();
    bytes.resize(FRAMES_AT as usize, 0);
    let (mut from, mut chain, mut sequence) = (Reader::new(bodies), Chain::default(), 1);
    while let Ok(body) = from.bytes(SEGMENT_BYTES, "body") {
        let mut more = Vec::new();
        chain = frame::encode(
            &mut more,
            &header.nonce,
            Kind::Batch,
            sequence,
            &chain,
            &[body],
        );
        if from.is_empty() && body.is_empty() || bytes.len() + more.len() > SEGMENT_BYTES {
            break;
        }
        bytes.extend(more);
        sequence += 1;
    }
    bytes.resize(SEGMENT_BYTES, 0);
    bytes
}

/// A writer with a defect, or with the sums of one: refused or read, without harm.
#[test]
fn fuzz_log_records() {
    let whole = example();
    let disk = holding(&whole);
    let header = Header::read(&disk, &settings(), FIRST_ID).expect("good");
    let bodies = bodies(&whole, &header.nonce);
    assert_eq!(
        open_twice(&forged(&header, &bodies)),
        open_twice(&whole),
        "as it was"
    );
    assert!(open_twice(&whole).is_some_and(|(.., entries)| entries.len() == 12));
    fuzz::run("log_records", &[bodies], fuzz::BRIEFLY / 4, |input| {
        open_twice(&forged(&header, input));
    });
}
