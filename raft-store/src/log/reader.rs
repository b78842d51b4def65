//! The job that reads entries that are no longer in memory, for whoever must not wait for a disk: what one slow
//! follower still needs holds up neither heartbeats nor votes.

use super::read::read;
use super::shared::Shared;
use super::{Entry, Error};
use crate::spawner::{Job, Next};
use std::ops::Range;
use std::sync::Arc;

/// Called once with what was read, on any thread; dropped when the log has ended.
pub type Tell = Box<dyn FnOnce(Result<Vec<Entry>, Error>) + Send>;

/// What somebody waits for.
pub struct Asked {
    pub range: Range<u64>,
    pub limit_bytes: usize,
    /// See [`super::Log::voided`].
    pub voided: Option<u64>,
    pub tell: Tell,
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
        let Asked {
            range, limit_bytes, ..
        } = asked;
        (asked.tell)(read(&self.0, range, limit_bytes, asked.voided));
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
