//! Snapshot files written and read in slices with pauses between them, so that commits get disk and processor meanwhile.

use std::io::{self, Read, Write};
use std::path::Path;
use std::time::Duration;

use super::file::{Error, Loaded, Reading, Writing, Written};
use crate::disk::{Disk, File, Open};
use crate::limits::{Limits, SNAPSHOT_BYTES_PER_SECOND, SNAPSHOT_SYNC_BYTES};
use crate::state::State;

const READ_BYTES: usize = 256 << 10;

/// How long to pause behind so many bytes, written, read or sent, besides what they took.
pub(crate) fn pause(bytes: u64) -> Duration {
    Duration::from_nanos(bytes.saturating_mul(1_000_000_000) / SNAPSHOT_BYTES_PER_SECOND)
}

/// A state on its way to a new file.
pub(super) struct PacedWriter {
    writing: Writing<Out>,
    /// Bytes that were paused for.
    passed: u64,
}

impl PacedWriter {
    pub(super) fn begin(
        disk: &dyn Disk,
        path: &Path,
        state: State,
        meta: &[u8],
    ) -> Result<Self, Error> {
        let writing = Writing::begin(state, meta, Out::create(disk, path)?)?;
        let passed = 0;
        Ok(Self { writing, passed })
    }

    /// Writes some more. How long to pause then; `None`: only [`PacedWriter::finish`] is left.
    pub(super) fn step(&mut self) -> Result<Option<Duration>, Error> {
        let more = self.writing.slice()?;
        let out = self.writing.to();
        let took = std::mem::take(&mut out.took);
        let time = took + pause(out.at - self.passed);
        self.passed = out.at;
        Ok(more.then_some(time))
    }

    /// Writes the rest and syncs. Returns the time that this takes in simulation.
    pub(super) fn finish(self) -> Result<(Written, Duration), Error> {
        let (written, mut out) = self.writing.finish()?;
        out.flush()?;
        Ok((written, out.took))
    }
}

/// A file that is being read and verified.
pub(super) struct PacedReader {
    reading: Reading<io::BufReader<In>>,
    passed: u64,
}

impl PacedReader {
    pub(super) fn begin(disk: &dyn Disk, path: &Path, limits: Limits) -> Result<Self, Error> {
        let from = In {
            file: disk.open(path, Open::Read)?,
            at: 0,
        };
        let from = io::BufReader::with_capacity(READ_BYTES, from);
        let reading = Reading::begin(from, limits)?;
        let passed = 0;
        Ok(Self { reading, passed })
    }

    /// Reads some more. How long to pause then; `None`: only [`PacedReader::finish`] is left.
    pub(super) fn step(&mut self) -> Result<Option<Duration>, Error> {
        let more = self.reading.block()?;
        let time = pause(self.reading.bytes() - self.passed);
        self.passed = self.reading.bytes();
        Ok(more.then_some(time))
    }

    pub(super) fn finish(self) -> Result<Loaded, Error> {
        self.reading.finish()
    }
}

/// Reads a whole file and verifies it, without a pause: for a start, when nothing else runs.
pub(crate) fn load(disk: &dyn Disk, path: &Path, limits: Limits) -> Result<Loaded, Error> {
    let mut reader = PacedReader::begin(disk, path, limits)?;
    while reader.step()?.is_some() {}
    reader.finish()
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
    pub(super) fn create(disk: &dyn Disk, path: &Path) -> io::Result<Self> {
        Ok(Self {
            file: disk.open(path, Open::Create)?,
            at: 0,
            unsynced: 0,
            took: Duration::ZERO,
        })
    }

    /// Claims room: a disk that is too full says so before anything was written.
    pub(super) fn claim(mut self, bytes: u64) -> io::Result<Self> {
        self.file.allocate(bytes)?;
        Ok(self)
    }
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write_at(bytes, self.at)?;
        self.at += bytes.len() as u64;
        self.unsynced += bytes.len() as u64;
        if self.unsynced >= SNAPSHOT_SYNC_BYTES {
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
    use std::sync::Arc;

    use super::*;
    use crate::disk::SimDisk;
    use crate::ids::Revision;
    use crate::random::Seeded;
    use crate::state::record::Record;

    /// Of `keys` records of 16 KiB.
    fn state(keys: u64) -> State {
        let mut state = State::new(Limits::format_1());
        state.pass(1).expect("the first");
        for key in 0..keys {
            state.plant(Record::new(
                &key.to_be_bytes(),
                &[7; 16 << 10],
                Revision(0),
                None,
            ));
        }
        state
    }

    #[test]
    fn no_faster_than_its_rate_and_in_small_steps() {
        let disk = SimDisk::new(Arc::new(Seeded::new(1, "disk")));
        let path = Path::new("one");
        let mut writer = PacedWriter::begin(&disk, path, state(1_000), b"m").expect("begun");
        let (mut paused, mut steps) = (Duration::ZERO, 0);
        while let Some(time) = writer.step().expect("written") {
            // A chunk of the map may be larger than a slice.
            assert!(time <= pause(4 << 20), "{time:?} at once");
            paused += time;
            steps += 1;
            let unsynced: usize = disk.unsynced().iter().sum();
            assert!(
                (unsynced as u64) < SNAPSHOT_SYNC_BYTES,
                "{unsynced} unsynced"
            );
        }
        let (written, _) = writer.finish().expect("written");
        assert!(written.bytes > 16_000_000 && steps > 6);
        let all = pause(written.bytes);
        assert!(
            paused > all * 3 / 4 && paused <= all,
            "{paused:?} of {all:?}"
        );

        let mut reader = PacedReader::begin(&disk, path, Limits::format_1()).expect("begun");
        let mut paused = Duration::ZERO;
        while let Some(time) = reader.step().expect("whole") {
            assert!(time <= pause(300 << 10), "{time:?} at once");
            paused += time;
        }
        assert!(
            paused > all * 3 / 4 && paused <= all,
            "{paused:?} of {all:?}"
        );
        assert_eq!(reader.finish().expect("whole").hash, written.hash);
    }
}
