//! XEP-0280: Message Carbons

use eider_xmpp::ns;
use eider_xmpp::stanza::{MessageType, Stanza};

use crate::config::Feature;
use crate::xep::{Access, Route, Spec, Status, Target, hints};

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

/// Whether a message is copied to the account's other resources (XEP-0280 §6.1).
pub fn eligible(stanza: &Stanza) -> bool {
    if stanza.has("private", ns::CARBONS) || stanza.has("no-copy", ns::HINTS) {
        return false;
    }
    match stanza.message_type() {
        MessageType::Chat => true,
        MessageType::Normal => {
            stanza.has("body", ns::CLIENT) || hints::archivable(stanza) || conversational(stanza)
        }
        MessageType::Error => false,
        MessageType::Groupchat | MessageType::Headline => false,
    }
}

/// Payloads of instant messaging that a message of type normal carries without a body.
fn conversational(stanza: &Stanza) -> bool {
    stanza.children().any(|child| {
        matches!(
            child.ns.as_ref(),
            ns::RECEIPTS | ns::CHAT_STATES | ns::MARKERS
        )
    })
}

/// Enabling and disabling (XEP-0280 §4, §5).
pub fn routes() -> Vec<Route> {
    let route = |name, wanted: bool| Route {
        target: Target::Account,
        ns: ns::CARBONS,
        name,
        access: Access::Own,
        switch: Some(Feature::Carbons),
        handler: Box::new(move |request| {
            let done = request
                .own_session()
                .map(|session| session.set_carbons(wanted));
            Box::pin(std::future::ready(done.map(|()| None)))
        }),
    };
    vec![route("enable", true), route("disable", false)]
}
