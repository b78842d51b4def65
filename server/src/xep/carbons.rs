//! XEP-0280: Message Carbons

use std::collections::VecDeque;
use std::hash::BuildHasher;

use eider_xmpp::jid::Jid;
use eider_xmpp::ns;
use eider_xmpp::stanza::{MessageType, Stanza};
use foldhash::fast::FixedState;

use crate::config::Feature;
use crate::xep::{Access, Handler, Route, Spec, Status, Target, hints};

/// See [`Spec`].
pub const SPEC: Spec = Spec {
    number: 280,
    name: "Message Carbons",
    version: "1.0.1",
    status: Status::Complete,
    note: "with the rules of urn:xmpp:carbons:rules:0",
    features: &[
        (Target::Server, ns::CARBONS),
        (Target::Server, ns::CARBONS_RULES),
    ],
    switch: Some(Feature::Carbons),
};

/// Who gets copies of a message, beside those it was sent to or from (XEP-0280 §6.1).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Copies {
    /// The sender's other resources.
    pub sent: bool,
    /// The recipient's other resources.
    pub received: bool,
}

impl Copies {
    /// What the rules say of a message from a resource of ours.
    pub fn of(stanza: &Stanza) -> Copies {
        let eligible = eligible(stanza);
        Copies {
            sent: eligible,
            received: eligible && !is_from_occupant(stanza),
        }
    }
}

/// An error is eligible where what it answers was: see [`Copied`].
fn eligible(stanza: &Stanza) -> bool {
    if stanza.has("private", ns::CARBONS) || stanza.has("no-copy", ns::HINTS) {
        return false;
    }
    match stanza.message_type() {
        MessageType::Chat => true,
        MessageType::Normal => {
            stanza.has("body", ns::CLIENT) || hints::archivable(stanza) || of_messaging(stanza)
        }
        MessageType::Headline => of_messaging(stanza),
        MessageType::Error | MessageType::Groupchat => false,
    }
}

/// Payloads of instant messaging, whatever carries them; direct and mediated invitations.
fn of_messaging(stanza: &Stanza) -> bool {
    is_mediated_invitation(stanza)
        || stanza.children().any(|child| {
            matches!(
                child.ns.as_ref(),
                ns::RECEIPTS | ns::CHAT_STATES | ns::MARKERS
            ) || child.is("x", ns::CONFERENCE)
        })
}

fn is_mediated_invitation(stanza: &Stanza) -> bool {
    let user = stanza.child("x", ns::MUC_USER);
    user.is_some_and(|user| user.child("invite", ns::MUC_USER).is_some())
}

/// A private message of a room's occupant: the room itself sends it to every client that is in it.
fn is_from_occupant(stanza: &Stanza) -> bool {
    stanza.has("x", ns::MUC_USER) && !is_mediated_invitation(stanza)
}

/// Messages of an account of which its other resources have got copies, so that an error that
/// answers one of them is copied too (XEP-0280 §6.1). A message that was refused at once is not
/// among them: it was never sent.
#[derive(Debug, Default)]
pub struct Copied(VecDeque<u64>);

/// The latest of an account that are remembered.
const COPIED_MAX: usize = 128;

impl Copied {
    /// Copies were made of a message.
    pub fn note(&mut self, stanza: &Stanza) {
        let key = stanza.to().and_then(|to| key(stanza, to));
        let Some(key) = key else { return };
        if self.0.len() == COPIED_MAX {
            self.0.pop_front();
        }
        self.0.push_back(key);
    }

    /// Whether the stanza is an error that answers one of them.
    pub fn is_answered_by(&self, stanza: &Stanza) -> bool {
        let key = || stanza.from().and_then(|from| key(stanza, from));
        !self.0.is_empty() && stanza.is_error() && key().is_some_and(|key| self.0.contains(&key))
    }
}

/// A message's id and the other account, short.
fn key(stanza: &Stanza, other: &Jid) -> Option<u64> {
    let id = stanza.id()?;
    Some(FixedState::default().hash_one((id.as_ref(), other.bare_str())))
}

/// Enabling and disabling (XEP-0280 §4, §5).
pub fn routes() -> Vec<Route> {
    let route = |name, wanted: bool| Route {
        target: Target::Account,
        ns: ns::CARBONS,
        name,
        access: Access::Own,
        switch: Some(Feature::Carbons),
        handler: Handler::at_once(move |request| {
            request.own_session()?.set_carbons(wanted);
            Ok(None)
        }),
    };
    vec![route("enable", true), route("disable", false)]
}
