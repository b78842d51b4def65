//! Stop 7: towards the client. Client state, stream management, one write for what has gathered.

use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use eider_xmpp::ns;
use eider_xmpp::stanza::Kind;
use tokio::time::Instant;

use super::{Move, Session};
use crate::admin::trace::Direction;
use crate::c2s::mailbox::{Delivery, Origin, Queued};
use crate::c2s::wire::WRITE_HIGH_BYTES;
use crate::fault::{self, Point};
use crate::xep::error_codes;

/// An acknowledgement is asked for this long after the last stanza, where none was due before.
const REQUEST_AFTER: Duration = Duration::from_secs(2);

/// What TLS may have taken and not written to the socket; twice its bound.
const IN_TLS_BYTES: u64 = 128 * 1024;

impl Session {
    /// Whether enough waits to be written, so that stanzas stay where they are.
    pub(super) fn is_congested(&self) -> bool {
        self.unwritten() >= WRITE_HIGH_BYTES
    }

    /// One stanza from the mailbox, on its way to the client.
    pub(super) fn deliver(&mut self, delivery: Delivery) {
        if delivery.origin == Origin::Direct {
            // It may have come on a presence that is still being told to contacts: what is owed goes first.
            self.after_presence();
        }
        if self.catch_up.is_some() && self.comes_after_owed(&delivery) {
            self.behind_owed.push_back(Queued::Stanza(delivery));
        } else {
            self.pass(delivery);
        }
    }

    /// RFC 6120 §10.1: who sent it may have sent some of what is owed. What the server makes waits only
    /// behind what waits of the same sender.
    fn comes_after_owed(&self, delivery: &Delivery) -> bool {
        let Some(sender) = delivery.stanza.from() else {
            return false;
        };
        let same = |ahead: &Queued| match ahead {
            Queued::Stanza(ahead) => {
                let from = ahead.stanza.from();
                from.is_some_and(|from| from.bare_str() == sender.bare_str())
            }
            Queued::Owed(_) => false,
        };
        delivery.origin == Origin::Direct || self.behind_owed.iter().any(same)
    }

    /// Through client state, then out.
    pub(super) fn pass(&mut self, delivery: Delivery) {
        if !self.client_state.is_inactive() {
            return self.put(delivery);
        }
        for delivery in self.client_state.pass(delivery) {
            self.put(delivery);
        }
    }

    /// Into the write buffer and the queue of unacknowledged stanzas.
    pub(super) fn put(&mut self, mut delivery: Delivery) {
        if delivery.stanza.is_error()
            && self.parts.config.borrow().compatibility.legacy_error_codes
            && let Some(with_code) = error_codes::with_code(&delivery.stanza)
        {
            delivery.stanza = with_code;
        }
        self.handle
            .about
            .stanzas_out
            .fetch_add(1, Ordering::Relaxed);
        self.trace(Direction::Out, &delivery.stanza);
        let counters = &self.parts.metrics.stanzas_out;
        match delivery.stanza.kind() {
            Kind::Message => counters.message.inc(),
            Kind::Presence => counters.presence.inc(),
            Kind::Iq => counters.iq.inc(),
        };
        if let Some(wire) = self.wire.as_mut() {
            wire.send(delivery.stanza.as_bytes());
        }
        match self.sm.as_mut() {
            Some(sm) => sm.push(delivery),
            None => {
                let end = self.wire.as_ref().map_or(u64::MAX, |wire| wire.sent());
                let owed = delivery.debt.map(|debt| (end, debt));
                self.paid_when_written.extend(owed);
            }
        }
    }

    /// Asks for an acknowledgement where one is due, or remembers to.
    pub(super) fn request_acknowledgement(&mut self) {
        let Some(sm) = self.sm.as_ref().filter(|_| self.wire.is_some()) else {
            return;
        };
        if sm.request_due(self.limits.request_stanzas, self.limits.request_bytes) {
            self.request_now();
        } else if sm.unrequested() {
            let at = *self
                .request_at
                .get_or_insert_with(|| Instant::now() + REQUEST_AFTER);
            self.wake_at(at);
        }
    }

    /// Asks now for what no request asked about.
    pub(super) fn request_now(&mut self) {
        self.request_at = None;
        let (Some(sm), Some(wire)) = (self.sm.as_mut(), self.wire.as_mut()) else {
            return;
        };
        if sm.unrequested() {
            wire.send(format!("<r xmlns='{}'/>", ns::SM).as_bytes());
            sm.note_request();
            let now = Instant::now();
            self.requested_at = Some(now);
            self.wake_at(now + self.write_timeout());
        }
    }

    /// How long a client may take nothing.
    pub(super) fn write_timeout(&self) -> Duration {
        let seconds = self.parts.config.borrow().limits.write_timeout_seconds;
        Duration::from_secs(seconds.into())
    }

    /// These debts are paid.
    pub(super) fn pay(&self, debts: impl Iterator<Item = i64>) {
        let mut debts = debts.peekable();
        if debts.peek().is_none() {
            return;
        }
        self.parts
            .sessions
            .with(self.handle.bare.as_str(), |entry| {
                if let Some(entry) = entry {
                    let cleared = debts
                        .inspect(|position| entry.ledger.pay(*position))
                        .count();
                    self.parts.metrics.debts_cleared.inc_by(cleared as u64);
                    fault::reached(Point::DebtCleared);
                }
            });
    }

    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>) -> Move {
        let Some(wire) = self.wire.as_mut() else {
            return Move::None;
        };
        if wire.is_flushed() {
            return Move::None;
        }
        let before = wire.taken();
        let outcome = wire.poll_write(cx);
        let taken = wire.taken();
        self.parts.metrics.bytes_out.inc_by(taken - before);
        match outcome {
            Poll::Pending => {
                self.pay_written(taken.saturating_sub(IN_TLS_BYTES));
                self.wake_at(Instant::now() + self.write_timeout());
                Move::None
            }
            Poll::Ready(Ok(())) => {
                fault::reached(Point::Written);
                if std::mem::take(&mut self.acknowledging) {
                    fault::reached(Point::AcknowledgementSent);
                }
                let paid = std::mem::take(&mut self.paid_when_written);
                self.pay(paid.into_iter().map(|(_, debt)| debt));
                Move::Some
            }
            Poll::Ready(Err(_)) => self.lost("connection broken"),
        }
    }

    /// Pays the debts whose messages end at or before this byte of the stream.
    fn pay_written(&mut self, byte: u64) {
        let owed = &mut self.paid_when_written;
        let paid = owed.partition_point(|(end, _)| *end <= byte);
        let paid: Vec<i64> = owed.drain(..paid).map(|(_, debt)| debt).collect();
        self.pay(paid.into_iter());
    }

    /// What is held here in all, so that the mailbox's bound covers both.
    pub(super) fn all_held_bytes(&self) -> usize {
        let behind: usize = self.behind_owed.iter().map(Queued::cost_bytes).sum();
        self.held_bytes() + behind + self.client_state.held_bytes()
    }

    /// Bytes that the client has not taken or not acknowledged, without what it asked for itself
    /// where that is known apart.
    pub(super) fn held_bytes(&self) -> usize {
        match &self.sm {
            Some(sm) => sm.queue_bytes(),
            None => self.unwritten(),
        }
    }

    /// Bytes of what the client asked for itself and has not taken or not acknowledged.
    pub(super) fn answer_bytes(&self) -> usize {
        match &self.sm {
            Some(sm) => sm.answer_bytes(),
            None => self.unwritten(),
        }
    }

    fn unwritten(&self) -> usize {
        self.wire.as_ref().map_or(0, |wire| wire.unwritten())
    }
}
