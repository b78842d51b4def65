//! The inbox at work: items begin in order, end in order, and are counted as handled when they end.

use std::pin::Pin;
use std::task::{Context, Poll};

use eider_xmpp::stanza::Kind;

use super::{End, Move, Session};
use crate::c2s::inbox::{Entry, Item, State};
use crate::router::{After, Step};

impl Session {
    /// Begins what may begin, ends what has come to its end.
    pub(super) fn poll_inbox(&mut self, cx: &mut Context<'_>) -> Move {
        let mut moved = false;
        loop {
            moved |= self.begin();
            if self.begun_over_bound > self.limits.inbox_stanzas {
                return Move::End(End::Overflow);
            }
            match self.poll_head(cx) {
                Move::None => break,
                Move::Some => moved = true,
                Move::End(end) => return Move::End(end),
            }
        }
        if self.inbox.is_empty() && self.pending_resume.is_some() {
            self.take_over();
            moved = true;
        }
        if self.inbox.is_empty() && self.draining {
            return Move::End(End::Drained);
        }
        if moved { Move::Some } else { Move::None }
    }

    /// Whether the client holds so much unacknowledged that it gets nothing more before it acknowledges.
    pub(super) fn waits_for_acknowledgement(&self) -> bool {
        self.sm.is_some()
            && (self.is_asking_too_much() || self.held_bytes() >= self.limits.queue_bytes / 2)
    }

    /// Whether the client has not taken what it asked for, up to a session's bound.
    fn is_asking_too_much(&self) -> bool {
        self.answer_bytes() >= self.limits.queue_bytes
    }

    /// Nothing begins while the client takes nothing of what it asked for before. Where waiting would
    /// be for ever, what stands behind is begun, so that an acknowledgement is read or the inbox
    /// comes to its end.
    fn may_begin(&self) -> bool {
        let hurries = self.draining || self.pending_resume.is_some() || self.wire.is_none();
        let waits = self.is_congested() || (self.is_asking_too_much() && !self.is_inbox_full());
        hurries || !waits
    }

    /// Routes every item whose turn to begin has come. Over the bound, requests are refused.
    fn begin(&mut self) -> bool {
        let mut begun = false;
        if !self.may_begin() {
            return begun;
        }
        let refuses = self.is_asking_too_much();
        while let Some((entry, turn)) = self.inbox.startable() {
            begun = true;
            self.begun_over_bound += usize::from(refuses);
            if refuses && entry.stanza.kind() != Kind::Message {
                self.parts.router.not_stored(&self.handle, &entry.stanza);
                entry.state = State::Finished;
                continue;
            }
            entry.state = match self.parts.router.route(&self.handle, &entry.stanza, turn) {
                Step::Done => State::Finished,
                Step::Committing(answer) => State::Committing(answer),
                Step::Run(future) => State::Running(future),
            };
        }
        begun
    }

    fn poll_head(&mut self, cx: &mut Context<'_>) -> Move {
        match self.inbox.head() {
            None => Move::None,
            Some(Item::End(end)) => Move::End(end.clone()),
            Some(Item::Stanza(entry)) => match poll_entry(entry, cx) {
                Poll::Pending => Move::None,
                Poll::Ready(Ended::Again) => {
                    entry.state = State::Unread;
                    Move::Some
                }
                Poll::Ready(ended) => {
                    self.end_head(&ended);
                    Move::Some
                }
            },
        }
    }

    /// The head is handled: what it became, then its count.
    fn end_head(&mut self, ended: &Ended) {
        let Some(Item::Stanza(entry)) = self.inbox.pop() else {
            return;
        };
        if matches!(ended, Ended::NotStored) {
            self.parts.router.not_stored(&self.handle, &entry.stanza);
        }
        if entry.stanza.kind() == Kind::Presence {
            self.after_presence();
        }
        if entry.counted {
            self.count_handled();
        }
    }

    fn count_handled(&mut self) {
        let Some(sm) = self.sm.as_mut() else { return };
        sm.handled = sm.handled.wrapping_add(1);
        if self.acknowledge_at == Some(sm.handled) {
            self.acknowledge_at = None;
            self.send_acknowledgement();
        }
    }
}

enum Ended {
    Handled,
    NotStored,
    Again,
}

fn poll_entry(entry: &mut Entry, cx: &mut Context<'_>) -> Poll<Ended> {
    match &mut entry.state {
        State::Unread => Poll::Pending,
        State::Finished => Poll::Ready(Ended::Handled),
        // A writer that is gone has not stored what it never answered.
        State::Committing(answer) => Pin::new(answer).poll(cx).map(|answer| match answer {
            Ok(Ok(())) => Ended::Handled,
            Ok(Err(_)) | Err(_) => Ended::NotStored,
        }),
        State::Running(future) => future.as_mut().poll(cx).map(|after| match after {
            After::Done => Ended::Handled,
            After::Again => Ended::Again,
        }),
    }
}
