//! The bounded queue through which everyone else reaches a session (DESIGN §4).
//!
//! A plain lock around a deque beats a channel here: the session drains all that
//! has gathered in one go, so that many stanzas share one write.

use std::collections::VecDeque;
use std::task::{Context, Poll};

use eider_xmpp::stanza::Stanza;
use futures_util::task::AtomicWaker;
use parking_lot::Mutex;

use crate::c2s::control::Control;

/// What a queued stanza costs beyond its bytes: the queue slot and the shared index.
pub const STANZA_OVERHEAD_BYTES: usize = 192;

/// How a stanza came to this session; decides what happens to it when the session ends
/// unread (DESIGN §3, "when a session ends").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Sent by someone to this resource or its account.
    Direct,
    /// A copy the server made (carbon, archive result, push): dropped without an answer.
    Copy,
}

/// One stanza on its way to a client.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The stanza as it will be written.
    pub stanza: Stanza,
    /// Position of the account's delivery debt that this delivery serves.
    pub debt: Option<i64>,
    /// See [`Origin`].
    pub origin: Origin,
}

impl Delivery {
    /// A stanza someone sent, without a delivery debt.
    pub fn direct(stanza: Stanza) -> Delivery {
        Delivery {
            stanza,
            debt: None,
            origin: Origin::Direct,
        }
    }

    /// A stanza the server made itself.
    pub fn copy(stanza: Stanza) -> Delivery {
        Delivery {
            stanza,
            debt: None,
            origin: Origin::Copy,
        }
    }

    /// What this delivery counts against a queue's bound, in bytes.
    pub fn cost_bytes(&self) -> usize {
        self.stanza.as_bytes().len() + STANZA_OVERHEAD_BYTES
    }
}

/// Why a stanza was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// The queue's bound in bytes is reached; the session is told to end.
    Full,
    /// The session has ended.
    Closed,
}

/// What the session finds when it looks.
#[derive(Default)]
pub struct Mail {
    /// Stanzas in the order they came.
    pub stanzas: VecDeque<Delivery>,
    /// Orders to the session itself, in the order they came.
    pub controls: Vec<Control>,
}

struct Inner {
    mail: Mail,
    queued_bytes: usize,
    /// Bytes the session holds unacknowledged, told by the session after each drain.
    held_bytes: usize,
    limit_bytes: usize,
    closed: bool,
    overflowed: bool,
}

/// See the module's documentation. Cheap to share; one reader.
pub struct Mailbox {
    inner: Mutex<Inner>,
    waker: AtomicWaker,
}

impl Mailbox {
    /// An empty mailbox that refuses stanzas once `limit_bytes` are queued or held unacknowledged.
    pub fn new(limit_bytes: usize) -> Mailbox {
        let inner = Inner {
            mail: Mail::default(),
            queued_bytes: 0,
            held_bytes: 0,
            limit_bytes,
            closed: false,
            overflowed: false,
        };
        Mailbox {
            inner: Mutex::new(inner),
            waker: AtomicWaker::new(),
        }
    }

    /// Bytes queued and not taken by the session yet, and bytes that the session holds, not written or
    /// not acknowledged.
    pub fn waiting_bytes(&self) -> (usize, usize) {
        let inner = self.inner.lock();
        (inner.queued_bytes, inner.held_bytes)
    }

    /// Queues a stanza.
    ///
    /// # Errors
    /// [`Refused::Full`] over the bound, which also orders the session to end;
    /// [`Refused::Closed`] after [`Mailbox::close`].
    pub fn push(&self, delivery: Delivery) -> Result<(), Refused> {
        let mut inner = self.inner.lock();
        if inner.closed {
            return Err(Refused::Closed);
        }
        if inner.overflowed {
            return Err(Refused::Full);
        }
        let cost = delivery.cost_bytes();
        let result = if inner.queued_bytes + inner.held_bytes + cost > inner.limit_bytes {
            inner.overflowed = true;
            inner.mail.controls.push(Control::Overflow);
            Err(Refused::Full)
        } else {
            inner.queued_bytes += cost;
            inner.mail.stanzas.push_back(delivery);
            Ok(())
        };
        drop(inner);
        self.waker.wake();
        result
    }

    /// Queues an order to the session; gives it back when the session has ended.
    ///
    /// # Errors
    /// The order itself after [`Mailbox::close`].
    pub fn control(&self, control: Control) -> Result<(), Control> {
        let mut inner = self.inner.lock();
        if inner.closed {
            return Err(control);
        }
        inner.mail.controls.push(control);
        drop(inner);
        self.waker.wake();
        Ok(())
    }

    /// Everything queued, or pending until there is something. `held_bytes`: what the session holds
    /// unwritten or unacknowledged.
    pub fn poll_take(&self, cx: &mut Context<'_>, held_bytes: usize) -> Poll<Mail> {
        let mut inner = self.inner.lock();
        inner.held_bytes = held_bytes;
        if inner.mail.stanzas.is_empty() && inner.mail.controls.is_empty() {
            // Under the lock: who pushes next finds the waker.
            self.waker.register(cx.waker());
            return Poll::Pending;
        }
        // The bytes stay counted until the session says what it holds: what is taken is
        // not yet written, and a client that does not read must not empty the bound.
        inner.held_bytes += std::mem::take(&mut inner.queued_bytes);
        Poll::Ready(std::mem::take(&mut inner.mail))
    }

    /// Orders only, or pending until there are some; see [`Mailbox::poll_take`].
    pub fn poll_controls(&self, cx: &mut Context<'_>, held_bytes: usize) -> Poll<Vec<Control>> {
        let mut inner = self.inner.lock();
        inner.held_bytes = held_bytes;
        if inner.mail.controls.is_empty() {
            self.waker.register(cx.waker());
            return Poll::Pending;
        }
        Poll::Ready(std::mem::take(&mut inner.mail.controls))
    }

    /// Bytes that may still be queued.
    pub fn room_bytes(&self) -> usize {
        let inner = self.inner.lock();
        inner
            .limit_bytes
            .saturating_sub(inner.queued_bytes + inner.held_bytes)
    }

    /// Stanzas queued and not yet taken.
    pub fn depth(&self) -> usize {
        self.inner.lock().mail.stanzas.len()
    }

    /// Ends the mailbox and hands back what was never taken.
    pub fn close(&self) -> Mail {
        let mut inner = self.inner.lock();
        inner.closed = true;
        std::mem::take(&mut inner.mail)
    }
}
