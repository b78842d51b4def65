//! RFC 4505: ANONYMOUS

use super::Failure;

/// Longest trace token, in characters (RFC 4505 §2).
const MAX_TOKEN_CHARS: usize = 255;

/// The trace information a client sent, `None` where it sent none.
///
/// # Errors
/// [`Failure::MalformedRequest`] for what is no UTF-8, over 255 characters or
/// holds control characters (which the "trace" profile prohibits).
pub fn trace(message: &[u8]) -> Result<Option<String>, Failure> {
    let text = std::str::from_utf8(message).map_err(|_| Failure::MalformedRequest)?;
    if text.chars().count() > MAX_TOKEN_CHARS || text.chars().any(char::is_control) {
        return Err(Failure::MalformedRequest);
    }
    Ok((!text.is_empty()).then(|| text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens() {
        assert_eq!(trace(b""), Ok(None));
        assert_eq!(trace(b"sirhc"), Ok(Some("sirhc".to_owned())));
        assert_eq!(trace(b"a\0b"), Err(Failure::MalformedRequest));
        assert_eq!(trace(&[b'x'; 256]), Err(Failure::MalformedRequest));
        assert_eq!(trace(b"\xc3"), Err(Failure::MalformedRequest));
    }
}
