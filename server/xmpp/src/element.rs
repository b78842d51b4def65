//! A small owned tree of XML for payloads, stored values and everything that the server says itself

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use crate::limits::Limits;
use crate::ns;
use crate::stream::StreamContext;
use crate::xml::text::{escape_attribute, escape_text};
use crate::xml::text::{normalise_attribute, normalise_cdata, normalise_text};
use crate::xml::{NsRef, ParseError, Scanner, Start, Token};

/// The name of a namespace. What one declaration gives to many elements they share: a long name
/// costs its length once, however often its prefix is written.
#[derive(Clone)]
pub struct Namespace(Shared);

#[derive(Clone)]
enum Shared {
    Static(&'static str),
    Counted(Arc<str>),
}

impl Deref for Namespace {
    type Target = str;

    fn deref(&self) -> &str {
        match &self.0 {
            Shared::Static(name) => name,
            Shared::Counted(name) => name,
        }
    }
}

impl<T: Into<Cow<'static, str>>> From<T> for Namespace {
    fn from(name: T) -> Namespace {
        match name.into() {
            Cow::Borrowed(name) => Namespace(Shared::Static(name)),
            Cow::Owned(name) => Namespace(Shared::Counted(name.into())),
        }
    }
}

impl PartialEq for Namespace {
    fn eq(&self, other: &Namespace) -> bool {
        **self == **other
    }
}

impl Eq for Namespace {}

impl fmt::Debug for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

/// An element with its namespace resolved; prefixes are gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Element {
    name: Cow<'static, str>,
    ns: Namespace,
    attrs: Vec<Attribute>,
    nodes: Vec<Node>,
}

/// An attribute of an [`Element`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribute {
    /// The local name; `xml:lang` and its like keep their prefix and have no `ns`.
    pub name: Cow<'static, str>,
    /// The namespace of a prefixed attribute.
    pub ns: Option<Namespace>,
    /// The value, unescaped.
    pub value: String,
}

/// What an [`Element`] holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// A child.
    Element(Element),
    /// Character data, unescaped. Never two in a row.
    Text(String),
}

impl Element {
    /// An empty element. In `jabber:client` it stands for the content namespace of whatever
    /// stream it is written to.
    pub fn new(name: impl Into<Cow<'static, str>>, ns: impl Into<Namespace>) -> Element {
        Element {
            name: name.into(),
            ns: ns.into(),
            attrs: Vec::new(),
            nodes: Vec::new(),
        }
    }

    /// Reads one element, `jabber:client` being the default namespace, within
    /// [`Limits::AFTER_LOGIN`].
    pub fn parse(input: impl AsRef<[u8]>) -> Result<Element, ParseError> {
        Element::parse_in(
            input.as_ref(),
            &StreamContext::default(),
            &Limits::AFTER_LOGIN,
        )
    }

    /// Reads back one element that was stored or written here: whatever was accepted once, under
    /// whatever limits, reads again.
    pub fn parse_stored(input: impl AsRef<[u8]>) -> Result<Element, ParseError> {
        Element::parse_in(input.as_ref(), &StreamContext::default(), &Limits::TRUSTED)
    }

    /// Reads one element as it came by a stream.
    pub fn parse_in(
        input: &[u8],
        context: &StreamContext,
        limits: &Limits,
    ) -> Result<Element, ParseError> {
        let mut scanner = Scanner::new(input, context, limits)?;
        let mut open: Vec<Element> = Vec::new();
        let mut met = Met::default();
        let mut done = None;
        while let Some(token) = scanner.next()? {
            match token {
                Token::Start(start) => open.push(read_start(&scanner, &mut met, input, &start)),
                Token::End(_) => {
                    let element = open.pop().expect("the scanner pairs tags");
                    match open.last_mut() {
                        Some(parent) => parent.nodes.push(Node::Element(element)),
                        None => done = Some(element),
                    }
                }
                Token::Text(span) => push_text(&mut open, &normalise_text(span.str(input))),
                Token::CData(span) => push_text(&mut open, &normalise_cdata(span.str(input))),
            }
        }
        done.ok_or(ParseError::NotWellFormed("no element"))
    }

    /// The local name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The namespace; empty for none.
    pub fn ns(&self) -> &str {
        &self.ns
    }

    /// Whether this is the element of that name and namespace.
    pub fn is(&self, name: &str, ns: &str) -> bool {
        self.name == name && *self.ns == *ns
    }

    /// The value of an attribute without namespace, or of `xml:lang`.
    pub fn attr(&self, name: &str) -> Option<&str> {
        let found = self
            .attrs
            .iter()
            .find(|attr| attr.ns.is_none() && attr.name == name)?;
        Some(&found.value)
    }

    /// All attributes in their order.
    pub fn attrs(&self) -> &[Attribute] {
        &self.attrs
    }

    /// The first child of that name and namespace.
    pub fn child(&self, name: &str, ns: &str) -> Option<&Element> {
        self.children().find(|child| child.is(name, ns))
    }

    /// Whether there is such a child.
    pub fn has(&self, name: &str, ns: &str) -> bool {
        self.child(name, ns).is_some()
    }

    /// The child elements in their order.
    pub fn children(&self) -> impl DoubleEndedIterator<Item = &Element> {
        self.nodes.iter().filter_map(|node| match node {
            Node::Element(element) => Some(element),
            Node::Text(_) => None,
        })
    }

    /// The first child element.
    pub fn first_child(&self) -> Option<&Element> {
        self.children().next()
    }

    /// Children and text in their order.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The character data directly within, joined.
    pub fn text(&self) -> String {
        let texts = self.nodes.iter().filter_map(|node| match node {
            Node::Text(text) => Some(text.as_str()),
            Node::Element(_) => None,
        });
        texts.collect()
    }

    /// The text of the first child of that name and namespace.
    pub fn child_text(&self, name: &str, ns: &str) -> Option<String> {
        self.child(name, ns).map(Element::text)
    }

    /// Sets or replaces an attribute.
    pub fn set_attr(&mut self, name: impl Into<Cow<'static, str>>, value: impl Into<String>) {
        let (name, value) = (name.into(), value.into());
        match self
            .attrs
            .iter_mut()
            .find(|attr| attr.ns.is_none() && attr.name == name)
        {
            Some(attr) => attr.value = value,
            None => self.attrs.push(Attribute {
                name,
                ns: None,
                value,
            }),
        }
    }

    /// Appends an attribute of a namespace.
    pub fn push_attr_ns(
        &mut self,
        name: impl Into<Cow<'static, str>>,
        ns: impl Into<Namespace>,
        value: impl Into<String>,
    ) {
        let ns = Some(ns.into());
        self.attrs.push(Attribute {
            name: name.into(),
            ns,
            value: value.into(),
        });
    }

    /// Takes an attribute away.
    pub fn remove_attr(&mut self, name: &str) {
        self.attrs
            .retain(|attr| attr.ns.is_some() || attr.name != name);
    }

    /// Appends a child.
    pub fn push(&mut self, child: Element) {
        self.nodes.push(Node::Element(child));
    }

    /// Appends character data.
    pub fn push_text(&mut self, text: &str) {
        match self.nodes.last_mut() {
            Some(Node::Text(last)) => last.push_str(text),
            _ if text.is_empty() => {}
            _ => self.nodes.push(Node::Text(text.to_owned())),
        }
    }

    /// Keeps the child elements that `keep` says, and all text.
    pub fn retain_children(&mut self, mut keep: impl FnMut(&Element) -> bool) {
        self.nodes.retain(|node| match node {
            Node::Element(element) => keep(element),
            Node::Text(_) => true,
        });
    }

    /// Sets an attribute and passes the element on.
    pub fn with_attr(
        mut self,
        name: impl Into<Cow<'static, str>>,
        value: impl Into<String>,
    ) -> Element {
        self.set_attr(name, value);
        self
    }

    /// Sets an attribute if there is a value, and passes the element on.
    pub fn with_attr_opt(
        mut self,
        name: impl Into<Cow<'static, str>>,
        value: Option<impl Into<String>>,
    ) -> Element {
        if let Some(value) = value {
            self.set_attr(name, value);
        }
        self
    }

    /// Appends a child and passes the element on.
    pub fn with_child(mut self, child: Element) -> Element {
        self.push(child);
        self
    }

    /// Appends children (an `Option` too) and passes the element on.
    pub fn with_children(mut self, children: impl IntoIterator<Item = Element>) -> Element {
        self.nodes.extend(children.into_iter().map(Node::Element));
        self
    }

    /// Appends character data and passes the element on.
    pub fn with_text(mut self, text: impl AsRef<str>) -> Element {
        self.push_text(text.as_ref());
        self
    }

    /// Appends the element as XML where `parent_ns` is the default namespace in force.
    pub fn write(&self, out: &mut String, parent_ns: &str) {
        // The one namespace that cannot be a default one has its prefix everywhere.
        let (prefix, inner_ns) = match &*self.ns {
            ns::XML => ("xml:", parent_ns),
            ns => ("", ns),
        };
        out.push('<');
        out.push_str(prefix);
        out.push_str(&self.name);
        if *inner_ns != *parent_ns {
            write_attr(out, "xmlns", inner_ns);
        }
        for (at, attr) in self.attrs.iter().enumerate() {
            match &attr.ns {
                None => write_attr(out, &attr.name, &attr.value),
                Some(ns) => {
                    let prefix = format!("a{at}");
                    write_attr(out, &format!("xmlns:{prefix}"), ns);
                    write_attr(out, &format!("{prefix}:{}", attr.name), &attr.value);
                }
            }
        }
        if self.nodes.is_empty() {
            out.push_str("/>");
            return;
        }
        out.push('>');
        for node in &self.nodes {
            match node {
                Node::Element(child) => child.write(out, inner_ns),
                Node::Text(text) => escape_text(out, text),
            }
        }
        out.push_str("</");
        out.push_str(prefix);
        out.push_str(&self.name);
        out.push('>');
    }

    /// At least as many bytes as the element is as XML, escapes aside: what shares a prefix in
    /// what was read is written with a declaration each.
    pub(crate) fn written_bytes(&self, parent_ns: &str) -> usize {
        let declaration = if *self.ns == *parent_ns {
            0
        } else {
            self.ns.len() + 9
        };
        let attrs = self.attrs.iter().map(|attr| {
            let declaration = attr.ns.as_ref().map_or(0, |ns| ns.len() + 2 * 9 + 9);
            attr.name.len() + attr.value.len() + 4 + declaration
        });
        let nodes = self.nodes.iter().map(|node| match node {
            Node::Element(child) => child.written_bytes(&self.ns),
            Node::Text(text) => text.len(),
        });
        2 * self.name.len() + 5 + declaration + attrs.sum::<usize>() + nodes.sum::<usize>()
    }

    /// The element as XML where `jabber:client` is the default namespace in force.
    pub fn to_xml(&self) -> String {
        let mut out = String::new();
        self.write(&mut out, ns::CLIENT);
        out
    }
}

/// Appends one attribute with the space before it.
pub(crate) fn write_attr(out: &mut String, name: &str, value: &str) {
    out.push(' ');
    out.push_str(name);
    out.push_str("='");
    escape_attribute(out, value);
    out.push('\'');
}

/// The namespaces met while reading, by where their declarations are.
#[derive(Default)]
struct Met {
    /// The last one: mostly the only one.
    last: Option<(u32, Namespace)>,
    others: BTreeMap<u32, Namespace>,
}

impl Met {
    fn get(&mut self, scanner: &Scanner<'_>, ns: NsRef) -> Namespace {
        let key = match ns {
            NsRef::None => return "".into(),
            NsRef::Content => return ns::CLIENT.into(),
            NsRef::Xml => return ns::XML.into(),
            NsRef::Span(span) | NsRef::Escaped(span) => span.start,
            // Positions end far below.
            NsRef::Header(at) => u32::MAX - u32::from(at),
        };
        if let Some((at, name)) = &self.last
            && *at == key
        {
            return name.clone();
        }
        let name = match self.others.get(&key) {
            Some(name) => name.clone(),
            None => Namespace(Shared::Counted(scanner.ns(ns).as_ref().into())),
        };
        if let Some((at, other)) = self.last.replace((key, name.clone())) {
            self.others.insert(at, other);
        }
        name
    }
}

fn read_start(scanner: &Scanner<'_>, met: &mut Met, input: &[u8], start: &Start) -> Element {
    let name = start.name.str(input).to_owned();
    let mut element = Element::new(name, met.get(scanner, start.ns));
    element.attrs.reserve_exact(scanner.attrs.len());
    for attr in &scanner.attrs {
        let (name, ns) = match attr.ns {
            NsRef::None => (attr.name, None),
            NsRef::Xml => (attr.name, None),
            other => (attr.local(), Some(met.get(scanner, other))),
        };
        let value = normalise_attribute(attr.value.str(input)).into_owned();
        element.attrs.push(Attribute {
            name: name.str(input).to_owned().into(),
            ns,
            value,
        });
    }
    element
}

fn push_text(open: &mut [Element], text: &str) {
    open.last_mut()
        .expect("the scanner gives text only within the element")
        .push_text(text);
}

#[cfg(test)]
mod tests;
