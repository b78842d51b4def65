//! What waits to be written to one connection: frames behind each other in one buffer, written together.

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::bell::Bell;
use crate::limits::OUTBOX_BYTES;

/// The buffer that a writer gives back is kept up to this size.
const KEPT_BYTES: usize = 256 * 1024;

/// See the module's documentation.
#[derive(Default)]
pub(super) struct Outbox {
    waiting: Mutex<Waiting>,
    /// The writer's alone.
    filled: Notify,
    drained: Bell,
}

#[derive(Default)]
struct Waiting {
    frames: Vec<u8>,
    closed: bool,
}

impl Outbox {
    /// Appends a whole frame, whether there is room or not. `false`: the connection has ended.
    pub(super) fn put(&self, frame: &[u8]) -> bool {
        let mut waiting = self.waiting.lock();
        if waiting.closed {
            return false;
        }
        let first = waiting.frames.is_empty();
        waiting.frames.extend_from_slice(frame);
        drop(waiting);
        if first {
            self.filled.notify_one();
        }
        true
    }

    /// Waits until there is room, or the connection has ended.
    pub(super) async fn room(&self) {
        let has_room = || {
            let waiting = self.waiting.lock();
            (waiting.closed || waiting.frames.len() < OUTBOX_BYTES).then_some(())
        };
        self.drained.wait(has_room).await;
    }

    /// Waits for frames and takes all, for `written`, which is empty. `false`: the connection has ended and all that was
    /// put is taken.
    pub(super) async fn take(&self, written: &mut Vec<u8>) -> bool {
        if written.capacity() > KEPT_BYTES {
            *written = Vec::new();
        }
        loop {
            {
                let mut waiting = self.waiting.lock();
                if !waiting.frames.is_empty() {
                    let was_full = waiting.frames.len() >= OUTBOX_BYTES;
                    std::mem::swap(&mut waiting.frames, written);
                    drop(waiting);
                    if was_full {
                        self.drained.ring();
                    }
                    return true;
                }
                if waiting.closed {
                    return false;
                }
            }
            self.filled.notified().await;
        }
    }

    /// What was put is still to be taken; nothing more can be.
    pub(super) fn close(&self) {
        self.waiting.lock().closed = true;
        self.filled.notify_one();
        self.drained.ring();
    }
}
