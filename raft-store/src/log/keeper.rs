//! The job that makes the next segment ahead of need and removes segments that nobody needs.

use super::frame::Nonce;
use super::segment::{self, Header, Segment};
use super::shared::{Shared, Spare};
use super::{Error, Settings};
use crate::disk::{Disk, File, Open};
use crate::random::Random;
use crate::spawner::{Job, Next};
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// Written between two syncs when a segment is filled with zeros: no sync of the log waits behind more than this.
const FILL_BYTES: u64 = 1 << 20;
/// Until a segment that could not be made is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// A segment that is being filled under a name of its own.
pub struct Making {
    file: Box<dyn File>,
    header: Header,
    filled: u64,
}

impl Making {
    /// Claims the space.
    pub fn begin(
        settings: &Settings,
        disk: &dyn Disk,
        random: &dyn Random,
        id: u64,
    ) -> io::Result<Self> {
        let path = segment::unfinished_path(&settings.dir);
        match disk.remove(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut nonce = Nonce::default();
        random.fill(&mut nonce);
        let mut file = disk.open(&path, Open::Create)?;
        file.allocate(settings.segment_bytes)?;
        let header = Header {
            id,
            nonce,
            member: settings.member,
            length: settings.segment_bytes,
        };
        Ok(Self {
            file,
            header,
            filled: 0,
        })
    }

    /// Fills and syncs some more; the time that a simulated sync takes, or `None` when all is filled.
    pub fn fill(&mut self) -> io::Result<Option<Duration>> {
        let count = FILL_BYTES.min(self.header.length - self.filled);
        if count == 0 {
            return Ok(None);
        }
        let mut zeros = vec![0; count as usize];
        if self.filled == 0 {
            let header = self.header.encode();
            zeros[..header.len()].copy_from_slice(&header);
        }
        self.file.write_at(&zeros, self.filled)?;
        self.filled += count;
        self.file.sync_data().map(Some)
    }

    /// Gives it its name, durably.
    pub fn finish(self, settings: &Settings, disk: &dyn Disk) -> Result<Segment, Error> {
        let dir = &settings.dir;
        let path = segment::path(dir, self.header.id);
        let io = |error| Error::io(&path, error);
        disk.rename(&segment::unfinished_path(dir), &path)
            .map_err(io)?;
        disk.sync_dir(dir).map_err(io)?;
        Segment::open(disk, dir, self.header)
    }
}

/// Makes a segment in one go.
pub fn make(
    settings: &Settings,
    disk: &dyn Disk,
    random: &dyn Random,
    id: u64,
) -> Result<Segment, Error> {
    let io = |error| Error::io(&segment::path(&settings.dir, id), error);
    let mut making = Making::begin(settings, disk, random, id).map_err(io)?;
    while making.fill().map_err(io)?.is_some() {
        making.file.wait_for_sync();
    }
    making.finish(settings, disk)
}

pub struct Keeper {
    shared: Arc<Shared>,
    making: Option<Making>,
}

impl Keeper {
    pub fn new(shared: Arc<Shared>) -> Self {
        let making = None;
        Self { shared, making }
    }

    /// A step in making the spare; `None` when it is ready.
    fn make(&mut self) -> Result<Option<Duration>, Error> {
        let (settings, disk) = (&self.shared.settings, &*self.shared.disk);
        let id = self.shared.lock().next_segment;
        let io = |error| Error::io(&segment::path(&settings.dir, id), error);
        let mut making = match self.making.take() {
            Some(making) => making,
            None => Making::begin(settings, disk, &*self.shared.random, id).map_err(io)?,
        };
        if let Some(time) = making.fill().map_err(io)? {
            self.making = Some(making);
            return Ok(Some(time));
        }
        let segment = making.finish(settings, disk)?;
        let mut state = self.shared.lock();
        state.next_segment = id + 1;
        state.spare = Spare::Ready(segment);
        drop(state);
        self.shared.wake_writer();
        Ok(None)
    }

    fn give_up(&mut self) -> Next {
        self.making = None;
        let unfinished = segment::unfinished_path(&self.shared.settings.dir);
        // Removed again before the next try in any case.
        let _ = self.shared.disk.remove(&unfinished);
        self.shared.lock().spare = Spare::Failed;
        // What waits for the segment must not wait for ever.
        self.shared.wake_writer();
        Next::Wait(Some(RETRY))
    }

    /// Removes the oldest segment if nobody needs it, durably, so that never one between others is missing.
    fn remove_one(&self) -> io::Result<bool> {
        let taken = self.shared.lock().take_removable();
        let Some(held) = taken else { return Ok(false) };
        let removed = match self.shared.disk.remove(&held.readable.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        };
        let synced = removed.and_then(|()| self.shared.disk.sync_dir(&self.shared.settings.dir));
        if synced.is_err() {
            self.shared.lock().segments.push_front(held);
        }
        synced.map(|()| true)
    }
}

impl Job for Keeper {
    fn step(&mut self) -> Next {
        let removal = self.remove_one();
        if removal.as_ref().is_ok_and(|removed| *removed) {
            return Next::Again;
        }
        let mut state = self.shared.lock();
        if state.ended {
            return Next::Done;
        }
        if matches!(state.spare, Spare::Ready(_)) {
            return Next::Wait(removal.is_err().then_some(RETRY));
        }
        if let Some(segment) = state.more_spares.pop_front() {
            state.spare = Spare::Ready(segment);
            drop(state);
            self.shared.wake_writer();
            return Next::Again;
        }
        drop(state);
        match self.make() {
            Ok(Some(time)) => Next::After(time),
            Ok(None) => Next::Again,
            Err(_) => self.give_up(),
        }
    }
}

impl Drop for Keeper {
    /// Also when it has panicked: what waits for a segment is not left waiting.
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        if matches!(state.spare, Spare::Building) {
            state.spare = Spare::Failed;
        }
        drop(state);
        self.shared.wake_writer();
    }
}
