//! RFC 6120 §4: stream headers, stream errors, stream features

use std::borrow::Cow;

use crate::element::{Element, write_attr};
use crate::error::{StreamCondition, StreamError};
use crate::jid::FullJid;
use crate::limits::Limits;
use crate::ns;
use crate::xml::text::{escape_text, normalise_attribute};
use crate::xml::{NsRef, Scanner, Token};

/// What the bytes of a stream leave to its header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamContext {
    /// The default namespace (RFC 6120 §4.8.2).
    pub content_ns: Cow<'static, str>,
    /// `xml:lang` of the header (RFC 6120 §4.7.4).
    pub lang: Option<Box<str>>,
    /// Prefixes that the header declares, with their namespaces.
    pub prefixes: Vec<(Box<str>, Box<str>)>,
    /// The sender of everything that comes by this stream, once bound: each stanza's `from` must
    /// agree and is then set to it (RFC 6120 §8.1.2.1).
    pub sender: Option<FullJid>,
}

impl Default for StreamContext {
    fn default() -> StreamContext {
        StreamContext {
            content_ns: Cow::Borrowed(ns::CLIENT),
            lang: None,
            prefixes: Vec::new(),
            sender: None,
        }
    }
}

/// RFC 6120 §4.7: an opening stream header as received.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamHeader {
    /// `to`, unchecked.
    pub to: Option<String>,
    /// `from`, unchecked.
    pub from: Option<String>,
    /// `id`.
    pub id: Option<String>,
    /// `xml:lang`.
    pub lang: Option<String>,
    /// `version` as major and minor; `None` where absent or not of that form.
    pub version: Option<(u16, u16)>,
    /// The default namespace; empty for none.
    pub content_ns: String,
    /// Other prefixes that the header declares, with their namespaces; `stream` too.
    pub prefixes: Vec<(Box<str>, Box<str>)>,
}

impl StreamHeader {
    /// Reads `<stream:stream …>`, the tag alone.
    pub(crate) fn parse(tag: &[u8], limits: &Limits) -> Result<StreamHeader, StreamError> {
        // Outside the header nothing is declared, so an empty content namespace is what an
        // unprefixed name is in.
        let outside = StreamContext {
            content_ns: Cow::Borrowed(""),
            ..StreamContext::default()
        };
        let mut scanner = Scanner::new(tag, &outside, limits)?;
        let Some(Token::Start(start)) = scanner.next()? else {
            return Err(StreamCondition::NotWellFormed.into());
        };
        if start.name.of(tag) != b"stream" {
            return Err(StreamCondition::BadFormat.into());
        }
        if scanner.ns(start.ns) != ns::STREAM {
            return Err(StreamCondition::InvalidNamespace.into());
        }
        if start.qname.of(tag) != b"stream:stream" {
            return Err(StreamCondition::BadNamespacePrefix.into());
        }
        let mut header = StreamHeader::default();
        for attr in &scanner.attrs {
            let value = normalise_attribute(attr.value.str(tag)).into_owned();
            match (attr.ns, attr.name.of(tag)) {
                (NsRef::None, b"to") => header.to = Some(value),
                (NsRef::None, b"from") => header.from = Some(value),
                (NsRef::None, b"id") => header.id = Some(value),
                (NsRef::None, b"version") => header.version = version(&value),
                (NsRef::Xml, b"xml:lang") if !value.is_empty() => header.lang = Some(value),
                _ => {}
            }
        }
        for (prefix, uri) in scanner.declarations() {
            match prefix {
                "" => header.content_ns = uri.into_owned(),
                prefix => header.prefixes.push((prefix.into(), uri.into())),
            }
        }
        Ok(header)
    }

    /// Checks the content namespace (RFC 6120 §4.8.2) and the version (RFC 6120 §4.7.5: at least
    /// 1.0; a greater one is answered with ours).
    pub fn check(&self, content_ns: &str) -> Result<(), StreamError> {
        if self.content_ns != content_ns {
            return Err(StreamCondition::InvalidNamespace.into());
        }
        match self.version {
            Some((1.., _)) => Ok(()),
            _ => Err(StreamCondition::UnsupportedVersion.into()),
        }
    }

    /// What later stanzas leave to this header.
    pub fn context(&self) -> StreamContext {
        StreamContext {
            content_ns: match self.content_ns.as_str() {
                ns::CLIENT => Cow::Borrowed(ns::CLIENT),
                ns::SERVER => Cow::Borrowed(ns::SERVER),
                other => Cow::Owned(other.to_owned()),
            },
            lang: self.lang.as_deref().map(Box::from),
            prefixes: self.prefixes.clone(),
            sender: None,
        }
    }
}

/// RFC 6120 §4.7.5: `major.minor`, each an integer of its own.
fn version(value: &str) -> Option<(u16, u16)> {
    let (major, minor) = value.split_once('.')?;
    let number = |digits: &str| {
        let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        plain.then(|| digits.parse().ok()).flatten()
    };
    Some((number(major)?, number(minor)?))
}

/// What our header says.
#[derive(Clone, Copy, Debug)]
pub struct Open<'a> {
    /// The default namespace.
    pub content_ns: &'a str,
    /// `from`: the host served.
    pub from: Option<&'a str>,
    /// `to`: the peer, where known.
    pub to: Option<&'a str>,
    /// `id`, unpredictable.
    pub id: Option<&'a str>,
    /// `xml:lang` (RFC 6120 §4.7.4).
    pub lang: Option<&'a str>,
}

/// The XML declaration and our opening header.
pub fn write_open(out: &mut String, open: &Open<'_>) {
    out.push_str("<?xml version='1.0'?><stream:stream");
    let attributes = [
        ("from", open.from),
        ("to", open.to),
        ("id", open.id),
        ("xml:lang", open.lang),
    ];
    for (name, value) in attributes {
        if let Some(value) = value {
            write_attr(out, name, value);
        }
    }
    out.push_str(" version='1.0'");
    write_attr(out, "xmlns", open.content_ns);
    write_attr(out, "xmlns:stream", ns::STREAM);
    out.push('>');
}

/// The closing tag.
pub const CLOSE: &str = "</stream:stream>";

/// Appends `<stream:features>` around what each feature wrote itself.
pub fn write_features<'a>(out: &mut String, features: impl IntoIterator<Item = &'a Element>) {
    out.push_str("<stream:features>");
    for feature in features {
        feature.write(out, ns::CLIENT);
    }
    out.push_str("</stream:features>");
}

/// `<stream:error>` without the closing tag of the stream.
pub fn write_error(out: &mut String, error: &StreamError) {
    out.push_str("<stream:error><");
    out.push_str(error.condition.as_str());
    out.push_str(" xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>");
    if let Some(text) = &error.text {
        out.push_str("<text xmlns='urn:ietf:params:xml:ns:xmpp-streams' xml:lang='en'>");
        escape_text(out, text);
        out.push_str("</text>");
    }
    if let Some(application) = &error.application {
        application.write(out, ns::CLIENT);
    }
    out.push_str("</stream:error>");
}

/// `<stream:error>` and the closing tag.
pub fn stream_error(error: &StreamError) -> String {
    let mut out = String::new();
    write_error(&mut out, error);
    out.push_str(CLOSE);
    out
}

#[cfg(test)]
mod tests;
