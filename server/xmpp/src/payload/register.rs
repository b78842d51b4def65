//! XEP-0077: In-Band Registration

use crate::element::Element;
use crate::error::{StanzaCondition, StanzaError};
use crate::ns;

/// The longest user name and password taken, in bytes; RFC 7622 ends a localpart there.
const MAX_BYTES: usize = 1023;

/// What an iq set asks for.
#[derive(Clone, PartialEq, Eq)]
pub enum Request {
    /// §3.1 register, or §3.3 change the password, by whether the sender has an account.
    Set {
        /// The localpart as typed, not prepared.
        username: String,
        /// The password as typed.
        password: String,
    },
    /// §3.2: remove the sender's account.
    Remove,
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Request::Set { username, .. } => {
                f.debug_struct("Set").field("username", username).finish()
            }
            Request::Remove => f.write_str("Remove"),
        }
    }
}

/// Why an iq set is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// `<remove/>` beside something else: `bad-request`.
    #[error("remove stands alone")]
    RemoveNotAlone,
    /// A field is missing: `bad-request` (§3.3), which a registration turns into `not-acceptable`.
    #[error("user name and password are required")]
    Incomplete,
    /// A field is too long: `not-acceptable`.
    #[error("user name or password too long")]
    TooLong,
}

impl Error {
    /// The stanza error; `registering` where the sender has no account yet (§3.1).
    pub fn to_error(self, registering: bool) -> StanzaError {
        let condition = match self {
            Error::RemoveNotAlone => StanzaCondition::BadRequest,
            Error::Incomplete if !registering => StanzaCondition::BadRequest,
            Error::Incomplete | Error::TooLong => StanzaCondition::NotAcceptable,
        };
        StanzaError::new(condition).text(self.to_string())
    }
}

impl Request {
    /// Reads `<query/>` of an iq set, plain fields or a submitted form.
    pub fn parse(query: &Element) -> Result<Request, Error> {
        if query.has("remove", ns::REGISTER) {
            return match query.children().count() {
                1 => Ok(Request::Remove),
                _ => Err(Error::RemoveNotAlone),
            };
        }
        let field = |name: &str| {
            let plain = query.child_text(name, ns::REGISTER);
            plain.or_else(|| form_value(query.child("x", ns::DATA_FORMS)?, name))
        };
        let username = field("username").filter(|text| !text.is_empty());
        let password = field("password").filter(|text| !text.is_empty());
        let (Some(username), Some(password)) = (username, password) else {
            return Err(Error::Incomplete);
        };
        if username.len() > MAX_BYTES || password.len() > MAX_BYTES {
            return Err(Error::TooLong);
        }
        Ok(Request::Set { username, password })
    }
}

fn form_value(form: &Element, var: &str) -> Option<String> {
    let field = form
        .children()
        .find(|field| field.attr("var") == Some(var))?;
    field.child_text("value", ns::DATA_FORMS)
}

/// `<query/>` that answers an iq get: the fields to fill in, or, for who has an account, its name.
pub fn fields(registered: Option<&str>) -> Element {
    let part = |name: &'static str| Element::new(name, ns::REGISTER);
    let query = Element::new("query", ns::REGISTER);
    match registered {
        Some(username) => query
            .with_child(part("registered"))
            .with_child(part("username").with_text(username))
            .with_child(part("password")),
        None => query
            .with_child(part("instructions").with_text("Choose a user name and a password."))
            .with_child(part("username"))
            .with_child(part("password")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(inner: &str) -> Result<Request, Error> {
        let xml = format!("<query xmlns='jabber:iq:register'>{inner}</query>");
        Request::parse(&Element::parse(xml).expect("test input"))
    }

    fn set() -> Result<Request, Error> {
        Ok(Request::Set {
            username: "bill".into(),
            password: "Calliope".into(),
        })
    }

    #[test]
    fn fields_come_plain_or_in_a_form() {
        assert_eq!(
            parse("<username>bill</username><password>Calliope</password>"),
            set()
        );
        assert_eq!(
            parse(
                "<x xmlns='jabber:x:data' type='submit'>\
                 <field var='username'><value>bill</value></field>\
                 <field var='password'><value>Calliope</value></field></x>"
            ),
            set()
        );
    }

    #[test]
    fn what_is_missing_is_said() {
        let empty = parse("<username>bill</username><password/>");
        assert_eq!(empty, Err(Error::Incomplete));
        let error = Error::Incomplete;
        assert_eq!(
            error.to_error(true).condition,
            StanzaCondition::NotAcceptable
        );
        assert_eq!(error.to_error(false).condition, StanzaCondition::BadRequest);
        let long = "x".repeat(MAX_BYTES + 1);
        let long = parse(&format!(
            "<username>{long}</username><password>p</password>"
        ));
        assert_eq!(long, Err(Error::TooLong));
    }

    #[test]
    fn remove_stands_alone() {
        assert_eq!(parse("<remove/>"), Ok(Request::Remove));
        assert_eq!(
            parse("<remove/><username>bill</username>"),
            Err(Error::RemoveNotAlone)
        );
    }

    #[test]
    fn passwords_do_not_reach_logs() {
        assert!(!format!("{:?}", set()).contains("Calliope"));
    }

    #[test]
    fn who_has_an_account_is_told_its_name() {
        assert!(fields(Some("bill")).has("registered", ns::REGISTER));
        assert!(!fields(None).has("registered", ns::REGISTER));
    }
}
