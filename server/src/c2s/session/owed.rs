//! Owed messages: read in pages as the client takes them, before anything live.

use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;

use super::{Move, Session};
use crate::c2s::catch_up::{CatchUp, Owed, Page};
use crate::c2s::mailbox::{Delivery, Origin};

/// After storage failed, owed messages are looked for again.
const RETRY_AFTER: Duration = Duration::from_secs(2);

impl Session {
    /// After each of its own presences, and before each message: a resource that begins to take
    /// messages gets what is owed.
    pub(super) fn after_presence(&mut self) {
        if self.handle.takes_messages() {
            if !self.took_messages {
                self.took_messages = true;
                self.start_catch_up();
            }
        } else {
            self.took_messages = false;
        }
    }

    /// Begins to read what is owed, from the start.
    pub(super) fn start_catch_up(&mut self) {
        if self.catch_up.is_none() && self.account().is_some() && self.handle.takes_messages() {
            self.catch_up = Some(CatchUp {
                cursor: 0,
                reading: None,
            });
        }
    }

    pub(super) fn poll_owed(&mut self, cx: &mut Context<'_>) -> Move {
        if self.catch_up.is_none() {
            return Move::None;
        }
        let Some(owner) = self.account() else {
            return Move::None;
        };
        if self.owed_retry_at.is_some_and(|at| Instant::now() < at) || !self.has_room_for_owed() {
            return Move::None;
        }
        let Some(catch_up) = self.catch_up.as_mut() else {
            return Move::None;
        };
        let reading = match catch_up.reading.as_mut() {
            Some(reading) => reading,
            None => {
                let bare = self.handle.bare.as_str().to_owned();
                catch_up
                    .reading
                    .insert(self.parts.catch_up.page(owner, bare, catch_up.cursor))
            }
        };
        let Poll::Ready(page) = reading.as_mut().poll(cx) else {
            return Move::None;
        };
        catch_up.reading = None;
        self.on_page(page)
    }

    /// A page is read only while less than half of the session's bound is in use.
    fn has_room_for_owed(&self) -> bool {
        self.wire.is_some() && self.held_bytes() < self.limits.queue_bytes / 2
    }

    fn on_page(&mut self, page: Page) -> Move {
        match page {
            Ok(owed) if owed.is_empty() => self.caught_up(),
            Ok(owed) => self.deliver_owed(owed),
            Err(error) => {
                tracing::warn!(jid = %self.handle.full, %error, "owed messages cannot be read yet");
                let at = Instant::now() + RETRY_AFTER;
                self.owed_retry_at = Some(at);
                self.wake_at(at);
            }
        }
        Move::Some
    }

    fn deliver_owed(&mut self, owed: Vec<Owed>) {
        if let (Some(catch_up), Some(last)) = (self.catch_up.as_mut(), owed.last()) {
            catch_up.cursor = last.position;
        }
        let claimed: Vec<Owed> = self
            .parts
            .sessions
            .with(self.handle.bare.as_str(), |entry| {
                let Some(entry) = entry else {
                    return Vec::new();
                };
                owed.into_iter()
                    .filter(|owed| entry.ledger.claim(owed.position))
                    .collect()
            });
        for owed in claimed {
            let debt = Some(owed.position);
            self.pass(Delivery {
                stanza: owed.stanza,
                debt,
                origin: Origin::Direct,
            });
        }
        self.request_acknowledgement();
    }

    /// Everything owed was read; what came live meanwhile follows.
    fn caught_up(&mut self) {
        let cursor = self.catch_up.take().map_or(0, |catch_up| catch_up.cursor);
        self.owed_retry_at = None;
        self.parts
            .sessions
            .with(self.handle.bare.as_str(), |entry| {
                if let Some(entry) = entry {
                    entry.ledger.caught_up(cursor);
                }
            });
        for delivery in std::mem::take(&mut self.behind_owed) {
            self.pass(delivery);
        }
        self.request_acknowledgement();
    }
}
