//! XML 1.0 and Namespaces in XML 1.0 as RFC 6120 §11 restricts them: quick-xml, made strict
//!
//! Works on a whole element, never on a stream (that is [`crate::framing`]). Everything that
//! well-formedness asks is checked here and nowhere else, so that no reader of received bytes can
//! differ in what it takes for granted.

use crate::error::{StreamCondition, StreamError};

mod scanner;
pub(crate) mod text;

pub(crate) use scanner::Scanner;

/// Why bytes are not an element that RFC 6120 allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Against XML 1.0 or Namespaces in XML 1.0.
    #[error("not well-formed: {0}")]
    NotWellFormed(&'static str),
    /// A comment, a processing instruction, a DTD or an entity of one (RFC 6120 §11.1).
    #[error("restricted XML: {0}")]
    Restricted(&'static str),
    /// Not UTF-8 (RFC 6120 §11.6).
    #[error("not UTF-8")]
    Encoding,
    /// Over this bound of [`Limits`](crate::Limits), or one of our own.
    #[error("over the limit {0}")]
    Limit(&'static str),
    /// Text where only elements may stand.
    #[error("bad format: {0}")]
    BadFormat(&'static str),
    /// A top-level element that is no stanza.
    #[error("not a stanza")]
    NotAStanza,
    /// `from` is somebody else (RFC 6120 §8.1.2.1).
    #[error("invalid from")]
    InvalidFrom,
}

impl ParseError {
    /// The stream error that RFC 6120 §4.9.3 names for it.
    pub fn condition(&self) -> StreamCondition {
        match self {
            ParseError::NotWellFormed(_) => StreamCondition::NotWellFormed,
            ParseError::Restricted(_) => StreamCondition::RestrictedXml,
            ParseError::Encoding => StreamCondition::UnsupportedEncoding,
            ParseError::Limit(_) => StreamCondition::PolicyViolation,
            ParseError::BadFormat(_) => StreamCondition::BadFormat,
            ParseError::NotAStanza => StreamCondition::UnsupportedStanzaType,
            ParseError::InvalidFrom => StreamCondition::InvalidFrom,
        }
    }
}

impl From<ParseError> for StreamError {
    fn from(error: ParseError) -> StreamError {
        let told = StreamError::with_text(error.condition(), error.to_string());
        match error {
            ParseError::Limit(limit) => told.limit(limit),
            _ => told,
        }
    }
}

/// A range of the input in four bytes each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    pub start: u32,
    pub end: u32,
}

impl Span {
    pub fn new(start: usize, end: usize) -> Span {
        let narrow = |at| u32::try_from(at).expect("inputs are shorter than 4 GiB");
        Span {
            start: narrow(start),
            end: narrow(end),
        }
    }

    pub fn of<'a>(&self, input: &'a [u8]) -> &'a [u8] {
        &input[self.start as usize..self.end as usize]
    }

    pub fn str<'a>(&self, input: &'a [u8]) -> &'a str {
        std::str::from_utf8(self.of(input)).expect("the scanner checks the input to be UTF-8")
    }

    pub fn len(&self) -> usize {
        (self.end - self.start) as usize
    }

    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// The local part of a name whose prefix has so many bytes, or 0.
    pub fn behind(&self, prefix: u16) -> Span {
        let skip = if prefix == 0 {
            0
        } else {
            u32::from(prefix) + 1
        };
        Span {
            start: self.start + skip,
            end: self.end,
        }
    }

    pub fn shifted(&self, by: isize) -> Span {
        Span::new(
            (self.start as usize)
                .checked_add_signed(by)
                .expect("stays within the input"),
            (self.end as usize)
                .checked_add_signed(by)
                .expect("stays within the input"),
        )
    }
}

/// What a namespace name is, without copying it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NsRef {
    /// No namespace.
    None,
    /// The content namespace of the stream, known as `jabber:client` to everyone inside.
    Content,
    /// The namespace of `xml:` attributes.
    Xml,
    /// Bytes of the input without references.
    Span(Span),
    /// Bytes of the input with references.
    Escaped(Span),
    /// The index of a prefix of the stream header.
    Header(u16),
}

/// An attribute that is not a namespace declaration.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attr {
    /// The whole name.
    pub name: Span,
    /// Bytes of the prefix, or 0.
    pub prefix: u16,
    /// Between the quotes, raw.
    pub value: Span,
    /// The namespace of a prefixed attribute.
    pub ns: NsRef,
}

impl Attr {
    pub fn local(&self) -> Span {
        self.name.behind(self.prefix)
    }
}

/// What [`Scanner::next`] came upon.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Token {
    /// A start tag; its attributes are in [`Scanner::attrs`]. An empty element is followed by an
    /// `End` of its own.
    Start(Start),
    /// The end of the innermost element; the position behind its tag.
    End(usize),
    /// Character data, raw: a reference alone, or what has none.
    Text(Span),
    /// The inside of a CDATA section.
    CData(Span),
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Start {
    /// The position of `<`.
    pub start: usize,
    /// The position behind `>`.
    pub end: usize,
    /// The local name.
    pub name: Span,
    /// The name with its prefix.
    pub qname: Span,
    pub ns: NsRef,
    /// Whether the tag itself declares a default namespace: where from and where to, with the
    /// white space before it.
    pub default_ns: Option<Span>,
    pub empty: bool,
}
