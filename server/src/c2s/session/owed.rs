//! Owed messages: read in pages as the client takes them, before anything live.

use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;

use super::{Move, Session};
use crate::c2s::catch_up::{CatchUp, Owed, Page};
use crate::c2s::mailbox::{Delivery, Origin, Queued};
use crate::cluster::sessions::Entry;

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

    /// Begins to read what is owed, from the start. Whether that goes on now.
    pub(super) fn start_catch_up(&mut self) -> bool {
        if self.catch_up.is_none() && self.account().is_some() && self.handle.takes_messages() {
            let drops = |entry: Option<&mut Entry>| entry.map_or(0, |entry| entry.ledger.drops());
            self.catch_up = Some(Box::new(CatchUp {
                drops: self.parts.sessions.with(self.handle.bare.as_str(), drops),
                ..CatchUp::default()
            }));
        }
        self.catch_up.is_some()
    }

    /// Another session has given debts back, which may lie behind what was read already.
    pub(super) fn catch_up_anew(&mut self) {
        match self.catch_up.as_mut() {
            Some(catch_up) => catch_up.again = true,
            None => drop(self.start_catch_up()),
        }
    }

    /// The mailbox had no room for the message at `position`: it is read from storage, in its place
    /// among what comes live.
    pub(super) fn left_owed(&mut self, position: i64) {
        if !self.start_catch_up() {
            // Not a resource that takes its account's messages: it stays owed to the account.
            self.handle.mailbox.reads_owed();
            self.handle.mailbox.has_read_owed();
        } else if !matches!(self.behind_owed.back(), Some(Queued::Owed(_))) {
            self.behind_owed.push_back(Queued::Owed(position));
        }
    }

    pub(super) fn poll_owed(&mut self, cx: &mut Context<'_>) -> Move {
        if self.catch_up.is_none() {
            return Move::None;
        }
        let Some(owner) = self.account() else {
            return Move::None;
        };
        let has_room = self.has_room_for_owed();
        let waits = self.owed_retry_at.is_some_and(|at| Instant::now() < at);
        let Some(catch_up) = self.catch_up.as_mut() else {
            return Move::None;
        };
        // Always: a read under way holds one of the few connections to the database, whether its client
        // takes anything or not.
        if let Some(reading) = catch_up.reading.as_mut() {
            let Poll::Ready(page) = reading.as_mut().poll(cx) else {
                return Move::None;
            };
            catch_up.reading = None;
            // What was queued before the last of the page was committed is taken first.
            catch_up.page = Some(page);
            return Move::Some;
        }
        if waits || !has_room {
            return Move::None;
        }
        if let Some(page) = catch_up.page.take() {
            return self.on_page(page);
        }
        let bare = self.handle.bare.as_str().to_owned();
        self.handle.mailbox.reads_owed();
        catch_up.reading = Some(self.parts.catch_up.page(owner, bare, catch_up.cursor));
        Move::Some
    }

    /// A page is read only while less than half of the session's bound is in use.
    fn has_room_for_owed(&self) -> bool {
        self.wire.is_some()
            && !self.is_congested()
            && self.held_bytes() < self.limits.queue_bytes / 2
    }

    fn on_page(&mut self, page: Page) -> Move {
        match page {
            Ok(page) => {
                // Also past what the account sent, so that nobody looks at that again.
                if let Some(catch_up) = self.catch_up.as_mut() {
                    catch_up.cursor = page.up_to;
                }
                if page.ends {
                    self.read_all();
                } else {
                    self.deliver_owed(page.messages);
                }
            }
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
        let claimed: Vec<Owed> = self
            .parts
            .sessions
            .with(self.handle.bare.as_str(), |entry| {
                let Some(entry) = entry else {
                    return Vec::new();
                };
                owed.into_iter()
                    .filter(|owed| entry.ledger.claim(owed.position, self.handle.key))
                    .collect()
            });
        self.take_mail();
        for owed in claimed {
            self.pass_before(owed.position);
            let debt = Some(owed.position);
            self.pass(Delivery {
                stanza: owed.stanza,
                debt,
                origin: Origin::Direct,
            });
        }
        self.request_acknowledgement();
    }

    /// What was delivered until the page was claimed lies behind the owed messages from here on, not
    /// in the mailbox, where its place among them would not be seen.
    fn take_mail(&mut self) {
        for queued in self.handle.mailbox.take_stanzas() {
            match queued {
                Queued::Stanza(delivery) => self.deliver(delivery),
                Queued::Owed(position) => self.left_owed(position),
            }
        }
    }

    /// Passes what came live before the message at `position`, and what came before it was left in
    /// storage: a page may hold what was committed later.
    fn pass_before(&mut self, position: i64) {
        let is_before = |queued: &Queued| match queued {
            Queued::Owed(left) => *left <= position,
            Queued::Stanza(delivery) => delivery.debt.is_some_and(|debt| debt < position),
        };
        let Some(last) = self.behind_owed.iter().rposition(is_before) else {
            return;
        };
        let before: Vec<Queued> = self.behind_owed.drain(..=last).collect();
        for delivery in before.into_iter().filter_map(Queued::into_stanza) {
            self.pass(delivery);
        }
    }

    /// Everything owed was read: ends where nothing was left in storage meanwhile, else reads on.
    fn read_all(&mut self) {
        self.take_mail();
        if self.handle.mailbox.has_read_owed() {
            self.caught_up();
        }
    }

    /// Nothing is owed any more; what came live meanwhile follows.
    fn caught_up(&mut self) {
        let Some(catch_up) = self.catch_up.take() else {
            return;
        };
        self.owed_retry_at = None;
        let note = |entry: Option<&mut Entry>| {
            entry.is_none_or(|entry| entry.ledger.caught_up(catch_up.cursor, catch_up.drops))
        };
        let is_complete = self.parts.sessions.with(self.handle.bare.as_str(), note);
        let behind = std::mem::take(&mut self.behind_owed);
        for delivery in behind.into_iter().filter_map(Queued::into_stanza) {
            self.pass(delivery);
        }
        self.request_acknowledgement();
        if catch_up.again || !is_complete {
            self.start_catch_up();
        }
    }
}
