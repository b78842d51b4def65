//! XEP-0334: Message Processing Hints

use eider_xmpp::ns;
use eider_xmpp::stanza::{MessageType, Stanza};

use crate::xep::{Spec, Status};

/// See [`Spec`].
pub const SPEC: Spec = Spec {
    number: 334,
    name: "Message Processing Hints",
    version: "0.4.1",
    status: Status::Complete,
    note: "",
    features: &[],
    switch: None,
};

/// Whether the sender asks that it be kept nowhere (XEP-0334 §4.2).
pub fn no_store(stanza: &Stanza) -> bool {
    stanza.has("no-store", ns::HINTS)
}

/// Whether a message belongs into an archive (XEP-0313 §5.1.1): chat and normal ones with a
/// body, or asked to be stored, or of the payloads that conversations consist of.
pub fn archivable(stanza: &Stanza) -> bool {
    if !matches!(
        stanza.message_type(),
        MessageType::Chat | MessageType::Normal
    ) {
        return false;
    }
    if no_store(stanza) || stanza.has("no-permanent-store", ns::HINTS) {
        return false;
    }
    stanza.has("store", ns::HINTS)
        || stanza
            .children()
            .any(|child| conversational(child.ns.as_ref(), child.name))
}

fn conversational(namespace: &str, name: &str) -> bool {
    match namespace {
        ns::CLIENT => name == "body",
        ns::RECEIPTS => name == "received",
        ns::MARKERS => matches!(name, "received" | "displayed" | "acknowledged"),
        ns::REACTIONS | ns::RETRACTION | ns::FASTENING => true,
        ns::EME => name == "encryption",
        ns::JINGLE_MESSAGE => true,
        _ => false,
    }
}

/// The body's text, for full-text search (XEP-0431).
pub fn body_text(stanza: &Stanza) -> Option<String> {
    let body = stanza.child("body", ns::CLIENT)?.text();
    (!body.is_empty()).then_some(body)
}
