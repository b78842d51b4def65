//! The bounded queue through which everyone else reaches a session (DESIGN §4).
//!
//! A plain lock around a deque beats a channel here: the session drains all that
//! has gathered in one go, so that many stanzas share one write.

use std::collections::{BTreeSet, VecDeque};
use std::task::{Context, Poll};

use eider_xmpp::jid::Jid;
use eider_xmpp::ns;
use eider_xmpp::stanza::{Kind, Stanza};
use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::c2s::control::Control;

/// What a queued stanza costs beyond its bytes: the queue slot and the shared index.
pub const STANZA_OVERHEAD_BYTES: usize = 192;

/// Less than this queued: the session takes what comes.
const TAKEN_BYTES: usize = 32 * 1024;

/// Resources remembered whose unavailable presence was dropped.
pub const GONE_MAX: usize = 256;

/// How a stanza came to this session; decides what happens to it when the session has no room for
/// it or ends unread (DESIGN §3, "when a session ends").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Sent by someone to this resource or its account.
    Direct,
    /// A copy the server made because of others (presence, carbon, notification): dropped without an
    /// answer.
    Copy,
    /// What the account's own changes push to its resources: a session that cannot take it ends, for
    /// it would show what is not so. What others send fills half of its bound at most.
    Push,
    /// What the session itself asked for. Counted apart: the session begins nothing new while its
    /// client has not taken the last of it, and others cannot stand in its way.
    Answer,
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

    /// What the session itself asked for.
    pub fn answer(stanza: Stanza) -> Delivery {
        Delivery {
            origin: Origin::Answer,
            ..Delivery::copy(stanza)
        }
    }

    /// What a change of the account's own pushes.
    pub fn push(stanza: Stanza) -> Delivery {
        Delivery {
            origin: Origin::Push,
            ..Delivery::copy(stanza)
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
    /// No room for it.
    Full,
    /// No room for it now; it is owed, and the session will read it from storage in its place.
    Owed,
    /// The session has ended.
    Closed,
}

/// One thing in the queue.
#[derive(Debug)]
pub enum Queued {
    /// A stanza.
    Stanza(Delivery),
    /// Here a message was left in storage: the one at this position, and owed ones behind it.
    Owed(i64),
}

impl Queued {
    /// What this counts against a queue's bound, in bytes.
    pub fn cost_bytes(&self) -> usize {
        match self {
            Queued::Stanza(delivery) => delivery.cost_bytes(),
            Queued::Owed(_) => 0,
        }
    }

    /// The stanza, where it is one.
    pub fn into_stanza(self) -> Option<Delivery> {
        match self {
            Queued::Stanza(delivery) => Some(delivery),
            Queued::Owed(_) => None,
        }
    }
}

/// What was dropped for lack of room; there is room again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Missed {
    /// Others' presence.
    pub presence: bool,
    /// Notifications of pubsub.
    pub events: bool,
}

impl Missed {
    /// Whether anything was.
    pub fn any(self) -> bool {
        self.presence || self.events
    }
}

/// Who is unavailable by presence that was dropped.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Gone {
    /// As the presence had it, [`GONE_MAX`] at most.
    pub from: BTreeSet<Jid>,
    /// How many more there were.
    pub more: u32,
}

/// What the session finds when it looks.
#[derive(Default)]
pub struct Mail {
    /// Stanzas in the order they came.
    pub stanzas: VecDeque<Queued>,
    /// Orders to the session itself, in the order they came.
    pub controls: Vec<Control>,
    /// How many were refused or dropped since, for lack of room.
    pub refused: u32,
    /// What was dropped is to be made good now.
    pub missed: Missed,
}

struct Inner {
    mail: Mail,
    /// Queued, answers not counted.
    queued_bytes: usize,
    /// Answers queued.
    answer_bytes: usize,
    /// Bytes the session holds unacknowledged, told by the session after each drain. Without answers.
    held_bytes: usize,
    limit_bytes: usize,
    closed: bool,
    overflowed: bool,
    /// Owed messages are left in storage until the session has read all of them.
    behind: bool,
    /// One was left since the session last began to read.
    left: bool,
    missed: Missed,
    gone: Option<Box<Gone>>,
    /// Somebody waits for room.
    awaited: bool,
}

impl Inner {
    fn push(&mut self, delivery: Delivery) -> Result<(), Refused> {
        if self.closed {
            return Err(Refused::Closed);
        }
        let cost = delivery.cost_bytes();
        let limit = match delivery.origin {
            Origin::Push => self.limit_bytes.saturating_mul(2),
            Origin::Direct | Origin::Copy | Origin::Answer => self.limit_bytes,
        };
        let fits = delivery.origin == Origin::Answer || self.has_room(cost, limit);
        match (delivery.debt, delivery.origin) {
            (Some(position), _) if self.behind || !fits => Err(self.leave(position)),
            _ if fits => {
                match delivery.origin {
                    Origin::Answer => self.answer_bytes += cost,
                    Origin::Direct | Origin::Copy | Origin::Push => self.queued_bytes += cost,
                }
                self.comes_after_all(&delivery.stanza);
                self.mail.stanzas.push_back(Queued::Stanza(delivery));
                Ok(())
            }
            (_, Origin::Push) => {
                if !std::mem::replace(&mut self.overflowed, true) {
                    self.mail.controls.push(Control::Overflow);
                }
                Err(self.refuse())
            }
            (_, Origin::Copy) => {
                self.miss(&delivery.stanza);
                Err(self.refuse())
            }
            (_, Origin::Direct | Origin::Answer) => Err(self.refuse()),
        }
    }

    fn has_room(&self, cost: usize, limit: usize) -> bool {
        let used = self.queued_bytes + self.held_bytes;
        used == 0 || used + cost <= limit
    }

    /// Remembers of a dropped copy what is needed to make it good.
    fn miss(&mut self, stanza: &Stanza) {
        match stanza.kind() {
            Kind::Presence => {
                self.missed.presence = true;
                if stanza.type_attr().as_deref() == Some("unavailable")
                    && let Some(from) = stanza.from()
                {
                    let gone = self.gone.get_or_insert_default();
                    if gone.from.len() < GONE_MAX {
                        gone.from.insert(from.clone());
                    } else if !gone.from.contains(from) {
                        gone.more = gone.more.saturating_add(1);
                    }
                }
            }
            Kind::Message => {
                self.missed.events |= stanza.child("event", ns::PUBSUB_EVENT).is_some();
            }
            Kind::Iq => {}
        }
    }

    /// Newer presence takes the place of what was dropped.
    fn comes_after_all(&mut self, stanza: &Stanza) {
        if let Some(gone) = &mut self.gone
            && stanza.kind() == Kind::Presence
            && let Some(from) = stanza.from()
        {
            gone.from.remove(from);
        }
    }

    fn refuse(&mut self) -> Refused {
        self.mail.refused += 1;
        Refused::Full
    }

    /// Leaves an owed message where it is stored. Marked once: what follows in storage is owed too.
    fn leave(&mut self, position: i64) -> Refused {
        self.behind = true;
        self.left = true;
        if !matches!(self.mail.stanzas.back(), Some(Queued::Owed(_))) {
            self.mail.stanzas.push_back(Queued::Owed(position));
        }
        Refused::Owed
    }
}

/// See the module's documentation. Cheap to share; one reader.
pub struct Mailbox {
    inner: Mutex<Inner>,
    waker: AtomicWaker,
    room: Notify,
}

impl Mailbox {
    /// An empty mailbox that refuses others' stanzas once `limit_bytes` are queued or held
    /// unacknowledged.
    pub fn new(limit_bytes: usize) -> Mailbox {
        let inner = Inner {
            mail: Mail::default(),
            queued_bytes: 0,
            answer_bytes: 0,
            held_bytes: 0,
            limit_bytes,
            closed: false,
            overflowed: false,
            behind: false,
            left: false,
            missed: Missed::default(),
            gone: None,
            awaited: false,
        };
        Mailbox {
            inner: Mutex::new(inner),
            waker: AtomicWaker::new(),
            room: Notify::new(),
        }
    }

    /// Bytes queued and not taken by the session yet, and bytes that the session holds, not written or
    /// not acknowledged.
    pub fn waiting_bytes(&self) -> (usize, usize) {
        let inner = self.inner.lock();
        (inner.queued_bytes + inner.answer_bytes, inner.held_bytes)
    }

    /// Changes the bound.
    pub fn set_limit(&self, limit_bytes: usize) {
        self.inner.lock().limit_bytes = limit_bytes;
    }

    /// Queues a stanza. One always fits into an empty queue.
    ///
    /// # Errors
    /// [`Refused::Owed`] and [`Refused::Full`] over the bound; [`Refused::Closed`] after
    /// [`Mailbox::close`].
    pub fn push(&self, delivery: Delivery) -> Result<(), Refused> {
        let mut inner = self.inner.lock();
        let waiting = inner.mail.stanzas.len() + inner.mail.controls.len();
        let result = inner.push(delivery);
        let news = inner.mail.stanzas.len() + inner.mail.controls.len() > waiting;
        drop(inner);
        if news {
            self.waker.wake();
        }
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
    /// unwritten or unacknowledged, answers not counted.
    pub fn poll_take(&self, cx: &mut Context<'_>, held_bytes: usize) -> Poll<Mail> {
        let mut inner = self.inner.lock();
        inner.held_bytes = held_bytes;
        // The bytes stay counted until the session says what it holds: what is taken is
        // not yet written, and a client that does not read must not empty the bound.
        inner.held_bytes += std::mem::take(&mut inner.queued_bytes);
        inner.answer_bytes = 0;
        let awaited = std::mem::take(&mut inner.awaited);
        if inner.missed.any() && inner.held_bytes <= inner.limit_bytes / 2 {
            inner.mail.missed = std::mem::take(&mut inner.missed);
        }
        let is_empty = inner.mail.stanzas.is_empty() && inner.mail.controls.is_empty();
        let mail = if is_empty && !inner.mail.missed.any() {
            // Under the lock: who pushes next finds the waker.
            self.waker.register(cx.waker());
            Poll::Pending
        } else {
            Poll::Ready(std::mem::take(&mut inner.mail))
        };
        drop(inner);
        if awaited {
            self.room.notify_waiters();
        }
        mail
    }

    /// The session looks at everything: until it waits again nobody needs to wake it.
    pub fn awake(&self) {
        drop(self.waker.take());
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

    /// What is queued by now; orders stay.
    pub fn take_stanzas(&self) -> VecDeque<Queued> {
        let mut inner = self.inner.lock();
        inner.held_bytes += std::mem::take(&mut inner.queued_bytes);
        inner.answer_bytes = 0;
        std::mem::take(&mut inner.mail.stanzas)
    }

    /// The session begins to read what is owed; from now on it is asked about anew.
    pub fn reads_owed(&self) {
        self.inner.lock().left = false;
    }

    /// Whether nothing was left since [`Mailbox::reads_owed`]; owed messages are then queued again.
    pub fn has_read_owed(&self) -> bool {
        let mut inner = self.inner.lock();
        inner.behind &= inner.left;
        !inner.behind
    }

    /// Waits until the session has taken what is queued: until its client reads on.
    pub async fn taken(&self) {
        self.wait(|inner| inner.answer_bytes + inner.queued_bytes < TAKEN_BYTES)
            .await;
    }

    /// Waits until half of the bound is free: until the client has taken, or acknowledged, so much.
    pub async fn half_empty(&self) {
        self.wait(|inner| inner.queued_bytes + inner.held_bytes <= inner.limit_bytes / 2)
            .await;
    }

    /// Queues what others must not lose for lack of room, as soon as there is some.
    pub async fn push_when_room(&self, delivery: Delivery) {
        let cost = delivery.cost_bytes();
        let mut delivery = Some(delivery);
        self.wait(|inner| {
            if inner.has_room(cost, inner.limit_bytes)
                && let Some(delivery) = delivery.take()
            {
                let _ = inner.push(delivery);
            }
            delivery.is_none()
        })
        .await;
        self.waker.wake();
    }

    /// Whose unavailable presence was dropped. Those named are forgotten; that there were more, with
    /// [`Mailbox::gone_are_told`].
    pub fn take_gone(&self) -> Gone {
        let mut inner = self.inner.lock();
        let Some(mut gone) = inner.gone.take() else {
            return Gone::default();
        };
        let taken = std::mem::take(&mut *gone);
        if taken.more > 0 {
            gone.more = taken.more;
            inner.gone = Some(gone);
        }
        taken
    }

    /// Everything is shown as it is, after [`Mailbox::take_gone`] said that there were so many more.
    pub fn gone_are_told(&self, more: u32) {
        let mut inner = self.inner.lock();
        if let Some(gone) = &mut inner.gone {
            gone.more -= gone.more.min(more);
        }
    }

    async fn wait(&self, mut ready: impl FnMut(&mut Inner) -> bool) {
        loop {
            let notified = self.room.notified();
            {
                let mut inner = self.inner.lock();
                if inner.closed || ready(&mut inner) {
                    return;
                }
                inner.awaited = true;
            }
            notified.await;
        }
    }

    /// Ends the mailbox and hands back what was never taken.
    pub fn close(&self) -> Mail {
        let mut inner = self.inner.lock();
        inner.closed = true;
        let mail = std::mem::take(&mut inner.mail);
        drop(inner);
        self.room.notify_waiters();
        mail
    }
}

#[cfg(test)]
mod tests;
