//! Founding records in files: of a directory that members on one machine share, and of a member that is alone.
//!
//! `[magic 8][format 2][uuid 16][founder 8][CRC-32C 4]`, written aside, synced, renamed, under a lock.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use tokio::time::sleep;

use super::{Created, Founding, FoundingRecord, RecordError};
use crate::codec::{self, Reader, Writer};
use crate::disk::{Disk, Open, read_exact_at};
use crate::ids::{ClusterId, MemberId};
use crate::transport::BoxFuture;

const MAGIC: [u8; 8] = *b"raftfoun";
const FORMAT: u16 = 1;
const BYTES: usize = 38;
/// How soon a lock that another process has is tried again.
const LOCK_AGAIN: Duration = Duration::from_millis(10);

fn encode(founding: Founding) -> Vec<u8> {
    let mut to = Writer::new(BYTES);
    to.raw(&MAGIC);
    to.u16(FORMAT);
    to.raw(&founding.uuid.0);
    to.u64(founding.founder.0);
    let mut bytes = to.finish("founding").expect("of this length");
    let crc = crc32c::crc32c(&bytes);
    bytes.extend(crc.to_le_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Result<Founding, RecordError> {
    let damaged = || RecordError::Unavailable("the file is damaged or of another format".into());
    if bytes.len() != BYTES {
        return Err(damaged());
    }
    let (content, crc) = bytes.split_at(BYTES - 4);
    if crc32c::crc32c(content).to_le_bytes() != *crc {
        return Err(damaged());
    }
    let mut from = Reader::new(content);
    let mut read = || -> Result<_, codec::Error> {
        let known = from.array("magic")? == MAGIC && from.u16("format")? == FORMAT;
        let uuid = ClusterId(from.array("uuid")?);
        let founder = MemberId(from.u64("founder")?);
        Ok((known, Founding { uuid, founder }))
    };
    match read() {
        Ok((true, founding)) => Ok(founding),
        _ => Err(damaged()),
    }
}

/// Before anything was changed.
fn unavailable(error: io::Error) -> RecordError {
    RecordError::Unavailable(error.to_string())
}

fn unknown(error: io::Error) -> RecordError {
    RecordError::Unknown(error.to_string())
}

/// A file that all members of one machine name. Its calls block for as long as a small file takes.
#[derive(Debug, Clone)]
pub struct FileRecord {
    path: PathBuf,
}

impl FileRecord {
    /// The file's directory exists; a lock file is made beside it.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    fn beside(&self, extension: &str) -> PathBuf {
        let mut name = self.path.file_name().unwrap_or_default().to_owned();
        name.push(extension);
        self.path.with_file_name(name)
    }

    /// Nobody else changes the file while what this returns lives, or after the death of the process. Who has the lock
    /// may be stopped, so the thread does not wait for it: it may be all that a member has.
    async fn lock(&self) -> Result<fs::File, RecordError> {
        let locked = self.locked().await;
        locked.map_err(|error| self.unavailable(&error))
    }

    async fn locked(&self) -> io::Result<fs::File> {
        let mut options = fs::OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false);
        let lock = options.open(self.beside(".lock"))?;
        loop {
            match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(lock),
                Err(Errno::INTR) => {}
                Err(Errno::WOULDBLOCK) => sleep(LOCK_AGAIN).await,
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn load(&self) -> Result<Option<Founding>, RecordError> {
        match fs::read(&self.path) {
            Ok(bytes) => decode(&bytes).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.unavailable(&error)),
        }
    }

    /// Before anything was changed. Whoever reads it has to know which file it is about.
    fn unavailable(&self, error: &io::Error) -> RecordError {
        RecordError::Unavailable(format!("{}: {error}", self.path.display()))
    }

    /// Under the lock.
    fn store(&self, founding: Founding) -> io::Result<()> {
        let unfinished = self.beside(".unfinished");
        let mut file = fs::File::create(&unfinished)?;
        file.write_all(&encode(founding))?;
        file.sync_all()?;
        fs::rename(&unfinished, &self.path)?;
        let dir = self.path.parent().filter(|dir| !dir.as_os_str().is_empty());
        fs::File::open(dir.unwrap_or(Path::new(".")))?.sync_all()
    }

    async fn create_locked(&self, founding: Founding) -> Result<Created, RecordError> {
        let _lock = self.lock().await?;
        if let Some(found) = self.load()? {
            return Ok(Created::Exists(found));
        }
        self.store(founding).map_err(unknown)?;
        Ok(Created::Yes)
    }

    async fn replace_locked(&self, old: ClusterId, new: Founding) -> Result<bool, RecordError> {
        let _lock = self.lock().await?;
        if self.load()?.map(|found| found.uuid) != Some(old) {
            return Ok(false);
        }
        self.store(new).map_err(unknown)?;
        Ok(true)
    }
}

impl FoundingRecord for FileRecord {
    fn read(&self) -> BoxFuture<'_, Result<Option<Founding>, RecordError>> {
        Box::pin(async { self.load() })
    }

    fn create(&self, founding: Founding) -> BoxFuture<'_, Result<Created, RecordError>> {
        Box::pin(self.create_locked(founding))
    }

    fn replace(&self, old: ClusterId, new: Founding) -> BoxFuture<'_, Result<bool, RecordError>> {
        Box::pin(self.replace_locked(old, new))
    }
}

/// The record of a member that shares none: a file in its own directory, so that an empty directory founds at once.
pub struct Alone {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    lock: Mutex<()>,
}

const NAME: &str = "founding";
const UNFINISHED: &str = "founding.unfinished";

impl Alone {
    /// In `dir`, below the disk's root.
    pub fn new(disk: Arc<dyn Disk>, dir: impl Into<PathBuf>) -> Self {
        let (dir, lock) = (dir.into(), Mutex::new(()));
        Self { disk, dir, lock }
    }

    fn load(&self) -> Result<Option<Founding>, RecordError> {
        let path = self.dir.join(NAME);
        self.disk.create_dir(&self.dir).map_err(unavailable)?;
        if !self
            .disk
            .list(&self.dir)
            .map_err(unavailable)?
            .contains(&path)
        {
            return Ok(None);
        }
        let file = self.disk.open(&path, Open::Read).map_err(unavailable)?;
        let mut bytes = [0; BYTES];
        read_exact_at(&*file, &mut bytes, 0).map_err(unavailable)?;
        decode(&bytes).map(Some)
    }

    fn store(&self, founding: Founding) -> io::Result<()> {
        let (disk, unfinished) = (&*self.disk, self.dir.join(UNFINISHED));
        if disk.list(&self.dir)?.contains(&unfinished) {
            disk.remove(&unfinished)?;
        }
        let mut file = disk.open(&unfinished, Open::Create)?;
        file.write_at(&encode(founding), 0)?;
        file.sync_data()?;
        file.wait_for_sync();
        disk.rename(&unfinished, &self.dir.join(NAME))?;
        disk.sync_dir(&self.dir)
    }
}

impl FoundingRecord for Alone {
    fn read(&self) -> BoxFuture<'_, Result<Option<Founding>, RecordError>> {
        Box::pin(async { self.load() })
    }

    fn create(&self, founding: Founding) -> BoxFuture<'_, Result<Created, RecordError>> {
        Box::pin(async move {
            let _lock = self.lock.lock();
            if let Some(found) = self.load()? {
                return Ok(Created::Exists(found));
            }
            self.store(founding).map_err(unknown)?;
            Ok(Created::Yes)
        })
    }

    fn replace(&self, old: ClusterId, new: Founding) -> BoxFuture<'_, Result<bool, RecordError>> {
        Box::pin(async move {
            let _lock = self.lock.lock();
            if self.load()?.map(|found| found.uuid) != Some(old) {
                return Ok(false);
            }
            self.store(new).map_err(unknown)?;
            Ok(true)
        })
    }
}

#[cfg(test)]
mod tests;
