//! Snapshot files in their directory: written aside, synced, renamed, the directory synced; then it is *published*.
//!
//! Names are the index of the last entry applied, in hexadecimal, so that the newest is the last. Publishing is
//! monotone: an older snapshot that is finished later is removed. The one before goes when the next is published.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;

use super::file::{self, Error, Loaded, Written};
use crate::disk::{Disk, File, Open};
use crate::limits::Limits;
use crate::spawner::{Job, Next, Spawned, Spawner};
use crate::state::State;

/// Written between two syncs: the log's own sync waits behind no more than this.
const SYNC_BYTES: u64 = 4 << 20;
const READ_BYTES: usize = 256 << 10;
const FINISHED: &str = "snapshot";
const UNFINISHED: &str = "unfinished";

/// A snapshot that the next start will find.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// Of the last entry in it.
    pub index: u64,
    /// What the layer above put beside the state.
    pub meta: Bytes,
    pub bytes: u64,
    /// The BLAKE3 in its last block: its name among members.
    pub hash: [u8; 32],
    pub path: PathBuf,
}

/// A directory of snapshots. Clones are handles to the same.
#[derive(Clone)]
pub struct Snapshots(Arc<Inner>);

struct Inner {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    limits: Limits,
    published: Mutex<Option<Published>>,
}

/// Told once, by the job that builds.
pub type Built = Box<dyn FnOnce(Result<Published, Error>) + Send>;

impl Snapshots {
    /// Finds the newest whole snapshot. Unfinished files are removed; a damaged one is reported and passed over: if the
    /// log does not reach back to an older one, opening the log says so.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        limits: Limits,
    ) -> Result<(Self, Option<Loaded>), Error> {
        disk.create_dir(dir)?;
        let mut found = None;
        for path in disk.list(dir)?.iter().rev() {
            let extension = path.extension().and_then(|extension| extension.to_str());
            match extension {
                Some(UNFINISHED) => disk.remove(path)?,
                Some(FINISHED) if found.is_none() => match load(&*disk, path, limits) {
                    Ok(loaded) => found = Some((path.clone(), loaded)),
                    Err(Error::Io(error)) => return Err(Error::Io(error)),
                    Err(error) => {
                        tracing::error!(path = %path.display(), %error, "a snapshot cannot be used");
                    }
                },
                _ => {}
            }
        }
        let published = found.as_ref().map(|(path, loaded)| Published {
            index: loaded.state.applied(),
            meta: Bytes::copy_from_slice(&loaded.meta),
            bytes: loaded.bytes,
            hash: loaded.hash,
            path: path.clone(),
        });
        let snapshots = Self(Arc::new(Inner {
            disk,
            dir: dir.to_owned(),
            limits,
            published: Mutex::new(published),
        }));
        Ok((snapshots, found.map(|(_, loaded)| loaded)))
    }

    /// The newest.
    pub fn published(&self) -> Option<Published> {
        self.0.published.lock().clone()
    }

    /// Starts writing a state with `meta` beside it.
    pub fn build(
        &self,
        spawner: &dyn Spawner,
        state: State,
        meta: Vec<u8>,
        built: Built,
    ) -> io::Result<Spawned> {
        let job = Build {
            snapshots: self.clone(),
            step: Step::Write(Box::new(state), meta),
            built: Some(built),
        };
        spawner.spawn("snapshot", Box::new(job))
    }

    fn path(&self, index: u64, extension: &str) -> PathBuf {
        self.0.dir.join(format!("{index:016x}.{extension}"))
    }

    /// Where a snapshot with this hash is received.
    pub(super) fn incoming(&self, hash: &[u8; 32]) -> PathBuf {
        let name: String = hash[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        self.0.dir.join(format!("incoming-{name}.{UNFINISHED}"))
    }

    /// An empty file in the place of what was left there.
    pub(super) fn create(&self, path: &Path) -> io::Result<Out> {
        self.clear(path)?;
        Out::create(&*self.0.disk, path)
    }

    fn clear(&self, path: &Path) -> io::Result<()> {
        let disk = &*self.0.disk;
        match disk.list(&self.0.dir)?.iter().any(|found| found == path) {
            true => disk.remove(path),
            false => Ok(()),
        }
    }

    /// Removes a file that was not finished.
    pub(super) fn remove(&self, path: &Path) {
        // The next start removes it otherwise.
        let _ = self.0.disk.remove(path);
    }

    /// The published snapshot, open: it stays readable when the next is published.
    pub(super) fn open_published(&self) -> io::Result<Option<(Published, Box<dyn File>)>> {
        // Under the lock it keeps its name.
        let published = self.0.published.lock();
        let Some(published) = published.as_ref() else {
            return Ok(None);
        };
        let file = self.0.disk.open(&published.path, Open::Read)?;
        Ok(Some((published.clone(), file)))
    }

    /// Reads one that was received, all of it verified.
    pub(super) fn verify(&self, path: &Path) -> Result<(Loaded, Published), Error> {
        let loaded = load(&*self.0.disk, path, self.0.limits)?;
        let index = loaded.state.applied();
        let published = Published {
            index,
            meta: Bytes::copy_from_slice(&loaded.meta),
            bytes: loaded.bytes,
            hash: loaded.hash,
            path: self.path(index, FINISHED),
        };
        Ok((loaded, published))
    }

    /// Writes it aside. Returns the time that its syncs take in simulation.
    fn write(&self, state: &State, meta: &[u8]) -> Result<(Published, Duration), Error> {
        let index = state.applied();
        let path = self.path(index, UNFINISHED);
        self.clear(&path)?;
        let (written, took) = write_to(&*self.0.disk, &path, state, meta)?;
        let published = Published {
            index,
            meta: Bytes::copy_from_slice(meta),
            bytes: written.bytes,
            hash: written.hash,
            path: self.path(index, FINISHED),
        };
        Ok((published, took))
    }

    /// Gives it its name, durably, unless a newer one has been published meanwhile; then that is the answer.
    pub(super) fn publish(&self, unfinished: &Path, new: Published) -> Result<Published, Error> {
        let disk = &*self.0.disk;
        let mut published = self.0.published.lock();
        if let Some(newer) = published.as_ref().filter(|old| old.index >= new.index) {
            disk.remove(unfinished)?;
            return Ok(newer.clone());
        }
        disk.rename(unfinished, &new.path)?;
        disk.sync_dir(&self.0.dir)?;
        let old = published.replace(new.clone());
        drop(published);
        if let Some(old) = old {
            // It comes back at worst, and is passed over then.
            let removed = disk
                .remove(&old.path)
                .and_then(|()| disk.sync_dir(&self.0.dir));
            if let Err(error) = removed {
                tracing::warn!(path = %old.path.display(), %error, "an old snapshot stays");
            }
        }
        Ok(new)
    }

    /// Reads the published snapshot.
    pub fn load(&self, published: &Published) -> Result<Loaded, Error> {
        load(&*self.0.disk, &published.path, self.0.limits)
    }
}

/// Writes a new file and syncs it. Returns the time that its syncs take in simulation.
pub(super) fn write_to(
    disk: &dyn Disk,
    path: &Path,
    state: &State,
    meta: &[u8],
) -> Result<(Written, Duration), Error> {
    let mut out = Out::create(disk, path)?;
    let written = file::write(state, meta, &mut out)?;
    out.flush()?;
    Ok((written, out.took))
}

/// Reads a whole file and verifies it.
pub(crate) fn load(disk: &dyn Disk, path: &Path, limits: Limits) -> Result<Loaded, Error> {
    let from = In {
        file: disk.open(path, Open::Read)?,
        at: 0,
    };
    file::read(&mut io::BufReader::with_capacity(READ_BYTES, from), limits)
}

enum Step {
    Write(Box<State>, Vec<u8>),
    Publish(Published),
    Done,
}

/// Writes, waits as long as the disk takes, publishes, tells.
struct Build {
    snapshots: Snapshots,
    step: Step,
    built: Option<Built>,
}

impl Build {
    fn tell(&mut self, result: Result<Published, Error>) -> Next {
        if let Some(built) = self.built.take() {
            built(result);
        }
        Next::Done
    }
}

impl Job for Build {
    fn step(&mut self) -> Next {
        match std::mem::replace(&mut self.step, Step::Done) {
            Step::Write(state, meta) => match self.snapshots.write(&state, &meta) {
                Ok((published, took)) => {
                    self.step = Step::Publish(published);
                    Next::After(took)
                }
                Err(error) => {
                    let path = self.snapshots.path(state.applied(), UNFINISHED);
                    self.snapshots.remove(&path);
                    self.tell(Err(error))
                }
            },
            Step::Publish(published) => {
                let unfinished = self.snapshots.path(published.index, UNFINISHED);
                let result = self.snapshots.publish(&unfinished, published);
                self.tell(result)
            }
            Step::Done => Next::Done,
        }
    }
}

/// A file from its start on.
pub(super) struct Out {
    file: Box<dyn File>,
    pub(super) at: u64,
    unsynced: u64,
    /// What its syncs take in simulation, and nobody has waited for yet.
    pub(super) took: Duration,
}

impl Out {
    fn create(disk: &dyn Disk, path: &Path) -> io::Result<Self> {
        Ok(Self {
            file: disk.open(path, Open::Create)?,
            at: 0,
            unsynced: 0,
            took: Duration::ZERO,
        })
    }
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write_at(bytes, self.at)?;
        self.at += bytes.len() as u64;
        self.unsynced += bytes.len() as u64;
        if self.unsynced >= SYNC_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.unsynced = 0;
        self.took += self.file.sync_data()?;
        Ok(())
    }
}

struct In {
    file: Box<dyn File>,
    at: u64,
}

impl Read for In {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(into, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{Fault, SimDisk};
    use crate::random::Seeded;
    use crate::spawner::Inline;

    const DIR: &str = "snapshots";

    fn disk(seed: u64) -> SimDisk {
        SimDisk::new(Arc::new(Seeded::new(seed, "disk")))
    }

    fn state(applied: u64) -> State {
        let mut state = State::new(Limits::format_1());
        state.pass(applied).expect("the first");
        state
    }

    fn open(disk: &SimDisk) -> (Snapshots, Option<u64>) {
        let disk = Arc::new(disk.clone());
        let (snapshots, loaded) =
            Snapshots::open(disk, Path::new(DIR), Limits::format_1()).expect("it opens");
        (snapshots, loaded.map(|loaded| loaded.state.applied()))
    }

    type Told = Arc<Mutex<Option<Result<u64, String>>>>;

    fn build(snapshots: &Snapshots, jobs: &Inline, applied: u64) -> Told {
        let told = Told::default();
        let into = told.clone();
        let built: Built = Box::new(move |result| {
            let result = result.map(|published| published.index);
            *into.lock() = Some(result.map_err(|error| error.to_string()));
        });
        let meta = applied.to_string().into_bytes();
        snapshots
            .build(jobs, state(applied), meta, built)
            .expect("it starts");
        told
    }

    #[test]
    fn publish_is_monotone() {
        let disk = disk(1);
        let (snapshots, _) = open(&disk);
        let jobs = Inline::default();
        build(&snapshots, &jobs, 5);
        jobs.run();
        let late = build(&snapshots, &jobs, 7);
        // Writes, and does not publish yet.
        jobs.step_once();
        let other = Inline::default();
        build(&snapshots, &other, 9);
        other.run();
        jobs.run();
        assert_eq!(*late.lock(), Some(Ok(9)));
        let published = snapshots.published().expect("there is one");
        assert_eq!((published.index, &published.meta[..]), (9, &b"9"[..]));
        let names = disk.list(Path::new(DIR)).expect("listed");
        assert_eq!(names, std::slice::from_ref(&published.path));
        assert_eq!(snapshots.load(&published).expect("whole").meta, b"9");
        drop(snapshots);
        assert_eq!(open(&disk).1, Some(9));
    }

    #[test]
    fn a_power_cut_at_any_time_leaves_one_that_was_published() {
        for operation in 0.. {
            let disk = disk(operation);
            let (snapshots, _) = open(&disk);
            let jobs = Inline::default();
            build(&snapshots, &jobs, 5);
            jobs.run();
            disk.fail_at(disk.operations() + operation, Fault::Refused);
            let told = build(&snapshots, &jobs, 6);
            jobs.run();
            let answered = told.lock().take().expect("told");
            disk.forgive();
            disk.power_cut();
            drop(snapshots);
            let found = open(&disk).1;
            match answered {
                Ok(_) => assert_eq!(found, Some(6), "operation {operation}"),
                Err(_) => assert!(matches!(found, Some(5 | 6)), "operation {operation}"),
            }
            if answered.is_ok() && operation > 40 {
                return;
            }
        }
    }

    #[test]
    fn a_damaged_one_is_passed_over() {
        let disk = disk(1);
        let (snapshots, _) = open(&disk);
        let jobs = Inline::default();
        build(&snapshots, &jobs, 5);
        jobs.run();
        let path = snapshots.published().expect("there is one").path;
        assert!(disk.flip(&path, 30, 1));
        drop(snapshots);
        let (snapshots, found) = open(&disk);
        assert_eq!((snapshots.published(), found), (None, None));
    }
}
