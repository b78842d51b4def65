//! XEP-0092: Software Version

use crate::element::Element;
use crate::ns;

/// `<query/>` of a result; the operating system only where it is to be told.
pub fn result(name: &str, version: &str, os: Option<&str>) -> Element {
    let part = |part: &'static str, text: &str| Element::new(part, ns::VERSION).with_text(text);
    Element::new("query", ns::VERSION)
        .with_child(part("name", name))
        .with_child(part("version", version))
        .with_children(os.map(|os| part("os", os)))
}

#[cfg(test)]
mod tests {
    #[test]
    fn says_what_it_is() {
        assert_eq!(
            super::result("Eider", "1", None).to_xml(),
            "<query xmlns='jabber:iq:version'><name>Eider</name><version>1</version></query>"
        );
    }
}
