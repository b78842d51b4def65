//! The published snapshot as it is sent to a peer, chunk by chunk, read by a job of its own (DESIGN §6).

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::publish::{Published, Snapshots};
use crate::disk::{File, read_exact_at};
use crate::limits::SNAPSHOT_CHUNK_BYTES;
use crate::spawner::{Job, Next, Spawned, Spawner};

/// A snapshot that was published when its sending began; it stays readable when the next is published.
pub(crate) struct Outgoing {
    pub(crate) published: Published,
    shared: Arc<Mutex<State>>,
    job: Spawned,
}

#[derive(Default)]
struct State {
    /// What is asked for; a later question takes the place of one that nobody waits for.
    asked: Option<Asked>,
    given_up: bool,
}

struct Asked {
    offset: u64,
    tell: oneshot::Sender<io::Result<(Bytes, u32)>>,
}

impl Outgoing {
    /// `None`: nothing is published.
    pub(crate) fn open(snapshots: &Snapshots, spawner: &dyn Spawner) -> io::Result<Option<Self>> {
        let Some((published, file)) = snapshots.open_published()? else {
            return Ok(None);
        };
        let shared = Arc::default();
        let job = Read {
            file,
            bytes: published.bytes,
            shared: Arc::clone(&shared),
        };
        let job = spawner.spawn("snapshot-send", Box::new(job))?;
        Ok(Some(Self {
            published,
            shared,
            job,
        }))
    }

    /// What follows `offset`, at most [`SNAPSHOT_CHUNK_BYTES`] with their CRC-32C; nothing at the end. One at a time.
    pub(crate) async fn chunk(&self, offset: u64) -> io::Result<(Bytes, u32)> {
        let (tell, told) = oneshot::channel();
        self.shared.lock().asked = Some(Asked { offset, tell });
        self.job.waker.wake_by_ref();
        let ended = |_| Err(io::Error::other("the job that reads has ended"));
        told.await.unwrap_or_else(ended)
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        self.shared.lock().given_up = true;
        self.job.waker.wake_by_ref();
    }
}

struct Read {
    file: Box<dyn File>,
    bytes: u64,
    shared: Arc<Mutex<State>>,
}

impl Read {
    fn chunk(&self, offset: u64) -> io::Result<(Bytes, u32)> {
        let left = self.bytes.saturating_sub(offset);
        let mut chunk = vec![0; left.min(SNAPSHOT_CHUNK_BYTES as u64) as usize];
        read_exact_at(&*self.file, &mut chunk, offset)?;
        let crc = crc32c::crc32c(&chunk);
        Ok((chunk.into(), crc))
    }
}

impl Job for Read {
    fn step(&mut self) -> Next {
        let mut state = self.shared.lock();
        if state.given_up {
            return Next::Done;
        }
        let asked = state.asked.take();
        drop(state);
        let Some(Asked { offset, tell }) = asked else {
            return Next::Wait(None);
        };
        // Whoever asked may have gone.
        let _ = tell.send(self.chunk(offset));
        Next::Again
    }
}
