//! The disk as a parameter: the few operations that durability is built from.
//!
//! Nothing is durable before [`File::sync_data`] has said so, and no name before [`Disk::sync_dir`]. After a failed
//! sync nobody may sync that file again and believe it: the system may have forgotten what it could not write.

mod file;
mod sim;

pub use file::FileDisk;
pub use sim::{Fault, Keep, SimDisk};

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Open {
    /// For reading; it exists.
    Read,
    /// For reading and writing; it exists.
    Write,
    /// For reading and writing; it does not exist yet.
    Create,
}

/// A directory tree. Paths are relative to its root.
pub trait Disk: Send + Sync {
    /// `NotFound` or `AlreadyExists` where `how` says otherwise. The name of one that was created is durable after
    /// `sync_dir` of its directory.
    fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn File>>;
    /// Replaces `to` if it exists. Durable after `sync_dir` of the directory.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Takes the name away. Durable after `sync_dir` of the directory.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes a directory, and those above it; it may exist. Durable on return.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;
    /// Files of a directory, sorted, as paths below the root; directories in it are left out.
    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>>;
    /// Makes the names of a directory durable as they are now.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Bytes that this process may still write.
    fn free_bytes(&self) -> io::Result<u64>;
}

/// An open file. It stays readable when its name is removed.
pub trait File: Send + Sync {
    /// Fills `buf` from offset `at`; fewer bytes only at the end of the file.
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize>;
    /// Writes all of `buf` at offset `at`. After an error any part of it may have been written.
    fn write_at(&mut self, buf: &[u8], at: u64) -> io::Result<()>;
    /// Claims `len` bytes from the start; what was not written reads as zeros. Fails with `StorageFull` early.
    fn allocate(&mut self, len: u64) -> io::Result<()>;
    /// Makes what was written durable. Returns the time that it takes in simulation, and before which nothing may count
    /// on it; zero on a real disk.
    fn sync_data(&mut self) -> io::Result<Duration>;
    /// For those who do not wait for that time, since nothing else runs yet: it is over when this returns.
    fn wait_for_sync(&mut self) {}
    /// Bytes, those claimed too.
    fn len(&self) -> io::Result<u64>;
    /// Whether there are none.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}

/// Fills all of `buf`, or fails with `UnexpectedEof`.
pub fn read_exact_at(file: &dyn File, buf: &mut [u8], at: u64) -> io::Result<()> {
    if file.read_at(buf, at)? == buf.len() {
        return Ok(());
    }
    Err(io::ErrorKind::UnexpectedEof.into())
}

/// Replaces a small file of `dir` whole: written aside, synced, renamed, durable on return. Blocks its thread; a
/// simulated disk's time is not waited for.
pub fn replace(disk: &dyn Disk, dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let unfinished = dir.join(format!("{name}.unfinished"));
    if disk.list(dir)?.contains(&unfinished) {
        disk.remove(&unfinished)?;
    }
    let mut file = disk.open(&unfinished, Open::Create)?;
    file.write_at(bytes, 0)?;
    file.sync_data()?;
    file.wait_for_sync();
    disk.rename(&unfinished, &dir.join(name))?;
    disk.sync_dir(dir)
}
