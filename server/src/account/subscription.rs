//! RFC 6121 §3: presence subscriptions, the state machine of Appendix A.
//!
//! Pure: a stanza and the state before it give the state after it and what follows.
//! The state is the account's own; each side of a subscription keeps its own.

/// The four presence types that manage subscriptions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Request {
    /// Asks to see the other's presence.
    Subscribe,
    /// Lets the other see one's own presence.
    Subscribed,
    /// Gives up seeing the other's presence.
    Unsubscribe,
    /// Refuses or takes back the other's view of one's own presence.
    Unsubscribed,
}

impl Request {
    /// The value of the presence stanza's `type`.
    pub fn as_str(self) -> &'static str {
        match self {
            Request::Subscribe => "subscribe",
            Request::Subscribed => "subscribed",
            Request::Unsubscribe => "unsubscribe",
            Request::Unsubscribed => "unsubscribed",
        }
    }
}

/// The nine states of RFC 6121 §A.1, seen from the account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum State {
    #[default]
    None,
    NonePendingOut,
    NonePendingIn,
    NonePendingOutIn,
    To,
    ToPendingIn,
    From,
    FromPendingOut,
    Both,
}

impl State {
    /// The state made of its four aspects. A request that is already granted is not pending.
    pub fn new(to: bool, from: bool, pending_out: bool, pending_in: bool) -> Self {
        match (to, from, pending_out, pending_in) {
            (true, true, _, _) => State::Both,
            (true, false, _, false) => State::To,
            (true, false, _, true) => State::ToPendingIn,
            (false, true, false, _) => State::From,
            (false, true, true, _) => State::FromPendingOut,
            (false, false, false, false) => State::None,
            (false, false, true, false) => State::NonePendingOut,
            (false, false, false, true) => State::NonePendingIn,
            (false, false, true, true) => State::NonePendingOutIn,
        }
    }

    /// The account sees the contact's presence.
    pub fn to(self) -> bool {
        matches!(self, State::To | State::ToPendingIn | State::Both)
    }

    /// The contact sees the account's presence.
    pub fn from(self) -> bool {
        matches!(self, State::From | State::FromPendingOut | State::Both)
    }

    /// The account has asked and has no answer yet: `ask='subscribe'`.
    pub fn pending_out(self) -> bool {
        matches!(
            self,
            State::NonePendingOut | State::NonePendingOutIn | State::FromPendingOut
        )
    }

    /// The contact has asked and has no answer yet: its request is kept.
    pub fn pending_in(self) -> bool {
        matches!(
            self,
            State::NonePendingIn | State::NonePendingOutIn | State::ToPendingIn
        )
    }

    /// The value of the roster item's `subscription`.
    pub fn as_str(self) -> &'static str {
        match (self.to(), self.from()) {
            (true, true) => "both",
            (true, false) => "to",
            (false, true) => "from",
            (false, false) => "none",
        }
    }

    fn with(self, change: impl FnOnce(&mut Aspects)) -> Self {
        let mut aspects = Aspects {
            to: self.to(),
            from: self.from(),
            pending_out: self.pending_out(),
            pending_in: self.pending_in(),
        };
        change(&mut aspects);
        State::new(
            aspects.to,
            aspects.from,
            aspects.pending_out,
            aspects.pending_in,
        )
    }
}

struct Aspects {
    to: bool,
    from: bool,
    pending_out: bool,
    pending_in: bool,
}

/// What the account knows of one contact, as far as subscriptions go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Entry {
    /// Subscriptions and requests in both directions.
    pub state: State,
    /// The contact has an item in the roster. Without one only a request of the
    /// contact can be known (RFC 6121 §A.1, state 3).
    pub listed: bool,
    /// Requests of the contact are approved beforehand (RFC 6121 §3.4).
    pub approved: bool,
}

impl Entry {
    /// Equal in all that a roster item shows: no roster push where this holds.
    fn looks_like(&self, other: &Entry) -> bool {
        let visible = |e: &Entry| {
            (
                e.listed,
                e.approved,
                e.state.as_str(),
                e.state.pending_out(),
            )
        };
        visible(self) == visible(other)
    }
}

/// Which of the account's sessions get the stanza.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deliver {
    /// None of them.
    No,
    /// Those that have sent presence: requests (RFC 6121 §3.1.3).
    Available,
    /// Those that have asked for the roster: the other three types (RFC 6121 §3.1.6).
    Interested,
}

/// What the contact gets to see of the account's presence because of the change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// Nothing.
    Nothing,
    /// The current presence of each available resource, after the stanza.
    Current,
    /// Unavailable from each available resource: before an `unsubscribed` of the
    /// account, after an `unsubscribe` of the contact.
    Unavailable,
}

/// What becomes of the kept request of the contact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// It stays as it is.
    Unchanged,
    /// The stanza is kept whole, in place of an earlier one.
    Store,
    /// It is answered or withdrawn: dropped.
    Drop,
}

/// What follows from a stanza that the account sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outbound {
    /// The entry afterwards, to be written where it differs.
    pub next: Entry,
    /// The stanza goes on to the contact, `from` the account's bare JID.
    pub route: bool,
    /// The item is pushed to interested sessions.
    pub push: bool,
    /// What the contact sees of the account's presence.
    pub presence: Presence,
    /// What becomes of the contact's kept request.
    pub kept: Kept,
}

/// What follows from a stanza that the contact sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inbound {
    /// The entry afterwards, to be written where it differs.
    pub next: Entry,
    /// Who gets the stanza; before the roster push.
    pub deliver: Deliver,
    /// The item is pushed to interested sessions.
    pub push: bool,
    /// What the server answers on the account's behalf, bare JID to bare JID.
    pub reply: Option<Request>,
    /// What the contact sees of the account's presence.
    pub presence: Presence,
    /// What becomes of the contact's kept request.
    pub kept: Kept,
}

/// RFC 6121 §A.2: a subscription stanza from the account to a contact.
pub fn outbound(before: Entry, request: Request) -> Outbound {
    match request {
        Request::Subscribe => outbound_subscribe(before),
        Request::Unsubscribe => outbound_unsubscribe(before),
        Request::Subscribed => outbound_subscribed(before),
        Request::Unsubscribed => outbound_unsubscribed(before),
    }
}

/// RFC 6121 §A.3: a subscription stanza from a contact to the account.
pub fn inbound(before: Entry, request: Request) -> Inbound {
    match request {
        Request::Subscribe => inbound_subscribe(before),
        Request::Unsubscribe => inbound_unsubscribe(before),
        Request::Subscribed => inbound_subscribed(before),
        Request::Unsubscribed => inbound_unsubscribed(before),
    }
}

fn routed(before: Entry, next: Entry) -> Outbound {
    Outbound {
        next,
        route: true,
        push: !next.looks_like(&before),
        presence: Presence::Nothing,
        kept: if before.state.pending_in() && !next.state.pending_in() {
            Kept::Drop
        } else {
            Kept::Unchanged
        },
    }
}

fn outbound_subscribe(before: Entry) -> Outbound {
    let mut next = before;
    if !before.state.to() {
        next.state = before.state.with(|s| s.pending_out = true);
        next.listed = true;
    }
    routed(before, next)
}

fn outbound_unsubscribe(before: Entry) -> Outbound {
    let mut next = before;
    next.state = before.state.with(|s| {
        s.to = false;
        s.pending_out = false;
    });
    routed(before, next)
}

fn outbound_subscribed(before: Entry) -> Outbound {
    let mut next = before;
    if before.state.pending_in() {
        next.state = before.state.with(|s| {
            s.from = true;
            s.pending_in = false;
        });
        next.listed = true;
        return Outbound {
            presence: Presence::Current,
            ..routed(before, next)
        };
    }
    if !before.state.from() {
        next.approved = true;
        next.listed = true;
    }
    Outbound {
        route: false,
        ..routed(before, next)
    }
}

fn outbound_unsubscribed(before: Entry) -> Outbound {
    let mut next = before;
    next.approved = false;
    next.state = before.state.with(|s| {
        s.from = false;
        s.pending_in = false;
    });
    Outbound {
        route: next.state != before.state,
        presence: if before.state.from() {
            Presence::Unavailable
        } else {
            Presence::Nothing
        },
        ..routed(before, next)
    }
}

/// The stanza changes nothing and nobody hears of it.
fn ignored(before: Entry) -> Inbound {
    Inbound {
        next: before,
        deliver: Deliver::No,
        push: false,
        reply: None,
        presence: Presence::Nothing,
        kept: Kept::Unchanged,
    }
}

fn inbound_subscribe(before: Entry) -> Inbound {
    if before.state.from() {
        return Inbound {
            reply: Some(Request::Subscribed),
            ..ignored(before)
        };
    }
    if before.approved {
        let mut next = before;
        next.state = before.state.with(|s| {
            s.from = true;
            s.pending_in = false;
        });
        return Inbound {
            next,
            push: true,
            reply: Some(Request::Subscribed),
            presence: Presence::Current,
            kept: if before.state.pending_in() {
                Kept::Drop
            } else {
                Kept::Unchanged
            },
            ..ignored(before)
        };
    }
    if before.state.pending_in() {
        return ignored(before);
    }
    let mut next = before;
    next.state = before.state.with(|s| s.pending_in = true);
    Inbound {
        next,
        deliver: Deliver::Available,
        kept: Kept::Store,
        ..ignored(before)
    }
}

fn inbound_unsubscribe(before: Entry) -> Inbound {
    let mut next = before;
    next.state = before.state.with(|s| {
        s.from = false;
        s.pending_in = false;
    });
    if next.state == before.state {
        return ignored(before);
    }
    Inbound {
        next,
        deliver: Deliver::Interested,
        push: !next.looks_like(&before),
        reply: Some(Request::Unsubscribed),
        presence: if before.state.from() {
            Presence::Unavailable
        } else {
            Presence::Nothing
        },
        kept: if before.state.pending_in() {
            Kept::Drop
        } else {
            Kept::Unchanged
        },
    }
}

fn inbound_subscribed(before: Entry) -> Inbound {
    if !before.state.pending_out() {
        return ignored(before);
    }
    inbound_answer(before, true)
}

fn inbound_unsubscribed(before: Entry) -> Inbound {
    if !before.state.pending_out() && !before.state.to() {
        return ignored(before);
    }
    inbound_answer(before, false)
}

/// The contact has said whether its presence may be seen.
fn inbound_answer(before: Entry, to: bool) -> Inbound {
    let mut next = before;
    next.state = before.state.with(|s| {
        s.to = to;
        s.pending_out = false;
    });
    Inbound {
        next,
        deliver: Deliver::Interested,
        push: true,
        ..ignored(before)
    }
}

/// RFC 6121 §2.5.2: what the contact is told when its roster item is removed, in order.
/// Requests in either direction end too: a removed contact must not be left waiting.
pub fn removal(before: Entry) -> (Vec<Request>, Presence) {
    let mut told = Vec::new();
    if before.state.to() || before.state.pending_out() {
        told.push(Request::Unsubscribe);
    }
    if before.state.from() || before.state.pending_in() {
        told.push(Request::Unsubscribed);
    }
    let presence = if before.state.from() {
        Presence::Unavailable
    } else {
        Presence::Nothing
    };
    (told, presence)
}

#[cfg(test)]
mod tests;
