//! RFC 4422 appendix A: EXTERNAL

use super::Failure;

/// Longest authorization identity, in bytes: a bare JID's (RFC 7622 §3.1).
const MAX_IDENTITY_BYTES: usize = 2047;

/// The identity the client asks for, `None` to derive it from its certificate
/// (XEP-0178 §2).
///
/// # Errors
/// [`Failure::MalformedRequest`] for what is no UTF-8, holds NUL or is too long.
pub fn requested_identity(message: &[u8]) -> Result<Option<String>, Failure> {
    let text = std::str::from_utf8(message).map_err(|_| Failure::MalformedRequest)?;
    if text.len() > MAX_IDENTITY_BYTES || text.contains('\0') {
        return Err(Failure::MalformedRequest);
    }
    Ok((!text.is_empty()).then(|| text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities() {
        assert_eq!(requested_identity(b""), Ok(None));
        assert_eq!(
            requested_identity(b"juliet@im.example"),
            Ok(Some("juliet@im.example".into()))
        );
        assert_eq!(requested_identity(b"a\0b"), Err(Failure::MalformedRequest));
        assert_eq!(requested_identity(b"\xff"), Err(Failure::MalformedRequest));
    }
}
