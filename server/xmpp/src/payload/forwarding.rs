//! XEP-0297: Stanza Forwarding

use crate::element::Element;
use crate::ns;
use crate::payload::delay::Delay;
use crate::stanza::Stanza;

/// Appends `<forwarded/>` around a stanza as it is, with its time where known.
pub fn write(out: &mut String, stanza: &Stanza, delay: Option<&Delay>) {
    out.push_str("<forwarded xmlns='urn:xmpp:forward:0'>");
    if let Some(delay) = delay {
        delay.write(out);
    }
    stanza.write_str_with_ns(out, ns::CLIENT);
    out.push_str("</forwarded>");
}

/// The stanza within `<forwarded/>` and its time; `None` unless there is exactly one.
pub fn read(forwarded: &Element) -> Option<(&Element, Option<Delay>)> {
    if !forwarded.is("forwarded", ns::FORWARD) {
        return None;
    }
    let mut stanzas = forwarded.children().filter(|child| {
        child.ns() == ns::CLIENT && matches!(child.name(), "message" | "presence" | "iq")
    });
    let stanza = stanzas.next()?;
    if stanzas.next().is_some() {
        return None;
    }
    Some((
        stanza,
        forwarded.child("delay", ns::DELAY).and_then(Delay::parse),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jid::Jid;

    #[test]
    fn there_and_back() {
        let stanza =
            Stanza::parse_stored("<message id='1'><body>x</body></message>".into()).unwrap();
        let delay = Delay::new(0, Jid::parse("a@b").unwrap());
        let mut xml = String::new();
        write(&mut xml, &stanza, Some(&delay));
        let element = Element::parse(&xml).unwrap();
        let (inner, read_delay) = read(&element).unwrap();
        assert_eq!(inner, &stanza.element());
        assert_eq!(read_delay, Some(delay));
    }

    #[test]
    fn not_one_stanza() {
        for xml in [
            "<forwarded xmlns='urn:xmpp:forward:0'/>",
            "<forwarded xmlns='urn:x'><message xmlns='jabber:client'/></forwarded>",
            "<forwarded xmlns='urn:xmpp:forward:0'><message/></forwarded>",
            "<forwarded xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client'/>\
             <iq xmlns='jabber:client'/></forwarded>",
        ] {
            assert!(read(&Element::parse(xml).unwrap()).is_none(), "{xml}");
        }
    }
}
