//! RFC 6120 §8: the next stanza out of one, with one allocation

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;

use super::{Address, AttrAt, Child, ChildAt, ChildNs, Inner, Stanza};
use crate::element::Element;
use crate::jid::Jid;
use crate::ns;
use crate::xml::Span;
use crate::xml::text::escaped_attribute;

/// One element to append to stanzas, written once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fragment {
    name: Cow<'static, str>,
    ns: Cow<'static, str>,
    xml: String,
}

impl Fragment {
    /// The element as XML that reads alone.
    pub fn new(element: &Element) -> Fragment {
        Fragment {
            name: element.name().to_owned().into(),
            ns: element.ns().to_owned().into(),
            xml: element.to_xml(),
        }
    }

    /// What the caller wrote and vouches for: one correct element of that name and namespace,
    /// unprefixed, that reads alone.
    pub fn written(name: &'static str, ns: &'static str, xml: String) -> Fragment {
        debug_assert!(Element::parse(&xml).is_ok_and(|element| element.is(name, ns)));
        Fragment {
            name: name.into(),
            ns: ns.into(),
            xml,
        }
    }

    /// The XML.
    pub fn as_str(&self) -> &str {
        &self.xml
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
    edits: SmallVec<[Edit<'a>; 6]>,
    strip: Option<Strip<'a>>,
    append: SmallVec<[&'a Fragment; 2]>,
}

/// A change to the start tag.
pub(super) struct Edit<'a> {
    /// The attribute to be replaced with the white space before it, or the empty span where a new
    /// one goes.
    pub cut: Span,
    pub name: &'static str,
    pub value: Value<'a>,
}

pub(super) enum Value<'a> {
    Remove,
    /// Escaped.
    Text(Cow<'a, str>),
    Jid(Jid),
}

impl Edit<'_> {
    fn written(&self) -> Option<Cow<'_, str>> {
        match &self.value {
            Value::Remove => None,
            Value::Text(text) => Some(Cow::Borrowed(text)),
            Value::Jid(jid) => Some(escaped_attribute(jid.as_str())),
        }
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
        let at = self.stanza.0.from_at;
        self.edit(at, "from", Value::Jid(jid))
    }

    /// Sets `to`.
    pub fn to(self, jid: impl Into<Jid>) -> Rewrite<'a> {
        let jid = jid.into();
        if self.stanza.to() == Some(&jid) {
            return self;
        }
        let at = self.stanza.0.to_at;
        self.edit(at, "to", Value::Jid(jid))
    }

    /// Takes `to` away.
    pub fn no_to(self) -> Rewrite<'a> {
        match self.stanza.0.to_at {
            Some(at) => self.edit(Some(at), "to", Value::Remove),
            None => self,
        }
    }

    /// Takes `from` away.
    pub fn no_from(self) -> Rewrite<'a> {
        match self.stanza.0.from_at {
            Some(at) => self.edit(Some(at), "from", Value::Remove),
            None => self,
        }
    }

    /// Sets `id`.
    pub fn id(self, id: &'a str) -> Rewrite<'a> {
        let at = self.stanza.0.id;
        self.edit(at, "id", Value::Text(escaped_attribute(id)))
    }

    /// Sets `type`.
    pub fn type_attr(self, value: &'a str) -> Rewrite<'a> {
        let at = self.stanza.0.type_;
        self.edit(at, "type", Value::Text(escaped_attribute(value)))
    }

    /// Sets `xml:lang`.
    pub fn lang(self, lang: &'a str) -> Rewrite<'a> {
        let at = self.stanza.0.lang;
        self.edit(at, "xml:lang", Value::Text(escaped_attribute(lang)))
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
        let strips = self.strip.is_some_and(|strip| {
            inner
                .children
                .iter()
                .any(|child| strip(&inner.child(child)))
        });
        if self.edits.is_empty() && self.append.is_empty() && !strips {
            return self.stanza.clone();
        }
        let strip = self.strip.filter(|_| strips);
        Stanza(Arc::new(inner.edited(self.edits, strip, &self.append)))
    }

    fn edit(mut self, at: Option<AttrAt>, name: &'static str, value: Value<'a>) -> Rewrite<'a> {
        let name_end = self.stanza.0.name_end;
        let cut = at.map_or(
            Span {
                start: name_end,
                end: name_end,
            },
            |at| at.whole,
        );
        self.edits.retain(|edit| edit.name != name);
        self.edits.push(Edit { cut, name, value });
        self
    }
}

impl Inner {
    /// The bytes with `edits` applied to the start tag, some children left out and others
    /// appended; and the index of the result without reading it again.
    pub(super) fn edited(
        &self,
        mut edits: SmallVec<[Edit<'_>; 6]>,
        strip: Option<Strip<'_>>,
        append: &[&Fragment],
    ) -> Inner {
        edits.sort_by_key(|edit| (edit.cut.start, edit.cut.end));
        let appended: usize = append.iter().map(|fragment| fragment.xml.len()).sum();
        let values = edits.iter().map(|edit| match &edit.value {
            Value::Remove => 0,
            Value::Text(text) => edit.name.len() + 4 + text.len(),
            Value::Jid(jid) => edit.name.len() + 4 + jid.as_str().len(),
        });
        let growth = values.sum::<usize>() + appended + self.name_end as usize + 3;
        let mut out = Vec::with_capacity(self.bytes.len() + growth);
        let mut inner = self.start_tag(&mut out, &edits, !append.is_empty());
        inner.children = self.copy_children(&mut out, strip);
        for fragment in append {
            inner.children.push(appended_child(fragment, out.len()));
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
            kind: self.kind,
            name_end: self.name_end,
            open_end: 0,
            close_start: 0,
            empty: self.empty && !fill,
            id: None,
            type_: None,
            lang: None,
            to_at: None,
            from_at: None,
            to: self.to.clone(),
            from: self.from.clone(),
            children: SmallVec::new(),
        };
        let mut copied = 0;
        for edit in edits {
            out.extend_from_slice(&self.bytes[copied..edit.cut.start as usize]);
            copied = edit.cut.end as usize;
            let written = edit
                .written()
                .map(|value| write_attr(out, edit.name, &value));
            inner.edited_attr(edit, written);
        }
        let tag_end = self.open_end as usize - if self.empty { 2 } else { 1 };
        out.extend_from_slice(&self.bytes[copied..tag_end]);
        out.extend_from_slice(if inner.empty { b"/>" } else { b">" });
        inner.open_end = Span::new(out.len(), out.len()).end;
        inner.id = inner.id.or_else(|| kept(self.id, "id", edits));
        inner.type_ = inner.type_.or_else(|| kept(self.type_, "type", edits));
        inner.lang = inner.lang.or_else(|| kept(self.lang, "xml:lang", edits));
        inner.to_at = inner.to_at.or_else(|| kept(self.to_at, "to", edits));
        inner.from_at = inner.from_at.or_else(|| kept(self.from_at, "from", edits));
        inner
    }

    fn edited_attr(&mut self, edit: &Edit<'_>, at: Option<AttrAt>) {
        let address = match &edit.value {
            Value::Jid(jid) => Address::Valid(jid.clone()),
            _ => Address::Absent,
        };
        match edit.name {
            "id" => self.id = at,
            "type" => self.type_ = at,
            "xml:lang" => self.lang = at,
            "to" => (self.to_at, self.to) = (at, address),
            "from" => (self.from_at, self.from) = (at, address),
            _ => {}
        }
    }

    /// Copies everything between the tags, less what is left out.
    fn copy_children(&self, out: &mut Vec<u8>, strip: Option<Strip<'_>>) -> SmallVec<[ChildAt; 4]> {
        let mut children = SmallVec::new();
        let mut copied = self.open_end as usize;
        for child in &self.children {
            if strip.is_some_and(|strip| strip(&self.child(child))) {
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
                ChildNs::Static(ns) => ChildNs::Static(ns),
                ChildNs::Span(span) => ChildNs::Span(span.shifted(by)),
                ChildNs::Escaped(span) => ChildNs::Escaped(span.shifted(by)),
            },
        }
    }
}

/// Where an attribute that no edit touched has come to be.
fn kept(at: Option<AttrAt>, name: &str, edits: &[Edit<'_>]) -> Option<AttrAt> {
    let at = at?;
    let mut shift = 0;
    for edit in edits {
        if edit.name == name {
            return None;
        }
        if edit.cut.end <= at.whole.start {
            let added = edit
                .written()
                .map_or(0, |value| edit.name.len() + 4 + value.len());
            shift += added as isize - edit.cut.len() as isize;
        }
    }
    Some(AttrAt {
        whole: at.whole.shifted(shift),
        value: at.value.shifted(shift),
    })
}

fn write_attr(out: &mut Vec<u8>, name: &str, value: &str) -> AttrAt {
    let start = out.len();
    out.push(b' ');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"='");
    let value_start = out.len();
    out.extend_from_slice(value.as_bytes());
    let value = Span::new(value_start, out.len());
    out.push(b'\'');
    AttrAt {
        whole: Span::new(start, out.len()),
        value,
    }
}

fn appended_child(fragment: &Fragment, at: usize) -> ChildAt {
    let xml = &fragment.xml;
    let whole = Span::new(at, at + xml.len());
    let name = Span::new(at + 1, at + 1 + fragment.name.len());
    let ns = match &fragment.ns {
        Cow::Borrowed(ns) => ChildNs::Static(ns),
        Cow::Owned(name) if name == ns::CLIENT => super::CONTENT,
        // The writer puts the namespace first: `<name xmlns='…'`, escaped.
        Cow::Owned(_) => {
            let start = 1 + fragment.name.len() + " xmlns='".len();
            let length = memchr::memchr(b'\'', &xml.as_bytes()[start..]).unwrap_or(0);
            ChildNs::Escaped(Span::new(at + start, at + start + length))
        }
    };
    ChildAt { whole, name, ns }
}
