//! RFC 4616: PLAIN

use super::{Failure, prepare_password};

/// Longest authcid or authzid accepted, in bytes: a bare JID's (RFC 7622 §3.1).
const MAX_NAME_BYTES: usize = 2047;
/// Longest password accepted, in bytes; bounds the work of normalising it.
const MAX_PASSWORD_BYTES: usize = 1024;

/// A parsed PLAIN message. `Debug` leaves the password out.
#[derive(Clone, PartialEq, Eq)]
pub struct Plain {
    /// Identity to act as, `None` to derive it from `username`.
    pub authzid: Option<String>,
    /// Authentication identity as sent, not yet prepared as a localpart.
    pub username: String,
    /// Password after [`prepare_password`].
    pub password: String,
}

impl std::fmt::Debug for Plain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plain")
            .field("authzid", &self.authzid)
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

impl Plain {
    /// Parses `[authzid] NUL authcid NUL passwd`.
    ///
    /// # Errors
    /// [`Failure::MalformedRequest`] where the message breaks the grammar or its
    /// limits, [`Failure::NotAuthorized`] for a password no account can have.
    pub fn parse(message: &[u8]) -> Result<Plain, Failure> {
        let text = std::str::from_utf8(message).map_err(|_| Failure::MalformedRequest)?;
        let mut parts = text.split('\0');
        let (Some(authzid), Some(username), Some(password), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Failure::MalformedRequest);
        };
        if username.is_empty()
            || password.is_empty()
            || username.len() > MAX_NAME_BYTES
            || authzid.len() > MAX_NAME_BYTES
            || password.len() > MAX_PASSWORD_BYTES
        {
            return Err(Failure::MalformedRequest);
        }
        let password = prepare_password(password).map_err(|_| Failure::NotAuthorized)?;
        Ok(Plain {
            authzid: (!authzid.is_empty()).then(|| authzid.to_owned()),
            username: username.to_owned(),
            password: password.into_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_4616_examples() {
        let plain = Plain::parse(b"\0tim\0tanstaaftanstaaf").expect("RFC 4616 example 1");
        assert_eq!(
            (plain.username.as_str(), plain.password.as_str()),
            ("tim", "tanstaaftanstaaf")
        );
        assert_eq!(plain.authzid, None);
        let plain = Plain::parse(b"Ursel\0Kurt\0xipj3plmq").expect("RFC 4616 example 2");
        assert_eq!(plain.authzid.as_deref(), Some("Ursel"));
        assert!(!format!("{plain:?}").contains("xipj"));
    }

    #[test]
    fn malformed_messages() {
        let long = [b"\0u\0".to_vec(), vec![b'x'; 2000]].concat();
        for bad in [
            &b""[..],
            b"tim",
            b"\0tim",
            b"\0tim\0",
            b"\0\0pass",
            b"\0tim\0pass\0",
            b"a\0b\0c\0d",
            b"\0\xff\0pass",
            &long,
        ] {
            assert_eq!(Plain::parse(bad), Err(Failure::MalformedRequest), "{bad:?}");
        }
    }
}
