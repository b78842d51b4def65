//! Weights of traffic classes: who is served first and shed first when the server is full

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

/// A bounded number of places. While all are taken, who waits is served by
/// weight, the heaviest first, then in order of arrival; when too many wait, the
/// lightest that came last is turned away.
#[derive(Debug)]
pub struct WeightedGate {
    state: Mutex<State>,
    max_waiting: usize,
}

#[derive(Debug)]
struct State {
    free: usize,
    arrivals: u64,
    waiting: BTreeMap<(Reverse<u32>, u64), oneshot::Sender<()>>,
}

/// The server is saturated with heavier work; to be tried again later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server is saturated")]
pub struct Shed;

/// A place, free again when dropped.
#[derive(Debug)]
pub struct Pass(Arc<WeightedGate>);

impl WeightedGate {
    /// A gate with so many places and so many that may wait for one.
    pub fn new(places: usize, max_waiting: usize) -> Arc<Self> {
        let state = State {
            free: places,
            arrivals: 0,
            waiting: BTreeMap::new(),
        };
        Arc::new(WeightedGate {
            state: Mutex::new(state),
            max_waiting,
        })
    }

    /// Takes a place at once where one is free.
    pub fn try_enter(self: &Arc<Self>) -> Option<Pass> {
        let mut state = self.state.lock();
        if state.free == 0 {
            return None;
        }
        state.free -= 1;
        Some(Pass(self.clone()))
    }

    /// Takes a place, waiting for one if need be.
    ///
    /// # Errors
    /// [`Shed`] where too many wait and this one is the lightest.
    pub async fn enter(self: &Arc<Self>, weight: u32) -> Result<Pass, Shed> {
        let (served, waiter) = oneshot::channel();
        {
            let mut state = self.state.lock();
            if state.free > 0 {
                state.free -= 1;
                return Ok(Pass(self.clone()));
            }
            state.arrivals += 1;
            let place = (Reverse(weight), state.arrivals);
            state.waiting.insert(place, served);
            if state.waiting.len() > self.max_waiting {
                state.waiting.pop_last();
            }
        }
        // Who gives a place away and finds its taker gone gives it to the next,
        // so a future dropped while waiting loses nothing.
        let mut waiter = Waiting {
            gate: self,
            receiver: waiter,
        };
        match (&mut waiter.receiver).await {
            Ok(()) => Ok(Pass(self.clone())),
            Err(_) => Err(Shed),
        }
    }

    fn release(&self) {
        let mut state = self.state.lock();
        while let Some((_, waiter)) = state.waiting.pop_first() {
            if waiter.send(()).is_ok() {
                return;
            }
        }
        state.free += 1;
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.0.release();
    }
}

/// A place in the queue; gives back what arrived but was not taken.
struct Waiting<'a> {
    gate: &'a WeightedGate,
    receiver: oneshot::Receiver<()>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.receiver.close();
        if self.receiver.try_recv().is_ok() {
            self.gate.release();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::mpsc;

    #[tokio::test]
    async fn the_heaviest_is_served_first_and_the_lightest_shed() {
        let gate = WeightedGate::new(1, 3);
        let first = gate.enter(1).await.expect("free");
        assert!(gate.try_enter().is_none());
        let (served, mut order) = mpsc::unbounded_channel();
        let mut tasks = Vec::new();
        for (name, weight) in [("light", 1), ("normal", 10), ("vip", 50), ("normal2", 10)] {
            let (gate, served) = (gate.clone(), served.clone());
            tasks.push(tokio::spawn(async move {
                let result = gate.enter(weight).await;
                let _ = served.send((name, result.is_ok()));
            }));
            tokio::task::yield_now().await;
        }
        assert_eq!(
            order.recv().await,
            Some(("light", false)),
            "a fourth does not fit"
        );
        drop(first);
        for name in ["vip", "normal", "normal2"] {
            assert_eq!(order.recv().await, Some((name, true)));
        }
        for task in tasks {
            task.await.expect("no panic");
        }
        assert!(gate.try_enter().is_some(), "the place is free again");
    }

    #[tokio::test]
    async fn a_dropped_waiter_gives_its_place_back() {
        let gate = WeightedGate::new(1, 3);
        let first = gate.enter(1).await.expect("free");
        let mut waiting = Box::pin(gate.enter(1));
        assert!(futures_util::poll!(&mut waiting).is_pending());
        drop(first);
        drop(waiting);
        assert!(gate.try_enter().is_some());
    }
}
