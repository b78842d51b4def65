//! A snapshot file anywhere on the disk, for keeping: written aside, read back and verified, named. Nothing is overwritten.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::oneshot;

use super::file::{Error, Loaded, Written};
use super::paced::{PacedReader, PacedWriter};
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

/// The job that does it, with pauses. Given up when nobody waits for it any more.
pub(crate) struct Save {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    limits: Limits,
    told: Option<oneshot::Sender<Result<Saved, Error>>>,
    step: Step,
}

enum Step {
    /// A state and what belongs beside it.
    Begin(Box<State>, Vec<u8>),
    Write(Box<PacedWriter>, Expected),
    Synced(Expected, Written),
    Read(Box<PacedReader>, Expected, Written),
    Done,
}

/// What must be read back.
#[derive(Clone, Copy)]
struct Expected {
    index: u64,
    hash: u128,
}

fn dir_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}

impl Save {
    /// Will save `state` with `meta` beside it at `path`, which must not be there.
    pub(crate) fn new(
        (disk, path): (Arc<dyn Disk>, PathBuf),
        limits: Limits,
        (state, meta): (State, Vec<u8>),
        told: oneshot::Sender<Result<Saved, Error>>,
    ) -> Self {
        Self {
            disk,
            path,
            limits,
            told: Some(told),
            step: Step::Begin(Box::new(state), meta),
        }
    }

    /// A name that nobody else takes: it belongs to `path`, which is taken first.
    fn aside(&self) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(".unfinished");
        name.into()
    }

    fn begin(&mut self, state: State, meta: &[u8]) -> Result<Next, Error> {
        let (disk, aside) = (&*self.disk, self.aside());
        if disk.list(dir_of(&aside))?.contains(&aside) {
            disk.remove(&aside)?;
        }
        let expected = Expected {
            index: state.applied(),
            hash: state.hash(),
        };
        let writer = PacedWriter::begin(disk, &aside, state, meta)?;
        self.step = Step::Write(Box::new(writer), expected);
        Ok(Next::Again)
    }

    fn write(&mut self, mut writer: Box<PacedWriter>, expected: Expected) -> Result<Next, Error> {
        if let Some(time) = writer.step()? {
            self.step = Step::Write(writer, expected);
            return Ok(Next::After(time));
        }
        let (written, took) = writer.finish()?;
        self.step = Step::Synced(expected, written);
        Ok(Next::After(took))
    }

    fn read(
        &mut self,
        mut reader: Box<PacedReader>,
        expected: Expected,
        written: Written,
    ) -> Result<Next, Error> {
        if let Some(time) = reader.step()? {
            self.step = Step::Read(reader, expected, written);
            return Ok(Next::After(time));
        }
        let Loaded { state, hash, .. } = reader.finish()?;
        if hash != written.hash || state.hash() != expected.hash {
            return Err(Error::Content("read back, it is not what was written"));
        }
        self.disk.rename(&self.aside(), &self.path)?;
        self.disk.sync_dir(dir_of(&self.path))?;
        self.tell(Ok(Saved {
            index: expected.index,
            bytes: written.bytes,
            hash,
        }));
        Ok(Next::Done)
    }

    fn go_on(&mut self, step: Step) -> Result<Next, Error> {
        if self.told.as_ref().is_some_and(oneshot::Sender::is_closed) {
            return Err(Error::Content("given up"));
        }
        match step {
            Step::Begin(..) | Step::Done => Ok(Next::Done),
            Step::Write(writer, expected) => self.write(writer, expected),
            Step::Synced(expected, written) => {
                let reader = PacedReader::begin(&*self.disk, &self.aside(), self.limits)?;
                self.step = Step::Read(Box::new(reader), expected, written);
                Ok(Next::Again)
            }
            Step::Read(reader, expected, written) => self.read(reader, expected, written),
        }
    }

    fn tell(&mut self, result: Result<Saved, Error>) {
        if let Some(told) = self.told.take() {
            // Nobody waits: the caller has given up.
            let _ = told.send(result);
        }
    }
}

impl Job for Save {
    fn step(&mut self) -> Next {
        if self.told.is_none() {
            return Next::Done;
        }
        let next = match std::mem::replace(&mut self.step, Step::Done) {
            // The name is taken first: `AlreadyExists` is the answer for whoever comes second.
            Step::Begin(state, meta) => match self.disk.open(&self.path, Open::Create) {
                Ok(_) => self.begin(*state, &meta),
                Err(error) => {
                    self.tell(Err(error.into()));
                    return Next::Done;
                }
            },
            step => self.go_on(step),
        };
        next.unwrap_or_else(|error| {
            // Both are nothing that could be restored.
            let _ = self.disk.remove(&self.aside());
            let _ = self.disk.remove(&self.path);
            self.tell(Err(error));
            Next::Done
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::SimDisk;
    use crate::random::Seeded;
    use crate::snapshot::paced::load;

    fn save(
        disk: &SimDisk,
        name: &str,
        applied: u64,
    ) -> (Save, oneshot::Receiver<Result<Saved, Error>>) {
        let mut state = State::new(Limits::format_1());
        state.pass(applied).expect("the first");
        let (tell, told) = oneshot::channel();
        let to: (Arc<dyn Disk>, _) = (Arc::new(disk.clone()), PathBuf::from(name));
        (
            Save::new(to, Limits::format_1(), (state, Vec::new()), tell),
            told,
        )
    }

    #[test]
    fn two_at_a_time_are_two() {
        let disk = SimDisk::new(Arc::new(Seeded::new(1, "disk")));
        for late in 0..6 {
            let names = [
                format!("saved-{late}.monday"),
                format!("saved-{late}.tuesday"),
            ];
            let (mut one, mut told) = save(&disk, &names[0], 5);
            let (mut other, mut also) = save(&disk, &names[1], 7);
            for _ in 0..late {
                one.step();
            }
            let both = |steps: [Next; 2]| steps == [Next::Done; 2];
            while !both([one.step(), other.step()]) {}
            assert!(matches!(told.try_recv(), Ok(Ok(Saved { index: 5, .. }))));
            assert!(matches!(also.try_recv(), Ok(Ok(Saved { index: 7, .. }))));
            for (name, index) in names.iter().zip([5, 7]) {
                let loaded = load(&disk, Path::new(name), Limits::format_1());
                assert_eq!(loaded.expect("whole").state.applied(), index);
            }
        }
    }

    #[test]
    fn nothing_stays_of_one_given_up() {
        for steps in 0..4 {
            let disk = SimDisk::new(Arc::new(Seeded::new(1, "disk")));
            let (mut job, told) = save(&disk, "saved", 5);
            for _ in 0..steps {
                job.step();
            }
            drop(told);
            while job.step() != Next::Done {}
            let left = disk.list(Path::new("")).expect("listed");
            assert!(left.is_empty(), "after {steps} steps: {left:?}");
        }
    }
}
