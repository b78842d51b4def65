//! RFC 6120 §4: cutting a stream of bytes into its header, its top-level elements and its end
//!
//! Finds where each top-level element ends without building anything, looks at each byte a bounded
//! number of times however the bytes trickle in, and stops at the first byte over a limit. What is
//! inside an element is checked later, once, by [`crate::stanza::Received::parse`]; only what would
//! keep that from ever being called (mismatched tags, DTDs, floods) is found here.

use bytes::{Buf, Bytes, BytesMut};
use memchr::{memchr, memchr2, memchr3};
use smallvec::SmallVec;

use crate::error::{StreamCondition, StreamError};
use crate::limits::{Limits, MAX_DEPTH};
use crate::stream::StreamHeader;
use crate::xml::text::{check_characters, is_space};

/// What [`Framer::next`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// The opening stream header.
    Open(StreamHeader),
    /// A top-level element with balanced tags, otherwise unchecked.
    Stanza(Bytes),
    /// The closing tag of the stream.
    Close,
}

/// Where in the buffer's first element the framer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In text within an element.
    Text,
    /// Behind a `<`.
    Markup,
    /// Inside a tag, outside quotes.
    Tag,
    /// Inside a tag, within these quotes.
    Quoted(u8),
    /// Inside a CDATA section.
    CData,
    /// Inside the XML declaration.
    Declaration,
}

/// Where the stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Before the header.
    Header,
    /// Before the header, behind an XML declaration.
    Declared,
    /// Between header and end.
    Content,
    /// Behind a header that was an empty element: its end comes next.
    Ending,
    /// Behind the end.
    Closed,
}

/// Incremental framing of one direction of one stream.
///
/// Reads from the front of a buffer that the caller fills; what was given out is split off. Once
/// [`Framer::next`] has given an error, the stream is over.
#[derive(Debug)]
pub struct Framer {
    limits: Limits,
    stage: Stage,
    state: State,
    /// Bytes of the buffer that need not be looked at again.
    scanned: usize,
    /// Where the current tag starts.
    tag_start: usize,
    attributes: usize,
    elements: usize,
    /// Where the start tags of open elements begin.
    open: SmallVec<[u32; 8]>,
    keepalives: u64,
}

impl Framer {
    /// A framer before its first header.
    pub fn new(limits: Limits) -> Framer {
        Framer {
            limits,
            stage: Stage::Header,
            state: State::Text,
            scanned: 0,
            tag_start: 0,
            attributes: 0,
            elements: 0,
            open: SmallVec::new(),
            keepalives: 0,
        }
    }

    /// Changes the limits from the next element on.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// The limits in force.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Expects a new header next (RFC 6120 §4.3.3: the stream restarts after TLS and SASL).
    pub fn reset(&mut self) {
        *self = Framer {
            keepalives: self.keepalives,
            ..Framer::new(self.limits)
        };
    }

    /// Bytes of white space between elements so far (RFC 6120 §4.6.1).
    pub fn keepalives(&self) -> u64 {
        self.keepalives
    }

    /// Whether the buffer ends within an element.
    pub fn is_partial(&self) -> bool {
        self.scanned > 0
    }

    /// The next frame at the front of `buffer`; `None` where more bytes are needed.
    pub fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<Frame>, StreamError> {
        if self.stage == Stage::Ending {
            self.stage = Stage::Closed;
            return Ok(Some(Frame::Close));
        }
        if self.scanned == 0 && !self.skip_space(buffer)? {
            return Ok(None);
        }
        loop {
            let Some(end) = self.step(buffer)? else {
                return self.bounded(buffer.len()).map(|()| None);
            };
            if end {
                self.bounded(self.scanned)?;
                return self.complete(buffer);
            }
            if self.scanned == 0 && !self.skip_space(buffer)? {
                return Ok(None);
            }
        }
    }

    /// Drops white space between elements; whether something else follows.
    fn skip_space(&mut self, buffer: &mut BytesMut) -> Result<bool, StreamError> {
        let spaces = buffer.iter().take_while(|byte| is_space(**byte)).count();
        self.keepalives += spaces as u64;
        buffer.advance(spaces);
        match buffer.first() {
            None => Ok(false),
            Some(_) if self.stage == Stage::Closed => Err(StreamError::with_text(
                StreamCondition::BadFormat,
                "data behind the end",
            )),
            Some(b'<') => {
                self.scanned = 1;
                self.tag_start = 0;
                self.state = State::Markup;
                Ok(true)
            }
            Some(first) => {
                check_start(*first)?;
                let condition = match self.stage {
                    Stage::Content => StreamCondition::BadFormat,
                    _ => StreamCondition::NotWellFormed,
                };
                Err(StreamError::with_text(condition, "text between elements"))
            }
        }
    }

    fn bounded(&self, bytes: usize) -> Result<(), StreamError> {
        let tag = match self.state {
            State::Markup | State::Tag | State::Quoted(_) | State::Declaration => {
                bytes.saturating_sub(self.tag_start)
            }
            State::Text | State::CData => 0,
        };
        if bytes > self.limits.stanza_bytes {
            return Err(violation("stanza_bytes", "stanza too big"));
        }
        if tag > self.limits.open_tag_bytes {
            return Err(violation("open_tag_bytes", "start tag too big"));
        }
        Ok(())
    }

    /// Goes on by one piece of markup or text. `None`: more bytes are needed; otherwise whether a
    /// frame ends at `scanned`.
    fn step(&mut self, buffer: &mut BytesMut) -> Result<Option<bool>, StreamError> {
        let rest = &buffer[self.scanned..];
        match self.state {
            State::Text => {
                let Some(at) = memchr(b'<', rest) else {
                    return Ok(self.starve(buffer));
                };
                self.tag_start = self.scanned + at;
                self.scanned = self.tag_start + 1;
                self.state = State::Markup;
                Ok(Some(false))
            }
            State::Markup => self.markup(buffer),
            State::Tag => {
                let Some(at) = find_in_tag(rest) else {
                    return Ok(self.starve(buffer));
                };
                self.scanned += at + 1;
                match rest[at] {
                    b'>' => return self.tag(buffer).map(Some),
                    b'<' => return Err(malformed("'<' in a tag")),
                    quote => {
                        self.attributes += 1;
                        if self.attributes > self.limits.attributes_per_element {
                            return Err(violation("attributes_per_element", "too many attributes"));
                        }
                        self.state = State::Quoted(quote);
                    }
                }
                Ok(Some(false))
            }
            State::Quoted(quote) => {
                let Some(at) = memchr2(quote, b'<', rest) else {
                    return Ok(self.starve(buffer));
                };
                if rest[at] == b'<' {
                    return Err(malformed("'<' in an attribute"));
                }
                self.scanned += at + 1;
                self.state = State::Tag;
                Ok(Some(false))
            }
            State::CData => {
                let Some(at) = memchr(b'>', rest) else {
                    return Ok(self.starve(buffer));
                };
                self.scanned += at + 1;
                let inside = &buffer[self.tag_start + CDATA.len()..self.scanned];
                if inside.ends_with(b"]]>") {
                    self.state = State::Text;
                }
                Ok(Some(false))
            }
            State::Declaration => {
                let Some(at) = memchr(b'>', rest) else {
                    return Ok(self.starve(buffer));
                };
                self.scanned += at + 1;
                if buffer[..self.scanned].ends_with(b"?>") {
                    check_declaration(&buffer[..self.scanned])?;
                    buffer.advance(self.scanned);
                    self.scanned = 0;
                    self.stage = Stage::Declared;
                }
                Ok(Some(false))
            }
        }
    }

    fn starve(&mut self, buffer: &BytesMut) -> Option<bool> {
        self.scanned = buffer.len();
        None
    }

    /// Behind `<`: which markup is it?
    fn markup(&mut self, buffer: &BytesMut) -> Result<Option<bool>, StreamError> {
        let markup = &buffer[self.tag_start..];
        match markup.get(1) {
            None => return Ok(None),
            Some(b'!') => {
                if !CDATA.starts_with(&markup[..markup.len().min(CDATA.len())]) {
                    return Err(restricted("comment or document type"));
                }
                if markup.len() < CDATA.len() {
                    return Ok(None);
                }
                if self.open.is_empty() {
                    let condition = match self.stage {
                        Stage::Content => StreamCondition::BadFormat,
                        _ => StreamCondition::NotWellFormed,
                    };
                    return Err(StreamError::with_text(condition, "CDATA between elements"));
                }
                self.scanned = self.tag_start + CDATA.len();
                self.state = State::CData;
            }
            Some(b'?') => {
                let declares = self.stage == Stage::Header && self.open.is_empty();
                if !declares || !DECLARATION.starts_with(&markup[..markup.len().min(6)]) {
                    return Err(restricted("processing instruction"));
                }
                if markup.len() < DECLARATION.len() {
                    return Ok(None);
                }
                self.scanned = self.tag_start + DECLARATION.len();
                self.state = State::Declaration;
            }
            Some(b'/') => {
                self.scanned = self.tag_start + 2;
                self.attributes = 0;
                self.state = State::Tag;
            }
            Some(_) => {
                self.elements += 1;
                if self.elements > self.limits.elements_per_stanza {
                    return Err(violation("elements_per_stanza", "too many elements"));
                }
                self.attributes = 0;
                self.state = State::Tag;
            }
        }
        Ok(Some(false))
    }

    /// Behind the `>` of a tag at `tag_start`: whether a frame ends here.
    fn tag(&mut self, buffer: &BytesMut) -> Result<bool, StreamError> {
        let tag = &buffer[self.tag_start..self.scanned];
        if tag.len() > self.limits.open_tag_bytes {
            return Err(violation("open_tag_bytes", "start tag too big"));
        }
        self.state = State::Text;
        if tag[1] == b'/' {
            let name = tag[2..tag.len() - 1].trim_ascii_end();
            let Some(start) = self.open.pop() else {
                return self.closing(name);
            };
            let open = &buffer[start as usize + 1..];
            let ends = |byte: &u8| is_space(*byte) || matches!(byte, b'/' | b'>');
            if !open.starts_with(name) || !open.get(name.len()).is_some_and(ends) {
                return Err(malformed("mismatched end tag"));
            }
            return Ok(self.open.is_empty());
        }
        if self.stage != Stage::Content {
            return Ok(true);
        }
        if self.open.is_empty() && is_stream_tag(tag) {
            // RFC 6120 §4.9.3.24: a header within the stream is a child that nobody knows.
            return Err(StreamError::with_text(
                StreamCondition::UnsupportedStanzaType,
                "stream header within the stream",
            ));
        }
        if self.open.len() >= self.limits.depth.min(MAX_DEPTH) {
            return Err(violation("element_depth", "elements nested too deep"));
        }
        if tag[tag.len() - 2] == b'/' {
            return Ok(self.open.is_empty());
        }
        let start = u32::try_from(self.tag_start)
            .map_err(|_| violation("stanza_bytes", "stanza too big"))?;
        self.open.push(start);
        Ok(false)
    }

    /// An end tag outside any element.
    fn closing(&mut self, name: &[u8]) -> Result<bool, StreamError> {
        if self.stage == Stage::Content && name == STREAM {
            self.stage = Stage::Closed;
            return Ok(true);
        }
        Err(malformed("mismatched end tag"))
    }

    /// Splits the frame off that ends at `scanned`.
    fn complete(&mut self, buffer: &mut BytesMut) -> Result<Option<Frame>, StreamError> {
        // What is all there is needs no second owner.
        let bytes = if self.scanned == buffer.len() {
            std::mem::take(buffer)
        } else {
            buffer.split_to(self.scanned)
        };
        let bytes = bytes.freeze();
        self.scanned = 0;
        self.elements = 0;
        match self.stage {
            Stage::Header | Stage::Declared => {
                let header = StreamHeader::parse(&bytes, &self.limits)?;
                let empty = bytes.ends_with(b"/>");
                self.stage = if empty { Stage::Ending } else { Stage::Content };
                Ok(Some(Frame::Open(header)))
            }
            Stage::Content => Ok(Some(Frame::Stanza(bytes))),
            Stage::Ending | Stage::Closed => Ok(Some(Frame::Close)),
        }
    }
}

const CDATA: &[u8] = b"<![CDATA[";
const DECLARATION: &[u8] = b"<?xml ";
const STREAM: &[u8] = b"stream:stream";

/// The next byte of interest outside quotes. Tags are short: a plain loop is faster than setting
/// up a vectorised search for the first few bytes.
fn find_in_tag(rest: &[u8]) -> Option<usize> {
    const NEAR: usize = 16;
    let near = &rest[..rest.len().min(NEAR)];
    let found = near
        .iter()
        .position(|byte| matches!(byte, b'>' | b'"' | b'\'' | b'<'));
    if found.is_some() || rest.len() <= NEAR {
        return found;
    }
    let far = &rest[NEAR..];
    let found = memchr3(b'>', b'"', b'\'', far);
    let bracket = memchr(b'<', &far[..found.unwrap_or(far.len())]);
    bracket.or(found).map(|at| at + NEAR)
}

fn is_stream_tag(tag: &[u8]) -> bool {
    tag[1..].starts_with(STREAM) && {
        let behind = tag[1 + STREAM.len()];
        is_space(behind) || matches!(behind, b'/' | b'>')
    }
}

/// A first byte that is no markup may show what is wrong: another encoding, mostly. Later bytes are
/// not looked at, so that it makes no difference whether they are there yet.
fn check_start(first: u8) -> Result<(), StreamError> {
    match first {
        // ASCII in UTF-16 or UTF-32, their byte order marks, what never starts a character.
        0 | 0x80..=0xc1 | 0xf5..=0xff => Err(StreamCondition::UnsupportedEncoding.into()),
        _ => Ok(()),
    }
}

/// XML 1.0 §2.8: version 1.x, then perhaps an encoding, which must be UTF-8, and `standalone`.
fn check_declaration(declaration: &[u8]) -> Result<(), StreamError> {
    check_characters(declaration)?;
    let text = std::str::from_utf8(declaration).map_err(|_| malformed("XML declaration"))?;
    let inside = text["<?xml".len()..]
        .strip_suffix("?>")
        .ok_or(malformed("XML declaration"))?;
    let mut rest = inside;
    let version = pseudo_attribute(&mut rest, "version")?.ok_or(malformed("XML declaration"))?;
    if !version.starts_with("1.") || !version[2..].bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(malformed("XML version"));
    }
    if let Some(encoding) = pseudo_attribute(&mut rest, "encoding")?
        && !encoding.eq_ignore_ascii_case("utf-8")
    {
        return Err(StreamCondition::UnsupportedEncoding.into());
    }
    let standalone = pseudo_attribute(&mut rest, "standalone")?;
    if !standalone.is_none_or(|value| value == "yes" || value == "no") || !rest.trim().is_empty() {
        return Err(malformed("XML declaration"));
    }
    Ok(())
}

/// `name = "value"` at the front of `rest`, if it is that.
fn pseudo_attribute<'a>(rest: &mut &'a str, name: &str) -> Result<Option<&'a str>, StreamError> {
    let trimmed = rest.trim_start_matches([' ', '\t', '\r', '\n']);
    let Some(behind) = trimmed.strip_prefix(name) else {
        return Ok(None);
    };
    if trimmed.len() == rest.len() {
        return Err(malformed("XML declaration"));
    }
    let value = behind
        .trim_start()
        .strip_prefix('=')
        .ok_or(malformed("XML declaration"))?;
    let value = value.trim_start();
    let quote = value
        .chars()
        .next()
        .filter(|quote| matches!(quote, '"' | '\''));
    let quote = quote.ok_or(malformed("XML declaration"))?;
    let (value, behind) = value[1..]
        .split_once(quote)
        .ok_or(malformed("XML declaration"))?;
    *rest = behind;
    Ok(Some(value))
}

fn malformed(text: &'static str) -> StreamError {
    StreamError::with_text(StreamCondition::NotWellFormed, text)
}

fn restricted(text: &'static str) -> StreamError {
    StreamError::with_text(StreamCondition::RestrictedXml, text)
}

fn violation(limit: &'static str, text: &'static str) -> StreamError {
    StreamError::with_text(StreamCondition::PolicyViolation, text).limit(limit)
}

#[cfg(test)]
mod tests;
