//! RFC 6120 §8: reading a stanza in one pass

use std::borrow::Cow;

use bytes::Bytes;
use smallvec::SmallVec;

use super::rewrite::{Edit, Edits};
use super::{Address, AttrAt, ChildAt, Inner, Kind, Slot};
use crate::element::Element;
use crate::jid::{FullJid, Jid};
use crate::limits::Limits;
use crate::stream::StreamContext;
use crate::xml::text::{is_space, normalise_attribute};
use crate::xml::{NsRef, ParseError, Scanner, Span, Start, Token};

/// Reads a stanza and makes it independent of its stream.
pub(super) fn receive(
    bytes: Bytes,
    context: &StreamContext,
    limits: &Limits,
) -> Result<Inner, ParseError> {
    let read = read(&bytes, context, limits)?;
    if read.reserialise {
        let tree = Element::parse_in(&bytes, context, limits)?;
        if tree.written_bytes(crate::ns::CLIENT) > limits.stanza_bytes {
            return Err(ParseError::Limit("stanza_bytes"));
        }
        let plain = StreamContext {
            content_ns: crate::ns::CLIENT.into(),
            prefixes: Vec::new(),
            ..context.clone()
        };
        // What the writer makes needs no second round: it declares by default namespaces alone.
        let bytes = Bytes::from(tree.to_xml());
        let again = self::read(&bytes, &plain, &Limits::TRUSTED)?;
        return finish(again, bytes, &plain);
    }
    finish(read, bytes, context)
}

/// The index as far as the bytes tell.
struct Read {
    inner: Inner,
    default_ns: Option<Span>,
    reserialise: bool,
}

/// Adds what the stream says of all its stanzas.
fn finish(read: Read, bytes: Bytes, context: &StreamContext) -> Result<Inner, ParseError> {
    let mut inner = read.inner;
    inner.bytes = bytes;
    let mut edits: Edits<'_> = SmallVec::new();
    if let Some(cut) = read.default_ns {
        edits.push(Edit::cut(cut));
    }
    if inner.attrs[Slot::Lang as usize].is_none()
        && let Some(lang) = context.lang.as_deref()
    {
        edits.push(Edit::set(&inner, Slot::Lang, lang));
    }
    match &context.sender {
        Some(sender) if stamped(&inner, sender)? => inner.from = Address::Valid(sender.to_jid()),
        Some(sender) => edits.push(Edit::address(&inner, Slot::From, sender.to_jid())),
        None => inner.from = inner.address(Slot::From),
    }
    inner.to = inner.address(Slot::To);
    if edits.is_empty() {
        Ok(inner)
    } else {
        Ok(inner.edited(edits, &[], &[]))
    }
}

/// RFC 6120 §8.1.2.1: whether `from` already says the sender's full JID; an error if it says
/// somebody else.
fn stamped(inner: &Inner, sender: &FullJid) -> Result<bool, ParseError> {
    let Some(at) = inner.attrs[Slot::From as usize] else {
        return Ok(false);
    };
    let written = at.value.of(&inner.bytes);
    if written == sender.as_str().as_bytes() {
        return Ok(true);
    }
    if written == sender.bare_str().as_bytes() {
        return Ok(false);
    }
    match inner.address(Slot::From) {
        Address::Valid(jid) if jid == *sender.as_str() || jid == *sender.bare_str() => Ok(false),
        _ => Err(ParseError::InvalidFrom),
    }
}

impl Inner {
    /// Parses what is written in `slot`.
    fn address(&self, slot: Slot) -> Address {
        let Some(at) = self.attrs[slot as usize] else {
            return Address::Absent;
        };
        match Jid::parse(&normalise_attribute(at.value.str(&self.bytes))) {
            Ok(jid) => Address::Valid(jid),
            Err(_) => Address::Malformed,
        }
    }
}

fn read(bytes: &Bytes, context: &StreamContext, limits: &Limits) -> Result<Read, ParseError> {
    let mut scanner = Scanner::new(bytes, context, limits)?;
    let Some(Token::Start(root)) = scanner.next()? else {
        return Err(ParseError::NotWellFormed("no element"));
    };
    let mut inner = root_tag(&scanner, bytes, &root)?;
    let mut child: Option<ChildAt> = None;
    let mut last_end = inner.open_end as usize;
    while let Some(token) = scanner.next()? {
        match token {
            Token::Start(start) if scanner.depth() == 2 => child = Some(child_at(&start)),
            Token::End(end) if scanner.depth() == 1 => {
                if let Some(mut child) = child.take() {
                    child.whole.end = Span::new(end, end).end;
                    inner.children.push(child);
                }
            }
            Token::End(end) if scanner.depth() == 0 => last_end = end,
            _ => {}
        }
    }
    if !inner.empty {
        // The end tag is `</`, the name of the start tag, perhaps white space, and `>`.
        let mut at = last_end - 1;
        while is_space(bytes[at - 1]) {
            at -= 1;
        }
        inner.close_start = Span::new(at - root.qname.len() - 2, at).start;
    }
    let reserialise = scanner.foreign || scanner.root_prefix_used || root.qname != root.name;
    Ok(Read {
        inner,
        default_ns: root.default_ns,
        reserialise,
    })
}

fn root_tag(scanner: &Scanner<'_>, bytes: &Bytes, root: &Start) -> Result<Inner, ParseError> {
    let kind = match root.name.of(bytes) {
        b"message" => Kind::Message,
        b"presence" => Kind::Presence,
        b"iq" => Kind::Iq,
        _ => return Err(ParseError::NotAStanza),
    };
    if root.ns != NsRef::Content {
        return Err(ParseError::NotAStanza);
    }
    let open_end = Span::new(root.end, root.end).end;
    let mut inner = Inner {
        bytes: Bytes::new(),
        kind,
        name_end: root.qname.end,
        open_end,
        close_start: open_end,
        empty: root.empty,
        attrs: [None; Slot::COUNT],
        to: Address::Absent,
        from: Address::Absent,
        children: SmallVec::new(),
    };
    for attr in &scanner.attrs {
        let slot = match attr.name.of(bytes) {
            b"id" => Slot::Id,
            b"type" => Slot::Type,
            b"to" => Slot::To,
            b"from" => Slot::From,
            b"xml:lang" => Slot::Lang,
            _ => continue,
        };
        // One white space at least is before each attribute.
        inner.attrs[slot as usize] = Some(AttrAt {
            start: attr.name.start - 1,
            value: attr.value,
        });
    }
    Ok(inner)
}

fn child_at(start: &Start) -> ChildAt {
    ChildAt {
        whole: Span::new(start.start, start.end),
        name: start.name,
        ns: start.ns,
    }
}

/// An attribute of the start tag at the front of `bytes`, which have been checked.
pub(super) fn attribute<'a>(bytes: &'a [u8], name: &str) -> Option<Cow<'a, str>> {
    let context = StreamContext::default();
    let mut scanner = Scanner::checked(bytes, &context, &Limits::TRUSTED);
    scanner.next().ok()??;
    let found = scanner
        .attrs
        .iter()
        .find(|attr| attr.name.of(bytes) == name.as_bytes())?;
    Some(normalise_attribute(found.value.str(bytes)))
}
