//! Headers and errors on the wire

use super::*;

fn header(tag: &str) -> Result<StreamHeader, StreamCondition> {
    StreamHeader::parse(tag.as_bytes(), &Limits::BEFORE_LOGIN).map_err(|error| error.condition)
}

#[test]
fn reads_what_it_writes() {
    let mut out = String::new();
    let open = Open {
        content_ns: ns::CLIENT,
        from: Some("example.com"),
        to: Some("a&'b"),
        id: Some("x<y"),
        lang: Some("en"),
    };
    write_open(&mut out, &open);
    let read = header(out.strip_prefix("<?xml version='1.0'?>").unwrap()).unwrap();
    assert_eq!(read.from.as_deref(), Some("example.com"));
    assert_eq!(read.to.as_deref(), Some("a&'b"));
    assert_eq!(read.id.as_deref(), Some("x<y"));
    assert_eq!(read.lang.as_deref(), Some("en"));
    assert_eq!(read.version, Some((1, 0)));
    assert_eq!(read.check(ns::CLIENT), Ok(()));
    assert_eq!(
        read.check(ns::SERVER).unwrap_err().condition,
        StreamCondition::InvalidNamespace
    );
    let context = read.context();
    assert_eq!(context.content_ns, ns::CLIENT);
    assert_eq!(context.lang.as_deref(), Some("en"));
}

#[test]
fn versions() {
    for (version, expected) in [
        ("version='1.0'", None),
        ("version='1.1'", None),
        ("version='2.0'", None),
        ("version='0.9'", Some(StreamCondition::UnsupportedVersion)),
        ("version='1'", Some(StreamCondition::UnsupportedVersion)),
        ("version='+1.0'", Some(StreamCondition::UnsupportedVersion)),
        (
            "version='99999.0'",
            Some(StreamCondition::UnsupportedVersion),
        ),
        ("version=''", Some(StreamCondition::UnsupportedVersion)),
        ("", Some(StreamCondition::UnsupportedVersion)),
    ] {
        let tag = format!(
            "<stream:stream {version} xmlns='jabber:client' xmlns:stream='{}'>",
            ns::STREAM
        );
        let checked = header(&tag).unwrap().check(ns::CLIENT);
        assert_eq!(
            checked.err().map(|error| error.condition),
            expected,
            "{version}"
        );
    }
}

#[test]
fn a_header_without_content_namespace() {
    let tag = format!(
        "<stream:stream version='1.0' xmlns:stream='{}'>",
        ns::STREAM
    );
    let read = header(&tag).unwrap();
    assert_eq!(read.content_ns, "");
    assert!(read.check(ns::CLIENT).is_err());
}

#[test]
fn errors() {
    let mut error = StreamError::with_text(StreamCondition::NotWellFormed, "a < b");
    error.application = Some(Box::new(Element::new("too-bad", "urn:x")));
    assert_eq!(
        stream_error(&error),
        "<stream:error><not-well-formed xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>\
         <text xmlns='urn:ietf:params:xml:ns:xmpp-streams' xml:lang='en'>a &lt; b</text>\
         <too-bad xmlns='urn:x'/></stream:error></stream:stream>"
    );
    assert_eq!(error.to_string(), "not-well-formed: a < b");
}

#[test]
fn features() {
    let mut out = String::new();
    let features = [Element::new("bind", ns::BIND), Element::new("sm", ns::SM)];
    write_features(&mut out, &features);
    assert_eq!(
        out,
        "<stream:features><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/>\
         <sm xmlns='urn:xmpp:sm:3'/></stream:features>"
    );
}
