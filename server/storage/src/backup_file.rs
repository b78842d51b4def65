//! A backup's file while it is written: under another name, so that what has the right name is whole.

use std::fs::File;
use std::path::{Path, PathBuf};

use crate::Error;

/// Removes what it wrote unless it was finished.
#[derive(Debug)]
pub(crate) struct BackupFile {
    part: PathBuf,
    target: PathBuf,
}

impl BackupFile {
    /// For a `target` that does not exist. What an interrupted backup left under the other name goes.
    pub(crate) fn new(target: &Path) -> Result<BackupFile, Error> {
        if target.exists() {
            return Err(Error::Conflict("the backup's file exists"));
        }
        let mut part = target.as_os_str().to_owned();
        part.push(".part");
        let file = BackupFile {
            part: part.into(),
            target: target.to_owned(),
        };
        file.remove();
        Ok(file)
    }

    /// Where to write.
    pub(crate) fn path(&self) -> &Path {
        &self.part
    }

    /// Gives what is written its name; both are on the disk when this returns.
    pub(crate) fn finish(self) -> Result<(), Error> {
        let directory = match self.target.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        File::open(&self.part)
            .and_then(|file| file.sync_all())
            .and_then(|()| std::fs::rename(&self.part, &self.target))
            .and_then(|()| File::open(directory)?.sync_all())
            .map_err(|e| Error::Other(e.to_string()))
    }

    fn remove(&self) {
        let _ = std::fs::remove_file(&self.part);
    }
}

impl Drop for BackupFile {
    fn drop(&mut self) {
        self.remove();
    }
}
