//! Seeded randomness, random XML and a second opinion on it, for tests

use crate::element::Element;
use crate::ns;

/// xorshift64*: the same numbers on every machine.
pub(crate) struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn number(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        ((self.number() >> 16) % bound as u64) as usize
    }

    pub fn one_in(&mut self, bound: usize) -> bool {
        self.below(bound) == 0
    }

    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }
}

const NAMES: &[&str] = &[
    "body", "x", "query", "item", "message", "a-b", "\u{e9}l", "_1",
];
const NAMESPACES: &[&str] = &[
    "jabber:client",
    "urn:xmpp:delay",
    "http://example.com/?a&amp;b",
    "urn:x",
    "",
];
const TEXTS: &[&str] = &[
    "hello",
    "&lt;&amp;&gt;",
    "&#x41;&#66;",
    " \n\t ",
    "a\r\nb",
    "<![CDATA[<&>]]>",
    "<![CDATA[]]>",
    "\u{20ac}\u{1f600}",
    "]]&gt;",
    "'\"",
];
const VALUES: &[&str] = &[
    "1",
    "",
    "a b",
    "&quot;&apos;",
    "&#10;",
    "x\ny",
    "\u{df}",
    "a&amp;b",
];

/// A random, correct element in the middle of a stream of `jabber:client`, where the header
/// declares `stream` and `h`.
pub(crate) fn random_element(random: &mut Random, name: &str, depth: usize) -> String {
    let mut out = String::new();
    write_element(
        random,
        &mut out,
        name,
        depth,
        &mut vec!["stream".into(), "h".into()],
    );
    out
}

fn write_element(
    random: &mut Random,
    out: &mut String,
    name: &str,
    depth: usize,
    prefixes: &mut Vec<String>,
) {
    let declared = prefixes.len();
    let mut tag = String::new();
    if name.is_empty() && random.one_in(2) {
        let quote = *random.pick(&["'", "\""]);
        tag.push_str(&format!(" xmlns={quote}{}{quote}", random.pick(NAMESPACES)));
    }
    if random.one_in(6) {
        let prefix = *random.pick(&["p", "q", "h"]);
        let uri = *random.pick(&NAMESPACES[..4]);
        tag.push_str(&format!(" xmlns:{prefix}='{uri}'"));
        prefixes.push(prefix.into());
    }
    for attribute in ["id", "type", "to", "v"] {
        if random.one_in(4) {
            tag.push_str(&format!(
                " {attribute} = \"{}\"",
                random.pick(VALUES).replace('"', "'")
            ));
        }
    }
    if random.one_in(5) {
        tag.push_str("\n xml:lang='de'");
    }
    if random.one_in(8) {
        let prefix = random.pick(prefixes);
        tag.push_str(&format!(" {prefix}:v='{}'", random.pick(&["1", "2"])));
    }
    let name = match name {
        "" if random.one_in(4) => {
            let prefix = if random.one_in(8) {
                "xml"
            } else {
                random.pick(prefixes)
            };
            format!("{prefix}:{}", random.pick(NAMES))
        }
        "" => (*random.pick(NAMES)).to_owned(),
        name => name.to_owned(),
    };
    out.push_str(&format!("<{name}{tag}"));
    if random.one_in(5) {
        out.push_str(" />");
    } else {
        out.push('>');
        for _ in 0..random.below(5) {
            if depth > 0 && random.one_in(2) {
                write_element(random, out, "", depth - 1, prefixes);
            } else {
                let text = *random.pick(TEXTS);
                out.push_str(text);
            }
        }
        out.push_str(&format!("</{name}>"));
    }
    prefixes.truncate(declared);
}

/// Damages a byte string a little.
pub(crate) fn mutate(random: &mut Random, input: &[u8]) -> Vec<u8> {
    let mut out = input.to_vec();
    for _ in 0..1 + random.below(3) {
        let at = random.below(out.len().max(1)).min(out.len());
        let to = (at + random.below(8)).min(out.len());
        match random.below(5) {
            0 => drop(out.drain(at..to)),
            1 => out.insert(at, *random.pick(b"<>/='\"&;: x!?[]-\0\x80\xff\n")),
            2 if at < out.len() => out[at] ^= 1 << random.below(8),
            3 => {
                let piece = out[at..to].to_vec();
                let target = random.below(out.len() + 1);
                out.splice(target..target, piece);
            }
            _ => {
                let piece = *random.pick(&[
                    "<!--",
                    "-->",
                    "]]>",
                    "<![CDATA[",
                    "<?x?>",
                    "&e;",
                    "&#0;",
                    "xmlns:p=''",
                    "/>",
                    "</a>",
                ]);
                out.splice(at..at, piece.bytes());
            }
        }
    }
    out
}

/// The tree that an independent parser makes of an element, where `jabber:client` is the default
/// namespace; `None` where that parser finds a fault.
pub(crate) fn second_opinion(input: &[u8], prefixes: &[(&str, &str)]) -> Option<Element> {
    let mut text = String::from("<root xmlns='jabber:client'");
    for (prefix, uri) in prefixes {
        text.push_str(&format!(" xmlns:{prefix}='{uri}'"));
    }
    text.push('>');
    text.push_str(std::str::from_utf8(input).ok()?);
    text.push_str("</root>");
    let document = roxmltree::Document::parse(&text).ok()?;
    document.root_element().first_element_child().map(tree)
}

fn tree(node: roxmltree::Node<'_, '_>) -> Element {
    let tag = node.tag_name();
    let uri = tag.namespace().unwrap_or_default().to_owned();
    let mut element = Element::new(tag.name().to_owned(), uri);
    for attr in node.attributes() {
        let (name, value) = (attr.name().to_owned(), attr.value());
        match attr.namespace() {
            None => element.set_attr(name, value),
            Some(ns::XML) => element.set_attr(format!("xml:{name}"), value),
            Some(uri) => element.push_attr_ns(name, uri.to_owned(), value),
        }
    }
    for child in node.children() {
        if child.is_element() {
            element.push(tree(child));
        } else if child.is_text() {
            element.push_text(child.text().unwrap_or_default());
        }
    }
    element
}
