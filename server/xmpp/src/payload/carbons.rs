//! XEP-0280: Message Carbons

use bytes::Bytes;

use crate::element::Element;
use crate::jid::{BareJid, FullJid};
use crate::ns;
use crate::stanza::Stanza;

/// A copy of a message this account received, for another of its resources (XEP-0280 §7).
pub fn received(stanza: &Stanza, account: &BareJid, to: &FullJid) -> Stanza {
    wrap("received", stanza, account, to)
}

/// A copy of a message another resource of this account sent (XEP-0280 §8).
pub fn sent(stanza: &Stanza, account: &BareJid, to: &FullJid) -> Stanza {
    wrap("sent", stanza, account, to)
}

/// The wrapper carries the type of what it wraps (XEP-0280 §7) and is written around its bytes as they are.
fn wrap(direction: &'static str, stanza: &Stanza, account: &BareJid, to: &FullJid) -> Stanza {
    let mut shell = Element::new("message", ns::CLIENT)
        .with_attr("from", account.as_str())
        .with_attr("to", to.as_str());
    if let Some(kind) = stanza.type_attr() {
        shell.set_attr("type", kind.into_owned());
    }
    let forwarded = Element::new("forwarded", ns::FORWARD).with_child(stanza.element());
    shell.push(Element::new(direction, ns::CARBONS).with_child(forwarded));
    Stanza::parse_stored(Bytes::from(shell.to_xml())).expect("what was written reads back")
}
