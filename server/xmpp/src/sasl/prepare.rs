//! RFC 4013 and RFC 8265 §4.2: preparation of passwords

use std::borrow::Cow;

use precis_profiles::OpaqueString;
use precis_profiles::precis_core::profile::PrecisFastInvocation as _;

/// A password that no preparation accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the password is empty or holds characters that are not allowed")]
pub struct PasswordError;

/// Brings a password into the one form from which keys are derived.
///
/// RFC 5802 asks for SASLprep, and so do the clients in use; it stands on
/// Unicode 3.2. What it refuses, emoji among them, goes through PRECIS'
/// OpaqueString, which leaves it nearly as typed, as clients without a newer
/// table do.
///
/// # Errors
/// [`PasswordError`] for an empty result or one that both profiles refuse.
pub fn prepare_password(password: &str) -> Result<Cow<'_, str>, PasswordError> {
    let prepared = match stringprep::saslprep(password) {
        Ok(prepared) => prepared,
        Err(_) => OpaqueString::enforce(password).map_err(|_| PasswordError)?,
    };
    if prepared.is_empty() {
        Err(PasswordError)
    } else {
        Ok(prepared)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_4013_examples() {
        for (input, output) in [
            ("I\u{ad}X", "IX"),
            ("user", "user"),
            ("USER", "USER"),
            ("\u{aa}", "a"),
            ("\u{2168}", "IX"),
        ] {
            assert_eq!(prepare_password(input).as_deref(), Ok(output), "{input:?}");
        }
        assert!(prepare_password("\u{7}").is_err());
        assert!(prepare_password("").is_err());
        assert!(prepare_password("\u{ad}").is_err());
    }

    #[test]
    fn newer_characters_stay_as_typed() {
        assert_eq!(
            prepare_password("correct 🐴 battery").as_deref(),
            Ok("correct 🐴 battery")
        );
        assert_eq!(
            prepare_password("pass\u{a0}word").as_deref(),
            Ok("pass word")
        );
    }
}
