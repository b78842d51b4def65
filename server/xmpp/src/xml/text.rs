//! XML 1.0 §2.2, §2.3, §3.3.3 and §4.6: characters, names, references, escaping

use std::borrow::Cow;

use quick_xml::XmlVersion;
use quick_xml::escape::{EscapeError, resolve_xml_entity, unescape_with};
use quick_xml::events::BytesText;
use quick_xml::events::attributes::Attribute;
use quick_xml::name::QName;

use super::ParseError;

pub(super) const MALFORMED_REFERENCE: ParseError = ParseError::NotWellFormed("malformed reference");

/// White space in tags and between stanzas.
#[inline]
pub(crate) fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// Which rare bytes an input holds at all, so that their rules need not be looked after where there
/// are none.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Holds {
    /// `&`
    pub references: bool,
    /// `]`
    pub brackets: bool,
}

/// UTF-8, and only characters that XML 1.0 §2.2 allows.
pub(crate) fn check_characters(input: &[u8]) -> Result<Holds, ParseError> {
    // Without early exit, so that it vectorises.
    let (mut seen, mut control, mut references, mut brackets) = (0, false, false, false);
    for &byte in input {
        seen |= byte;
        control |= (byte < 0x20) & (byte != b'\t') & (byte != b'\n') & (byte != b'\r');
        references |= byte == b'&';
        brackets |= byte == b']';
    }
    if seen >= 0x80 {
        std::str::from_utf8(input).map_err(|_| ParseError::Encoding)?;
        // U+FFFE and U+FFFF.
        for at in memchr::memchr_iter(0xef, input) {
            if matches!(input[at..], [0xef, 0xbf, 0xbe | 0xbf, ..]) {
                return Err(ParseError::NotWellFormed("character not allowed"));
            }
        }
    }
    if control {
        return Err(ParseError::NotWellFormed("character not allowed"));
    }
    Ok(Holds {
        references,
        brackets,
    })
}

/// Every `&` starts one of the five predefined entities or a character reference.
pub(super) fn check_references(raw: &str) -> Result<(), ParseError> {
    resolve(raw).map(drop)
}

fn resolve(raw: &str) -> Result<Cow<'_, str>, ParseError> {
    let resolved = unescape_with(raw, resolve_xml_entity).map_err(|error| match error {
        EscapeError::UnrecognizedEntity(_, name) if check_name(&name).is_ok() => {
            ParseError::Restricted("entity")
        }
        _ => MALFORMED_REFERENCE,
    })?;
    // A character reference must be to one that could stand there itself.
    if let Cow::Owned(resolved) = &resolved {
        check_characters(resolved.as_bytes())?;
    }
    Ok(resolved)
}

/// The bytes of the prefix (0 for none) of what must be a name (production `QName` of Namespaces
/// in XML 1.0).
pub(super) fn check_name(name: &str) -> Result<u16, ParseError> {
    let (prefix, local) = match name.split_once(':') {
        Some((prefix, local)) => (Some(prefix), local),
        None => (None, name),
    };
    if !prefix.is_none_or(is_name) || !is_name(local) {
        return Err(ParseError::NotWellFormed("malformed name"));
    }
    u16::try_from(prefix.map_or(0, str::len)).map_err(|_| ParseError::Limit("prefix_bytes"))
}

/// Production `NCName`.
fn is_name(part: &str) -> bool {
    let mut characters = part.chars();
    characters.next().is_some_and(starts_name) && characters.all(is_in_name)
}

fn starts_name(character: char) -> bool {
    matches!(character,
        'a'..='z' | 'A'..='Z' | '_'
        | '\u{c0}'..='\u{d6}' | '\u{d8}'..='\u{f6}' | '\u{f8}'..='\u{2ff}' | '\u{370}'..='\u{37d}'
        | '\u{37f}'..='\u{1fff}' | '\u{200c}'..='\u{200d}' | '\u{2070}'..='\u{218f}'
        | '\u{2c00}'..='\u{2fef}' | '\u{3001}'..='\u{d7ff}' | '\u{f900}'..='\u{fdcf}'
        | '\u{fdf0}'..='\u{fffd}' | '\u{10000}'..='\u{effff}')
}

fn is_in_name(character: char) -> bool {
    starts_name(character)
        || matches!(character,
            '0'..='9' | '-' | '.'
            | '\u{b7}' | '\u{300}'..='\u{36f}' | '\u{203f}'..='\u{2040}')
}

/// Character data as it is meant: references resolved, line ends as `\n` (XML 1.0 §2.11).
/// `raw` is that of a checked [`Token::Text`](super::Token::Text).
pub(crate) fn normalise_text(raw: &str) -> Cow<'_, str> {
    if raw.starts_with('&') {
        return resolve(raw).unwrap_or(Cow::Borrowed(raw));
    }
    normalise_cdata(raw)
}

/// The inside of a CDATA section: line ends as `\n`.
pub(crate) fn normalise_cdata(raw: &str) -> Cow<'_, str> {
    BytesText::from_escaped(raw).xml10_content()
}

/// An attribute's value as it is meant: references resolved, white space as spaces
/// (XML 1.0 §3.3.3). `raw` has been checked.
pub(crate) fn normalise_attribute(raw: &str) -> Cow<'_, str> {
    let attribute = Attribute {
        key: QName(""),
        value: Cow::Borrowed(raw),
    };
    attribute
        .normalized_value_with(XmlVersion::Implicit1_0, 1, resolve_xml_entity)
        .unwrap_or(Cow::Borrowed(raw))
}

/// Appends `text` so that it reads back as character data. What XML 1.0 cannot say becomes
/// U+FFFD.
pub fn escape_text(out: &mut String, text: &str) {
    escape(out, text, |byte| match byte {
        b'&' => Some("&amp;"),
        b'<' => Some("&lt;"),
        b'>' => Some("&gt;"),
        b'\r' => Some("&#13;"),
        _ => None,
    });
}

/// Appends `text` so that it reads back as the value of an attribute in either quotes.
pub fn escape_attribute(out: &mut String, text: &str) {
    escape(out, text, |byte| match byte {
        b'&' => Some("&amp;"),
        b'<' => Some("&lt;"),
        b'>' => Some("&gt;"),
        b'"' => Some("&quot;"),
        b'\'' => Some("&apos;"),
        b'\t' => Some("&#9;"),
        b'\n' => Some("&#10;"),
        b'\r' => Some("&#13;"),
        _ => None,
    });
}

fn escape(out: &mut String, text: &str, replacement: impl Fn(u8) -> Option<&'static str>) {
    let mut from = 0;
    for (at, byte) in text.bytes().enumerate() {
        let (replaced, length) = if byte < 0x20 && !matches!(byte, b'\t' | b'\n' | b'\r') {
            ("\u{fffd}", 1)
        } else if byte == 0xef && matches!(text.as_bytes()[at..], [_, 0xbf, 0xbe | 0xbf, ..]) {
            ("\u{fffd}", 3)
        } else if let Some(replaced) = replacement(byte) {
            (replaced, 1)
        } else {
            continue;
        };
        out.push_str(&text[from..at]);
        out.push_str(replaced);
        from = at + length;
    }
    out.push_str(&text[from..]);
}

/// `text` as the value of an attribute; borrowed where nothing needs an escape.
pub fn escaped_attribute(text: &str) -> Cow<'_, str> {
    // No early exit: addresses and ids are short and rarely need one, and this vectorises.
    let special = text.bytes().fold(false, |special, byte| {
        special | (byte < 0x20) | matches!(byte, b'&' | b'<' | b'>' | b'"' | b'\'' | 0xef)
    });
    if !special {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    escape_attribute(&mut out, text);
    Cow::Owned(out)
}
