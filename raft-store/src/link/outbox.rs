//! What waits to be written to one connection: frames behind each other in one buffer, written together.

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::frame::{self, HEAD_BYTES};
use crate::bell::Bell;
use crate::limits::{OUTBOX_BYTES, OUTBOX_CEILING_BYTES, OUTBOX_CHANNELS_BYTES};

/// The buffer that a writer gives back is kept up to this size.
const KEPT_BYTES: usize = 512 * 1024;

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
    /// Somebody waits for room.
    wanted: bool,
}

/// What became of a frame.
pub(super) enum Put {
    Done,
    Full,
    Closed,
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

    /// Whether the peer reads what it is sent.
    pub(super) fn is_read(&self) -> bool {
        self.waiting.lock().frames.len() <= OUTBOX_CEILING_BYTES
    }

    /// Appends a frame of a channel, if there is room.
    pub(super) fn put_behind(&self, channel: u16, body: &[u8]) -> Put {
        let mut waiting = self.waiting.lock();
        if waiting.closed {
            return Put::Closed;
        }
        if waiting.frames.len() >= OUTBOX_CHANNELS_BYTES {
            return Put::Full;
        }
        let first = waiting.frames.is_empty();
        waiting.frames.reserve(HEAD_BYTES + body.len());
        waiting
            .frames
            .extend_from_slice(&frame::head(channel, body.len()));
        waiting.frames.extend_from_slice(body);
        drop(waiting);
        if first {
            self.filled.notify_one();
        }
        Put::Done
    }

    /// Waits until there is room, or the connection has ended.
    pub(super) async fn room(&self) {
        self.below(OUTBOX_BYTES).await;
    }

    /// The same for frames of channels.
    pub(super) async fn room_behind(&self) {
        self.below(OUTBOX_CHANNELS_BYTES).await;
    }

    async fn below(&self, bytes: usize) {
        let has_room = || {
            let mut waiting = self.waiting.lock();
            let room = waiting.closed || waiting.frames.len() < bytes;
            waiting.wanted |= !room;
            room.then_some(())
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
                    std::mem::swap(&mut waiting.frames, written);
                    let wanted = std::mem::take(&mut waiting.wanted);
                    drop(waiting);
                    if wanted {
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
