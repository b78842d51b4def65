//! XEP-0359: Unique and Stable Stanza IDs

use std::borrow::Cow;

use crate::element::write_attr;
use crate::jid::Jid;
use crate::ns;
use crate::stanza::{Child, Fragment, Stanza};

/// `<stanza-id/>` by `by` (a bare JID: the account or the room), to be appended to a message.
pub fn fragment(by: &str, id: &str) -> Fragment {
    let mut xml = String::with_capacity(48 + id.len() + by.len());
    xml.push_str("<stanza-id xmlns='urn:xmpp:sid:0'");
    write_attr(&mut xml, "id", id);
    write_attr(&mut xml, "by", by);
    xml.push_str("/>");
    Fragment::written("stanza-id", ns::STANZA_ID, xml)
}

/// Whether a child is a `<stanza-id/>` by `by`, however that is spelt: to be stripped from what
/// comes in where `by` is us (XEP-0359 §3).
pub fn is_by(child: &Child<'_>, by: &str) -> bool {
    child.is("stanza-id", ns::STANZA_ID)
        && child.attr("by").is_some_and(|written| {
            written == by || Jid::parse(&written).is_ok_and(|jid| jid == *by)
        })
}

/// The id that `by` gave the stanza.
pub fn id_by(stanza: &Stanza, by: &str) -> Option<String> {
    let child = stanza.children().find(|child| is_by(child, by))?;
    child.attr("id").map(Cow::into_owned)
}

/// The id that the sending client gave the stanza.
pub fn origin_id(stanza: &Stanza) -> Option<String> {
    let child = stanza.find("origin-id", ns::STANZA_ID)?;
    child.attr("id").map(Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_and_found() {
        let stanza = Stanza::parse_stored(
            "<message><origin-id id='a&amp;b' xmlns='urn:xmpp:sid:0'/>\
             <stanza-id xmlns='urn:xmpp:sid:0' id='forged' by='Juliet@EXAMPLE.com'/>\
             <stanza-id xmlns='urn:xmpp:sid:0' id='room' by='room@example.net'/></message>"
                .into(),
        )
        .unwrap();
        assert_eq!(origin_id(&stanza).as_deref(), Some("a&b"));
        let ours = fragment("juliet@example.com", "1");
        let stamped = stanza
            .rewrite()
            .strip(&|child| is_by(child, "juliet@example.com"))
            .append(&ours)
            .build();
        assert_eq!(id_by(&stamped, "juliet@example.com").as_deref(), Some("1"));
        assert_eq!(id_by(&stamped, "room@example.net").as_deref(), Some("room"));
        assert_eq!(stamped.children().len(), 3);
    }
}
