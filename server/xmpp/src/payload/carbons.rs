//! XEP-0280: Message Carbons

use crate::jid::{BareJid, FullJid};
use crate::ns;
use crate::payload::forwarding;
use crate::stanza::{Child, Fragment, Kind, Stanza};

/// A copy of a message that this account received, for another of its resources (XEP-0280 §7).
pub fn received(message: &Stanza, account: &BareJid, to: &FullJid) -> Stanza {
    wrap("received", message, account, to)
}

/// A copy of a message that another resource of this account sent (XEP-0280 §8).
pub fn sent(message: &Stanza, account: &BareJid, to: &FullJid) -> Stanza {
    wrap("sent", message, account, to)
}

/// From the account's bare JID, of the type of what it wraps. Copies for further resources are
/// made of it by [`Stanza::rewrite`].
fn wrap(name: &'static str, message: &Stanza, account: &BareJid, to: &FullJid) -> Stanza {
    let mut xml = String::with_capacity(message.as_bytes().len() + 160);
    xml.push('<');
    xml.push_str(name);
    xml.push_str(" xmlns='urn:xmpp:carbons:2'>");
    forwarding::write(&mut xml, message, None);
    xml.push_str("</");
    xml.push_str(name);
    xml.push('>');
    let carbon = Fragment::written(name, ns::CARBONS, xml);
    let type_attr = message.type_attr();
    let wrapper = Stanza::empty(Kind::Message);
    let mut rewrite = wrapper.rewrite().from(account).to(to);
    if let Some(value) = &type_attr {
        rewrite = rewrite.type_attr(value);
    }
    rewrite.append(&carbon).build()
}

/// Whether a child claims to be a carbon, which only the own account may send.
pub fn is_wrapper(child: &Child<'_>) -> bool {
    child.ns == ns::CARBONS && matches!(child.name, "received" | "sent")
}

/// Whether the sender wants no carbons (XEP-0280 §9).
pub fn is_private(message: &Stanza) -> bool {
    message.has("private", ns::CARBONS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::forwarding;

    #[test]
    fn wraps() {
        let message = Stanza::parse_stored(
            "<message type='chat' from='a@b/c' to='d@e/f'><body>x</body></message>".into(),
        )
        .unwrap();
        let account = BareJid::parse("d@e").unwrap();
        let to = FullJid::parse("d@e/g").unwrap();
        let carbon = received(&message, &account, &to);
        assert_eq!(
            std::str::from_utf8(carbon.as_bytes()).unwrap(),
            "<message from='d@e' to='d@e/g' type='chat'><received xmlns='urn:xmpp:carbons:2'>\
             <forwarded xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client' type='chat' \
             from='a@b/c' to='d@e/f'><body>x</body></message></forwarded></received></message>"
        );
        assert_eq!(
            carbon,
            Stanza::parse_stored(carbon.as_bytes().clone()).unwrap()
        );
        let wrapper = carbon.child("received", ns::CARBONS).unwrap();
        let (inner, _) = forwarding::read(wrapper.first_child().unwrap()).unwrap();
        assert_eq!(inner, &message.element());
        assert!(carbon.children().all(|child| is_wrapper(&child)));
        assert!(!is_private(&carbon));
    }
}
