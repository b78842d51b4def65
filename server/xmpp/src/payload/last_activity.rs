//! XEP-0012: Last Activity

use crate::element::Element;
use crate::ns;

/// `<query/>` of a result: seconds, and the last status text where there is one.
pub fn result(seconds: u64, status: &str) -> Element {
    let query = Element::new("query", ns::LAST).with_attr("seconds", seconds.to_string());
    if status.is_empty() {
        query
    } else {
        query.with_text(status)
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn says_seconds_and_status() {
        assert_eq!(
            super::result(903, "Heading Home").to_xml(),
            "<query xmlns='jabber:iq:last' seconds='903'>Heading Home</query>"
        );
        assert_eq!(
            super::result(0, "").to_xml(),
            "<query xmlns='jabber:iq:last' seconds='0'/>"
        );
    }
}
