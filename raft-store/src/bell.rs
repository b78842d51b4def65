//! Wakes all who wait for something to change, in the order they came (tokio's `watch` wakes in a random one).

use parking_lot::Mutex;
use tokio::sync::oneshot;

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
            let (tell, told) = oneshot::channel();
            self.0.lock().push(tell);
            if let Some(value) = ready() {
                return value;
            }
            // A bell is never dropped while somebody waits for it: an error is a ring.
            let _ = told.await;
        }
    }
}
