//! How far apply is behind what openraft has handed to it. The queue between them has no bound of its own, so an
//! append waits while it is long (DESIGN §3).

use std::collections::VecDeque;

use parking_lot::Mutex;
use tokio::sync::Notify;

/// Entries that may wait for apply, and bytes of them.
const BEHIND_ENTRIES: u64 = 1024;
const BEHIND_BYTES: usize = 64 << 20;

/// Shared by the log store and the state machine.
#[derive(Default)]
pub(super) struct Pacing {
    state: Mutex<State>,
    /// The core's append alone waits for it.
    moved: Notify,
}

#[derive(Default)]
struct State {
    /// Appended and not applied: index and bytes.
    waiting: VecDeque<(u64, usize)>,
    /// Of those that are committed, the first `committed_entries` of `waiting`.
    committed_entries: usize,
    committed_bytes: usize,
    /// Next index to be applied, and next to be committed.
    applied_next: u64,
    committed_next: u64,
    failed: bool,
}

impl Pacing {
    pub(super) fn appended(&self, index: u64, bytes: usize) {
        self.state.lock().waiting.push_back((index, bytes));
    }

    pub(super) fn truncated(&self, since: u64) {
        let mut state = self.state.lock();
        while state.waiting.back().is_some_and(|last| last.0 >= since) {
            state.waiting.pop_back();
        }
    }

    /// All up to `index` is with the state machine.
    pub(super) fn committed(&self, index: u64) {
        let mut state = self.state.lock();
        state.committed_next = state.committed_next.max(index + 1);
        while let Some(&(next, bytes)) = state.waiting.get(state.committed_entries) {
            if next > index {
                break;
            }
            state.committed_entries += 1;
            state.committed_bytes += bytes;
        }
    }

    pub(super) fn applied(&self, index: u64) {
        let mut state = self.state.lock();
        state.applied_next = state.applied_next.max(index + 1);
        while let Some(&(first, bytes)) = state.waiting.front() {
            if first > index {
                break;
            }
            state.waiting.pop_front();
            if state.committed_entries > 0 {
                state.committed_entries -= 1;
                state.committed_bytes -= bytes;
            }
        }
        drop(state);
        self.moved.notify_one();
    }

    /// Nothing will be applied any more.
    pub(super) fn fail(&self) {
        self.state.lock().failed = true;
        self.moved.notify_one();
    }

    /// Whether apply is near; `None` if it has failed.
    fn is_near(&self) -> Option<bool> {
        let state = self.state.lock();
        let behind = state.committed_next.saturating_sub(state.applied_next);
        let near = behind <= BEHIND_ENTRIES && state.committed_bytes <= BEHIND_BYTES;
        (!state.failed).then_some(near)
    }

    /// Waits until apply is near; `false` if it has failed.
    pub(super) async fn near(&self) -> bool {
        loop {
            match self.is_near() {
                None => return false,
                Some(true) => return true,
                Some(false) => self.moved.notified().await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;

    async fn waits(pacing: &Pacing) -> bool {
        let mut near = pin!(pacing.near());
        let poll =
            std::future::poll_fn(|context| std::task::Poll::Ready(near.as_mut().poll(context)));
        poll.await.is_pending()
    }

    #[tokio::test]
    async fn appends_wait_for_apply() {
        let pacing = Pacing::default();
        (0..3000).for_each(|index| pacing.appended(index, 10));
        assert!(!waits(&pacing).await, "nothing of it is committed");
        pacing.committed(1500);
        assert!(waits(&pacing).await);
        pacing.applied(475);
        assert!(waits(&pacing).await, "1,025 behind");
        pacing.applied(476);
        assert!(!waits(&pacing).await);
        pacing.truncated(2000);
        pacing.appended(2000, BEHIND_BYTES);
        pacing.committed(2000);
        pacing.applied(1999);
        assert!(!waits(&pacing).await);
        pacing.appended(2001, 1);
        pacing.committed(2001);
        assert!(waits(&pacing).await, "one byte over");
        pacing.fail();
        assert!(!pacing.near().await);
    }
}
