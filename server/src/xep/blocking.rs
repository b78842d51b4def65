//! XEP-0191: Blocking Command

use eider_xmpp::element::Element;
use eider_xmpp::error::{StanzaCondition, StanzaError};
use eider_xmpp::jid::{FullJid, Jid};
use eider_xmpp::ns;

use crate::account::facts::Facts;
use crate::config::Feature;
use crate::xep::{Spec, Status, Target};

/// See [`Spec`].
pub const SPEC: Spec = Spec {
    number: 191,
    name: "Blocking Command",
    version: "1.3",
    status: Status::Complete,
    note: "",
    features: &[(Target::Server, ns::BLOCKING)],
    switch: Some(Feature::Blocking),
};

/// Whether an account refuses what `from` sends. An account never blocks itself.
pub fn refuses(facts: &Facts, from: &FullJid) -> bool {
    facts.blocks(&Jid::from(from.clone()))
}

/// The answer to one's own stanza for a blocked JID (XEP-0191 §3.5).
pub fn blocked_error() -> StanzaError {
    StanzaError::new(StanzaCondition::NotAcceptable)
        .application(Element::new("blocked", ns::BLOCKING_ERRORS))
}
