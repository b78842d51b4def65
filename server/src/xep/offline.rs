//! XEP-0160: Best Practices for Handling Offline Messages

use eider_xmpp::ns;
use eider_xmpp::stanza::{MessageType, Stanza};

use crate::xep::{Spec, Status, Target, hints};

/// See [`Spec`].
pub const SPEC: Spec = Spec {
    number: 160,
    name: "Best Practices for Handling Offline Messages",
    version: "1.0.1",
    status: Status::Complete,
    note: "",
    features: &[(Target::Server, "msgoffline")],
    switch: None,
};

/// Whether a message is owed to an account until it is acknowledged (XEP-0160 §3): of type
/// normal or chat, and more than a chat state.
pub fn storable(stanza: &Stanza, kind: MessageType) -> bool {
    matches!(kind, MessageType::Chat | MessageType::Normal)
        && !hints::no_store(stanza)
        && stanza.children().any(|child| {
            let ns = child.ns.as_ref();
            let is_thread = ns == ns::CLIENT && child.name == "thread";
            !is_thread && !matches!(ns, ns::CHAT_STATES | ns::HINTS | ns::STANZA_ID)
        })
}
