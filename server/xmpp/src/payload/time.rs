//! XEP-0202: Entity Time

use crate::datetime;
use crate::element::Element;
use crate::ns;

/// `<time/>` of a result for a server, whose zone is UTC.
pub fn result(unix_micros: i64) -> Element {
    Element::new("time", ns::TIME)
        .with_child(Element::new("tzo", ns::TIME).with_text("+00:00"))
        .with_child(Element::new("utc", ns::TIME).with_text(datetime::format_seconds(unix_micros)))
}

#[cfg(test)]
mod tests {
    #[test]
    fn is_utc() {
        assert_eq!(
            super::result(0).to_xml(),
            "<time xmlns='urn:xmpp:time'><tzo>+00:00</tzo><utc>1970-01-01T00:00:00Z</utc></time>"
        );
    }
}
