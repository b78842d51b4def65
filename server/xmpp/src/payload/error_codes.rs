//! XEP-0086: Error Condition Mappings

use crate::element::Element;
use crate::error::StanzaCondition;

/// The number that clients from before RFC 3920 understand.
pub const fn code(condition: StanzaCondition) -> u16 {
    use StanzaCondition as C;
    match condition {
        C::BadRequest | C::JidMalformed | C::UnexpectedRequest => 400,
        C::NotAuthorized => 401,
        C::Forbidden => 403,
        C::ItemNotFound | C::RecipientUnavailable | C::RemoteServerNotFound => 404,
        C::NotAllowed => 405,
        // Newer than the table; what its meaning comes closest to.
        C::NotAcceptable | C::PolicyViolation => 406,
        C::RegistrationRequired | C::SubscriptionRequired => 407,
        C::Conflict => 409,
        C::InternalServerError | C::ResourceConstraint | C::UndefinedCondition => 500,
        C::FeatureNotImplemented => 501,
        C::ServiceUnavailable => 503,
        C::RemoteServerTimeout => 504,
        C::Gone | C::Redirect => 302,
    }
}

/// Adds `code` to an `<error/>` (XEP-0086 §2).
pub fn add_code(error: &mut Element, condition: StanzaCondition) {
    error.set_attr("code", code(condition).to_string());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::StanzaError;

    #[test]
    fn beside_the_condition() {
        let mut error = StanzaError::new(StanzaCondition::ItemNotFound).to_element();
        add_code(&mut error, StanzaCondition::ItemNotFound);
        assert_eq!(
            error.to_xml(),
            "<error type='cancel' code='404'>\
             <item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>"
        );
        assert!(
            StanzaCondition::ALL
                .iter()
                .all(|c| (300..600).contains(&code(*c)))
        );
    }
}
