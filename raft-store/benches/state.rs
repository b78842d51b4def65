//! The state alone, at a million records of a hundred bytes: `cargo bench -p raft-store --bench state`.
//! Memory is what the process has in use, allocator's losses included; each part runs in a process of its own.

use bytes::Bytes;
use raft_store::entry::{
    Action, Close, EntryBody, Expect, MemberInfo, Op, Proposal, Registration, Write,
};
use raft_store::ids::{BootNonce, Incarnation, MemberId, ProposalId, Revision};
use raft_store::limits::Limits;
use raft_store::snapshot::file;
use raft_store::state::State;
use raft_store::watch::installed;
use std::hint::black_box;
use std::process::Command;
use std::time::Instant;

const RECORDS: u64 = 1_000_000;
const PER_ENTRY: u64 = 512;
/// Of the keys below, and of the values on average: lengths vary, so that what the allocator rounds up is its average.
const KEY_BYTES: u64 = 33;
const VALUE_BYTES: u64 = 67;

fn main() {
    let parts = ["plain", "owned", "ascending"];
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(part) = parts
        .iter()
        .find(|part| arguments.iter().any(|a| a == *part))
    {
        return measure(part);
    }
    let me = std::env::current_exe().expect("a running program has a file");
    for part in parts {
        let status = Command::new(&me).arg(part).status();
        assert!(status.expect("it started a moment ago").success());
    }
}

/// Bytes of memory in use.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux has it");
    let pages = statm
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse::<u64>().ok());
    pages.expect("its second field is a number") * rustix::param::page_size() as u64
}

fn key(at: u64) -> Bytes {
    let spread = at.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    Bytes::from(format!("session/{spread:016x}/{at:08x}"))
}

fn ascending(at: u64) -> Bytes {
    Bytes::from(format!("session/{at:016x}/{at:08x}"))
}

fn write(key: Bytes, at: u64, owner: Option<Incarnation>) -> Write {
    let length = VALUE_BYTES - 8 + at % 17;
    Write {
        key,
        expect: Expect::Any,
        action: Action::Put {
            value: vec![7; length as usize].into(),
            owner,
        },
    }
}

fn proposals(writes: impl Iterator<Item = Write>, from: u64) -> EntryBody {
    let proposal = |(at, write)| Proposal {
        id: ProposalId {
            incarnation: Incarnation(1),
            sequence: from + at,
        },
        lowest_unanswered: from,
        op: Op::Write(write),
    };
    EntryBody {
        proposals: (0..).zip(writes).map(proposal).collect(),
        close: None,
    }
}

fn close(close: Close) -> EntryBody {
    EntryBody {
        proposals: Vec::new(),
        close: Some(close),
    }
}

fn registered(members: u64) -> State {
    let mut state = State::new(Limits::default());
    for member in 1..=members {
        let registration = Registration {
            member: MemberId(member),
            nonce: BootNonce(1),
            latest: None,
            info: MemberInfo::default(),
        };
        let applied = state.apply(member, &close(Close::Register(registration)));
        applied.expect("in order");
    }
    state
}

fn measure(part: &str) {
    let owners = 8;
    let name = if part == "ascending" { ascending } else { key };
    let owner = |at: u64| (part == "owned").then(|| Incarnation(1 + at % owners));
    let mut state = registered(owners);
    let before = resident();
    let mut nanoseconds = 0;
    for first in (0..RECORDS).step_by(PER_ENTRY as usize) {
        let numbers = first..(first + PER_ENTRY).min(RECORDS);
        let body = proposals(numbers.map(|at| write(name(at), at, owner(at))), first + 1);
        let begin = Instant::now();
        black_box(state.apply(1000 + first, &body)).expect("in order");
        nanoseconds += begin.elapsed().as_nanos();
    }
    let taken = resident() - before;
    let payload = RECORDS * (KEY_BYTES + VALUE_BYTES);
    println!(
        "{part}: memory {:.0} MB, {:.1} B a record over key and value; apply {:.2} us a put",
        taken as f64 / 1e6,
        (taken as f64 - payload as f64) / RECORDS as f64,
        nanoseconds as f64 / RECORDS as f64 / 1e3
    );
    match part {
        "plain" => reads_and_clones(state),
        "owned" => death(state),
        _ => {}
    }
}

/// Prints microseconds each.
fn each<T>(what: &str, times: u64, mut run: impl FnMut(u64) -> T) {
    let begin = Instant::now();
    for at in 0..times {
        black_box(run(at));
    }
    let each = begin.elapsed().as_secs_f64() * 1e6 / times as f64;
    println!("  {what}: {each:.3} us");
}

fn reads_and_clones(mut state: State) {
    let some: Vec<Bytes> = (0..200_000).map(|at| key(at * 7_919 % RECORDS)).collect();
    each("get, present", 200_000, |at| {
        state.get(&some[at as usize]).expect("there")
    });
    let absent: Vec<Bytes> = (0..200_000).map(|at| key(RECORDS + at)).collect();
    each("get, absent", 200_000, |at| {
        state.get(&absent[at as usize]).is_none()
    });
    let record = |at| {
        state
            .map()
            .get(&some[at as usize])
            .map(|record| record.revision())
    };
    each("look up alone", 200_000, record);
    each("scan of 100", 2_000, |at| {
        state.scan(b"session/", Some(&some[at as usize]), 100)
    });
    each("clone", 1_000, |_| state.clone());
    each("state hash", 1_000, |_| state.hash());
    each("walk", 3, |_| {
        state
            .map()
            .iter()
            .map(|record| record.key().len())
            .sum::<usize>()
    });
    each("usage", 20, |_| state.usage(100));
    let snapshot = state.clone();
    let before = resident();
    let mut sequence = 2 * RECORDS;
    let mut overwrite = |what: &str, step: u64| {
        let mut nanoseconds = 0;
        for first in (0..100_000).step_by(PER_ENTRY as usize) {
            let numbers = (first..first + PER_ENTRY).map(|at| at * step % RECORDS);
            let body = proposals(numbers.map(|at| write(key(at), at, None)), sequence);
            sequence += PER_ENTRY;
            let index = state.applied() + 1;
            let begin = Instant::now();
            black_box(state.apply(index, &body)).expect("in order");
            nanoseconds += begin.elapsed().as_nanos();
        }
        println!("  {what}: {:.3} us", nanoseconds as f64 / 1e8);
    };
    overwrite("put of 10 % under a clone", 7_919);
    let grown = (resident() - before) as f64 / 1e6;
    println!("  memory for it: {grown:.0} MB");
    drop(snapshot);
    overwrite("put over a record, no clone", 7_919);
    snapshots(&state);
}

fn snapshots(state: &State) {
    let mut bytes = Vec::new();
    each("snapshot written to memory", 1, |_| {
        file::write(state, b"", &mut bytes).is_ok()
    });
    println!("  its size: {:.1} MB", bytes.len() as f64 / 1e6);
    let mut loaded = None;
    each("snapshot read and verified", 1, |_| {
        loaded = file::read(&mut &bytes[..], Limits::default()).ok();
    });
    let loaded = loaded.expect("as written").state;
    drop(bytes);
    each("difference to the same from a snapshot", 3, |_| {
        installed(&loaded, state, 0)
    });
    let mut ahead = state.clone();
    let writes = (0..1000).map(|at| write(key(at * 991), at, None));
    let body = proposals(writes, 10 * RECORDS);
    ahead.apply(state.applied() + 1, &body).expect("in order");
    let events = installed(&loaded, &ahead, 10_000).map(|events| events.len());
    assert_eq!(events, Some(1000));
    each("difference of 1,000 writes to it", 3, |_| {
        installed(&loaded, &ahead, 10_000)
    });
    let mut loaded = Some(loaded);
    each("freed", 1, |_| loaded = None);
}

fn death(mut state: State) {
    let dead = Incarnation(5);
    let mut index = state.applied();
    let mut applied = |body: &EntryBody| {
        index += 1;
        state.apply(index, body).expect("in order").closed
    };
    each("death of an owner of 125,000 keys", 1, |_| {
        applied(&close(Close::Dead(dead)))
    });
    let body = close(Close::CleanUp(dead));
    each("removal of 1,000 of its keys, one in eight", 50, |_| {
        applied(&body)
    });
    let revision = state.revision();
    assert_eq!(revision, Revision(RECORDS + 1 + 50_000));
}
