//! Snapshot files in their directory: written aside, synced, renamed, the directory synced; then it is *published*.
//!
//! Names are the index of the last entry applied, in hexadecimal, so that the newest is the last. Publishing is
//! monotone: an older snapshot that is finished later is removed. The one before goes when the next is published.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;

use super::file::{Error, Loaded};
use super::paced::{Out, PacedReader, PacedWriter, load};
use crate::disk::{Disk, File, Open};
use crate::limits::Limits;
use crate::spawner::{Job, Next, Spawned, Spawner};
use crate::state::State;

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
    /// Held for a moment only: whoever asks may be the runtime.
    published: Mutex<Option<Published>>,
    /// Held by the job that publishes, over its I/O.
    publishing: Mutex<()>,
    /// Numbers files that are received: the name of one given up is never another's.
    received: AtomicU64,
    closed: AtomicBool,
}

/// Told once, by the job that builds.
pub type Built = Box<dyn FnOnce(Result<Published, Error>) + Send>;

impl Snapshots {
    /// Finds the newest whole snapshot. Unfinished and older files are removed; a damaged one is reported and passed over:
    /// if the log does not reach back to an older one, opening the log says so. One of a newer format is an error.
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
                // What was published before it, and not removed when the process ended.
                Some(FINISHED) if found.is_some() => disk.remove(path)?,
                Some(FINISHED) => match load(&*disk, path, limits) {
                    Ok(loaded) => found = Some((path.clone(), loaded)),
                    // Not damaged: another build can read it, or another try.
                    Err(
                        error @ (Error::Io(_) | Error::Format { .. } | Error::ClusterFormat { .. }),
                    ) => return Err(error),
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
            publishing: Mutex::default(),
            received: AtomicU64::default(),
            closed: AtomicBool::default(),
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
            index: state.applied(),
            meta: meta.into(),
            step: Step::Begin(Box::new(state)),
            built: Some(built),
        };
        spawner.spawn("snapshot", Box::new(job))
    }

    fn path(&self, index: u64, extension: &str) -> PathBuf {
        self.0.dir.join(format!("{index:016x}.{extension}"))
    }

    /// Where the next one that comes from a peer is written.
    pub(super) fn incoming(&self) -> PathBuf {
        let number = self.0.received.fetch_add(1, Ordering::Relaxed);
        let name = format!("incoming-{number}.{UNFINISHED}");
        self.0.dir.join(name)
    }

    /// An empty file with room for so many bytes.
    pub(super) fn create(&self, path: &Path, bytes: u64) -> io::Result<Out> {
        self.clear(path)?;
        let out = Out::create(&*self.0.disk, path)?;
        out.claim(bytes)
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
        loop {
            let Some(published) = self.published() else {
                return Ok(None);
            };
            match self.0.disk.open(&published.path, Open::Read) {
                Ok(file) => return Ok(Some((published, file))),
                // The next was published meanwhile.
                Err(_) if self.published().as_ref() != Some(&published) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Begins to read one that was received.
    pub(super) fn verify(&self, path: &Path) -> Result<PacedReader, Error> {
        PacedReader::begin(&*self.0.disk, path, self.0.limits)
    }

    /// What it will be when it is published.
    pub(super) fn of_loaded(&self, loaded: &Loaded) -> Published {
        let index = loaded.state.applied();
        Published {
            index,
            meta: Bytes::copy_from_slice(&loaded.meta),
            bytes: loaded.bytes,
            hash: loaded.hash,
            path: self.path(index, FINISHED),
        }
    }

    /// What is being written is given up.
    pub(crate) fn close(&self) {
        self.0.closed.store(true, Ordering::Release);
    }

    fn is_closed(&self) -> bool {
        self.0.closed.load(Ordering::Acquire)
    }

    /// Gives it its name, durably, unless a newer one has been published meanwhile; then that is the answer.
    pub(super) fn publish(&self, unfinished: &Path, new: Published) -> Result<Published, Error> {
        let disk = &*self.0.disk;
        let _publishing = self.0.publishing.lock();
        if let Some(newer) = self.published().filter(|old| old.index >= new.index) {
            disk.remove(unfinished)?;
            return Ok(newer);
        }
        disk.rename(unfinished, &new.path)?;
        disk.sync_dir(&self.0.dir)?;
        let old = self.0.published.lock().replace(new.clone());
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

enum Step {
    Begin(Box<State>),
    Write(Box<PacedWriter>),
    Publish(Published),
    Done,
}

/// Writes with pauses, publishes, tells.
struct Build {
    snapshots: Snapshots,
    index: u64,
    meta: Bytes,
    step: Step,
    built: Option<Built>,
}

impl Build {
    fn tell(&mut self, result: Result<Published, Error>) -> Next {
        if result.is_err() {
            self.snapshots.remove(&self.unfinished());
        }
        if let Some(built) = self.built.take() {
            built(result);
        }
        Next::Done
    }

    fn unfinished(&self) -> PathBuf {
        self.snapshots.path(self.index, UNFINISHED)
    }

    fn begin(&mut self, state: State) -> Result<Next, Error> {
        let path = self.unfinished();
        self.snapshots.clear(&path)?;
        let writer = PacedWriter::begin(&*self.snapshots.0.disk, &path, state, &self.meta)?;
        self.step = Step::Write(Box::new(writer));
        Ok(Next::Again)
    }

    fn write(&mut self, mut writer: Box<PacedWriter>) -> Result<Next, Error> {
        if self.snapshots.is_closed() {
            return Err(Error::Content("the store has ended"));
        }
        if let Some(time) = writer.step()? {
            self.step = Step::Write(writer);
            return Ok(Next::After(time));
        }
        let (written, took) = writer.finish()?;
        self.step = Step::Publish(Published {
            index: self.index,
            meta: self.meta.clone(),
            bytes: written.bytes,
            hash: written.hash,
            path: self.snapshots.path(self.index, FINISHED),
        });
        Ok(Next::After(took))
    }
}

impl Job for Build {
    fn step(&mut self) -> Next {
        let next = match std::mem::replace(&mut self.step, Step::Done) {
            Step::Begin(state) => self.begin(*state),
            Step::Write(writer) => self.write(writer),
            Step::Publish(published) => {
                let result = self.snapshots.publish(&self.unfinished(), published);
                return self.tell(result);
            }
            Step::Done => return Next::Done,
        };
        next.unwrap_or_else(|error| self.tell(Err(error)))
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

    /// A disk with a published snapshot of entry 5, and what it was published with.
    fn published(seed: u64) -> (SimDisk, Snapshots, Inline) {
        let disk = disk(seed);
        let (snapshots, _) = open(&disk);
        let jobs = Inline::default();
        build(&snapshots, &jobs, 5);
        jobs.run();
        (disk, snapshots, jobs)
    }

    #[test]
    fn publish_is_monotone() {
        let (disk, snapshots, jobs) = published(1);
        let late = build(&snapshots, &jobs, 7);
        // Writes, and does not publish yet.
        jobs.step_once();
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
            let (disk, snapshots, jobs) = published(operation);
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
    fn what_was_published_before_goes_at_the_next_start() {
        let (disk, snapshots, jobs) = published(1);
        let older = disk.copy();
        build(&snapshots, &jobs, 7);
        jobs.run();
        // As if the process had ended before the older one was removed.
        let path = snapshots.path(5, FINISHED);
        let (mut bytes, from) = (vec![0; 4096], older.open(&path, Open::Read).expect("there"));
        let length = from.read_at(&mut bytes, 0).expect("readable");
        let mut again = disk.open(&path, Open::Create).expect("gone");
        again.write_at(&bytes[..length], 0).expect("written");
        drop(snapshots);
        assert_eq!(open(&disk).1, Some(7));
        assert_eq!(disk.list(Path::new(DIR)).expect("listed").len(), 1);
    }

    #[test]
    fn one_of_another_format_is_not_passed_over() {
        let (disk, snapshots, _) = published(1);
        let path = snapshots.published().expect("there is one").path;
        // The number of the format follows eight bytes of magic.
        assert!(disk.flip(&path, 8, 2));
        drop(snapshots);
        let opened = Snapshots::open(Arc::new(disk.clone()), Path::new(DIR), Limits::format_1());
        assert!(matches!(opened, Err(Error::Format { found: 3 })));
    }

    /// A disk that looks at the lock of what is published whenever it is made to work on names.
    struct Looks(SimDisk, Mutex<Option<Snapshots>>);

    impl Looks {
        fn look(&self) {
            let snapshots = self.1.lock().clone();
            let free = snapshots.is_none_or(|is| is.0.published.try_lock().is_some());
            assert!(free, "whoever asks what is published waits for the disk");
        }
    }

    impl Disk for Looks {
        fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn File>> {
            self.look();
            self.0.open(path, how)
        }
        fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
            self.look();
            self.0.rename(from, to)
        }
        fn remove(&self, path: &Path) -> io::Result<()> {
            self.look();
            self.0.remove(path)
        }
        fn create_dir(&self, dir: &Path) -> io::Result<()> {
            self.0.create_dir(dir)
        }
        fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
            self.0.list(dir)
        }
        fn sync_dir(&self, dir: &Path) -> io::Result<()> {
            self.look();
            self.0.sync_dir(dir)
        }
        fn free_bytes(&self) -> io::Result<u64> {
            self.0.free_bytes()
        }
    }

    #[test]
    fn who_asks_what_is_published_never_waits_for_the_disk() {
        let looks = Arc::new(Looks(disk(1), Mutex::default()));
        let (snapshots, _) =
            Snapshots::open(looks.clone(), Path::new(DIR), Limits::format_1()).expect("empty");
        *looks.1.lock() = Some(snapshots.clone());
        let jobs = Inline::default();
        for applied in [5, 7] {
            let told = build(&snapshots, &jobs, applied);
            jobs.run();
            assert_eq!(*told.lock(), Some(Ok(applied)));
            let opened = snapshots.open_published().expect("readable");
            assert_eq!(opened.map(|(published, _)| published.index), Some(applied));
        }
    }

    #[test]
    fn what_is_written_when_the_store_ends_is_given_up() {
        let disk = disk(1);
        let (snapshots, _) = open(&disk);
        let jobs = Inline::default();
        let told = build(&snapshots, &jobs, 5);
        jobs.step_once();
        assert_eq!(disk.list(Path::new(DIR)).expect("listed").len(), 1);
        snapshots.close();
        jobs.run();
        assert!(matches!(*told.lock(), Some(Err(_))));
        assert!(disk.list(Path::new(DIR)).expect("listed").is_empty());
    }

    #[test]
    fn a_damaged_one_is_passed_over() {
        let (disk, snapshots, _) = published(1);
        let path = snapshots.published().expect("there is one").path;
        assert!(disk.flip(&path, 30, 1));
        drop(snapshots);
        let (snapshots, found) = open(&disk);
        assert_eq!((snapshots.published(), found), (None, None));
    }
}
