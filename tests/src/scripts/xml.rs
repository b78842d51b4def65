//! XML trees for protocol scripts: a parser of its own, so that what the server writes is checked by code it does not share.

use anyhow::{Context, Result, bail};
use quick_xml::events::{BytesStart, Event};
use quick_xml::reader::Reader;
use std::fmt;

pub const STREAMS: &str = "http://etherx.jabber.org/streams";
pub const CLIENT: &str = "jabber:client";
const XML: &str = "http://www.w3.org/XML/1998/namespace";

/// An element: local name, namespace, attributes (`xml:lang`, `name` or `{ns}name`), content.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub name: String,
    pub ns: String,
    pub attrs: Vec<(String, String)>,
    pub content: Vec<Content>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    Node(Node),
    Text(String),
}

/// What a stream is made of.
#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    /// `<stream:stream …>`, without content.
    Header(Node),
    Node(Node),
    /// `</stream:stream>`.
    End,
}

impl Node {
    pub fn attr(&self, name: &str) -> Option<&str> {
        let found = self.attrs.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }

    pub fn children(&self) -> impl Iterator<Item = &Node> {
        self.content.iter().filter_map(|part| match part {
            Content::Node(node) => Some(node),
            Content::Text(_) => None,
        })
    }

    pub fn child(&self, name: &str, ns: &str) -> Option<&Node> {
        self.children().find(|c| c.name == name && c.ns == ns)
    }

    /// All direct text, joined.
    pub fn text(&self) -> String {
        let mut all = String::new();
        for part in &self.content {
            if let Content::Text(text) = part {
                all.push_str(text);
            }
        }
        all
    }

    pub fn is(&self, name: &str, ns: &str) -> bool {
        self.name == name && self.ns == ns
    }

    /// In short, for tables: a stanza's name and type, the condition of what is an error or a failure.
    pub fn summary(&self) -> String {
        let condition = |of: &Node| of.children().next().map(|child| child.name.clone());
        if self.is("error", STREAMS) {
            return format!("stream error {}", condition(self).unwrap_or_default());
        }
        if self.attr("type") == Some("error")
            && let Some(error) = self.child("error", CLIENT)
        {
            let (kind, condition) = (
                error.attr("type").unwrap_or_default(),
                condition(error).unwrap_or_default(),
            );
            return format!("{} error {kind} {condition}", self.name);
        }
        match (self.name.as_str(), self.attr("type")) {
            ("failure", _) => format!("failure {}", condition(self).unwrap_or_default()),
            (name, Some(kind)) => format!("{name} {kind}"),
            (name, None) => name.to_owned(),
        }
    }

    fn write(&self, out: &mut fmt::Formatter<'_>, parent_ns: &str) -> fmt::Result {
        write!(out, "<{}", self.name)?;
        if self.ns != parent_ns {
            write!(out, " xmlns='{}'", escape(&self.ns))?;
        }
        for (key, value) in &self.attrs {
            write!(out, " {key}='{}'", escape(value))?;
        }
        if self.content.is_empty() {
            return write!(out, "/>");
        }
        write!(out, ">")?;
        for part in &self.content {
            match part {
                Content::Node(node) => node.write(out, &self.ns)?,
                Content::Text(text) => write!(out, "{}", escape(text))?,
            }
        }
        write!(out, "</{}>", self.name)
    }
}

impl fmt::Display for Node {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(out, CLIENT)
    }
}

pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\'' => out.push_str("&apos;"),
            '"' => out.push_str("&quot;"),
            _ => out.push(c),
        }
    }
    out
}

/// Parses the elements of a script's block; `jabber:client` and `stream:` are declared.
pub fn parse_all(text: &str) -> Result<Vec<Node>> {
    let mut rest = text.as_bytes().to_vec();
    let mut nodes = Vec::new();
    loop {
        match take(&mut rest)? {
            Some(Item::Node(node) | Item::Header(node)) => nodes.push(node),
            Some(Item::End) => {}
            None if rest.trim_ascii().is_empty() => return Ok(nodes),
            None => bail!("unfinished XML: {}", String::from_utf8_lossy(&rest)),
        }
    }
}

/// Takes the first complete item off `buffer`; `None` if there is none yet.
pub fn take(buffer: &mut Vec<u8>) -> Result<Option<Item>> {
    let (item, used) = {
        let mut reader = Reader::from_reader(buffer.as_slice());
        let config = reader.config_mut();
        config.allow_unmatched_ends = true;
        config.check_end_names = false;
        let item = Builder::new().run(&mut reader)?;
        (item, reader.buffer_position() as usize)
    };
    if item.is_some() {
        buffer.drain(..used);
    }
    Ok(item)
}

/// Elements that are still open, and the namespaces in scope.
struct Builder {
    open: Vec<Node>,
    scope: Vec<(usize, String, String)>,
}

impl Builder {
    fn new() -> Self {
        let base = |prefix: &str, ns: &str| (0, prefix.to_owned(), ns.to_owned());
        let scope = vec![base("", CLIENT), base("stream", STREAMS), base("xml", XML)];
        let open = Vec::new();
        Self { open, scope }
    }

    fn run(&mut self, reader: &mut Reader<&[u8]>) -> Result<Option<Item>> {
        loop {
            // Input that ends inside a tag is an error to this reader and merely early for us.
            let Ok(event) = reader.read_event() else {
                return Ok(None);
            };
            match event {
                Event::Eof => return Ok(None),
                Event::Start(tag) => {
                    let node = self.start(&tag)?;
                    if node.is("stream", STREAMS) {
                        return Ok(Some(Item::Header(node)));
                    }
                    self.open.push(node);
                }
                Event::Empty(tag) => {
                    let node = self.start(&tag)?;
                    if let Some(node) = self.close(node) {
                        return Ok(Some(Item::Node(node)));
                    }
                }
                Event::End(_) => match self.open.pop() {
                    None => return Ok(Some(Item::End)),
                    Some(node) => {
                        if let Some(node) = self.close(node) {
                            return Ok(Some(Item::Node(node)));
                        }
                    }
                },
                Event::Text(text) => self.text(&text),
                Event::CData(text) => self.text(&text),
                Event::GeneralRef(name) => self.text(&reference(&name)?),
                Event::Decl(_) | Event::Comment(_) => {}
                Event::PI(_) | Event::DocType(_) => bail!("forbidden XML received"),
            }
        }
    }

    fn text(&mut self, text: &str) {
        if let Some(node) = self.open.last_mut() {
            match node.content.last_mut() {
                Some(Content::Text(last)) => last.push_str(text),
                _ => node.content.push(Content::Text(text.to_owned())),
            }
        }
    }

    fn close(&mut self, node: Node) -> Option<Node> {
        let depth = self.open.len();
        self.scope.retain(|(level, ..)| *level <= depth);
        match self.open.last_mut() {
            None => Some(node),
            Some(parent) => {
                parent.content.push(Content::Node(node));
                None
            }
        }
    }

    fn resolve(&self, prefix: &str) -> Result<String> {
        let found = self.scope.iter().rev().find(|(_, p, _)| p == prefix);
        let (_, _, ns) = found.with_context(|| format!("undeclared prefix {prefix}"))?;
        Ok(ns.clone())
    }

    fn start(&mut self, tag: &BytesStart<'_>) -> Result<Node> {
        let depth = self.open.len() + 1;
        let mut plain = Vec::new();
        for attr in tag.attributes() {
            let attr = attr?;
            let key = attr.key.as_ref().to_owned();
            let value = unescape(&attr.value)?;
            if key == "xmlns" {
                self.scope.push((depth, String::new(), value));
            } else if let Some(prefix) = key.strip_prefix("xmlns:") {
                self.scope.push((depth, prefix.to_owned(), value));
            } else {
                plain.push((key, value));
            }
        }
        let mut attrs = Vec::new();
        for (key, value) in plain {
            let key = match key.split_once(':') {
                None | Some(("xml", _)) => key,
                Some((prefix, local)) => format!("{{{}}}{local}", self.resolve(prefix)?),
            };
            attrs.push((key, value));
        }
        let name = tag.name();
        let full: &str = name.as_ref();
        let (prefix, local) = full.split_once(':').unwrap_or(("", full));
        let (ns, name) = (self.resolve(prefix)?, local.to_owned());
        let content = Vec::new();
        Ok(Node {
            name,
            ns,
            attrs,
            content,
        })
    }
}

fn reference(name: &str) -> Result<String> {
    let known = match name {
        "amp" => "&",
        "lt" => "<",
        "gt" => ">",
        "apos" => "'",
        "quot" => "\"",
        _ => "",
    };
    if !known.is_empty() {
        return Ok(known.to_owned());
    }
    let digits = name.strip_prefix('#').context("unknown entity")?;
    let code = match digits.strip_prefix('x') {
        Some(hex) => u32::from_str_radix(hex, 16)?,
        None => digits.parse()?,
    };
    let c = char::from_u32(code).context("character reference out of range")?;
    Ok(c.to_string())
}

fn unescape(text: &str) -> Result<String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        let end = rest[at..].find(';').context("unfinished reference")? + at;
        out.push_str(&reference(&rest[at + 1..end])?);
        rest = &rest[end + 1..];
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_items_as_they_complete() {
        let mut buffer = b"<?xml version='1.0'?><stream:stream xmlns='jabber:client' \
            xmlns:stream='http://etherx.jabber.org/streams' id='1'><message a='&lt;&#x41;'>"
            .to_vec();
        let header = take(&mut buffer).unwrap().unwrap();
        assert!(matches!(header, Item::Header(ref node) if node.attr("id") == Some("1")));
        assert_eq!(take(&mut buffer).unwrap(), None);
        buffer.extend_from_slice(b"x &amp; <b xmlns='urn:b'/></message></stream:stream>");
        let Some(Item::Node(node)) = take(&mut buffer).unwrap() else {
            panic!("no element");
        };
        assert_eq!(node.attr("a"), Some("<A"));
        assert_eq!(node.text(), "x & ");
        assert!(node.child("b", "urn:b").is_some());
        assert_eq!(take(&mut buffer).unwrap(), Some(Item::End));
    }
}
