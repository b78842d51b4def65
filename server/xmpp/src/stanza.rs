//! RFC 6120 §8: stanzas as received bytes with an index of what routing needs

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;

use crate::element::Element;
use crate::error::{StanzaCondition, StanzaError};
use crate::jid::Jid;
use crate::limits::Limits;
use crate::ns;
use crate::stream::StreamContext;
use crate::xml::text::normalise_attribute;
use crate::xml::{NsRef, ParseError, Span};

mod index;
mod reply;
mod rewrite;

pub use reply::{error_reply, iq_result};
pub use rewrite::{Fragment, Rewrite};

/// RFC 6120 §8.2: the three kinds of stanzas.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `<message/>`
    Message,
    /// `<presence/>`
    Presence,
    /// `<iq/>`
    Iq,
}

impl Kind {
    /// The element's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::Message => "message",
            Kind::Presence => "presence",
            Kind::Iq => "iq",
        }
    }
}

/// RFC 6121 §5.2.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MessageType {
    /// `chat`
    Chat,
    /// `error`
    Error,
    /// `groupchat`
    Groupchat,
    /// `headline`
    Headline,
    /// `normal`, absent or not known
    Normal,
}

/// RFC 6121 §4.7.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PresenceType {
    /// No type.
    Available,
    /// `error`
    Error,
    /// `probe`
    Probe,
    /// `subscribe`
    Subscribe,
    /// `subscribed`
    Subscribed,
    /// `unavailable`
    Unavailable,
    /// `unsubscribe`
    Unsubscribe,
    /// `unsubscribed`
    Unsubscribed,
}

/// RFC 6120 §8.2.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IqType {
    /// `get`
    Get,
    /// `set`
    Set,
    /// `result`
    Result,
    /// `error`
    Error,
}

/// An address attribute.
#[derive(Clone, Debug, Default)]
pub(crate) enum Address {
    #[default]
    Absent,
    Valid(Jid),
    Malformed,
}

impl Address {
    fn jid(&self) -> Option<&Jid> {
        match self {
            Address::Valid(jid) => Some(jid),
            _ => None,
        }
    }
}

/// The attributes in the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Slot {
    Lang,
    From,
    To,
    Type,
    Id,
}

impl Slot {
    const COUNT: usize = 5;

    const fn name(self) -> &'static str {
        match self {
            Slot::Lang => "xml:lang",
            Slot::From => "from",
            Slot::To => "to",
            Slot::Type => "type",
            Slot::Id => "id",
        }
    }
}

/// Where an attribute is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AttrAt {
    /// Of the white space before it; it ends behind the quote behind its value.
    start: u32,
    value: Span,
}

impl AttrAt {
    fn whole(&self) -> Span {
        Span {
            start: self.start,
            end: self.value.end + 1,
        }
    }

    fn shifted(&self, by: isize) -> AttrAt {
        let whole = self.whole().shifted(by);
        AttrAt {
            start: whole.start,
            value: self.value.shifted(by),
        }
    }
}

/// A direct child in the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ChildAt {
    whole: Span,
    /// Of the local name.
    name: Span,
    ns: NsRef,
}

#[derive(Debug)]
pub(crate) struct Inner {
    bytes: Bytes,
    kind: Kind,
    /// Behind the name of the start tag.
    name_end: u32,
    /// Behind the start tag.
    open_end: u32,
    /// Where the end tag starts; `open_end` for an empty element.
    close_start: u32,
    /// `<message/>`
    empty: bool,
    /// By [`Slot`].
    attrs: [Option<AttrAt>; Slot::COUNT],
    to: Address,
    from: Address,
    children: SmallVec<[ChildAt; 4]>,
}

/// A stanza: bytes and an index of them. A clone costs one counter.
///
/// The bytes stand for themselves wherever a content namespace is the default one: no prefix is
/// left undeclared, `xml:lang` is there if the stream had one, and each direct child can be cut
/// out and read alone.
#[derive(Clone)]
pub struct Stanza(Arc<Inner>);

/// A direct child element of a [`Stanza`].
#[derive(Clone, Debug)]
pub struct Child<'a> {
    /// The local name.
    pub name: &'a str,
    /// The namespace; `jabber:client` for the content namespace.
    pub ns: Cow<'a, str>,
    /// All of it, tags included.
    pub bytes: &'a [u8],
    at: Span,
}

impl Child<'_> {
    /// Whether this is the element of that name and namespace.
    pub fn is(&self, name: &str, ns: &str) -> bool {
        self.name == name && self.ns == ns
    }

    /// Where it is in the bytes of the stanza.
    pub fn range(&self) -> std::ops::Range<usize> {
        self.at.start as usize..self.at.end as usize
    }

    /// The value of an attribute without namespace, or of `xml:lang`, without building a tree.
    pub fn attr(&self, name: &str) -> Option<Cow<'_, str>> {
        index::attribute(self.bytes, name)
    }

    /// The character data directly within, joined.
    pub fn text(&self) -> String {
        self.element().text()
    }

    /// The child as a tree.
    pub fn element(&self) -> Element {
        Element::parse_in(self.bytes, &StreamContext::default(), &Limits::TRUSTED)
            .expect("a child of a parsed stanza reads alone")
    }
}

/// A top-level element of a stream, read.
#[derive(Clone, Debug)]
pub enum Received {
    /// One of the three stanzas.
    Stanza(Stanza),
    /// Anything else: SASL, stream management, client state, or what nobody knows.
    Other(Element),
}

impl Received {
    /// Reads a top-level element as it came by a stream.
    pub fn parse(
        bytes: Bytes,
        context: &StreamContext,
        limits: &Limits,
    ) -> Result<Received, ParseError> {
        match Stanza::parse(bytes.clone(), context, limits) {
            Ok(stanza) => Ok(Received::Stanza(stanza)),
            Err(ParseError::NotAStanza) => {
                Element::parse_in(&bytes, context, limits).map(Received::Other)
            }
            Err(error) => Err(error),
        }
    }
}

impl Stanza {
    /// Checks and indexes a stanza as it came by a stream and makes it independent of that stream:
    /// shares `bytes` where nothing is to be changed.
    pub fn parse(
        bytes: Bytes,
        context: &StreamContext,
        limits: &Limits,
    ) -> Result<Stanza, ParseError> {
        index::receive(bytes, context, limits).map(|inner| Stanza(Arc::new(inner)))
    }

    /// Reads back what [`Stanza::as_bytes`] gave.
    pub fn parse_stored(bytes: Bytes) -> Result<Stanza, ParseError> {
        Stanza::parse(bytes, &StreamContext::default(), &Limits::TRUSTED)
    }

    /// Writes a tree whose root is `message`, `presence` or `iq` in `jabber:client`.
    ///
    /// # Panics
    /// With any other root, or one that XML cannot say.
    pub fn from_element(element: &Element) -> Stanza {
        Stanza::parse_stored(element.to_xml().into()).expect("the element is a stanza")
    }

    /// A stanza without attributes and children, to be filled by [`Stanza::rewrite`].
    pub fn empty(kind: Kind) -> Stanza {
        let bytes: &'static [u8] = match kind {
            Kind::Message => b"<message/>",
            Kind::Presence => b"<presence/>",
            Kind::Iq => b"<iq/>",
        };
        Stanza(Arc::new(Inner::empty(kind, Bytes::from_static(bytes))))
    }

    /// Message, presence or iq.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// `type` as it was written.
    pub fn type_attr(&self) -> Option<Cow<'_, str>> {
        self.value(Slot::Type)
    }

    /// RFC 6121 §5.2.2: the type of a message; what is not known is `normal`.
    pub fn message_type(&self) -> MessageType {
        match self.type_attr().as_deref() {
            Some("chat") => MessageType::Chat,
            Some("error") => MessageType::Error,
            Some("groupchat") => MessageType::Groupchat,
            Some("headline") => MessageType::Headline,
            _ => MessageType::Normal,
        }
    }

    /// RFC 6121 §4.7.1: the type of a presence; `bad-request` for one that is not known.
    pub fn presence_type(&self) -> Result<PresenceType, StanzaCondition> {
        Ok(match self.type_attr().as_deref() {
            None => PresenceType::Available,
            Some("error") => PresenceType::Error,
            Some("probe") => PresenceType::Probe,
            Some("subscribe") => PresenceType::Subscribe,
            Some("subscribed") => PresenceType::Subscribed,
            Some("unavailable") => PresenceType::Unavailable,
            Some("unsubscribe") => PresenceType::Unsubscribe,
            Some("unsubscribed") => PresenceType::Unsubscribed,
            Some(_) => return Err(StanzaCondition::BadRequest),
        })
    }

    /// RFC 6120 §8.2.3: the type of an iq; `bad-request` for none or one that is not known.
    pub fn iq_type(&self) -> Result<IqType, StanzaCondition> {
        match self.type_attr().as_deref() {
            Some("get") => Ok(IqType::Get),
            Some("set") => Ok(IqType::Set),
            Some("result") => Ok(IqType::Result),
            Some("error") => Ok(IqType::Error),
            _ => Err(StanzaCondition::BadRequest),
        }
    }

    /// Whether the type is `error`.
    pub fn is_error(&self) -> bool {
        self.type_attr().as_deref() == Some("error")
    }

    /// `id`, unescaped.
    pub fn id(&self) -> Option<Cow<'_, str>> {
        self.value(Slot::Id)
    }

    /// `xml:lang`, the stream's where the stanza had none.
    pub fn lang(&self) -> Option<Cow<'_, str>> {
        self.value(Slot::Lang)
    }

    /// `to`, if there is one and it is a JID.
    pub fn to(&self) -> Option<&Jid> {
        self.0.to.jid()
    }

    /// `from`, if there is one and it is a JID.
    pub fn from(&self) -> Option<&Jid> {
        self.0.from.jid()
    }

    /// Whether there is a `to` that is no JID: answer `jid-malformed`.
    pub fn bad_to(&self) -> bool {
        matches!(self.0.to, Address::Malformed)
    }

    /// Whether there is a `from` that is no JID.
    pub fn bad_from(&self) -> bool {
        matches!(self.0.from, Address::Malformed)
    }

    /// The direct children in their order.
    pub fn children(&self) -> impl ExactSizeIterator<Item = Child<'_>> {
        self.0.children.iter().map(|child| self.0.child(child))
    }

    /// The first child of that name and namespace, in the index.
    pub fn find(&self, name: &str, ns: &str) -> Option<Child<'_>> {
        let mut children = self.0.children.iter();
        let found = children.find(|child| child.is(&self.0.bytes, name, ns))?;
        Some(self.0.child(found))
    }

    /// Whether there is such a child.
    pub fn has(&self, name: &str, ns: &str) -> bool {
        self.0
            .children
            .iter()
            .any(|child| child.is(&self.0.bytes, name, ns))
    }

    /// The first child of that name and namespace as a tree.
    pub fn child(&self, name: &str, ns: &str) -> Option<Element> {
        self.find(name, ns).map(|child| child.element())
    }

    /// The bytes of a child; they read alone.
    pub fn child_bytes(&self, child: &Child<'_>) -> Bytes {
        self.0.bytes.slice(child.range())
    }

    /// The whole stanza as a tree.
    pub fn element(&self) -> Element {
        Element::parse_in(&self.0.bytes, &StreamContext::default(), &Limits::TRUSTED)
            .expect("a parsed stanza reads again")
    }

    /// Everything between the start tag and the end tag.
    pub fn inner_bytes(&self) -> &[u8] {
        &self.0.bytes[self.0.open_end as usize..self.0.close_start as usize]
    }

    /// The stanza as it is written to a stream whose default namespace is the content namespace.
    pub fn as_bytes(&self) -> &Bytes {
        &self.0.bytes
    }

    /// The bytes alone; the index goes, unless somebody else has it too.
    pub fn into_bytes(self) -> Bytes {
        match Arc::try_unwrap(self.0) {
            Ok(inner) => inner.bytes,
            Err(shared) => shared.bytes.clone(),
        }
    }

    /// Appends the stanza with an explicit `xmlns`, for places where another default namespace is
    /// in force (XEP-0297 §3, RFC 7395 §3.3.3).
    pub fn write_with_ns(&self, out: &mut Vec<u8>, content_ns: &str) {
        let name_end = self.0.name_end as usize;
        out.reserve(self.0.bytes.len() + content_ns.len() + 9);
        out.extend_from_slice(&self.0.bytes[..name_end]);
        out.extend_from_slice(b" xmlns='");
        out.extend_from_slice(content_ns.as_bytes());
        out.push(b'\'');
        out.extend_from_slice(&self.0.bytes[name_end..]);
    }

    /// [`Stanza::write_with_ns`] into a string.
    pub fn write_str_with_ns(&self, out: &mut String, content_ns: &str) {
        let text = std::str::from_utf8(&self.0.bytes).expect("stanzas are checked to be UTF-8");
        let (name, rest) = text.split_at(self.0.name_end as usize);
        out.reserve(text.len() + content_ns.len() + 9);
        out.push_str(name);
        out.push_str(" xmlns='");
        out.push_str(content_ns);
        out.push('\'');
        out.push_str(rest);
    }

    /// Starts a changed copy.
    pub fn rewrite(&self) -> Rewrite<'_> {
        Rewrite::new(self)
    }

    fn value(&self, slot: Slot) -> Option<Cow<'_, str>> {
        let at = self.0.attrs[slot as usize]?;
        Some(normalise_attribute(at.value.str(&self.0.bytes)))
    }
}

impl Inner {
    /// The index of an empty element of `bytes`.
    fn empty(kind: Kind, bytes: Bytes) -> Inner {
        let end = Span::new(bytes.len(), bytes.len()).end;
        Inner {
            bytes,
            kind,
            name_end: end - 2,
            open_end: end,
            close_start: end,
            empty: true,
            attrs: [None; Slot::COUNT],
            to: Address::Absent,
            from: Address::Absent,
            children: SmallVec::new(),
        }
    }

    fn child(&self, at: &ChildAt) -> Child<'_> {
        let bytes = &self.bytes;
        let ns = at.ns(bytes);
        Child {
            name: at.name.str(bytes),
            ns,
            bytes: at.whole.of(bytes),
            at: at.whole,
        }
    }
}

impl ChildAt {
    fn ns<'a>(&self, bytes: &'a [u8]) -> Cow<'a, str> {
        match self.ns {
            NsRef::None => Cow::Borrowed(""),
            // What takes a prefix from the stream header is serialised anew before anyone asks.
            NsRef::Content | NsRef::Header(_) => Cow::Borrowed(ns::CLIENT),
            NsRef::Xml => Cow::Borrowed(ns::XML),
            NsRef::Span(span) => Cow::Borrowed(span.str(bytes)),
            NsRef::Escaped(span) => normalise_attribute(span.str(bytes)),
        }
    }

    /// Whether this is the element of that name and namespace, at the price of a comparison.
    fn is(&self, bytes: &[u8], name: &str, ns: &str) -> bool {
        self.name.of(bytes) == name.as_bytes()
            && match self.ns {
                NsRef::Span(span) => span.of(bytes) == ns.as_bytes(),
                _ => self.ns(bytes) == ns,
            }
    }
}

impl PartialEq for Stanza {
    /// Byte for byte.
    fn eq(&self, other: &Stanza) -> bool {
        self.0.bytes == other.0.bytes
    }
}

impl Eq for Stanza {}

impl fmt::Debug for Stanza {
    /// The start tag only: logs never hold what people say.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(
            &self.0.bytes[..self.0.open_end as usize],
        ))
    }
}

impl From<StanzaError> for Element {
    fn from(error: StanzaError) -> Element {
        error.to_element()
    }
}

#[cfg(test)]
mod tests;
