//! Real processes under faults: members in network namespaces of their own, clients that write down what they asked and
//! were told, and a known checker that judges it.

pub mod cell;
pub mod checker;
pub mod client;
pub mod clients;
pub mod faults;
pub mod founders;
pub mod gaps;
pub mod history;
pub mod killed;
pub mod member;
pub mod net;
pub mod recover;
pub mod run;
pub mod scale;
pub mod times;
pub mod world;

use raft_store::random::{Random, SystemRandom};

/// The directory a run works in: removed at its end, whether it ends well or by a panic.
pub struct Directory(pub std::path::PathBuf);

impl Directory {
    pub fn new(name: &str) -> Self {
        // In a cell, process ids begin anew.
        let name = format!("raft-store-{name}-{:016x}", SystemRandom.u64());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("a temporary directory");
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // What somebody else removes first is removed as well.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
