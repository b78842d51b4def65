//! What is done for a session beside its inbox: one piece of a kind at a time, no longer than the session.

use parking_lot::Mutex;
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

/// The place of one kind of work.
#[derive(Debug, Default)]
pub struct Errand(Mutex<Option<AbortHandle>>);

impl Errand {
    /// Starts `work`, which takes the place of what was not done yet. `ended`: the session's end.
    pub fn start(
        &self,
        ended: &CancellationToken,
        work: impl Future<Output = ()> + Send + 'static,
    ) {
        let ended = ended.clone();
        // Boxed: what was done is known by its task, which has room for the work as long as that.
        let work = Box::pin(work);
        let task = tokio::spawn(async move {
            tokio::select! {
                () = ended.cancelled() => {}
                () = work => {}
            }
        });
        if let Some(before) = self.0.lock().replace(task.abort_handle()) {
            before.abort();
        }
    }

    /// Whether something is being done.
    pub fn is_under_way(&self) -> bool {
        let task = self.0.lock();
        task.as_ref().is_some_and(|task| !task.is_finished())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn there_is_one_piece_of_work_and_none_after_the_end() {
        let (errand, ended) = (Errand::default(), CancellationToken::new());
        let held = Arc::new(());
        for _ in 0..100 {
            let mine = held.clone();
            errand.start(&ended, async move {
                std::future::pending::<()>().await;
                drop(mine);
            });
        }
        while Arc::strong_count(&held) > 2 {
            tokio::task::yield_now().await;
        }
        assert!(errand.is_under_way());
        ended.cancel();
        while Arc::strong_count(&held) > 1 {
            tokio::task::yield_now().await;
        }
        assert!(!errand.is_under_way());
    }
}
