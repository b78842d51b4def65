//! Fuzzing of what reads bytes from peers, strangers and disks, on the stable toolchain: a seeded mutator over examples
//! that the code itself has made, no instrumentation. Each target is a test beside the decoder, named `fuzz_…`.
//!
//! `cargo test -p raft-store --lib fuzz` feeds some thousand inputs to each. For long:
//! `RAFT_STORE_FUZZ_SECONDS=300 RAFT_STORE_FUZZ_SEED=7 cargo test -p raft-store --release --lib fuzz_request -- --nocapture`.
//! An input that breaks a promise is kept in `target/fuzz` and named; put among the target's examples it fails again.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::time::Duration;

use crate::clock::{Clock, SystemClock};
use crate::state::test_random::Random;

/// Inputs of a short run, where a target feeds one in microseconds.
pub(crate) const BRIEFLY: u64 = 3_000;
/// Longest input that is made.
const MAX_INPUT_BYTES: usize = 64 << 10;
/// Numbers that limits, lengths and indexes are wrong at: as varints, and as fixed integers.
const NUMBERS: [u64; 9] = [
    0,
    1,
    0x7f,
    0x80,
    0xffff,
    1 << 20,
    u32::MAX as u64,
    1 << 63,
    u64::MAX,
];

/// Feeds the examples as they are, then damaged ones: `briefly` of them, or for as long as the environment says.
pub(crate) fn run(name: &str, examples: &[Vec<u8>], briefly: u64, feed: impl Fn(&[u8])) {
    for example in examples {
        attempt(name, example, &feed);
    }
    let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
    let mut random = Random::new(number("RAFT_STORE_FUZZ_SEED").unwrap_or(1));
    let seconds = number("RAFT_STORE_FUZZ_SECONDS");
    let until = SystemClock.now() + Duration::from_secs(seconds.unwrap_or(0));
    let mut inputs = 0;
    while match seconds {
        None => inputs < briefly,
        Some(_) => SystemClock.now() < until,
    } {
        attempt(name, &mutate(&mut random, examples), &feed);
        inputs += 1;
    }
    println!("{name}: {} examples, {inputs} inputs", examples.len());
}

fn attempt(name: &str, input: &[u8], feed: &impl Fn(&[u8])) {
    let Err(panic) = catch_unwind(AssertUnwindSafe(|| feed(input))) else {
        return;
    };
    let dir = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../target/fuzz")
        .join(name);
    let path = dir.join(&blake3::hash(input).to_hex()[..16]);
    let kept = std::fs::create_dir_all(&dir).and_then(|()| std::fs::write(&path, input));
    eprintln!("{name}: failed on {} ({kept:?})", path.display());
    resume_unwind(panic);
}

/// One of the examples with a few changes, or pieces of two.
fn mutate(random: &mut Random, examples: &[Vec<u8>]) -> Vec<u8> {
    let pick = |random: &mut Random| &examples[random.below(examples.len() as u64) as usize];
    let mut out = pick(random).clone();
    for _ in 0..=random.below(4) {
        let at = random.below(out.len() as u64 + 1) as usize;
        let end = (at + random.below(24) as usize).min(out.len());
        match random.below(9) {
            0 => drop(out.drain(at..end)),
            1 => out.truncate(at),
            2 if at < out.len() => out[at] ^= 1 << random.below(8),
            3 if at < out.len() => out[at] = random.next() as u8,
            4 => out.insert(at, random.next() as u8),
            5 => {
                let piece = out[at..end].repeat(1 + random.below(64) as usize);
                out.splice(at..end, piece);
            }
            6 => {
                let other = pick(random);
                let from = random.below(other.len() as u64 + 1) as usize;
                let piece: Vec<_> = other[from..].iter().take(64).copied().collect();
                out.splice(at..end, piece);
            }
            7 => {
                let number = NUMBERS[random.below(NUMBERS.len() as u64) as usize];
                let number = number.wrapping_sub(random.below(3));
                let bytes = match random.below(4) {
                    0 => number.to_le_bytes()[..2].to_vec(),
                    1 => number.to_le_bytes()[..4].to_vec(),
                    2 => number.to_le_bytes().to_vec(),
                    _ => varint(number),
                };
                let end = (at + bytes.len()).min(out.len());
                out.splice(at..end, bytes);
            }
            _ => {
                let piece = out[at..end].to_vec();
                let to = random.below(out.len() as u64 + 1) as usize;
                out.splice(to..to, piece);
            }
        }
    }
    out.truncate(MAX_INPUT_BYTES);
    out
}

fn varint(number: u64) -> Vec<u8> {
    let mut to = crate::codec::Writer::new(crate::codec::VARINT_BYTES);
    to.varint(number);
    to.finish("number").expect("it fits")
}

/// `bytes` with the CRC-32C at their end that they should have: damage behind it is then looked at.
pub(crate) fn with_crc(bytes: &[u8]) -> Vec<u8> {
    let mut whole = bytes.to_vec();
    whole.extend(crc32c::crc32c(bytes).to_le_bytes());
    whole
}

/// `bytes` without those of the CRC at their end.
pub(crate) fn without_crc(bytes: &[u8]) -> Vec<u8> {
    bytes[..bytes.len() - 4].to_vec()
}

/// The same inputs for the same seed, and all kinds of damage.
#[test]
fn fuzz_itself() {
    let examples = [vec![1; 100], (0..200).collect()];
    let inputs = |seed| {
        let mut random = Random::new(seed);
        let all: Vec<_> = (0..500).map(|_| mutate(&mut random, &examples)).collect();
        all
    };
    assert_eq!(inputs(1), inputs(1));
    assert_ne!(inputs(1), inputs(2));
    let lengths: std::collections::BTreeSet<_> = inputs(1).iter().map(Vec::len).collect();
    assert!(lengths.len() > 100 && lengths.contains(&100));
}
