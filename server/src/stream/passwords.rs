//! Key derivation off the worker threads, bounded: a flood of PLAIN logins must not stop the cores

use std::sync::Arc;

use crate::access::{Shed, WeightedGate};

/// Derivations that may wait for each one that runs; at 2 ms each the last waits half a second.
const WAITING_PER_PLACE: usize = 256;

/// Runs derivations of keys from passwords, as many at once as there are cores.
#[derive(Debug, Clone)]
pub struct PasswordWorkers(Arc<WeightedGate>);

/// Too many derivations wait already; to be tried again later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many passwords are being checked")]
pub struct Overloaded;

impl From<Shed> for Overloaded {
    fn from(_: Shed) -> Self {
        Overloaded
    }
}

impl PasswordWorkers {
    /// One worker per core.
    pub fn new(cores: usize) -> Self {
        let places = cores.max(1);
        PasswordWorkers(WeightedGate::new(places, places * WAITING_PER_PLACE))
    }

    /// Runs `work`, which takes milliseconds, on a thread where it blocks nobody.
    ///
    /// # Errors
    /// [`Overloaded`] where the queue is full or the runtime is going down.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Overloaded> {
        let pass = self.0.enter(0).await?;
        let task = tokio::task::spawn_blocking(move || {
            let result = work();
            drop(pass);
            result
        });
        task.await.map_err(|_| Overloaded)
    }
}
