//! RFC 5802 §7: grammar of the client's messages

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::ScramError;

/// Longest client nonce accepted, in bytes; real ones have 16 to 64.
const MAX_NONCE_BYTES: usize = 256;
/// Longest message accepted, in bytes.
const MAX_MESSAGE_BYTES: usize = 4096;

/// The channel binding flag of the GS2 header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BindingFlag<'a> {
    /// `n`: the client cannot bind.
    Unsupported,
    /// `y`: the client could, but saw no offer.
    NotOffered,
    /// `p=`: the client binds with this type.
    Used(&'a str),
}

/// client-first-message, split.
pub struct First<'a> {
    /// The GS2 header with both commas, as sent.
    pub header: &'a str,
    pub flag: BindingFlag<'a>,
    pub authzid: Option<String>,
    /// client-first-message-bare.
    pub bare: &'a str,
    pub username: String,
    pub nonce: &'a str,
}

/// client-final-message, split.
pub struct Final<'a> {
    pub without_proof: &'a str,
    /// Decoded `c=`.
    pub binding: Vec<u8>,
    pub nonce: &'a str,
    pub proof: Vec<u8>,
}

/// Parses client-first-message.
pub fn first(message: &[u8]) -> Result<First<'_>, ScramError> {
    let message = text(message)?;
    let (flag, rest) = message.split_once(',').ok_or(ScramError::InvalidEncoding)?;
    let flag = match flag {
        "n" => BindingFlag::Unsupported,
        "y" => BindingFlag::NotOffered,
        _ => BindingFlag::Used(binding_name(flag)?),
    };
    let (authzid, bare) = rest.split_once(',').ok_or(ScramError::InvalidEncoding)?;
    let authzid = match authzid {
        "" => None,
        _ => Some(sasl_name(attribute(authzid, 'a')?)?),
    };
    let header = &message[..message.len() - bare.len()];
    if bare.starts_with("m=") {
        return Err(ScramError::ExtensionsNotSupported);
    }
    let mut parts = bare.split(',');
    let username = sasl_name(attribute(parts.next().unwrap_or(""), 'n')?)?;
    let nonce = attribute(parts.next().unwrap_or(""), 'r')?;
    if nonce.len() > MAX_NONCE_BYTES || !printable(nonce) {
        return Err(ScramError::InvalidEncoding);
    }
    extensions(parts)?;
    Ok(First {
        header,
        flag,
        authzid,
        bare,
        username,
        nonce,
    })
}

/// Parses client-final-message.
pub fn finale(message: &[u8]) -> Result<Final<'_>, ScramError> {
    let message = text(message)?;
    let (without_proof, proof) = message
        .rsplit_once(',')
        .ok_or(ScramError::InvalidEncoding)?;
    let mut parts = without_proof.split(',');
    let binding = base64(attribute(parts.next().unwrap_or(""), 'c')?)?;
    let nonce = attribute(parts.next().unwrap_or(""), 'r')?;
    if !printable(nonce) {
        return Err(ScramError::InvalidEncoding);
    }
    extensions(parts)?;
    let proof = base64(attribute(proof, 'p')?)?;
    Ok(Final {
        without_proof,
        binding,
        nonce,
        proof,
    })
}

fn text(message: &[u8]) -> Result<&str, ScramError> {
    let text = std::str::from_utf8(message).map_err(|_| ScramError::InvalidEncoding)?;
    if text.len() > MAX_MESSAGE_BYTES || text.contains('\0') {
        return Err(ScramError::InvalidEncoding);
    }
    Ok(text)
}

/// `p=` and a name of letters, digits, dots and hyphens.
fn binding_name(flag: &str) -> Result<&str, ScramError> {
    let name = attribute(flag, 'p')?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'.' || b == b'-';
    if name.bytes().all(plain) {
        Ok(name)
    } else {
        Err(ScramError::InvalidEncoding)
    }
}

/// The non-empty value of `<name>=value`.
fn attribute(part: &str, name: char) -> Result<&str, ScramError> {
    part.strip_prefix(name)
        .and_then(|rest| rest.strip_prefix('='))
        .filter(|value| !value.is_empty())
        .ok_or(ScramError::InvalidEncoding)
}

/// Optional attributes are ignored where well formed; `m=` may not come late.
fn extensions<'a>(parts: impl Iterator<Item = &'a str>) -> Result<(), ScramError> {
    for part in parts {
        let name = part.chars().next().filter(char::is_ascii_alphabetic);
        match name.ok_or(ScramError::InvalidEncoding)? {
            'm' => return Err(ScramError::ExtensionsNotSupported),
            name => attribute(part, name)?,
        };
    }
    Ok(())
}

fn printable(nonce: &str) -> bool {
    nonce
        .bytes()
        .all(|b| matches!(b, 0x21..=0x2b | 0x2d..=0x7e))
}

fn base64(value: &str) -> Result<Vec<u8>, ScramError> {
    STANDARD
        .decode(value)
        .map_err(|_| ScramError::InvalidEncoding)
}

/// Undoes `=2C` and `=3D`; any other `=` is an error (RFC 5802 §5.1).
fn sasl_name(value: &str) -> Result<String, ScramError> {
    let mut name = String::with_capacity(value.len());
    let mut rest = value;
    while let Some((before, after)) = rest.split_once('=') {
        name.push_str(before);
        name.push(match after.get(..2) {
            Some("2C") => ',',
            Some("3D") => '=',
            _ => return Err(ScramError::InvalidUsernameEncoding),
        });
        rest = &after[2..];
    }
    name.push_str(rest);
    Ok(name)
}
