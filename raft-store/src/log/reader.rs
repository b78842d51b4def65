//! The job that reads entries that are no longer in memory, for whoever must not wait for a disk: what one slow
//! follower still needs holds up neither heartbeats nor votes.

use super::read::read;
use super::shared::Shared;
use super::{Entry, Error};
use crate::spawner::{Job, Next};
use std::ops::Range;
use std::sync::Arc;
use tokio::sync::oneshot;

/// What somebody waits for.
pub struct Asked {
    pub range: Range<u64>,
    pub limit_bytes: usize,
    /// See [`super::Log::voided`].
    pub voided: Option<u64>,
    pub tell: oneshot::Sender<Result<Vec<Entry>, Error>>,
}

pub struct Reader(pub Arc<Shared>);

impl Job for Reader {
    fn step(&mut self) -> Next {
        let mut state = self.0.lock();
        if state.closing {
            return Next::Done;
        }
        let asked = state.asked.as_mut().and_then(|asked| asked.pop_front());
        drop(state);
        let Some(asked) = asked else {
            return Next::Wait(None);
        };
        // Who has gone has perhaps asked again.
        if !asked.tell.is_closed() {
            let entries = read(&self.0, asked.range, asked.limit_bytes, asked.voided);
            let _ = asked.tell.send(entries);
        }
        Next::Again
    }
}

impl Drop for Reader {
    /// Whoever waits is told, also when the job was dropped or has panicked.
    fn drop(&mut self) {
        let asked = self.0.lock().asked.take();
        drop(asked);
    }
}
