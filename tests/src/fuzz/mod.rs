//! Fuzzing of every decoder that reads bytes from outside, on the stable toolchain: a seeded
//! mutator over a folder of examples, no instrumentation
//!
//! `fuzz --help` says how to run it for long; `tests/tests/fuzz.rs` runs every target briefly.

pub mod cost;
mod mutate;
mod targets;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::Parser;

use crate::harness::repository;
pub use mutate::{Random, mutate};
pub use targets::{TARGETS, Target};

/// Longest input that is made.
const MAX_INPUT_BYTES: usize = 64 * 1024;

/// `fuzz`: feeds damaged examples to what reads bytes from outside.
#[derive(Debug, Parser)]
pub struct Options {
    /// Targets to run; all without any.
    pub targets: Vec<String>,
    /// Seconds for each target.
    #[arg(long, default_value_t = 10)]
    pub seconds: u64,
    /// Start of the random numbers: the same seed makes the same inputs.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Folder of examples, instead of the target's own in `tests/fuzz`.
    #[arg(long)]
    pub corpus: Option<PathBuf>,
    /// Feed the examples as they are, once each: to look at what failed.
    #[arg(long)]
    pub replay: bool,
    /// Feed each shape of input at three sizes, for a tool that counts instructions.
    #[arg(long)]
    pub cost: bool,
}

/// Runs what the options say; an error for the first input that broke a promise.
///
/// # Errors
/// A target that there is not, a folder that cannot be read, or a failure, its input kept in
/// `target/fuzz`.
pub fn run(options: &Options) -> anyhow::Result<()> {
    if options.cost {
        cost::feed_all();
        return Ok(());
    }
    let chosen: Vec<&Target> = if options.targets.is_empty() {
        TARGETS.iter().collect()
    } else {
        let named = options.targets.iter().map(|name| {
            let found = TARGETS.iter().find(|target| target.name == name);
            found.with_context(|| format!("no target {name}"))
        });
        named.collect::<Result<_, _>>()?
    };
    for target in chosen {
        let corpus = match &options.corpus {
            Some(folder) => examples(folder)?,
            None => own_examples(target)?,
        };
        if options.replay {
            for input in &corpus {
                feed(target, input)?;
            }
            println!("{}: {} examples", target.name, corpus.len());
            continue;
        }
        let until = Instant::now() + Duration::from_secs(options.seconds);
        let mut random = Random::new(options.seed);
        let mut inputs = 0_u64;
        while Instant::now() < until {
            fuzz(target, &corpus, &mut random, 64)?;
            inputs += 64;
        }
        println!("{}: {inputs} inputs", target.name);
    }
    Ok(())
}

/// Feeds the examples of a target as they are, then `count` damaged ones.
///
/// # Errors
/// As [`run`].
pub fn run_briefly(target: &Target, count: usize, seed: u64) -> anyhow::Result<()> {
    let corpus = own_examples(target)?;
    for input in &corpus {
        feed(target, input)?;
    }
    fuzz(target, &corpus, &mut Random::new(seed), count)
}

fn fuzz(
    target: &Target,
    corpus: &[Vec<u8>],
    random: &mut Random,
    count: usize,
) -> anyhow::Result<()> {
    for _ in 0..count {
        let mut input = mutate(random, corpus);
        input.truncate(MAX_INPUT_BYTES);
        feed(target, &input)?;
    }
    Ok(())
}

fn feed(target: &Target, input: &[u8]) -> anyhow::Result<()> {
    if catch_unwind(AssertUnwindSafe(|| (target.feed)(input))).is_ok() {
        return Ok(());
    }
    let folder = repository().join("target/fuzz").join(target.name);
    std::fs::create_dir_all(&folder)?;
    let path = folder.join(format!("{:016x}", mutate::digest(input)));
    std::fs::write(&path, input)?;
    bail!("{}: failed on {}", target.name, path.display())
}

fn own_examples(target: &Target) -> anyhow::Result<Vec<Vec<u8>>> {
    let mut found = examples(&repository().join("tests/fuzz").join(target.name))?;
    found.extend((target.more_examples)().map(String::into_bytes));
    Ok(found)
}

/// The files of a folder, in the order of their names.
fn examples(folder: &Path) -> anyhow::Result<Vec<Vec<u8>>> {
    let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut paths = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>, _>>()?;
    paths.sort();
    let examples = paths.iter().map(std::fs::read);
    let examples = examples.collect::<Result<Vec<_>, _>>()?;
    if examples.is_empty() {
        bail!("no examples in {}", folder.display());
    }
    Ok(examples)
}
