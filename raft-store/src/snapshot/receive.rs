//! A snapshot as it comes from a peer: written aside by a job of its own, then read back with every sum verified, and
//! published (DESIGN §6). Whatever its sender was, it is committed state only.

use std::collections::VecDeque;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::file::{Error, Loaded};
use super::paced::{Out, PacedReader};
use super::publish::{Published, Snapshots};
use crate::spawner::{Job, Next, Spawned, Spawner};

/// Chunks that may wait for the disk. The sender sends one at a time.
const WAITING_CHUNKS: usize = 4;

/// One that is being received. Dropping it gives it up.
pub(crate) struct Incoming {
    id: [u8; 32],
    shared: Arc<Shared>,
    job: Spawned,
}

struct Shared {
    bytes: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Written up to here.
    have: u64,
    asked: VecDeque<Asked>,
    given_up: bool,
}

enum Asked {
    Chunk {
        offset: u64,
        chunk: Bytes,
        tell: oneshot::Sender<Result<u64, Error>>,
    },
    Finish(Verified),
}

/// One that is published, or older than one that is.
pub(crate) struct Received {
    pub(crate) loaded: Loaded,
    /// The one that is published now.
    pub(crate) published: Published,
}

const ENDED: Error = Error::Content("the job that receives has ended");

impl Incoming {
    /// `id`: the hash in its last block; `bytes`: all of the file. Whether there is room for it, the first chunk is told.
    pub(crate) fn begin(
        snapshots: &Snapshots,
        spawner: &dyn Spawner,
        id: [u8; 32],
        bytes: u64,
    ) -> Result<Self, Error> {
        let path = snapshots.incoming();
        let shared = Arc::new(Shared {
            bytes,
            state: Mutex::default(),
        });
        let job = Receive {
            snapshots: snapshots.clone(),
            shared: shared.clone(),
            out: None,
            failure: None,
            path,
            id,
            step: Step::Create,
        };
        let job = spawner.spawn("snapshot-receive", Box::new(job))?;
        Ok(Self { id, shared, job })
    }

    pub(crate) fn id(&self) -> [u8; 32] {
        self.id
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.shared.bytes
    }

    /// The next chunk begins here.
    pub(crate) fn have(&self) -> u64 {
        self.shared.state.lock().have
    }

    fn ask(&self, asked: Asked) {
        let mut state = self.shared.state.lock();
        // Too many: dropped, and who waits is told so.
        if state.asked.len() < WAITING_CHUNKS {
            state.asked.push_back(asked);
        }
        drop(state);
        self.job.waker.wake_by_ref();
    }

    /// Writes a chunk if it is the next one. Where the next one begins then.
    pub(crate) async fn chunk(&self, offset: u64, chunk: Bytes) -> Result<u64, Error> {
        let (tell, told) = oneshot::channel();
        self.ask(Asked::Chunk {
            offset,
            chunk,
            tell,
        });
        told.await.unwrap_or(Err(ENDED))
    }

    /// Verifies what was written, and publishes it.
    pub(crate) async fn finish(&self) -> Result<Received, Error> {
        let (tell, told) = oneshot::channel();
        self.ask(Asked::Finish(tell));
        told.await.unwrap_or(Err(ENDED))
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        self.shared.state.lock().given_up = true;
        self.job.waker.wake_by_ref();
    }
}

type Verified = oneshot::Sender<Result<Received, Error>>;

enum Step {
    Create,
    Ask,
    /// The disk has had its time.
    Wrote(oneshot::Sender<Result<u64, Error>>),
    Synced(Verified),
    Verify(Box<PacedReader>, Verified),
}

struct Receive {
    snapshots: Snapshots,
    shared: Arc<Shared>,
    /// `None` when it has failed or is finished.
    out: Option<Out>,
    /// Why there is none, until somebody asks.
    failure: Option<Error>,
    path: PathBuf,
    id: [u8; 32],
    step: Step,
}

impl Receive {
    fn write(&mut self, offset: u64, chunk: &Bytes) -> Result<(), Error> {
        let Some(out) = self.out.as_mut() else {
            return Err(self.failure.take().unwrap_or(ENDED));
        };
        if offset != out.at {
            return Ok(());
        }
        if out.at + chunk.len() as u64 > self.shared.bytes {
            return Err(Error::Content("more than was offered"));
        }
        out.write_all(chunk)?;
        Ok(())
    }

    /// Publishes what was read to its end.
    fn publish(&self, reader: PacedReader) -> Result<Received, Error> {
        let loaded = reader.finish()?;
        if loaded.hash != self.id || loaded.bytes != self.shared.bytes {
            return Err(Error::Content("another snapshot than was offered"));
        }
        let published = self.snapshots.of_loaded(&loaded);
        let published = self.snapshots.publish(&self.path, published)?;
        Ok(Received { loaded, published })
    }

    /// Reads back some more of what was written.
    fn verify(&mut self, mut reader: Box<PacedReader>, tell: Verified) -> Next {
        let result = match reader.step() {
            Ok(Some(time)) if !tell.is_closed() => {
                self.step = Step::Verify(reader, tell);
                return Next::After(time);
            }
            Ok(Some(_)) => Err(ENDED),
            Ok(None) => self.publish(*reader),
            Err(error) => Err(error),
        };
        let result = self.failed(result);
        // Published: the file has another name now.
        self.out = None;
        let _ = tell.send(result);
        Next::Again
    }

    /// After an error nothing more is written: it begins again.
    fn failed<T>(&mut self, result: Result<T, Error>) -> Result<T, Error> {
        if result.is_err() && self.out.take().is_some() {
            self.snapshots.remove(&self.path);
        }
        result
    }

    fn begin(&mut self, asked: Asked) -> Next {
        match asked {
            Asked::Chunk {
                offset,
                chunk,
                tell,
            } => {
                let written = self.write(offset, &chunk);
                match self.failed(written) {
                    Ok(()) => self.step = Step::Wrote(tell),
                    Err(error) => drop(tell.send(Err(error))),
                }
            }
            Asked::Finish(tell) => {
                let synced = match &mut self.out {
                    Some(out) => out.flush().map_err(Error::Io),
                    None => Err(ENDED),
                };
                match self.failed(synced) {
                    Ok(()) => self.step = Step::Synced(tell),
                    Err(error) => drop(tell.send(Err(error))),
                }
            }
        }
        let took = self.out.as_mut().map(|out| std::mem::take(&mut out.took));
        Next::After(took.unwrap_or_default())
    }
}

impl Job for Receive {
    fn step(&mut self) -> Next {
        match std::mem::replace(&mut self.step, Step::Ask) {
            Step::Create => {
                match self.snapshots.create(&self.path, self.shared.bytes) {
                    Ok(out) => self.out = Some(out),
                    Err(error) => {
                        self.snapshots.remove(&self.path);
                        self.failure = Some(Error::Io(error));
                    }
                }
                Next::Again
            }
            Step::Wrote(tell) => {
                let have = self.out.as_ref().map_or(0, |out| out.at);
                self.shared.state.lock().have = have;
                // Whoever sent it may have gone.
                let _ = tell.send(Ok(have));
                Next::Again
            }
            Step::Synced(tell) => {
                let reader = self.snapshots.verify(&self.path);
                match self.failed(reader) {
                    Ok(reader) => self.step = Step::Verify(Box::new(reader), tell),
                    Err(error) => drop(tell.send(Err(error))),
                }
                Next::Again
            }
            Step::Verify(reader, tell) => self.verify(reader, tell),
            Step::Ask => {
                let mut state = self.shared.state.lock();
                if state.given_up {
                    drop(state);
                    if self.out.take().is_some() {
                        self.snapshots.remove(&self.path);
                    }
                    return Next::Done;
                }
                let asked = state.asked.pop_front();
                drop(state);
                asked.map_or(Next::Wait(None), |asked| self.begin(asked))
            }
        }
    }
}

#[cfg(test)]
mod tests;
