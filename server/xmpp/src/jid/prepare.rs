//! RFC 7622 §3: preparing the three parts, with PRECIS (RFC 8264, RFC 8265) and IDNA2008

use std::borrow::Cow;
use std::net::{Ipv4Addr, Ipv6Addr};

use precis_core::profile::PrecisFastInvocation;
use precis_core::{IdentifierClass, StringClass};
use precis_profiles::{OpaqueString, UsernameCaseMapped};
use smallvec::SmallVec;

use super::{JidError, MAX_BYTES, MAX_PART_BYTES, NO_LOCALPART, Repr, split};

/// Longest name in the form that DNS carries, without the final dot (RFC 1035 §2.3.4).
const MAX_DOMAIN_ASCII_BYTES: usize = 253;

/// Longest label in the form that DNS carries (RFC 1035 §2.3.4).
const MAX_LABEL_BYTES: usize = 63;

pub(super) fn parse(input: &str) -> Result<Repr, JidError> {
    if let Some(repr) = parse_prepared(input) {
        return Ok(repr);
    }
    // Preparation shortens a part only by a constant factor; what is far too long need not be
    // looked at.
    if input.len() > 4 * MAX_BYTES {
        return Err(JidError::TooLong);
    }
    let (localpart, domain, resource) = split(input);
    join(localpart, domain, resource)
}

pub(super) fn join(
    localpart: Option<&str>,
    domain: &str,
    resource: Option<&str>,
) -> Result<Repr, JidError> {
    let localpart = localpart.map(prepare_localpart).transpose()?;
    let domain = prepare_domain(domain)?;
    let resource = resource.map(prepare_resource).transpose()?;
    let mut text: SmallVec<[u8; 128]> = SmallVec::new();
    if let Some(localpart) = &localpart {
        text.extend_from_slice(localpart.as_bytes());
        text.push(b'@');
    }
    text.extend_from_slice(domain.as_bytes());
    let bare = text.len();
    if let Some(resource) = &resource {
        text.push(b'/');
        text.extend_from_slice(resource.as_bytes());
    }
    let text = std::str::from_utf8(&text).expect("joined from strings");
    Ok(Repr {
        text: text.into(),
        local: localpart.map_or(NO_LOCALPART, |part| offset(part.len())),
        bare: offset(bare),
    })
}

/// The common case: ASCII that preparation would not change. `None` means "look closer".
fn parse_prepared(input: &str) -> Option<Repr> {
    let bytes = input.as_bytes();
    let slash = memchr::memchr(b'/', bytes);
    let bare = slash.unwrap_or(bytes.len());
    let at = memchr::memchr(b'@', &bytes[..bare]);
    let domain = &bytes[at.map_or(0, |at| at + 1)..bare];
    if !domain_is_prepared(domain) {
        return None;
    }
    if let Some(at) = at {
        let localpart = &bytes[..at];
        if at == 0 || at > MAX_PART_BYTES || !localpart.iter().all(|b| LOCALPART[usize::from(*b)]) {
            return None;
        }
    }
    if let Some(slash) = slash {
        let resource = &bytes[slash + 1..];
        if !resource_is_prepared(resource) {
            return None;
        }
    }
    let local = at.map_or(NO_LOCALPART, offset);
    Some(Repr {
        text: input.into(),
        local,
        bare: offset(bare),
    })
}

fn offset(len: usize) -> u16 {
    u16::try_from(len).expect("parts are at most 1023 bytes each")
}

/// ASCII that UsernameCaseMapped leaves as it is, less what RFC 7622 §3.3.1 excludes.
const LOCALPART: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0x21;
    while byte < 0x7f {
        table[byte as usize] = !matches!(
            byte,
            b'"' | b'&' | b'\'' | b'/' | b':' | b'<' | b'>' | b'@' | b'A'..=b'Z'
        );
        byte += 1;
    }
    table
};

/// A host name of ASCII letters, digits and hyphens in lower case, without labels that IDNA
/// would look into (`--` at the third place) and not all digits and dots (an IPv4 literal).
fn domain_is_prepared(domain: &[u8]) -> bool {
    if domain.is_empty() || domain.len() > MAX_DOMAIN_ASCII_BYTES {
        return false;
    }
    let mut letters = false;
    let mut label = 0;
    for (at, &byte) in domain.iter().enumerate() {
        match byte {
            b'a'..=b'z' => letters = true,
            b'0'..=b'9' => {}
            b'-' if at > label && domain.get(at + 1).is_some_and(|next| *next != b'.') => {
                if at - label == 2 && domain[at + 1] == b'-' {
                    return false;
                }
            }
            b'.' if at > label && at - label <= MAX_LABEL_BYTES => {
                label = at + 1;
                continue;
            }
            _ => return false,
        }
    }
    letters && label < domain.len() && domain.len() - label <= MAX_LABEL_BYTES
}

fn resource_is_prepared(resource: &[u8]) -> bool {
    let printable = resource.iter().all(|byte| (0x20..0x7f).contains(byte));
    printable && (1..=MAX_PART_BYTES).contains(&resource.len()) && resource[0] != b' '
}

/// RFC 7622 §3.3: UsernameCaseMapped, less some ASCII.
pub fn prepare_localpart(part: &str) -> Result<Cow<'_, str>, JidError> {
    if part.is_empty() {
        return Err(JidError::EmptyLocalpart);
    }
    if part.len() > 4 * MAX_PART_BYTES {
        return Err(JidError::TooLong);
    }
    let prepared = if part.bytes().all(|byte| LOCALPART[usize::from(byte)]) {
        Cow::Borrowed(part)
    } else if part.is_ascii() {
        let lower = part.to_ascii_lowercase();
        if !lower.bytes().all(|byte| LOCALPART[usize::from(byte)]) {
            return Err(JidError::Localpart);
        }
        Cow::Owned(lower)
    } else {
        let mapped = UsernameCaseMapped::enforce(part).map_err(|_| JidError::Localpart)?;
        // Width mapping may bring forth what was hidden in a full-width form.
        if mapped
            .bytes()
            .any(|byte| byte.is_ascii() && !LOCALPART[usize::from(byte)])
        {
            return Err(JidError::Localpart);
        }
        mapped
    };
    bounded(prepared, JidError::EmptyLocalpart)
}

/// RFC 7622 §3.2: an IP literal or a domain name, with U-labels in lower case and without the
/// final dot.
pub fn prepare_domain(part: &str) -> Result<Cow<'_, str>, JidError> {
    let part = part.strip_suffix('.').unwrap_or(part);
    if domain_is_prepared(part.as_bytes()) {
        return Ok(Cow::Borrowed(part));
    }
    if part.is_empty() {
        return Err(JidError::EmptyDomain);
    }
    if part.len() > 4 * MAX_PART_BYTES {
        return Err(JidError::TooLong);
    }
    if let Some(literal) = part
        .strip_prefix('[')
        .and_then(|part| part.strip_suffix(']'))
    {
        let address: Ipv6Addr = literal.parse().map_err(|_| JidError::Domain)?;
        return Ok(Cow::Owned(format!("[{address}]")));
    }
    if part
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.')
        && part.contains('.')
    {
        let _: Ipv4Addr = part.parse().map_err(|_| JidError::Domain)?;
        return Ok(Cow::Borrowed(part));
    }
    let name = idn(part)?;
    bounded(Cow::Owned(name), JidError::EmptyDomain)
}

/// IDNA2008: maps, checks and gives back U-labels.
fn idn(part: &str) -> Result<String, JidError> {
    use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};
    let rules = Uts46::new();
    let ascii = rules
        .to_ascii(
            part.as_bytes(),
            AsciiDenyList::STD3,
            Hyphens::CheckFirstLast,
            DnsLength::Verify,
        )
        .map_err(|_| JidError::Domain)?;
    let (name, checked) = rules.to_unicode(
        ascii.as_bytes(),
        AsciiDenyList::STD3,
        Hyphens::CheckFirstLast,
    );
    checked.map_err(|_| JidError::Domain)?;
    // UTS 46 lets symbols pass that RFC 5892 does not allow in U-labels; what PRECIS allows in
    // identifiers is what is allowed there.
    let labels = IdentifierClass::default();
    let allowed = name
        .split('.')
        .all(|label| label.is_ascii() || labels.allows(label).is_ok());
    // Mapping may produce an address or a separator of what looks like a name, and an A-label may
    // hide another.
    let numeric = name.contains('.') && name.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let again = rules.to_ascii(
        name.as_bytes(),
        AsciiDenyList::STD3,
        Hyphens::CheckFirstLast,
        DnsLength::Verify,
    );
    if !allowed || numeric || !again.is_ok_and(|again| again == ascii) {
        return Err(JidError::Domain);
    }
    Ok(name.into_owned())
}

/// RFC 7622 §3.4: OpaqueString. A leading space is refused too (RFC 7622 §3.5, example 18).
pub fn prepare_resource(part: &str) -> Result<Cow<'_, str>, JidError> {
    if part.is_empty() {
        return Err(JidError::EmptyResource);
    }
    if resource_is_prepared(part.as_bytes()) {
        return Ok(Cow::Borrowed(part));
    }
    if part.len() > 4 * MAX_PART_BYTES {
        return Err(JidError::TooLong);
    }
    let prepared = if part.is_ascii() {
        Cow::Borrowed(part)
    } else {
        OpaqueString::enforce(part).map_err(|_| JidError::Resource)?
    };
    let forbidden = prepared.starts_with(' ') || prepared.bytes().any(|b| b < 0x20 || b == 0x7f);
    if forbidden {
        return Err(JidError::Resource);
    }
    bounded(prepared, JidError::EmptyResource)
}

fn bounded(part: Cow<'_, str>, empty: JidError) -> Result<Cow<'_, str>, JidError> {
    match part.len() {
        0 => Err(empty),
        1..=MAX_PART_BYTES => Ok(part),
        _ => Err(JidError::TooLong),
    }
}
