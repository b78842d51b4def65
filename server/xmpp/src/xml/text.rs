//! XML 1.0 §2.2, §2.3, §3.3.3 and §4.6: characters, names, references, escaping

use std::borrow::Cow;

use memchr::{memchr, memchr2, memchr3, memmem};

use super::ParseError;

/// Longest reference that is looked at, from `&` to `;`: `&#x0000010FFFF;` with some zeros.
const MAX_REFERENCE_BYTES: usize = 32;

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

/// Character data: its references, and no `]]>`.
pub(super) fn check_text(text: &[u8], holds: Holds) -> Result<(), ParseError> {
    if holds.references {
        check_references(text)?;
    }
    if holds.brackets && memmem::find(text, b"]]>").is_some() {
        return Err(ParseError::NotWellFormed("']]>' in text"));
    }
    Ok(())
}

/// Every `&` starts one of the five predefined entities or a character reference.
pub(super) fn check_references(text: &[u8]) -> Result<(), ParseError> {
    let mut at = 0;
    while let Some(found) = memchr(b'&', &text[at..]) {
        at += found;
        let (_, length) = reference(&text[at..])?;
        at += length;
    }
    Ok(())
}

/// The character that a reference at the start of `text` stands for, and the reference's bytes.
fn reference(text: &[u8]) -> Result<(char, usize), ParseError> {
    const BROKEN: ParseError = ParseError::NotWellFormed("malformed reference");
    let text = &text[..text.len().min(MAX_REFERENCE_BYTES)];
    let end = memchr(b';', text).ok_or(BROKEN)?;
    let character = match &text[1..end] {
        b"lt" => '<',
        b"gt" => '>',
        b"amp" => '&',
        b"quot" => '"',
        b"apos" => '\'',
        [b'#', b'x', digits @ ..] => code_point(digits, 16).ok_or(BROKEN)?,
        [b'#', digits @ ..] => code_point(digits, 10).ok_or(BROKEN)?,
        name => {
            return match name_length(name) {
                Ok((length, _)) if length == name.len() => Err(ParseError::Restricted("entity")),
                _ => Err(BROKEN),
            };
        }
    };
    Ok((character, end + 1))
}

fn code_point(digits: &[u8], radix: u32) -> Option<char> {
    if digits.is_empty() {
        return None;
    }
    let mut value: u32 = 0;
    for &digit in digits {
        let digit = char::from(digit).to_digit(radix)?;
        value = value.checked_mul(radix)?.checked_add(digit)?;
    }
    char::from_u32(value).filter(|character| is_allowed(*character))
}

/// XML 1.0 §2.2, production `Char`.
fn is_allowed(character: char) -> bool {
    match character {
        '\t' | '\n' | '\r' => true,
        '\u{0}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => false,
        _ => true,
    }
}

const NAME_START: u8 = 1;
const NAME: u8 = 2;

const NAME_BYTES: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 128 {
        table[byte] = match byte as u8 {
            b'a'..=b'z' | b'A'..=b'Z' | b'_' => NAME_START | NAME,
            b'0'..=b'9' | b'-' | b'.' => NAME,
            _ => 0,
        };
        byte += 1;
    }
    table
};

/// The bytes of the name (production `QName` of Namespaces in XML 1.0) that `text` starts with,
/// and of its prefix (0 for none).
pub(super) fn name_length(text: &[u8]) -> Result<(usize, u16), ParseError> {
    const BAD: ParseError = ParseError::NotWellFormed("malformed name");
    let mut prefix = 0;
    let mut at = part_length(text).ok_or(BAD)?;
    if text.get(at) == Some(&b':') {
        prefix = u16::try_from(at).map_err(|_| ParseError::Limit("bytes of a prefix"))?;
        at += 1 + part_length(&text[at + 1..]).ok_or(BAD)?;
        if text.get(at) == Some(&b':') {
            return Err(BAD);
        }
    }
    Ok((at, prefix))
}

/// The bytes of the name without colon (production `NCName`) that `text` starts with.
fn part_length(text: &[u8]) -> Option<usize> {
    let first = *text.first()?;
    let mut at = if NAME_BYTES[usize::from(first)] & NAME_START != 0 {
        1
    } else if first >= 0x80 {
        wide_name_character(text, true)?
    } else {
        return None;
    };
    while let Some(&byte) = text.get(at) {
        if NAME_BYTES[usize::from(byte)] & NAME != 0 {
            at += 1;
        } else if byte >= 0x80 {
            at += wide_name_character(&text[at..], false)?;
        } else {
            break;
        }
    }
    Some(at)
}

/// The bytes of a character outside ASCII, if a name may have it there.
fn wide_name_character(text: &[u8], first: bool) -> Option<usize> {
    let length = match text[0] {
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        _ => 4,
    };
    let character = std::str::from_utf8(text.get(..length)?)
        .ok()?
        .chars()
        .next()?;
    let start = matches!(character,
        '\u{c0}'..='\u{d6}' | '\u{d8}'..='\u{f6}' | '\u{f8}'..='\u{2ff}' | '\u{370}'..='\u{37d}'
        | '\u{37f}'..='\u{1fff}' | '\u{200c}'..='\u{200d}' | '\u{2070}'..='\u{218f}'
        | '\u{2c00}'..='\u{2fef}' | '\u{3001}'..='\u{d7ff}' | '\u{f900}'..='\u{fdcf}'
        | '\u{fdf0}'..='\u{fffd}' | '\u{10000}'..='\u{effff}');
    let inner = matches!(character, '\u{b7}' | '\u{300}'..='\u{36f}' | '\u{203f}'..='\u{2040}');
    (start || (inner && !first)).then_some(length)
}

/// Character data as it is meant: references resolved, line ends as `\n` (XML 1.0 §2.11).
/// `raw` has been checked.
pub(crate) fn normalise_text(raw: &str) -> Cow<'_, str> {
    if memchr2(b'&', b'\r', raw.as_bytes()).is_none() {
        return Cow::Borrowed(raw);
    }
    Cow::Owned(normalise(raw, "\n"))
}

/// The inside of a CDATA section: line ends as `\n`.
pub(crate) fn normalise_cdata(raw: &str) -> Cow<'_, str> {
    if memchr(b'\r', raw.as_bytes()).is_none() {
        return Cow::Borrowed(raw);
    }
    Cow::Owned(raw.replace("\r\n", "\n").replace('\r', "\n"))
}

/// An attribute's value as it is meant: references resolved, white space as spaces
/// (XML 1.0 §3.3.3). `raw` has been checked.
pub(crate) fn normalise_attribute(raw: &str) -> Cow<'_, str> {
    let bytes = raw.as_bytes();
    if memchr3(b'&', b'\r', b'\n', bytes).is_none() && memchr(b'\t', bytes).is_none() {
        return Cow::Borrowed(raw);
    }
    Cow::Owned(normalise(raw, " "))
}

fn normalise(raw: &str, line_end: &str) -> String {
    let mut out = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(at) = rest.find(['&', '\r', '\n', '\t']) {
        out.push_str(&rest[..at]);
        let bytes = rest.as_bytes();
        let used = match bytes[at] {
            b'&' => match reference(&bytes[at..]) {
                Ok((character, length)) => {
                    out.push(character);
                    length
                }
                Err(_) => {
                    out.push('&');
                    1
                }
            },
            b'\t' if line_end == "\n" => {
                out.push('\t');
                1
            }
            b'\r' if bytes.get(at + 1) == Some(&b'\n') => {
                out.push_str(line_end);
                2
            }
            _ => {
                out.push_str(line_end);
                1
            }
        };
        rest = &rest[at + used..];
    }
    out.push_str(rest);
    out
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
