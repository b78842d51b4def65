//! The real disk: one directory, owned by one process at a time.

use super::{Disk, File, Open};
use rustix::fs::{FallocateFlags, FlockOperation};
use rustix::io::Errno;
use std::fs;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Name of the file whose lock keeps a second process out.
const LOCK: &str = "lock";

/// A directory of the file system, locked while this value lives.
pub struct FileDisk {
    root: PathBuf,
    _lock: fs::File,
}

impl FileDisk {
    /// Makes `root` if need be and locks it. `WouldBlock`: another process has it.
    pub fn open(root: &Path) -> io::Result<Self> {
        create_dir_synced(root)?;
        let mut options = fs::OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false);
        let lock = options.open(root.join(LOCK))?;
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Self {
            root: root.to_owned(),
            _lock: lock,
        })
    }
}

/// Makes a directory and those above it, each name synced in its parent.
fn create_dir_synced(dir: &Path) -> io::Result<()> {
    if dir.as_os_str().is_empty() || dir.is_dir() {
        return Ok(());
    }
    let parent = dir.parent().unwrap_or(Path::new(""));
    create_dir_synced(parent)?;
    match fs::create_dir(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    sync_dir(parent)
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    let here = Path::new(".");
    let dir = if dir.as_os_str().is_empty() {
        here
    } else {
        dir
    };
    fs::File::open(dir)?.sync_all()
}

impl Disk for FileDisk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn File>> {
        let mut options = fs::OpenOptions::new();
        options.read(true);
        options.write(how != Open::Read);
        options.create_new(how == Open::Create);
        // What a member writes, its key among it, concerns nobody else on the machine.
        options.mode(0o600);
        let file = options.open(self.root.join(path))?;
        Ok(Box::new(RealFile(file)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(self.root.join(from), self.root.join(to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(self.root.join(path))
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        create_dir_synced(&self.root.join(dir))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(self.root.join(dir))? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                found.push(dir.join(entry.file_name()));
            }
        }
        found.sort();
        Ok(found)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        sync_dir(&self.root.join(dir))
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(&self.root)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

struct RealFile(fs::File);

impl File for RealFile {
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buf.len() {
            match self.0.read_at(&mut buf[filled..], at + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn write_at(&mut self, buf: &[u8], at: u64) -> io::Result<()> {
        self.0.write_all_at(buf, at)
    }

    fn allocate(&mut self, len: u64) -> io::Result<()> {
        match rustix::fs::fallocate(&self.0, FallocateFlags::empty(), 0, len) {
            // A file system without it: the length at least; who fills with zeros claims the space.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => self.0.set_len(len.max(self.len()?)),
            other => Ok(other?),
        }
    }

    fn sync_data(&mut self) -> io::Result<Duration> {
        rustix::fs::fdatasync(&self.0)?;
        Ok(Duration::ZERO)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> PathBuf {
        use crate::random::{Random, SystemRandom};
        std::env::temp_dir().join(format!("raft-store-disk-{:016x}", SystemRandom.u64()))
    }

    #[test]
    fn files_behave_as_the_trait_says() {
        let root = root();
        let disk = FileDisk::open(&root).expect("a new directory");
        assert!(
            FileDisk::open(&root).is_err(),
            "a second process is kept out"
        );
        let dir = Path::new("a/b");
        disk.create_dir(dir).expect("made");
        disk.create_dir(dir).expect("it may exist");
        let (one, two) = (dir.join("one"), dir.join("two"));
        let mut file = disk.open(&one, Open::Create).expect("new");
        assert!(disk.open(&one, Open::Create).is_err());
        file.allocate(8192).expect("space");
        assert_eq!(file.len().expect("length"), 8192);
        file.write_at(b"hello", 8190).expect("written");
        assert_eq!(file.sync_data().expect("synced"), Duration::ZERO);
        let mut read = [1; 10];
        assert_eq!(file.read_at(&mut read, 8188).expect("read"), 7);
        assert_eq!(&read[..7], b"\0\0hello");
        disk.rename(&one, &two).expect("renamed");
        disk.sync_dir(dir).expect("synced");
        assert_eq!(disk.list(dir).expect("listed"), std::slice::from_ref(&two));
        disk.remove(&two).expect("removed");
        assert_eq!(file.read_at(&mut read, 0).expect("still readable"), 10);
        assert!(disk.free_bytes().expect("known") > 0);
        fs::remove_dir_all(&root).expect("cleaned up");
    }
}
