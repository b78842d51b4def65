//! Power cuts: takes back what was written and not synced (powercut.c says how it is noted).

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::receiver::random;

/// One write since the file's last sync.
struct Write {
    offset: u64,
    size_before: u64,
    old: Vec<u8>,
    new: Vec<u8>,
}

/// The layer, built for a run, and the journals of one server.
pub struct PowerCut {
    library: PathBuf,
    data: PathBuf,
    journal: PathBuf,
}

impl PowerCut {
    /// Builds the layer with the system's C compiler; `data` is the directory whose files forget.
    pub fn new(directory: &Path, data: &Path) -> Result<PowerCut> {
        let source = directory.join("powercut.c");
        let library = directory.join("powercut.so");
        let journal = data.with_extension("journal");
        fs::write(&source, include_str!("powercut.c"))?;
        fs::create_dir_all(&journal)?;
        let compiled = Command::new("cc")
            .args(["-O1", "-shared", "-fPIC", "-o"])
            .arg(&library)
            .arg(&source)
            .args(["-ldl", "-lpthread"])
            .status()
            .context("cc, the C compiler, is needed for power cuts")?;
        ensure!(compiled.success(), "the power-cut layer does not compile");
        Ok(PowerCut {
            library,
            data: data.to_owned(),
            journal,
        })
    }

    /// What the server's environment needs.
    pub fn environment(&self) -> [(&'static str, String); 3] {
        [
            ("LD_PRELOAD", self.library.display().to_string()),
            ("EIDER_POWERCUT_DATA", self.data.display().to_string()),
            ("EIDER_POWERCUT_JOURNAL", self.journal.display().to_string()),
        ]
    }

    /// After the kill: unsynced writes are gone, in every other cut only a random part of them.
    /// How many writes were taken back.
    pub fn cut(&self, all: bool) -> Result<usize> {
        let mut undone = 0;
        for entry in fs::read_dir(&self.journal)? {
            let entry = entry?;
            let file = self.data.join(entry.file_name());
            let writes = read_journal(&entry.path())?;
            if file.exists() {
                undone += take_back(&file, &writes, all)?;
            }
            fs::remove_file(entry.path())?;
        }
        Ok(undone)
    }
}

fn read_journal(path: &Path) -> Result<Vec<Write>> {
    let bytes = fs::read(path)?;
    let mut rest = bytes.as_slice();
    let mut writes = Vec::new();
    // A record cut short by the kill belongs to a write that never happened.
    while let Some((head, tail)) = rest.split_at_checked(24) {
        let number = |at: usize, length: usize| {
            let mut buffer = [0u8; 8];
            buffer[..length].copy_from_slice(&head[at..at + length]);
            u64::from_le_bytes(buffer)
        };
        let (old_length, new_length) = (number(16, 4) as usize, number(20, 4) as usize);
        let Some((old, tail)) = tail.split_at_checked(old_length) else {
            break;
        };
        let Some((new, tail)) = tail.split_at_checked(new_length) else {
            break;
        };
        writes.push(Write {
            offset: number(0, 8),
            size_before: number(8, 8),
            old: old.to_vec(),
            new: new.to_vec(),
        });
        rest = tail;
    }
    Ok(writes)
}

fn take_back(path: &Path, writes: &[Write], all: bool) -> Result<usize> {
    let file = OpenOptions::new().write(true).open(path)?;
    for write in writes.iter().rev() {
        file.write_all_at(&write.old, write.offset)?;
        file.set_len(write.size_before)?;
    }
    let mut survivors = 0;
    for write in writes
        .iter()
        .filter(|write| !all && !write.new.is_empty() && random(2) == 0)
    {
        survivors += 1;
        file.write_all_at(&write.new, write.offset)?;
    }
    Ok(writes.len() - survivors)
}
