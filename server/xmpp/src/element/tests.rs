//! Trees read and written

use super::*;
use crate::testing::{Random, mutate, random_element, second_opinion};

fn context() -> StreamContext {
    StreamContext {
        prefixes: vec![
            ("stream".into(), ns::STREAM.into()),
            ("h".into(), "urn:h".into()),
        ],
        ..StreamContext::default()
    }
}

const PREFIXES: &[(&str, &str)] = &[("stream", ns::STREAM), ("h", "urn:h")];

fn parse(input: &[u8]) -> Result<Element, ParseError> {
    Element::parse_in(input, &context(), &Limits::AFTER_LOGIN)
}

#[test]
fn builds_and_writes() {
    let element = Element::new("query", ns::ROSTER)
        .with_attr("ver", "a'b<&>\"\n")
        .with_attr_opt("none", None::<&str>)
        .with_child(Element::new("item", ns::ROSTER).with_text("x < y & ]]> z\r"))
        .with_children([Element::new("body", ns::CLIENT)]);
    let xml = element.to_xml();
    assert_eq!(
        xml,
        "<query xmlns='jabber:iq:roster' ver='a&apos;b&lt;&amp;&gt;&quot;&#10;'>\
         <item>x &lt; y &amp; ]]&gt; z&#13;</item><body xmlns='jabber:client'/></query>"
    );
    assert_eq!(Element::parse(&xml).unwrap(), element);
    assert_eq!(element.attr("ver"), Some("a'b<&>\"\n"));
    assert!(element.has("body", ns::CLIENT));
    assert_eq!(
        element.child_text("item", ns::ROSTER).unwrap(),
        "x < y & ]]> z\r"
    );
}

#[test]
fn characters_that_xml_cannot_say() {
    let element = Element::new("a", "urn:x")
        .with_attr("b", "\u{1}")
        .with_text("\u{0}x\u{ffff}");
    let xml = element.to_xml();
    assert_eq!(xml, "<a xmlns='urn:x' b='\u{fffd}'>\u{fffd}x\u{fffd}</a>");
    assert!(Element::parse(&xml).is_ok());
}

#[test]
fn namespaced_attributes() {
    let input = "<a xmlns:p='urn:p' p:b='1' b='2' xml:lang='de'/>";
    let element = Element::parse(input).unwrap();
    assert_eq!(element.attr("b"), Some("2"));
    assert_eq!(element.attr("xml:lang"), Some("de"));
    assert_eq!(element.attrs()[0].ns.as_deref(), Some("urn:p"));
    assert_eq!(Element::parse(element.to_xml()).unwrap(), element);
}

const FAULTS: &[&str] = &[
    "",
    " ",
    "x",
    "<",
    "<>",
    "< a/>",
    "<a",
    "<a>",
    "<a/",
    "<a/><b/>",
    "<a/> ",
    " <a/>",
    "<a></b>",
    "<a></a",
    "<a></a b=''>",
    "<a></ a>",
    "<a b/>",
    "<a b=/>",
    "<a b=c/>",
    "<a b='/>",
    "<a b='<'/>",
    "<a b=''c=''/>",
    "<a b='' b=''/>",
    "<a b='' b = \"\"/>",
    "<a b=''/ >",
    "<a =''/>",
    "<a 'b'/>",
    "<a \"b='c'\"/>",
    "<a <b=''/>",
    "<a/b>",
    "</a>",
    "<a></>",
    "<a></a/>",
    "\u{feff}<a/>",
    "<a/ >",
    "<1/>",
    "<-a/>",
    "<a:/>",
    "<:a/>",
    "<a:b:c/>",
    "<stream:1/>",
    "<u:a/>",
    "<a u:b=''/>",
    "<a xmlns:p=''/>",
    "<a xmlns:xmlns='urn:x'/>",
    "<a xmlns:xml='urn:x'/>",
    "<a xmlns:p='http://www.w3.org/XML/1998/namespace'/>",
    "<a xmlns='http://www.w3.org/2000/xmlns/'/>",
    "<a xmlns='a' xmlns='b'/>",
    "<a xmlns:p='u' xmlns:q='u' p:b='' q:b=''/>",
    "<a xmlns:p='u&amp;' xmlns:q='u&#38;' p:b='' q:b=''/>",
    "<a>]]></a>",
    "<a>&</a>",
    "<a>& amp;</a>",
    "<a>&amp</a>",
    "<a>&#;</a>",
    "<a>&#x;</a>",
    "<a>&#0;</a>",
    "<a>&#8;</a>",
    "<a b='&#x1f;'/>",
    "<a>&#xFFFE;</a>",
    "<a>&#xD800;</a>",
    "<a>&#x110000;</a>",
    "<a>&#99999999999999999999;</a>",
    "<a>&#+1;</a>",
    "<a b='&'/>",
    "<a>\u{1}</a>",
    "<a>\u{fffe}</a>",
    "<a\u{2003}b=''/>",
    "<a\u{d7}/>",
    "<a><![CDATA[</a>",
    "<![CDATA[x]]>",
];

#[test]
fn faults() {
    use ParseError as E;
    let refused = |input: &[u8]| parse(input).map(|element| element.to_xml());
    for input in FAULTS {
        assert!(
            matches!(refused(input.as_bytes()), Err(E::NotWellFormed(_))),
            "{input}: {:?}",
            refused(input.as_bytes())
        );
    }
    for input in [
        "<a><!-- --></a>",
        "<!DOCTYPE a><a/>",
        "<a><?x?></a>",
        "<?xml version='1.0'?><a/>",
        "<a>&nbsp;</a>",
        "<a b='&x;'/>",
        "<a b='&nbsp;'/>",
        "<!--",
        "<a><!x></a>",
        "<a><?x</a>",
    ] {
        assert!(
            matches!(refused(input.as_bytes()), Err(E::Restricted(_))),
            "{input}"
        );
    }
    for input in [
        &b"<a>\xff</a>"[..],
        b"<a>\xc0\x80</a>",
        b"<a>\xed\xa0\x80</a>",
        b"<a>\xf0\x9f</a>",
        b"<\xe9/>",
    ] {
        assert_eq!(refused(input), Err(E::Encoding));
    }
}

#[test]
fn oddities_that_are_correct() {
    for (input, expected) in [
        ("<a\n\tb = '1'\r\n/>", "<a b='1'/>"),
        ("<a></a \n>", "<a/>"),
        ("<a>&#x0041;&#0000000065;&quot;&apos;</a>", "<a>AA\"'</a>"),
        ("<a>]]&gt; ]] ></a>", "<a>]]&gt; ]] &gt;</a>"),
        ("<a><![CDATA[]]]]><![CDATA[>]]></a>", "<a>]]&gt;</a>"),
        ("<a xmlns=''/>", "<a xmlns=''/>"),
        ("<h:a/>", "<a xmlns='urn:h'/>"),
        (
            "<a xmlns:h='urn:other'><h:b/></a>",
            "<a><b xmlns='urn:other'/></a>",
        ),
        ("<xml:a/>", "<xml:a/>"),
        (
            "<a xmlns:xml='http://www.w3.org/XML/1998/namespace'/>",
            "<a/>",
        ),
        ("<\u{e9}.\u{b7}-1/>", "<\u{e9}.\u{b7}-1/>"),
        ("<a b='\r\n\t'/>", "<a b='  '/>"),
        ("<a>\r\n\r</a>", "<a>\n\n</a>"),
        ("<p:a xmlns:p='jabber:client'><b/></p:a>", "<a><b/></a>"),
    ] {
        assert_eq!(
            parse(input.as_bytes()).map(|element| element.to_xml()),
            Ok(expected.to_owned()),
            "{input}"
        );
    }
}

#[test]
fn limits() {
    let limits = Limits {
        depth: 3,
        elements_per_stanza: 4,
        attributes_per_element: 2,
        namespaces_in_scope: 2,
        ..Limits::AFTER_LOGIN
    };
    let read =
        |input: &str| Element::parse_in(input.as_bytes(), &StreamContext::default(), &limits);
    assert!(read("<a><b><c/></b></a>").is_ok());
    assert!(matches!(
        read("<a><b><c><d/></c></b></a>"),
        Err(ParseError::Limit(_))
    ));
    assert!(read("<a><b/><b/><b/></a>").is_ok());
    assert!(matches!(
        read("<a><b/><b/><b/><b/></a>"),
        Err(ParseError::Limit(_))
    ));
    assert!(read("<a b='' c=''/>").is_ok());
    assert!(matches!(
        read("<a b='' c='' d=''/>"),
        Err(ParseError::Limit(_))
    ));
    assert!(matches!(
        read("<a b='' xmlns='u' d=''/>"),
        Err(ParseError::Limit(_))
    ));
    assert!(read("<a xmlns='u'><b xmlns='u'/><b xmlns='u'/></a>").is_ok());
    assert!(matches!(
        read("<a xmlns='u'><b xmlns='u' xmlns:c='v'/></a>"),
        Err(ParseError::Limit(_))
    ));
}

/// An independent parser reads the same.
fn confirm(element: &Element, input: &[u8]) {
    let shown = String::from_utf8_lossy(input);
    // That parser knows `xml` as the prefix of attributes alone.
    if !shown.contains("<xml:") {
        let expected = second_opinion(input, PREFIXES);
        assert_eq!(Some(element), expected.as_ref(), "{shown}");
    }
}

#[test]
fn reads_like_an_independent_parser_and_writes_what_it_reads() {
    let mut random = Random::new(4);
    for _ in 0..5000 {
        let input = random_element(&mut random, "message", 4);
        let element = parse(input.as_bytes());
        let Ok(element) = element else {
            panic!("{input} {element:?}");
        };
        confirm(&element, input.as_bytes());
        let written = element.to_xml();
        let again = Element::parse_in(
            written.as_bytes(),
            &StreamContext::default(),
            &Limits::TRUSTED,
        )
        .unwrap();
        assert_eq!(again, element, "{written}");
        assert_eq!(again.to_xml(), written);
    }
}

#[test]
fn damaged_input_never_reads_differently() {
    let mut random = Random::new(5);
    let mut accepted = 0;
    for _ in 0..20_000 {
        let input = random_element(&mut random, "message", 3);
        let damaged = mutate(&mut random, input.as_bytes());
        if let Ok(element) = parse(&damaged) {
            accepted += 1;
            confirm(&element, &damaged);
        }
    }
    assert!(
        accepted > 500,
        "{accepted} damaged inputs were still correct"
    );
}

/// What one declaration costs does not multiply with the uses of its prefix.
#[test]
fn long_namespaces_are_shared() {
    let uris: Vec<String> = (0..20)
        .map(|at| format!("urn:{at}{}", "x".repeat(9000)))
        .collect();
    let declarations: String = uris
        .iter()
        .enumerate()
        .map(|(at, uri)| format!("<a xmlns:p{at}='{uri}'>"))
        .collect();
    let uses: String = (0..2000)
        .map(|at| format!("<p{0}:b p{0}:c=''/>", at % 20))
        .collect();
    let input = format!("{declarations}{uses}{}", "</a>".repeat(20));
    let tree = parse(input.as_bytes()).unwrap();
    let mut inner = &tree;
    while inner.first_child().is_some_and(|child| child.name() == "a") {
        inner = inner.first_child().unwrap();
    }
    let names: std::collections::BTreeSet<_> =
        inner.children().map(|child| child.ns().as_ptr()).collect();
    assert_eq!(inner.children().count(), 2000);
    assert_eq!(names.len(), 20);
}
