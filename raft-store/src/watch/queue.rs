//! Recent events of all keys, and what waits for one watcher.

use super::Event;
use crate::ids::Revision;
use crate::state;
use bytes::Bytes;
use std::collections::VecDeque;
use std::task::Waker;

/// What a waiting event is charged over its key and value, in bytes.
const EVENT_OVERHEAD_BYTES: usize = 64;

/// Events (`start`, `last`], without gaps.
pub(super) struct Ring {
    start: Revision,
    pub(super) last: Revision,
    events: VecDeque<state::Event>,
    bytes: usize,
}

/// What waits for one watcher.
pub(super) struct Queue {
    pub(super) prefix: Bytes,
    /// Only later revisions are told.
    pub(super) after: Revision,
    events: VecDeque<state::Event>,
    bytes: usize,
    /// Told next; nothing is added meanwhile.
    pub(super) resync: Option<Revision>,
    /// It has been told `Resync` and has not scanned since.
    dormant: bool,
    pub(super) closed: bool,
    pub(super) waker: Option<Waker>,
}

fn cost(event: &state::Event) -> usize {
    let payload = match event {
        state::Event::Put(record) => record.payload_bytes(),
        state::Event::Removed { key, .. } => key.len(),
        state::Event::Orphaned { .. } => 0,
    };
    payload + EVENT_OVERHEAD_BYTES
}

impl Ring {
    pub(super) fn new(at: Revision) -> Self {
        Self {
            start: at,
            last: at,
            events: VecDeque::new(),
            bytes: 0,
        }
    }

    pub(super) fn push(&mut self, event: state::Event, limit_bytes: usize) {
        self.last = event.revision();
        self.bytes += cost(&event);
        self.events.push_back(event);
        while self.bytes > limit_bytes {
            let Some(oldest) = self.events.pop_front() else {
                break;
            };
            self.bytes -= cost(&oldest);
            self.start = oldest.revision();
        }
    }

    pub(super) fn restart(&mut self, at: Revision) {
        self.events.clear();
        self.bytes = 0;
        (self.start, self.last) = (at, at);
    }

    /// The events after `revision`, unless some of them are gone.
    pub(super) fn after(&self, revision: Revision) -> Option<impl Iterator<Item = &state::Event>> {
        let passed = revision.0.checked_sub(self.start.0)?;
        let passed = usize::try_from(passed).unwrap_or(usize::MAX);
        Some(self.events.iter().skip(passed))
    }
}

impl Queue {
    pub(super) fn new(prefix: Bytes) -> Self {
        Self {
            prefix,
            after: Revision(0),
            events: VecDeque::new(),
            bytes: 0,
            resync: None,
            dormant: false,
            closed: false,
            waker: None,
        }
    }

    pub(super) fn begin_anew(&mut self) {
        self.events.clear();
        self.bytes = 0;
        self.resync = None;
        self.dormant = false;
    }

    pub(super) fn push(&mut self, event: &state::Event, limit_bytes: usize, wake: &mut Vec<Waker>) {
        let silent = self.dormant || self.resync.is_some();
        let other = event
            .key()
            .is_some_and(|key| !key.starts_with(&self.prefix));
        if silent || other || event.revision() <= self.after {
            return;
        }
        self.bytes += cost(event);
        if self.bytes > limit_bytes {
            return self.give_up(event.revision(), wake);
        }
        self.events.push_back(event.clone());
        wake.extend(self.waker.take());
    }

    pub(super) fn give_up(&mut self, at: Revision, wake: &mut Vec<Waker>) {
        if self.dormant || self.resync.is_some() {
            // A resync that waits to be told must not name a state that is gone.
            self.resync = self.resync.map(|waiting| waiting.max(at));
            return;
        }
        self.events.clear();
        self.bytes = 0;
        self.resync = Some(at);
        wake.extend(self.waker.take());
    }

    pub(super) fn take(&mut self) -> Option<Event> {
        if let Some(event) = self.events.pop_front() {
            self.bytes -= cost(&event);
            return Some(told(event));
        }
        let at = self.resync.take()?;
        self.dormant = true;
        Some(Event::Resync { at })
    }
}

fn told(event: state::Event) -> Event {
    match event {
        state::Event::Put(record) => {
            let (key, value) = record.parts();
            let (revision, owner) = (record.revision(), record.owner());
            Event::Put {
                key,
                value,
                revision,
                owner,
            }
        }
        state::Event::Removed { key, revision } => Event::Removed { key, revision },
        state::Event::Orphaned { owner, revision } => Event::Orphaned { owner, revision },
    }
}
