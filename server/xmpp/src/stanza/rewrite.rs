//! RFC 6120 §8: the next stanza out of one, with one allocation

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;

use super::{Address, AttrAt, Child, ChildAt, Inner, Slot, Stanza};
use crate::element::Element;
use crate::jid::Jid;
use crate::limits::Limits;
use crate::ns;
use crate::stream::StreamContext;
use crate::xml::text::escaped_attribute;
use crate::xml::{NsRef, Scanner, Span, Token};

/// One element to append to stanzas, written once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// Of the element and of its name, in `xml`.
    child: ChildAt,
    xml: String,
}

impl Fragment {
    /// The element as XML that reads alone.
    pub fn new(element: &Element) -> Fragment {
        Fragment::indexed(element.name(), element.ns(), element.to_xml())
    }

    /// What the caller wrote and vouches for: one correct element of that name and namespace,
    /// unprefixed, that reads alone.
    pub fn written(name: &str, ns: &str, xml: String) -> Fragment {
        debug_assert!(Element::parse_stored(&xml).is_ok_and(|element| element.is(name, ns)));
        Fragment::indexed(name, ns, xml)
    }

    fn indexed(name: &str, ns: &str, xml: String) -> Fragment {
        let ns = match ns {
            ns::CLIENT => NsRef::Content,
            "" => NsRef::None,
            ns::XML => NsRef::Xml,
            _ => declared(&xml, name),
        };
        let start = if ns == NsRef::Xml { "<xml:".len() } else { 1 };
        let child = ChildAt {
            whole: Span::new(0, xml.len()),
            name: Span::new(start, start + name.len()),
            ns,
        };
        Fragment { child, xml }
    }

    /// The XML.
    pub fn as_str(&self) -> &str {
        &self.xml
    }
}

/// Where the start tag at the front of correct XML says its default namespace.
fn declared(xml: &str, name: &str) -> NsRef {
    // As our own writer does it: `<name xmlns='…'`.
    let tag = &xml[1 + name.len()..];
    if let Some(value) = tag.strip_prefix(" xmlns='")
        && let Some(length) = memchr::memchr2(b'\'', b'&', value.as_bytes())
        && value.as_bytes()[length] == b'\''
    {
        let start = xml.len() - value.len();
        return NsRef::Span(Span::new(start, start + length));
    }
    let context = StreamContext::default();
    let mut scanner = Scanner::checked(xml.as_bytes(), &context, &Limits::TRUSTED);
    match scanner.next() {
        Ok(Some(Token::Start(start))) => start.ns,
        _ => NsRef::Content,
    }
}

impl From<&Element> for Fragment {
    fn from(element: &Element) -> Fragment {
        Fragment::new(element)
    }
}

impl From<Element> for Fragment {
    fn from(element: Element) -> Fragment {
        Fragment::new(&element)
    }
}

/// Which direct children to leave out.
type Strip<'a> = &'a dyn Fn(&Child<'_>) -> bool;

/// A changed copy of a [`Stanza`] in the making.
#[must_use]
pub struct Rewrite<'a> {
    stanza: &'a Stanza,
    edits: Edits<'a>,
    strip: Option<Strip<'a>>,
    append: SmallVec<[&'a Fragment; 2]>,
}

/// Changes to one start tag, at most one for each place.
pub(super) type Edits<'a> = SmallVec<[Edit<'a>; 4]>;

/// A change to the start tag.
pub(super) struct Edit<'a> {
    /// The attribute to be replaced with the white space before it, or the empty span where a new
    /// one goes.
    cut: Span,
    /// Which attribute; `None` for one that the index does not know.
    slot: Option<Slot>,
    value: Value<'a>,
}

enum Value<'a> {
    Remove,
    /// Escaped.
    Text(Cow<'a, str>),
    Address(Jid),
    /// With what is written for it.
    EscapedAddress(Jid, String),
}

impl<'a> Edit<'a> {
    /// Takes out what is not in the index.
    pub fn cut(cut: Span) -> Edit<'a> {
        Edit {
            cut,
            slot: None,
            value: Value::Remove,
        }
    }

    /// Sets an attribute.
    pub fn set(inner: &Inner, slot: Slot, value: &'a str) -> Edit<'a> {
        let value = Value::Text(escaped_attribute(value));
        inner.edit(slot, value)
    }

    /// Sets an address.
    pub fn address(inner: &Inner, slot: Slot, jid: Jid) -> Edit<'a> {
        let value = match escaped_attribute(jid.as_str()) {
            Cow::Borrowed(_) => Value::Address(jid),
            Cow::Owned(escaped) => Value::EscapedAddress(jid, escaped),
        };
        inner.edit(slot, value)
    }

    fn written(&self) -> Option<(Slot, &str)> {
        let text = match &self.value {
            Value::Remove => return None,
            Value::Text(text) => text,
            Value::Address(jid) => jid.as_str(),
            Value::EscapedAddress(_, text) => text,
        };
        Some((self.slot?, text))
    }

    /// Bytes that come in the place of `cut`: ` name='value'`.
    fn bytes(&self) -> usize {
        self.written()
            .map_or(0, |(slot, text)| slot.name().len() + 4 + text.len())
    }
}

impl<'a> Rewrite<'a> {
    pub(super) fn new(stanza: &'a Stanza) -> Rewrite<'a> {
        Rewrite {
            stanza,
            edits: SmallVec::new(),
            strip: None,
            append: SmallVec::new(),
        }
    }

    /// Sets `from`.
    pub fn from(self, jid: impl Into<Jid>) -> Rewrite<'a> {
        let jid = jid.into();
        if self.stanza.from() == Some(&jid) {
            return self;
        }
        let edit = Edit::address(&self.stanza.0, Slot::From, jid);
        self.edit(edit)
    }

    /// Sets `to`.
    pub fn to(self, jid: impl Into<Jid>) -> Rewrite<'a> {
        let jid = jid.into();
        if self.stanza.to() == Some(&jid) {
            return self;
        }
        let edit = Edit::address(&self.stanza.0, Slot::To, jid);
        self.edit(edit)
    }

    /// Takes `to` away.
    pub fn no_to(self) -> Rewrite<'a> {
        self.remove(Slot::To)
    }

    /// Takes `from` away.
    pub fn no_from(self) -> Rewrite<'a> {
        self.remove(Slot::From)
    }

    /// Sets `id`.
    pub fn id(self, id: &'a str) -> Rewrite<'a> {
        let edit = Edit::set(&self.stanza.0, Slot::Id, id);
        self.edit(edit)
    }

    /// Sets `type`.
    pub fn type_attr(self, value: &'a str) -> Rewrite<'a> {
        let edit = Edit::set(&self.stanza.0, Slot::Type, value);
        self.edit(edit)
    }

    /// Sets `xml:lang`.
    pub fn lang(self, lang: &'a str) -> Rewrite<'a> {
        let edit = Edit::set(&self.stanza.0, Slot::Lang, lang);
        self.edit(edit)
    }

    /// Leaves out the direct children that `strip` picks.
    pub fn strip(mut self, strip: Strip<'a>) -> Rewrite<'a> {
        self.strip = Some(strip);
        self
    }

    /// Appends a child.
    pub fn append(mut self, fragment: &'a Fragment) -> Rewrite<'a> {
        self.append.push(fragment);
        self
    }

    /// The changed copy; the same stanza where there is nothing to change.
    pub fn build(self) -> Stanza {
        let inner = &self.stanza.0;
        let mut stripped: Stripped = SmallVec::new();
        if let Some(strip) = self.strip {
            let children = inner.children.iter();
            stripped.extend(children.map(|child| strip(&inner.child(child))));
        }
        if self.edits.is_empty() && self.append.is_empty() && !stripped.contains(&true) {
            return self.stanza.clone();
        }
        Stanza(Arc::new(inner.edited(self.edits, &stripped, &self.append)))
    }

    fn remove(self, slot: Slot) -> Rewrite<'a> {
        if self.stanza.0.attrs[slot as usize].is_none() {
            return self;
        }
        let edit = self.stanza.0.edit(slot, Value::Remove);
        self.edit(edit)
    }

    fn edit(mut self, edit: Edit<'a>) -> Rewrite<'a> {
        self.edits.retain(|other| other.slot != edit.slot);
        self.edits.push(edit);
        self
    }
}

/// For each child, whether it is left out; none at all if none is.
type Stripped = SmallVec<[bool; 8]>;

impl Inner {
    /// A change of the attribute in `slot`, or a new one in front.
    fn edit<'a>(&self, slot: Slot, value: Value<'a>) -> Edit<'a> {
        let new = Span {
            start: self.name_end,
            end: self.name_end,
        };
        Edit {
            cut: self.attrs[slot as usize].map_or(new, |at| at.whole()),
            slot: Some(slot),
            value,
        }
    }

    /// The bytes with `edits` applied to the start tag, some children left out and others
    /// appended; and the index of the result without reading it again.
    pub(super) fn edited(
        &self,
        mut edits: Edits<'_>,
        stripped: &[bool],
        append: &[&Fragment],
    ) -> Inner {
        // What is put in front comes before what is cut out there.
        edits.sort_unstable_by_key(|edit| (edit.cut.start, edit.cut.end, edit.slot));
        let added = edits.iter().map(Edit::bytes).sum::<usize>();
        let appended: usize = append.iter().map(|fragment| fragment.xml.len()).sum();
        let tags = if self.empty && appended > 0 {
            self.kind.as_str().len() + 2
        } else {
            0
        };
        let mut out = Vec::with_capacity(self.bytes.len() + added + appended + tags);
        let mut inner = self.start_tag(&mut out, &edits, !append.is_empty());
        inner.children = self.copy_children(&mut out, stripped);
        for fragment in append {
            inner
                .children
                .push(fragment.child.shifted(out.len() as isize));
            out.extend_from_slice(fragment.xml.as_bytes());
        }
        inner.close_start = Span::new(out.len(), out.len()).start;
        if self.empty && !inner.empty {
            out.extend_from_slice(b"</");
            out.extend_from_slice(self.kind.as_str().as_bytes());
            out.push(b'>');
        } else {
            out.extend_from_slice(&self.bytes[self.close_start as usize..]);
        }
        inner.bytes = Bytes::from(out);
        inner
    }

    /// Writes the start tag and gives the index of it.
    fn start_tag(&self, out: &mut Vec<u8>, edits: &[Edit<'_>], fill: bool) -> Inner {
        let mut inner = Inner {
            bytes: Bytes::new(),
            empty: self.empty && !fill,
            attrs: self.attrs,
            to: self.to.clone(),
            from: self.from.clone(),
            children: SmallVec::new(),
            ..*self
        };
        for at in inner.attrs.iter_mut().flatten() {
            let before = edits.iter().filter(|edit| edit.cut.end <= at.start);
            let shift = before.map(|edit| edit.bytes() as isize - edit.cut.len() as isize);
            *at = at.shifted(shift.sum());
        }
        let mut copied = 0;
        for edit in edits {
            out.extend_from_slice(&self.bytes[copied..edit.cut.start as usize]);
            copied = edit.cut.end as usize;
            let Some(slot) = edit.slot else { continue };
            let written = edit.written();
            inner.attrs[slot as usize] = written.map(|(_, text)| write_attr(out, slot, text));
            let address = match &edit.value {
                Value::Address(jid) | Value::EscapedAddress(jid, _) => Address::Valid(jid.clone()),
                _ => Address::Absent,
            };
            match slot {
                Slot::To => inner.to = address,
                Slot::From => inner.from = address,
                _ => {}
            }
        }
        let tag_end = self.open_end as usize - if self.empty { 2 } else { 1 };
        out.extend_from_slice(&self.bytes[copied..tag_end]);
        out.extend_from_slice(if inner.empty { b"/>" } else { b">" });
        inner.open_end = Span::new(out.len(), out.len()).end;
        inner
    }

    /// Copies everything between the tags, less what is left out.
    fn copy_children(&self, out: &mut Vec<u8>, stripped: &[bool]) -> SmallVec<[ChildAt; 4]> {
        let mut children = SmallVec::new();
        let mut copied = self.open_end as usize;
        for (at, child) in self.children.iter().enumerate() {
            if stripped.get(at) == Some(&true) {
                out.extend_from_slice(&self.bytes[copied..child.whole.start as usize]);
                copied = child.whole.end as usize;
                continue;
            }
            let shift = out.len() as isize - copied as isize;
            children.push(child.shifted(shift));
        }
        out.extend_from_slice(&self.bytes[copied..self.close_start as usize]);
        children
    }
}

impl ChildAt {
    fn shifted(&self, by: isize) -> ChildAt {
        ChildAt {
            whole: self.whole.shifted(by),
            name: self.name.shifted(by),
            ns: match self.ns {
                NsRef::Span(span) => NsRef::Span(span.shifted(by)),
                NsRef::Escaped(span) => NsRef::Escaped(span.shifted(by)),
                other => other,
            },
        }
    }
}

fn write_attr(out: &mut Vec<u8>, slot: Slot, value: &str) -> AttrAt {
    let start = out.len();
    out.push(b' ');
    out.extend_from_slice(slot.name().as_bytes());
    out.extend_from_slice(b"='");
    let value_start = out.len();
    out.extend_from_slice(value.as_bytes());
    let value = Span::new(value_start, out.len());
    out.push(b'\'');
    AttrAt {
        start: Span::new(start, start).start,
        value,
    }
}
