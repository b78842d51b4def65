//! Sessions that end in a drain are written down together (XEP-0198 §5, DESIGN §3).
//!
//! Thousands end at once. One transaction for each would be more than storage lets wait, so they
//! queue here and go in as large groups as have gathered.

use std::sync::Arc;
use std::time::Duration;

use eider_storage::{Fence, SavedSession, Storage};
use tokio::sync::{mpsc, oneshot};

/// Sessions written in one transaction.
const GROUP_SESSIONS_MAX: usize = 256;
/// Bytes written in one transaction, where one session alone is not more.
const GROUP_BYTES_MAX: usize = 8 * 1024 * 1024;
/// How often a group is tried: the database may be about to come back.
const TRIES: u32 = 3;
/// Between two tries.
const RETRY_AFTER: Duration = Duration::from_millis(500);

struct Job {
    session: SavedSession,
    done: oneshot::Sender<bool>,
}

/// The way in. Cheap to clone; the task ends with its last holder.
#[derive(Clone)]
pub struct Saver(mpsc::Sender<Job>);

impl Saver {
    /// Starts the task that writes to `storage`.
    pub fn start(storage: Arc<dyn Storage>, fence: Fence) -> Saver {
        let (sender, receiver) = mpsc::channel(GROUP_SESSIONS_MAX);
        tokio::spawn(run(storage, fence, receiver));
        Saver(sender)
    }

    /// Returns once the session is durable, or false where storage failed, which is logged.
    pub async fn save(&self, session: SavedSession) -> bool {
        let (done, saved) = oneshot::channel();
        self.0.send(Job { session, done }).await.is_ok() && saved.await.unwrap_or(false)
    }
}

async fn run(storage: Arc<dyn Storage>, fence: Fence, mut jobs: mpsc::Receiver<Job>) {
    let mut next = None;
    loop {
        let first = match next.take() {
            Some(job) => job,
            None => match jobs.recv().await {
                Some(job) => job,
                None => return,
            },
        };
        let (mut sessions, mut waiting) = (Vec::new(), Vec::new());
        let mut bytes = 0;
        let mut add = |job: Job| {
            bytes += job.session.state.len();
            sessions.push(job.session);
            waiting.push(job.done);
            bytes
        };
        let mut group_bytes = add(first);
        for _ in 1..GROUP_SESSIONS_MAX {
            let Ok(job) = jobs.try_recv() else { break };
            if group_bytes + job.session.state.len() > GROUP_BYTES_MAX {
                next = Some(job);
                break;
            }
            group_bytes = add(job);
        }
        let saved = write(storage.as_ref(), fence, &sessions).await;
        for done in waiting {
            // Who does not wait any more does not need to know.
            let _ = done.send(saved);
        }
    }
}

async fn write(storage: &dyn Storage, fence: Fence, sessions: &[SavedSession]) -> bool {
    for attempt in 1..=TRIES {
        // Saved twice is saved: an attempt of unknown outcome is simply made again.
        match storage.sessions_save(fence, sessions).await {
            Ok(()) => return true,
            Err(error) => tracing::warn!(
                %error,
                sessions = sessions.len(),
                attempt,
                "sessions could not be saved for the next start"
            ),
        }
        if attempt < TRIES {
            tokio::time::sleep(RETRY_AFTER).await;
        }
    }
    false
}
