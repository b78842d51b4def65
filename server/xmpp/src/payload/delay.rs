//! XEP-0203: Delayed Delivery

use crate::datetime;
use crate::element::{Element, write_attr};
use crate::jid::Jid;
use crate::ns;
use crate::stanza::{Child, Fragment};
use crate::xml::text::escape_text;

/// When a stanza was first sent, and who kept it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delay {
    /// Microseconds since 1970-01-01T00:00:00Z.
    pub unix_micros: i64,
    /// Who delayed it.
    pub from: Option<Jid>,
    /// Human-readable.
    pub reason: Option<String>,
}

impl Delay {
    /// A delay by `from`.
    pub fn new(unix_micros: i64, from: impl Into<Jid>) -> Delay {
        Delay {
            unix_micros,
            from: Some(from.into()),
            reason: None,
        }
    }

    /// Reads `<delay/>`; `None` for another element or a stamp that is not one.
    pub fn parse(element: &Element) -> Option<Delay> {
        if !element.is("delay", ns::DELAY) {
            return None;
        }
        let reason = element.text();
        Some(Delay {
            unix_micros: datetime::parse(element.attr("stamp")?).ok()?,
            from: element.attr("from").and_then(|from| Jid::parse(from).ok()),
            reason: Some(reason).filter(|reason| !reason.is_empty()),
        })
    }

    /// As a tree.
    pub fn to_element(&self) -> Element {
        Element::parse_stored(self.fragment().as_str()).expect("what it writes is an element")
    }

    /// Written, to be appended to stanzas.
    pub fn fragment(&self) -> Fragment {
        let mut xml = String::with_capacity(112);
        self.write(&mut xml);
        Fragment::written("delay", ns::DELAY, xml)
    }

    /// Appends `<delay/>`.
    pub fn write(&self, out: &mut String) {
        let from = self.from.as_ref().map(Jid::as_str);
        write(out, from, self.unix_micros, self.reason.as_deref());
    }
}

/// A `<delay/>` by `from`, at the time the stanza was received (microseconds since 1970).
pub fn fragment(from: &str, unix_micros: i64) -> Fragment {
    let mut xml = String::with_capacity(112);
    write(&mut xml, Some(from), unix_micros, None);
    Fragment::written("delay", ns::DELAY, xml)
}

fn write(out: &mut String, from: Option<&str>, unix_micros: i64, reason: Option<&str>) {
    out.push_str("<delay xmlns='urn:xmpp:delay'");
    if let Some(from) = from {
        write_attr(out, "from", from);
    }
    write_attr(out, "stamp", &datetime::format(unix_micros));
    match reason {
        None => out.push_str("/>"),
        Some(reason) => {
            out.push('>');
            escape_text(out, reason);
            out.push_str("</delay>");
        }
    }
}

/// Whether a child says that `domain` or one of its accounts delayed the stanza: nobody but the
/// server itself may say so of a host of its own.
pub fn is_by_host(child: &Child<'_>, domain: &str) -> bool {
    child.is("delay", ns::DELAY)
        && child
            .attr("from")
            .and_then(|from| Jid::parse(&from).ok())
            .is_some_and(|from| from.domain() == domain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_and_read() {
        let mut delay = Delay::new(
            1_767_323_045_123_456,
            Jid::parse("room@example.com/a&b").expect("a JID"),
        );
        let xml = delay.fragment().as_str().to_owned();
        assert_eq!(
            xml,
            "<delay xmlns='urn:xmpp:delay' from='room@example.com/a&amp;b' \
             stamp='2026-01-02T03:04:05.123456Z'/>"
        );
        assert_eq!(Delay::parse(&delay.to_element()), Some(delay.clone()));
        delay.reason = Some("a < b".into());
        assert_eq!(Delay::parse(&delay.to_element()), Some(delay));
        let bad = Element::new("delay", ns::DELAY).with_attr("stamp", "yesterday");
        assert_eq!(Delay::parse(&bad), None);
    }

    #[test]
    fn forged_delays() {
        let stanza = crate::Stanza::parse_stored(
            "<message><delay xmlns='urn:xmpp:delay' from='Juliet@Example.com/x' stamp=''/>\
             <delay xmlns='urn:xmpp:delay' from='example.net'/><delay xmlns='urn:xmpp:delay'/></message>"
                .into(),
        )
        .unwrap();
        let forged: Vec<bool> = stanza
            .children()
            .map(|child| is_by_host(&child, "example.com"))
            .collect();
        assert_eq!(forged, [true, false, false]);
    }
}
