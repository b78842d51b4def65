//! A snapshot file anywhere on the disk, for keeping: written aside, read back and verified, named. Nothing is overwritten.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::file::{Error, Written};
use super::publish::{load, write_to};
use crate::disk::{Disk, Open};
use crate::limits::Limits;
use crate::spawner::{Job, Next};
use crate::state::State;

/// A snapshot that was saved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Saved {
    /// Of the last entry in it.
    pub index: u64,
    pub bytes: u64,
    /// The BLAKE3 in its last block.
    pub hash: [u8; 32],
}

type Told = Box<dyn FnOnce(Result<Saved, Error>) + Send>;

/// The job that does it.
pub(crate) struct Save {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) path: PathBuf,
    pub(crate) limits: Limits,
    pub(crate) state: State,
    pub(crate) meta: Vec<u8>,
    /// Told once.
    pub(crate) told: Option<Told>,
}

fn dir_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}

impl Save {
    fn save(&self) -> Result<(Saved, Duration), Error> {
        let disk = &*self.disk;
        // The name is taken first: `AlreadyExists` is the answer for whoever comes second.
        drop(disk.open(&self.path, Open::Create)?);
        let aside = self.path.with_extension("unfinished");
        let done = self.write(&aside);
        if done.is_err() {
            // Both are nothing that could be restored.
            let _ = disk.remove(&aside);
            let _ = disk.remove(&self.path);
        }
        done
    }

    fn write(&self, aside: &Path) -> Result<(Saved, Duration), Error> {
        let disk = &*self.disk;
        if disk.list(dir_of(aside))?.iter().any(|path| path == aside) {
            disk.remove(aside)?;
        }
        let (Written { bytes, hash }, took) = write_to(disk, aside, &self.state, &self.meta)?;
        let read = load(disk, aside, self.limits)?;
        if read.hash != hash || read.state.hash() != self.state.hash() {
            return Err(Error::Content("read back, it is not what was written"));
        }
        disk.rename(aside, &self.path)?;
        disk.sync_dir(dir_of(&self.path))?;
        let index = self.state.applied();
        Ok((Saved { index, bytes, hash }, took))
    }
}

impl Job for Save {
    fn step(&mut self) -> Next {
        let Some(told) = self.told.take() else {
            return Next::Done;
        };
        match self.save() {
            Ok((saved, took)) => {
                told(Ok(saved));
                Next::After(took)
            }
            Err(error) => {
                told(Err(error));
                Next::Done
            }
        }
    }
}
