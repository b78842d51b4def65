//! openraft's view of the runtime: tokio, with tasks and randomness of the member that asks.

use std::future::Future;
use std::time::Duration;

use openraft::{AsyncRuntime, TokioInstant, TokioRuntime};
use rand::RngCore;

use crate::gate::Tasks;
use crate::random::{Random as _, SystemRandom};

/// See the module's documentation.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Runtime;

/// Random numbers of the member that asks.
pub(crate) struct MemberRng(Tasks);

impl RngCore for MemberRng {
    fn next_u32(&mut self) -> u32 {
        self.next_u64() as u32
    }

    fn next_u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.fill_bytes(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        match self.0.random() {
            Some(random) => random.fill(bytes),
            None => SystemRandom.fill(bytes),
        }
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), rand::Error> {
        self.fill_bytes(bytes);
        Ok(())
    }
}

impl AsyncRuntime for Runtime {
    type JoinError = tokio::task::JoinError;
    type JoinHandle<T: Send + 'static> = tokio::task::JoinHandle<T>;
    type Sleep = tokio::time::Sleep;
    type Instant = TokioInstant;
    type TimeoutError = tokio::time::error::Elapsed;
    type Timeout<R, T: Future<Output = R> + Send> = tokio::time::Timeout<T>;
    type ThreadLocalRng = MemberRng;
    type OneshotSender<T: Send> = <TokioRuntime as AsyncRuntime>::OneshotSender<T>;
    type OneshotReceiver<T: Send> = tokio::sync::oneshot::Receiver<T>;
    type OneshotReceiverError = tokio::sync::oneshot::error::RecvError;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + Send + 'static,
        T::Output: Send + 'static,
    {
        Tasks::current().spawn(future)
    }

    fn sleep(duration: Duration) -> Self::Sleep {
        tokio::time::sleep(duration)
    }

    fn sleep_until(deadline: Self::Instant) -> Self::Sleep {
        tokio::time::sleep_until(deadline)
    }

    fn timeout<R, F: Future<Output = R> + Send>(
        duration: Duration,
        future: F,
    ) -> Self::Timeout<R, F> {
        tokio::time::timeout(duration, future)
    }

    fn timeout_at<R, F: Future<Output = R> + Send>(
        deadline: Self::Instant,
        future: F,
    ) -> Self::Timeout<R, F> {
        tokio::time::timeout_at(deadline, future)
    }

    fn is_panic(error: &Self::JoinError) -> bool {
        error.is_panic()
    }

    fn thread_rng() -> Self::ThreadLocalRng {
        MemberRng(Tasks::current())
    }

    fn oneshot<T: Send>() -> (Self::OneshotSender<T>, Self::OneshotReceiver<T>) {
        TokioRuntime::oneshot()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::gate::Gate;
    use crate::random::Random;

    /// Counts up: a stream that anybody can predict.
    #[derive(Default)]
    struct Counter(AtomicU64);

    impl Random for Counter {
        fn fill(&self, bytes: &mut [u8]) {
            let number = self.0.fetch_add(1, Ordering::Relaxed);
            bytes.copy_from_slice(&number.to_le_bytes()[..bytes.len()]);
        }
    }

    #[tokio::test]
    async fn a_members_tasks_draw_from_its_own_randomness() {
        let spawner = Tasks::gated(Gate::new(Box::new(Counter::default())));
        let drawn = spawner.spawn(async {
            let first = Runtime::thread_rng().next_u64();
            let second = Runtime::spawn(async { Runtime::thread_rng().next_u64() }).await;
            (first, second.expect("it does not panic"))
        });
        assert_eq!(drawn.await.expect("it does not panic"), (0, 1));
        assert!(
            Runtime::thread_rng().next_u64() > 1,
            "outside: the system's"
        );
    }
}
