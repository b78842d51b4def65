//! Speed of the store's parts, each beside what the bare machine does in the same minute.
//!
//! `cargo bench -p raft-store --bench bench -- log|single|three|million|channel [DIRECTORY [SECONDS]]`: the log alone, a store of one member,
//! three members (`million`: a million keys and a snapshot of them alone), a channel between two processes. Makes a directory of its own in DIRECTORY
//! (the system's temporary one), which should be on the disk to be judged, and removes it. Each measurement takes
//! SECONDS (3), and there are six.

#[path = "parts/channel.rs"]
mod channel;
#[path = "parts/disk.rs"]
mod disk;
#[path = "parts/etcd.rs"]
mod etcd;
#[path = "parts/log.rs"]
mod log;
#[path = "parts/single.rs"]
mod single;
#[path = "parts/three.rs"]
mod three;

use std::path::PathBuf;
use std::time::Duration;

fn main() {
    // Cargo itself passes `--bench`.
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench")
        .collect();
    let directory = arguments
        .get(1)
        .map_or_else(std::env::temp_dir, PathBuf::from);
    if let [part, directory, address] = &arguments[..]
        && part == "channel-far"
    {
        return channel::run_far(directory.as_ref(), address);
    }
    let seconds = arguments.get(2).map_or(Ok(3), |seconds| seconds.parse());
    match (arguments.first().map(String::as_str), seconds) {
        (Some("log"), Ok(seconds)) => log::run(&directory, Duration::from_secs(seconds)),
        (Some("single"), Ok(seconds)) => single::run(&directory, Duration::from_secs(seconds)),
        (Some("channel"), Ok(seconds)) => channel::run(&directory, Duration::from_secs(seconds)),
        (Some("three"), Ok(seconds)) => three::run(&directory, Duration::from_secs(seconds)),
        (Some("million"), Ok(seconds)) => {
            three::run_million(&directory, Duration::from_secs(seconds))
        }
        _ => {
            println!(
                "usage: cargo bench -p raft-store --bench bench -- log|single|three|million|channel [DIRECTORY [SECONDS]]"
            )
        }
    }
}
