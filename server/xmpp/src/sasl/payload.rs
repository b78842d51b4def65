//! RFC 6120 §6.4: base64 of SASL messages inside XML

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::Failure;

/// Decodes the character data of `<auth/>` or `<response/>`.
///
/// `None` stands for no data at all, `Some(vec![])` for the single `=` that
/// RFC 6120 §6.4.2 makes of an empty initial response. Padding is required and
/// trailing bits must be zero, so each message has one encoding only.
///
/// # Errors
/// [`Failure::IncorrectEncoding`] for anything that is not canonical base64,
/// white space included.
pub fn decode(text: &str) -> Result<Option<Vec<u8>>, Failure> {
    match text {
        "" => Ok(None),
        "=" => Ok(Some(Vec::new())),
        _ => STANDARD
            .decode(text)
            .map(Some)
            .map_err(|_| Failure::IncorrectEncoding),
    }
}

/// Encodes a message for `<challenge/>` or `<success/>`; empty becomes `=`.
pub fn encode(message: &[u8]) -> String {
    if message.is_empty() {
        "=".to_owned()
    } else {
        STANDARD.encode(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_strict() {
        assert_eq!(decode(""), Ok(None));
        assert_eq!(decode("="), Ok(Some(vec![])));
        assert_eq!(decode("AGEAYg=="), Ok(Some(b"\0a\0b".to_vec())));
        for bad in [
            "AGEAYg",
            "AGEAYh==",
            "AGEA Yg==",
            "AGEAYg==\n",
            "==",
            "A===",
            "@@@@",
            "AGE_",
        ] {
            assert_eq!(decode(bad), Err(Failure::IncorrectEncoding), "{bad:?}");
        }
        assert_eq!(encode(b""), "=");
        assert_eq!(decode(&encode(b"hello")), Ok(Some(b"hello".to_vec())));
    }
}
