//! XEP-0086: Error Condition Mappings

use eider_xmpp::error::StanzaCondition;
use eider_xmpp::ns;
use eider_xmpp::payload::error_codes;
use eider_xmpp::stanza::Stanza;

use crate::xep::{Spec, Status};

/// See [`Spec`].
pub const SPEC: Spec = Spec {
    number: 86,
    name: "Error Condition Mappings",
    version: "1.0",
    status: Status::Complete,
    note: "a switch for old clients, off by default",
    features: &[],
    switch: None,
};

/// The same error with the number that old clients understand; `None` for what is no error, or has one.
pub fn with_code(stanza: &Stanza) -> Option<Stanza> {
    if !stanza.is_error() {
        return None;
    }
    let mut element = stanza.element();
    let mut error = element.child("error", ns::CLIENT)?.clone();
    let named = error
        .children()
        .filter(|child| child.ns() == ns::STANZA_ERRORS);
    let condition = named
        .filter_map(|child| StanzaCondition::from_name(child.name()))
        .next()?;
    if error.attr("code").is_some() {
        return None;
    }
    error_codes::add_code(&mut error, condition);
    element.retain_children(|child| !child.is("error", ns::CLIENT));
    element.push(error);
    Some(Stanza::from_element(&element))
}

#[cfg(test)]
mod tests {
    use eider_xmpp::element::Element;

    use super::*;

    fn stanza(text: &str) -> Stanza {
        Stanza::from_element(&Element::parse(text).unwrap())
    }

    #[test]
    fn errors_get_their_number_once() {
        let error = stanza(
            "<message xmlns='jabber:client' type='error' to='a@b/c'><body>x</body><error type='cancel'>\
             <service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>",
        );
        let with = with_code(&error).unwrap();
        let text = String::from_utf8(with.as_bytes().to_vec()).unwrap();
        assert!(
            text.contains("code='503'") && text.contains("<body>x</body>"),
            "{text}"
        );
        assert!(with_code(&with).is_none());
    }

    #[test]
    fn all_else_stays() {
        assert!(with_code(&stanza("<iq xmlns='jabber:client' type='result' id='1'/>")).is_none());
        assert!(with_code(&stanza("<message xmlns='jabber:client' type='error'/>")).is_none());
    }
}
