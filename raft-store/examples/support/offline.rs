//! What is done to a daemon's directory while the daemon does not run: a cluster made of its one survivor, of a saved
//! snapshot, or begun again where all disks are lost.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use raft_store::clock::SystemClock;
use raft_store::disk::FileDisk;
use raft_store::founding::{Alone, FileRecord, FoundingRecord};
use raft_store::gate::Tasks;
use raft_store::ids::ClusterId;
use raft_store::offline::{self, Anew};
use raft_store::random::SystemRandom;
use raft_store::spawner::Threads;
use raft_store::transport::Nowhere;
use raft_store::{Parts, Settings};
use rustix::fs::{CWD, RenameFlags, renameat_with};

/// As the daemon has it.
const MEMBER: &str = "member";
const RECOVERED: &str = "member-recovered";
/// Of the snapshot, while it is read.
const COPY: &str = "restoring.snapshot";
const BEFORE: &str = "member-before-recovery";

type Failed = Box<dyn std::error::Error>;

/// The words of one such command, run to its end. `None`: they are none.
pub fn run(words: &[&str]) -> Option<Result<String, Failed>> {
    let (verb, dir, more) = match *words {
        [
            verb @ ("recover" | "restore" | "refound"),
            dir,
            ref more @ ..,
        ] => (verb, dir, more),
        _ => return None,
    };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let word = |place: usize| more.get(place).copied();
    let done = match (verb, more) {
        ("recover", [] | [_] | [_, _]) => runtime.block_on(recover(dir, word(0), word(1))),
        ("restore", [file] | [file, _] | [file, _, _]) => {
            runtime.block_on(restore(dir, file, word(1), word(2)))
        }
        ("refound", [founding, old]) => runtime.block_on(refound(dir, founding, old)),
        _ => return None,
    };
    Some(done)
}

/// A daemon that runs in `dir` holds it, and this fails.
fn parts(dir: &str, founding: Option<&str>) -> Result<(Settings, Parts), Failed> {
    let disk = FileDisk::open(Path::new(dir)).map_err(|error| match error.kind() {
        ErrorKind::WouldBlock => format!("a daemon runs in {dir}: end it first"),
        _ => format!("{dir}: {error}"),
    });
    let disk = Arc::new(disk?);
    let record: Arc<dyn FoundingRecord> = match founding {
        Some(file) => Arc::new(FileRecord::new(file)),
        None => Arc::new(Alone::new(disk.clone(), MEMBER)),
    };
    let parts = Parts {
        disk,
        random: Arc::new(SystemRandom),
        clock: Arc::new(SystemClock),
        transport: Arc::new(Nowhere),
        founding: record,
        discovery: Arc::new([]),
        spawner: Arc::new(Threads),
        tasks: Tasks::system(),
    };
    Ok((Settings::new(MEMBER), parts))
}

fn told(anew: &Anew) -> String {
    let (cluster, keys, uncertain) = (anew.cluster, anew.keys, anew.uncertain_entries);
    format!(
        "cluster {cluster} with {keys} keys; {uncertain} entries may never have been acknowledged"
    )
}

fn cluster(text: &str) -> Result<ClusterId, Failed> {
    let digits: String = text.chars().filter(|letter| *letter != '-').collect();
    let number = u128::from_str_radix(&digits, 16)
        .ok()
        .filter(|_| digits.len() == 32);
    let number =
        number.ok_or("a cluster is 32 hexadecimal digits, as `status` and the daemon's log say")?;
    Ok(ClusterId(number.to_be_bytes()))
}

/// Below `dir`, the first of `name`, `name-2`, `name-3` … that is not there.
fn free(dir: &str, name: &str) -> PathBuf {
    let names = (2..).map(|number| format!("{name}-{number}"));
    let mut names = std::iter::once(name.to_owned()).chain(names);
    let free = names.find(|name| !Path::new(dir).join(name).exists());
    PathBuf::from(free.expect("numbers do not end"))
}

async fn recover(dir: &str, founding: Option<&str>, old: Option<&str>) -> Result<String, Failed> {
    let replaces = old.map(cluster).transpose()?;
    if !Path::new(dir).join(MEMBER).is_dir() {
        return Err(format!("{dir} is no daemon's directory").into());
    }
    let (settings, parts) = parts(dir, founding)?;
    let into = free(dir, RECOVERED);
    let anew = offline::recover(&settings, (&parts, &SystemClock), &into, replaces).await?;
    // In one step: a start that finds no member here would begin as an empty one.
    let (new, here) = (Path::new(dir).join(&into), Path::new(dir).join(MEMBER));
    renameat_with(CWD, &new, CWD, &here, RenameFlags::EXCHANGE).map_err(|error| {
        let (new, here) = (new.display(), here.display());
        format!(
            "{}; it is in {new}, which must become {here}: {error}",
            told(&anew)
        )
    })?;
    let before = free(dir, BEFORE);
    parts.disk.rename(&into, &before)?;
    parts.disk.sync_dir(Path::new(""))?;
    Ok(format!(
        "{}\nStart the daemon in {dir} now, and the others with empty directories. What was there is in {dir}/{}.",
        told(&anew),
        before.display()
    ))
}

async fn restore(
    dir: &str,
    file: &str,
    founding: Option<&str>,
    old: Option<&str>,
) -> Result<String, Failed> {
    let replaces = old.map(cluster).transpose()?;
    let (settings, parts) = parts(dir, founding)?;
    // The store reads nothing outside its directory.
    std::fs::copy(file, Path::new(dir).join(COPY)).map_err(|error| format!("{file}: {error}"))?;
    let restored =
        offline::restore(&settings, (&parts, &SystemClock), Path::new(COPY), replaces).await;
    parts.disk.remove(Path::new(COPY))?;
    let anew = restored?;
    Ok(format!("{}\nStart the daemon in {dir} now.", told(&anew)))
}

async fn refound(dir: &str, founding: &str, old: &str) -> Result<String, Failed> {
    let (settings, parts) = parts(dir, Some(founding))?;
    let founded = offline::refound(&settings, &parts, cluster(old)?).await?;
    Ok(format!(
        "cluster {} is founded when the daemon is started in {dir}",
        founded.uuid
    ))
}
