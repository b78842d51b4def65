//! XML 1.0 §2 and §3, Namespaces in XML 1.0: the walk over one element

use std::borrow::Cow;

use memchr::{memchr, memchr2};
use smallvec::SmallVec;

use super::text::{self, Holds, check_text, normalise_attribute};
use super::{Attr, NsRef, ParseError, Span, Start, Token};
use crate::limits::Limits;
use crate::ns;
use crate::stream::StreamContext;

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
    at: usize,
    elements: usize,
    open: SmallVec<[Span; 8]>,
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
            return Err(ParseError::Limit("bytes of a stanza"));
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
            at: 0,
            elements: 0,
            open: SmallVec::new(),
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
        self.open.len()
    }

    /// The next token; `None` behind the end of the first element, where the input must end.
    pub fn next(&mut self) -> Result<Option<Token>, ParseError> {
        if self.pending_end {
            self.pending_end = false;
            self.close();
            return Ok(Some(Token::End(self.at)));
        }
        let rest = &self.input[self.at..];
        if self.open.is_empty() {
            return match rest {
                [] if self.elements > 0 => Ok(None),
                [b'<', ..] if self.elements == 0 => self.markup().map(Some),
                _ if self.elements == 0 => Err(ParseError::NotWellFormed("no element")),
                _ => Err(ParseError::NotWellFormed("more than one element")),
            };
        }
        if rest.first() == Some(&b'<') {
            return self.markup().map(Some);
        }
        match memchr(b'<', rest) {
            Some(length) => {
                let span = Span::new(self.at, self.at + length);
                check_text(span.of(self.input), self.holds)?;
                self.at += length;
                Ok(Some(Token::Text(span)))
            }
            None => Err(ParseError::NotWellFormed("unclosed element")),
        }
    }

    fn markup(&mut self) -> Result<Token, ParseError> {
        match self.input.get(self.at + 1) {
            Some(b'/') => self.end_tag(),
            Some(b'!') => self.cdata(),
            Some(b'?') => Err(ParseError::Restricted("processing instruction")),
            Some(_) => self.start_tag(),
            None => Err(ParseError::NotWellFormed("unclosed tag")),
        }
    }

    fn cdata(&mut self) -> Result<Token, ParseError> {
        const OPEN: &[u8] = b"<![CDATA[";
        let rest = &self.input[self.at..];
        if !rest.starts_with(OPEN) {
            return Err(ParseError::Restricted("comment or document type"));
        }
        if self.open.is_empty() {
            return Err(ParseError::NotWellFormed("no element"));
        }
        let start = self.at + OPEN.len();
        let length = memchr::memmem::find(&self.input[start..], b"]]>")
            .ok_or(ParseError::NotWellFormed("unclosed CDATA section"))?;
        self.at = start + length + 3;
        Ok(Token::CData(Span::new(start, start + length)))
    }

    fn end_tag(&mut self) -> Result<Token, ParseError> {
        let open = self
            .open
            .last()
            .ok_or(ParseError::NotWellFormed("end tag without start"))?;
        let rest = &self.input[self.at + 2..];
        let name = open.of(self.input);
        if !rest.starts_with(name) {
            return Err(ParseError::NotWellFormed("mismatched end tag"));
        }
        let mut behind = name.len();
        while rest.get(behind).is_some_and(|byte| text::is_space(*byte)) {
            behind += 1;
        }
        if rest.get(behind) != Some(&b'>') {
            return Err(ParseError::NotWellFormed("mismatched end tag"));
        }
        self.at += 2 + behind + 1;
        self.close();
        Ok(Token::End(self.at))
    }

    fn close(&mut self) {
        let depth = self.open.len() as u32;
        while self
            .bindings
            .last()
            .is_some_and(|binding| binding.depth == depth)
        {
            self.bindings.pop();
        }
        self.open.pop();
    }

    fn start_tag(&mut self) -> Result<Token, ParseError> {
        let start = self.at;
        self.elements += 1;
        if self.elements > self.limits.elements_per_stanza {
            return Err(ParseError::Limit("elements of a stanza"));
        }
        if self.open.len() >= self.limits.depth.min(Limits::TRUSTED.depth) {
            return Err(ParseError::Limit("depth"));
        }
        let (qname, prefix) = self.name(start + 1)?;
        self.at = qname.end as usize;
        self.open.push(qname);
        self.attrs.clear();
        self.declared.clear();
        let mut default_ns = None;
        let empty = loop {
            let before = self.at;
            self.skip_space();
            match self.input.get(self.at) {
                Some(b'>') => break false,
                Some(b'/') if self.input.get(self.at + 1) == Some(&b'>') => {
                    self.at += 1;
                    break true;
                }
                Some(_) if self.at > before => self.attribute(before, &mut default_ns)?,
                _ => return Err(ParseError::NotWellFormed("malformed start tag")),
            }
        };
        self.at += 1;
        if self.at - start > self.limits.open_tag_bytes {
            return Err(ParseError::Limit("bytes of a start tag"));
        }
        self.pending_end = empty;
        let ns = self.element_ns(qname, prefix)?;
        self.attribute_namespaces()?;
        let skip = if prefix == 0 {
            0
        } else {
            u32::from(prefix) + 1
        };
        let name = Span {
            start: qname.start + skip,
            end: qname.end,
        };
        Ok(Token::Start(Start {
            start,
            end: self.at,
            name,
            qname,
            ns,
            default_ns,
            empty,
        }))
    }

    fn skip_space(&mut self) {
        while self
            .input
            .get(self.at)
            .is_some_and(|byte| text::is_space(*byte))
        {
            self.at += 1;
        }
    }

    /// A name at `start`, and the bytes of its prefix.
    fn name(&self, start: usize) -> Result<(Span, u16), ParseError> {
        let (length, prefix) = text::name_length(&self.input[start..])?;
        Ok((Span::new(start, start + length), prefix))
    }

    fn attribute(&mut self, before: usize, default: &mut Option<Span>) -> Result<(), ParseError> {
        if self.attrs.len() + self.declared.len() >= self.limits.attributes_per_element {
            return Err(ParseError::Limit("attributes of an element"));
        }
        let (name, prefix) = self.name(self.at)?;
        self.at = name.end as usize;
        self.skip_space();
        if self.input.get(self.at) != Some(&b'=') {
            return Err(ParseError::NotWellFormed("attribute without value"));
        }
        self.at += 1;
        self.skip_space();
        let quote = match self.input.get(self.at) {
            Some(&quote @ (b'"' | b'\'')) => quote,
            _ => return Err(ParseError::NotWellFormed("attribute without quotes")),
        };
        let start = self.at + 1;
        let length = memchr2(quote, b'<', &self.input[start..])
            .ok_or(ParseError::NotWellFormed("unclosed attribute"))?;
        if self.input[start + length] == b'<' {
            return Err(ParseError::NotWellFormed("'<' in an attribute"));
        }
        let value = Span::new(start, start + length);
        self.at = start + length + 1;
        let mut references = false;
        if self.holds.references {
            references = memchr(b'&', value.of(self.input)).is_some();
            text::check_references(value.of(self.input))?;
        }
        let written = name.of(self.input);
        if written == b"xmlns" {
            *default = Some(Span::new(before, self.at));
            return self.declare(Span::default(), value, references);
        }
        if prefix == 5 && written.starts_with(b"xmlns:") {
            let prefix = Span {
                start: name.start + 6,
                end: name.end,
            };
            return self.declare(prefix, value, references);
        }
        self.attrs.push(Attr {
            name,
            prefix,
            value,
            ns: NsRef::None,
        });
        Ok(())
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
            return Err(ParseError::Limit("namespaces in scope"));
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
        let depth = self.open.len() as u32;
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
        let depth = self.open.len();
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
                self.root_prefix_used |= binding.depth == 1 && self.open.len() > 1;
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
