//! Read barriers: one round with a quorum at a time serves all who wait; who comes while it runs waits for the next,
//! since what it reads may have been written after the round began.

use std::pin::pin;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Duration, Instant, timeout_at};

use crate::error::Error;
use crate::raft::core::{Core, NoIndex};
use crate::waiters::Waiters;

/// Between two rounds when nobody answers.
const PAUSE: Duration = Duration::from_millis(20);

/// Who waits for a round. Clones are handles to the same.
#[derive(Clone, Default)]
pub(crate) struct Rounds(Arc<Shared>);

#[derive(Default)]
struct Shared {
    waiting: Mutex<Vec<oneshot::Sender<()>>>,
    /// The task that runs the rounds alone waits for it.
    added: Notify,
}

impl Rounds {
    /// Waits until everything acknowledged before this call is applied here. `NoQuorum` at the deadline.
    pub(crate) async fn barrier(&self, waiters: &Waiters, deadline: Instant) -> Result<(), Error> {
        let (tell, told) = oneshot::channel();
        self.0.waiting.lock().push(tell);
        self.0.added.notify_one();
        if waiters.is_closed() {
            return Err(Error::Closed);
        }
        match timeout_at(deadline, told).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Error::Closed),
            Err(_) => Err(Error::NoQuorum),
        }
    }

    /// Runs rounds until the store has closed.
    pub(crate) async fn run(self, core: Core, waiters: Waiters) {
        tokio::select! {
            biased;
            () = pin!(waiters.closed()) => {}
            () = self.serve(&core, &waiters) => {}
        }
        self.0.waiting.lock().clear();
    }

    async fn serve(&self, core: &Core, waiters: &Waiters) {
        loop {
            self.0.added.notified().await;
            let mut waiting = std::mem::take(&mut *self.0.waiting.lock());
            while !waiting.is_empty() {
                match core.read_index().await {
                    Ok(index) => {
                        if !core.machine().wait_applied(index).await {
                            return;
                        }
                        for one in waiting.drain(..) {
                            // Its deadline may have passed.
                            let _ = one.send(());
                        }
                    }
                    Err(NoIndex::Ended) => return,
                    Err(NoIndex::NotLeader | NoIndex::NoQuorum) => {
                        tokio::time::sleep(PAUSE).await;
                        if !core.wait_leading(waiters).await {
                            return;
                        }
                        waiting.retain(|one| !one.is_closed());
                        // A later round serves those who came meanwhile as well.
                        waiting.append(&mut self.0.waiting.lock());
                    }
                }
            }
        }
    }
}
