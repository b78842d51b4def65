//! Wakes all who wait for something to change, in the order they came (tokio's `watch` wakes in a random one).

use parking_lot::Mutex;
use tokio::sync::oneshot;

/// When so many wait, those who have gone are forgotten.
const SWEEP_AT: usize = 64;

/// See the module's documentation.
#[derive(Default)]
pub(crate) struct Bell(Mutex<Vec<oneshot::Sender<()>>>);

impl Bell {
    /// Wakes everybody.
    pub(crate) fn ring(&self) {
        let waiting = std::mem::take(&mut *self.0.lock());
        for one in waiting {
            // Who has gone needs no waking.
            let _ = one.send(());
        }
    }

    /// Waits until `ready` gives something; it is asked again at each ring.
    pub(crate) async fn wait<T>(&self, mut ready: impl FnMut() -> Option<T>) -> T {
        loop {
            if let Some(value) = ready() {
                return value;
            }
            let told = self.listen();
            // It may have become ready before the bell knew of this one.
            if let Some(value) = ready() {
                return value;
            }
            // A bell is never dropped while somebody waits for it: an error is a ring.
            let _ = told.await;
        }
    }

    fn listen(&self) -> oneshot::Receiver<()> {
        let (tell, told) = oneshot::channel();
        let mut waiting = self.0.lock();
        if waiting.len() >= SWEEP_AT {
            waiting.retain(|one| !one.is_closed());
        }
        waiting.push(tell);
        told
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn all_are_woken_in_the_order_they_came() {
        let (bell, order) = (Arc::new(Bell::default()), Arc::new(Mutex::new(Vec::new())));
        let rung = Arc::new(Mutex::new(false));
        let waiters: Vec<_> = (0..5)
            .map(|number| {
                let (bell, order, rung) = (bell.clone(), order.clone(), rung.clone());
                tokio::spawn(async move {
                    bell.wait(|| rung.lock().then_some(())).await;
                    order.lock().push(number);
                })
            })
            .collect();
        tokio::task::yield_now().await;
        bell.ring();
        tokio::task::yield_now().await;
        assert!(
            order.lock().is_empty(),
            "a ring is not yet what they wait for"
        );
        *rung.lock() = true;
        bell.ring();
        for waiter in waiters {
            waiter.await.expect("it does not panic");
        }
        assert_eq!(*order.lock(), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn those_who_have_gone_are_forgotten() {
        let bell = Bell::default();
        (0..10_000).for_each(|_| drop(bell.listen()));
        assert!(bell.0.lock().len() <= SWEEP_AT);
    }
}
