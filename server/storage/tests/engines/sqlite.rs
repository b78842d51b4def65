//! The conformance suite on SQLite, and what is particular to it.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::conformance::Bench;
use eider_storage::{Config, SqliteConfig};

/// A directory that goes with its value.
pub struct Directory(PathBuf);

impl Directory {
    pub fn new() -> Directory {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "eider-sqlite-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("a temporary directory can be made");
        Directory(path)
    }
}

impl Directory {
    /// A file's path in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

pub async fn start() -> (Bench, Directory) {
    let directory = Directory::new();
    let config = Config::Sqlite(SqliteConfig::new(directory.0.join("eider.db")));
    let storage = eider_storage::open(&config).await.expect("SQLite opens");
    (Bench { storage, config }, directory)
}

crate::conformance!(crate::sqlite::start);
