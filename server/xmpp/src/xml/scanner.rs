//! XML 1.0 §2 and §3, Namespaces in XML 1.0: the walk over one element
//!
//! quick-xml finds the markup, pairs the tags and splits off the attributes. What it lets through
//! and RFC 6120 §11 or XML 1.0 does not is refused here.

use std::borrow::Cow;

use memchr::{memchr, memmem};
use quick_xml::Reader;
use quick_xml::errors::{Error, IllFormedError, SyntaxError};
use quick_xml::events::attributes::Attribute;
use quick_xml::events::{BytesStart, Event};
use quick_xml::name::PrefixDeclaration;
use smallvec::SmallVec;

use super::text::{self, Holds, normalise_attribute};
use super::{Attr, NsRef, ParseError, Span, Start, Token};
use crate::limits::Limits;
use crate::ns;
use crate::stream::StreamContext;

const RESTRICTED: ParseError =
    ParseError::Restricted("comment, processing instruction or document type");

#[derive(Clone, Copy)]
struct Binding {
    /// Empty for the default namespace.
    prefix: Span,
    ns: NsRef,
    depth: u32,
}

/// A depth-first walk over one element.
pub(crate) struct Scanner<'a> {
    input: &'a [u8],
    context: &'a StreamContext,
    limits: &'a Limits,
    reader: Reader<&'a [u8]>,
    elements: usize,
    depth: usize,
    bindings: SmallVec<[Binding; 8]>,
    /// The attributes of the last start tag.
    pub attrs: SmallVec<[Attr; 8]>,
    declared: SmallVec<[(Span, Span); 4]>,
    pending_end: bool,
    holds: Holds,
    /// Whether a prefix of the stream header, a prefixed use or an explicit declaration of the
    /// content namespace makes the bytes depend on the stream they came by.
    pub foreign: bool,
    /// Whether an element below the first uses a prefix that the first declares.
    pub root_prefix_used: bool,
}

impl<'a> Scanner<'a> {
    /// Checks the encoding of the whole input at once.
    pub fn new(
        input: &'a [u8],
        context: &'a StreamContext,
        limits: &'a Limits,
    ) -> Result<Scanner<'a>, ParseError> {
        if input.len() > limits.stanza_bytes.min(Limits::TRUSTED.stanza_bytes) {
            return Err(ParseError::Limit("stanza_bytes"));
        }
        let holds = text::check_characters(input)?;
        let checked = Scanner::checked(input, context, limits);
        Ok(Scanner { holds, ..checked })
    }

    /// For input whose encoding and size have been checked.
    pub fn checked(input: &'a [u8], context: &'a StreamContext, limits: &'a Limits) -> Scanner<'a> {
        Scanner {
            input,
            context,
            limits,
            // Its defaults are strict: tags pair by name, no `&` stands alone.
            reader: Reader::from_reader(input),
            elements: 0,
            depth: 0,
            bindings: SmallVec::new(),
            attrs: SmallVec::new(),
            declared: SmallVec::new(),
            pending_end: false,
            holds: Holds {
                references: true,
                brackets: true,
            },
            foreign: false,
            root_prefix_used: false,
        }
    }

    /// How many elements are open.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// The next token; `None` behind the end of the first element, where the input must end.
    pub fn next(&mut self) -> Result<Option<Token>, ParseError> {
        if self.pending_end {
            self.pending_end = false;
            return Ok(Some(self.close()));
        }
        let start = self.position();
        if self.depth == 0 {
            match (self.input.get(start), self.elements) {
                (None, 1..) => return Ok(None),
                (Some(b'<'), 0) => {}
                (_, 0) => return Err(ParseError::NotWellFormed("no element")),
                _ => return Err(ParseError::NotWellFormed("more than one element")),
            }
        }
        let event = self.reader.read_event().map_err(refused)?;
        let whole = Span::new(start, self.position());
        let token = match event {
            Event::Start(tag) => self.start_tag(whole, &tag, false)?,
            Event::Empty(tag) => self.start_tag(whole, &tag, true)?,
            Event::End(_) => self.close(),
            Event::Text(text) => {
                if self.holds.brackets && memmem::find(text.as_bytes(), b"]]>").is_some() {
                    return Err(ParseError::NotWellFormed("']]>' in text"));
                }
                Token::Text(whole)
            }
            Event::GeneralRef(_) => {
                text::check_references(whole.str(self.input))?;
                Token::Text(whole)
            }
            Event::CData(_) if self.depth == 0 => {
                return Err(ParseError::NotWellFormed("no element"));
            }
            Event::CData(inside) => Token::CData(self.span(&inside)),
            Event::Comment(_) | Event::PI(_) | Event::Decl(_) | Event::DocType(_) => {
                return Err(RESTRICTED);
            }
            Event::Eof => return Err(ParseError::NotWellFormed("unclosed element")),
        };
        Ok(Some(token))
    }

    fn position(&self) -> usize {
        // It reads a slice, so that its 64 bits are one of ours.
        self.reader.buffer_position() as usize
    }

    /// Where a part of an event is: events borrow from the input.
    fn span(&self, part: &str) -> Span {
        let start = part.as_ptr().addr() - self.input.as_ptr().addr();
        Span::new(start, start + part.len())
    }

    fn close(&mut self) -> Token {
        let depth = self.depth as u32;
        while self
            .bindings
            .last()
            .is_some_and(|binding| binding.depth == depth)
        {
            self.bindings.pop();
        }
        self.depth -= 1;
        Token::End(self.position())
    }

    fn start_tag(
        &mut self,
        whole: Span,
        tag: &BytesStart<'a>,
        empty: bool,
    ) -> Result<Token, ParseError> {
        self.elements += 1;
        if self.elements > self.limits.elements_per_stanza {
            return Err(ParseError::Limit("elements_per_stanza"));
        }
        if self.depth >= self.limits.depth.min(Limits::TRUSTED.depth) {
            return Err(ParseError::Limit("element_depth"));
        }
        if whole.len() > self.limits.open_tag_bytes {
            return Err(ParseError::Limit("open_tag_bytes"));
        }
        if memchr(b'<', tag.as_bytes()).is_some() {
            return Err(ParseError::NotWellFormed("'<' in a tag"));
        }
        self.depth += 1;
        self.pending_end = empty;
        self.attrs.clear();
        self.declared.clear();
        let prefix = text::check_name(tag.name().0)?;
        let qname = self.span(tag.name().0);
        let mut default_ns = None;
        let mut before = qname.end;
        // Ours is the check for duplicates: two prefixes may stand for one namespace.
        for attribute in tag.attributes().with_checks(false) {
            let attribute =
                attribute.map_err(|_| ParseError::NotWellFormed("malformed attribute"))?;
            before = self.attribute(&attribute, before, &mut default_ns)?;
        }
        let ns = self.element_ns(qname, prefix)?;
        self.attribute_namespaces()?;
        let name = qname.behind(prefix);
        Ok(Token::Start(Start {
            start: whole.start as usize,
            end: whole.end as usize,
            name,
            qname,
            ns,
            default_ns,
            empty,
        }))
    }

    /// An attribute or a declaration, where `before` is the end of what precedes it; its own end.
    fn attribute(
        &mut self,
        attribute: &Attribute<'_>,
        before: u32,
        default: &mut Option<Span>,
    ) -> Result<u32, ParseError> {
        if self.attrs.len() + self.declared.len() >= self.limits.attributes_per_element {
            return Err(ParseError::Limit("attributes_per_element"));
        }
        let written = attribute.key.0;
        let prefix = text::check_name(written)?;
        let (name, value) = (self.span(written), self.span(&attribute.value));
        if name.start == before {
            return Err(ParseError::NotWellFormed("no space before an attribute"));
        }
        let references = self.holds.references && attribute.value.contains('&');
        if references {
            text::check_references(&attribute.value)?;
        }
        let end = value.end + 1;
        match attribute.key.as_namespace_binding() {
            Some(PrefixDeclaration::Default) => {
                *default = Some(Span { start: before, end });
                self.declare(Span::default(), value, references)?;
            }
            Some(PrefixDeclaration::Named(prefix)) => {
                self.declare(self.span(prefix), value, references)?;
            }
            None => self.attrs.push(Attr {
                name,
                prefix,
                value,
                ns: NsRef::None,
            }),
        }
        Ok(end)
    }

    fn declare(&mut self, prefix: Span, value: Span, references: bool) -> Result<(), ParseError> {
        let name = prefix.of(self.input);
        if self
            .declared
            .iter()
            .any(|(other, _)| other.of(self.input) == name)
        {
            return Err(ParseError::NotWellFormed("duplicate attribute"));
        }
        if self.bindings.len() >= self.limits.namespaces_in_scope {
            return Err(ParseError::Limit("namespaces_in_scope"));
        }
        self.declared.push((prefix, value));
        let raw = value.of(self.input);
        let plain = !references && raw.iter().all(|byte| *byte >= 0x20);
        let meant = (!plain).then(|| normalise_attribute(value.str(self.input)));
        let uri = meant.as_ref().map_or(raw, |meant| meant.as_bytes());
        let reserved = uri == ns::XMLNS.as_bytes()
            || (uri == ns::XML.as_bytes()) != (name == b"xml")
            || name == b"xmlns";
        if reserved || (uri.is_empty() && !prefix.is_empty()) {
            return Err(ParseError::NotWellFormed("reserved namespace declaration"));
        }
        let depth = self.depth as u32;
        let namespace = if uri.is_empty() {
            NsRef::None
        } else if uri == self.context.content_ns.as_bytes() {
            self.declares_content(prefix);
            NsRef::Content
        } else if plain {
            NsRef::Span(value)
        } else {
            NsRef::Escaped(value)
        };
        self.bindings.push(Binding {
            prefix,
            ns: namespace,
            depth,
        });
        Ok(())
    }

    /// An explicit content namespace below the root: redundant where it is in force anyway, so
    /// that it would change its meaning in a stream of another content namespace.
    fn declares_content(&mut self, prefix: Span) {
        let depth = self.depth;
        if !prefix.is_empty() || depth == 1 {
            return;
        }
        let outer = self
            .bindings
            .iter()
            .rev()
            .find(|binding| binding.prefix.is_empty());
        let implied = outer.is_none_or(|binding| binding.ns == NsRef::Content);
        if implied || *self.context.content_ns != *ns::CLIENT {
            self.foreign = true;
        }
    }

    fn element_ns(&mut self, qname: Span, prefix: u16) -> Result<NsRef, ParseError> {
        if prefix == 0 {
            let bound = self
                .bindings
                .iter()
                .rev()
                .find(|binding| binding.prefix.is_empty());
            return Ok(bound.map_or(NsRef::Content, |binding| binding.ns));
        }
        let ns = self.resolve(qname, prefix)?;
        if ns == NsRef::Content {
            self.foreign = true;
        }
        Ok(ns)
    }

    fn resolve(&mut self, qname: Span, prefix: u16) -> Result<NsRef, ParseError> {
        let prefix = &qname.of(self.input)[..usize::from(prefix)];
        if prefix == b"xml" {
            return Ok(NsRef::Xml);
        }
        let bound = self.bindings.iter().rev();
        for binding in bound {
            if binding.prefix.of(self.input) == prefix {
                self.root_prefix_used |= binding.depth == 1 && self.depth > 1;
                return Ok(binding.ns);
            }
        }
        for (at, (declared, uri)) in self.context.prefixes.iter().enumerate() {
            if declared.as_bytes() == prefix {
                self.foreign = true;
                if **uri == *self.context.content_ns {
                    return Ok(NsRef::Content);
                }
                return Ok(NsRef::Header(at as u16));
            }
        }
        Err(ParseError::NotWellFormed("undeclared prefix"))
    }

    /// Namespaces of prefixed attributes, then uniqueness by expanded name.
    fn attribute_namespaces(&mut self) -> Result<(), ParseError> {
        let mut prefixed = false;
        for at in 0..self.attrs.len() {
            let attr = self.attrs[at];
            if attr.prefix > 0 {
                prefixed = true;
                self.attrs[at].ns = self.resolve(attr.name, attr.prefix)?;
            }
        }
        for (at, attr) in self.attrs.iter().enumerate() {
            for other in &self.attrs[..at] {
                let same = attr.name.len() == other.name.len()
                    && attr.name.of(self.input) == other.name.of(self.input);
                if same || (prefixed && self.same_expanded(attr, other)) {
                    return Err(ParseError::NotWellFormed("duplicate attribute"));
                }
            }
        }
        Ok(())
    }

    fn same_expanded(&self, one: &Attr, other: &Attr) -> bool {
        one.prefix > 0
            && other.prefix > 0
            && one.local().of(self.input) == other.local().of(self.input)
            && self.ns(one.ns) == self.ns(other.ns)
    }

    /// The namespaces that the last start tag declares, by prefix; empty for the default one.
    pub fn declarations(&self) -> impl Iterator<Item = (&'a str, Cow<'a, str>)> {
        let input = self.input;
        let declared = self.declared.iter();
        declared.map(move |(prefix, uri)| (prefix.str(input), normalise_attribute(uri.str(input))))
    }

    /// The namespace's name.
    pub fn ns(&self, ns: NsRef) -> Cow<'a, str> {
        match ns {
            NsRef::None => Cow::Borrowed(""),
            NsRef::Content => Cow::Borrowed(ns::CLIENT),
            NsRef::Xml => Cow::Borrowed(ns::XML),
            NsRef::Span(span) => Cow::Borrowed(span.str(self.input)),
            NsRef::Escaped(span) => normalise_attribute(span.str(self.input)),
            NsRef::Header(at) => Cow::Owned(self.context.prefixes[usize::from(at)].1.to_string()),
        }
    }
}

/// What quick-xml found wrong.
fn refused(error: Error) -> ParseError {
    match error {
        Error::Syntax(
            SyntaxError::InvalidBangMarkup
            | SyntaxError::UnclosedComment
            | SyntaxError::UnclosedDoctype
            | SyntaxError::UnclosedPI
            | SyntaxError::UnclosedXmlDecl,
        )
        | Error::IllFormed(IllFormedError::MissingDoctypeName) => RESTRICTED,
        Error::Syntax(SyntaxError::UnclosedCData) => {
            ParseError::NotWellFormed("unclosed CDATA section")
        }
        Error::Syntax(_) => ParseError::NotWellFormed("unclosed tag"),
        Error::IllFormed(IllFormedError::UnclosedReference) => text::MALFORMED_REFERENCE,
        Error::Encoding(_) => ParseError::Encoding,
        _ => ParseError::NotWellFormed("mismatched end tag"),
    }
}
