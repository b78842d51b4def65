//! Streams whole, in pieces, damaged and hostile

use super::*;
use crate::testing::{Random, mutate, random_element};

const HEADER: &str = "<?xml version='1.0'?><stream:stream to='example.com' version='1.0' \
    xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>";

/// Frames until bytes are missing or the stream fails.
fn run(framer: &mut Framer, buffer: &mut BytesMut) -> (Vec<Frame>, Option<StreamError>) {
    let mut frames = Vec::new();
    loop {
        match framer.next(buffer) {
            Ok(Some(frame)) => frames.push(frame),
            Ok(None) => return (frames, None),
            Err(error) => return (frames, Some(error)),
        }
    }
}

fn all(input: &[u8], limits: Limits) -> (Vec<Frame>, Option<StreamError>) {
    run(&mut Framer::new(limits), &mut BytesMut::from(input))
}

fn pieces(
    input: &[u8],
    limits: Limits,
    mut size: impl FnMut() -> usize,
) -> (Vec<Frame>, Option<StreamError>) {
    let mut framer = Framer::new(limits);
    let mut buffer = BytesMut::new();
    let mut frames = Vec::new();
    let mut rest = input;
    while !rest.is_empty() {
        let (piece, behind) = rest.split_at(size().clamp(1, rest.len()));
        rest = behind;
        buffer.extend_from_slice(piece);
        let (more, error) = run(&mut framer, &mut buffer);
        frames.extend(more);
        if error.is_some() {
            return (frames, error);
        }
    }
    (frames, None)
}

/// The error that comes of `content` behind a header; the same whole and byte by byte.
fn fails(content: &[u8]) -> Option<StreamCondition> {
    let input = [HEADER.as_bytes(), content].concat();
    let whole = all(&input, Limits::BEFORE_LOGIN)
        .1
        .map(|error| error.condition);
    let trickled = pieces(&input, Limits::BEFORE_LOGIN, || 1)
        .1
        .map(|error| error.condition);
    assert_eq!(whole, trickled, "{}", String::from_utf8_lossy(content));
    whole
}

fn stanzas(frames: &[Frame]) -> Vec<&str> {
    let mut found = Vec::new();
    for frame in frames {
        if let Frame::Stanza(bytes) = frame {
            found.push(std::str::from_utf8(bytes).unwrap());
        }
    }
    found
}

#[test]
fn a_whole_stream() {
    let content = "\n <message><body>a > b</body></message> <presence/>\
        <iq id='a>\"b'><![CDATA[</iq>]]></iq ><r xmlns='urn:xmpp:sm:3'/></stream:stream >\n";
    let (frames, error) = all(format!("{HEADER}{content}").as_bytes(), Limits::AFTER_LOGIN);
    assert_eq!(error.map(|error| error.condition), None);
    assert!(
        matches!(&frames[0], Frame::Open(header) if header.to.as_deref() == Some("example.com"))
    );
    assert_eq!(
        stanzas(&frames),
        [
            "<message><body>a > b</body></message>",
            "<presence/>",
            "<iq id='a>\"b'><![CDATA[</iq>]]></iq >",
            "<r xmlns='urn:xmpp:sm:3'/>",
        ]
    );
}

#[test]
fn white_space_is_counted_and_not_kept() {
    let mut framer = Framer::new(Limits::BEFORE_LOGIN);
    let mut buffer = BytesMut::from(HEADER);
    run(&mut framer, &mut buffer);
    for _ in 0..10_000 {
        buffer.extend_from_slice(b" \n\r\t");
        assert_eq!(framer.next(&mut buffer), Ok(None));
        assert!(buffer.is_empty());
    }
    assert_eq!(framer.keepalives(), 40_000);
    assert!(!framer.is_partial());
    buffer.extend_from_slice(b" <a");
    assert_eq!(framer.next(&mut buffer), Ok(None));
    assert!(framer.is_partial());
}

/// What may be at the front of a stream, and the error that comes of it.
fn fronts() -> Vec<(String, Option<&'static str>)> {
    let plain =
        "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'";
    vec![
        (format!("{plain}>"), None),
        (format!(" \n{plain}>"), None),
        (
            format!("<?xml version=\"1.0\" encoding='UTF-8' standalone='yes' ?>\n{plain}>"),
            None,
        ),
        (
            format!("<?xml version='1.0' encoding='ISO-8859-1'?>{plain}>"),
            Some("unsupported-encoding"),
        ),
        (
            format!("<?xml encoding='UTF-8'?>{plain}>"),
            Some("not-well-formed"),
        ),
        (
            format!("<?xml version='2.0'?>{plain}>"),
            Some("not-well-formed"),
        ),
        (
            format!("<?xml version='1.0' extra='1'?>{plain}>"),
            Some("not-well-formed"),
        ),
        (
            format!("<?xml version='1.0'?><?xml version='1.0'?>{plain}>"),
            Some("restricted-xml"),
        ),
        (format!("<?pi?>{plain}>"), Some("restricted-xml")),
        (format!("<!-- x -->{plain}>"), Some("restricted-xml")),
        (
            format!("<!DOCTYPE a [<!ENTITY b 'c'>]>{plain}>"),
            Some("restricted-xml"),
        ),
        ("GET / HTTP/1.1\r\n\r\n".into(), Some("not-well-formed")),
        ("\u{feff}<stream:stream>".into(), Some("not-well-formed")),
        ("</stream:stream>".into(), Some("not-well-formed")),
        ("<message/>".into(), Some("bad-format")),
        ("<stream:stream>".into(), Some("not-well-formed")),
        (
            "<stream xmlns='http://etherx.jabber.org/streams'>".into(),
            Some("bad-namespace-prefix"),
        ),
        (
            "<s:stream xmlns:s='http://etherx.jabber.org/streams'>".into(),
            Some("bad-namespace-prefix"),
        ),
        (
            "<stream:stream xmlns:stream='urn:x'>".into(),
            Some("invalid-namespace"),
        ),
        ("<stream>".into(), Some("invalid-namespace")),
        (format!("{plain} a='1' a='2'>"), Some("not-well-formed")),
        (format!("{plain} a='&bad;'>"), Some("restricted-xml")),
        (format!("{plain} a='<'>"), Some("not-well-formed")),
        (
            format!("{plain} {}>", "xmlns:a='b' ".repeat(40)),
            Some("policy-violation"),
        ),
        (
            format!("{plain} a='{}'>", "x".repeat(5000)),
            Some("policy-violation"),
        ),
    ]
}

#[test]
fn headers() {
    for (input, expected) in fronts() {
        for found in [
            all(input.as_bytes(), Limits::BEFORE_LOGIN),
            pieces(input.as_bytes(), Limits::BEFORE_LOGIN, || 1),
        ] {
            let condition = found.1.map(|error| error.condition.as_str());
            assert_eq!(condition, expected, "{input}");
            assert_eq!(found.0.len(), usize::from(expected.is_none()));
        }
    }
}

#[test]
fn other_encodings() {
    let utf16: Vec<u8> = HEADER.encode_utf16().flat_map(u16::to_be_bytes).collect();
    for input in [
        &utf16[..],
        &[0xff, 0xfe, b'<', 0],
        &[0xfe, 0xff, 0, b'<'],
        b"\xc0\x80",
    ] {
        let error = all(input, Limits::BEFORE_LOGIN).1.unwrap();
        assert_eq!(error.condition, StreamCondition::UnsupportedEncoding);
    }
}

#[test]
fn a_header_may_be_all() {
    let header = HEADER.replace("'>", "'/>");
    let (frames, error) = all(header.as_bytes(), Limits::BEFORE_LOGIN);
    assert_eq!(error, None);
    assert!(matches!(&frames[0], Frame::Open(_)));
    assert_eq!(frames[1..], [Frame::Close]);
}

#[test]
fn hostile_content() {
    use StreamCondition as C;
    for (content, expected) in [
        ("text", C::BadFormat),
        ("<a/>text", C::BadFormat),
        ("&amp;", C::BadFormat),
        ("<![CDATA[ ]]>", C::BadFormat),
        ("<!-- x -->", C::RestrictedXml),
        ("<a><!-- x --></a>", C::RestrictedXml),
        ("<a><!DOCTYPE x></a>", C::RestrictedXml),
        ("<!DOCTYPE x>", C::RestrictedXml),
        ("<a><?php ?></a>", C::RestrictedXml),
        ("<?xml version='1.0'?>", C::RestrictedXml),
        ("<a></b>", C::NotWellFormed),
        ("<a><b></a>", C::NotWellFormed),
        ("<ab></a>", C::NotWellFormed),
        ("<a></ab>", C::NotWellFormed),
        ("</a>", C::NotWellFormed),
        ("</stream:streamer>", C::NotWellFormed),
        ("<message><body></stream:stream>", C::NotWellFormed),
        ("<a b=<c>/>", C::NotWellFormed),
        ("<a b='<c>'/>", C::NotWellFormed),
        ("<stream:stream>", C::UnsupportedStanzaType),
        (
            "<stream:stream xmlns='jabber:client' to='x'>",
            C::UnsupportedStanzaType,
        ),
        ("</stream:stream><message/>", C::BadFormat),
        ("</stream:stream>x", C::BadFormat),
    ] {
        assert_eq!(fails(content.as_bytes()), Some(expected), "{content}");
    }
    assert_eq!(fails(b"\xff\xfe"), Some(C::UnsupportedEncoding));
    assert_eq!(fails(b"<a>\xff</a>"), None, "left to the parser");
}

#[test]
fn floods() {
    let deep = "<a>".repeat(17);
    let wide = format!("<a {}>", "b='' ".repeat(33));
    let many = format!("<a>{}", "<b/>".repeat(256));
    let long_tag = format!("<a b='{}", "x".repeat(4097));
    let long_name = format!("<{}", "x".repeat(4097));
    let long_end = format!("<a></a{}", " ".repeat(4097));
    let long_text = format!("<a>{}", "x".repeat(16_384));
    let long_cdata = format!("<a><![CDATA[{}", "x".repeat(16_384));
    let long_attributes = format!("<a>{}", format!("<b c='{}'/>", "x".repeat(4000)).repeat(5));
    for flood in [
        deep,
        wide,
        many,
        long_tag,
        long_name,
        long_end,
        long_text,
        long_cdata,
        long_attributes,
    ] {
        assert_eq!(
            fails(flood.as_bytes()),
            Some(StreamCondition::PolicyViolation),
            "{flood}"
        );
    }
    assert_eq!(
        fails(format!("{}{}", "<a>".repeat(16), "</a>".repeat(16)).as_bytes()),
        None
    );
    assert_eq!(
        fails(format!("<a {}/>", "b='' ".repeat(32)).as_bytes()),
        None
    );
    assert_eq!(
        fails(
            format!("<a>{}</a>", "<b/>".repeat(255))
                .repeat(3)
                .as_bytes()
        ),
        None
    );
}

#[test]
fn exactly_the_biggest_stanza_passes() {
    let limits = Limits {
        stanza_bytes: 100,
        ..Limits::BEFORE_LOGIN
    };
    let limited = |length: usize| {
        let mut framer = Framer::new(Limits::BEFORE_LOGIN);
        let mut buffer = BytesMut::from(HEADER);
        run(&mut framer, &mut buffer);
        framer.set_limits(limits);
        buffer.extend_from_slice(format!("<a>{}</a>", "x".repeat(length - 7)).as_bytes());
        run(&mut framer, &mut buffer)
    };
    assert_eq!(limited(100).0.len(), 1);
    assert_eq!(
        limited(101).1.unwrap().condition,
        StreamCondition::PolicyViolation
    );
}

#[test]
fn restarts() {
    let mut framer = Framer::new(Limits::BEFORE_LOGIN);
    let mut buffer = BytesMut::from(format!("{HEADER}<auth/> \n{HEADER}<iq/>").as_str());
    assert!(matches!(framer.next(&mut buffer), Ok(Some(Frame::Open(_)))));
    assert!(matches!(
        framer.next(&mut buffer),
        Ok(Some(Frame::Stanza(_)))
    ));
    framer.reset();
    framer.set_limits(Limits::AFTER_LOGIN);
    assert!(matches!(framer.next(&mut buffer), Ok(Some(Frame::Open(_)))));
    assert!(matches!(
        framer.next(&mut buffer),
        Ok(Some(Frame::Stanza(_)))
    ));
    assert_eq!(framer.next(&mut buffer), Ok(None));
}

#[test]
fn pieces_make_no_difference() {
    let mut random = Random::new(6120);
    for round in 0..2000 {
        let mut input = HEADER.as_bytes().to_vec();
        for _ in 0..3 {
            input.extend(random_element(&mut random, "message", 3).bytes());
        }
        input.extend(b"</stream:stream>");
        if round % 2 == 1 {
            input = mutate(&mut random, &input);
        }
        let whole = all(&input, Limits::BEFORE_LOGIN);
        let trickled = pieces(&input, Limits::BEFORE_LOGIN, || 1);
        let in_pieces = pieces(&input, Limits::BEFORE_LOGIN, || random.below(40));
        let shown = String::from_utf8_lossy(&input);
        assert_eq!(whole.0, trickled.0, "{shown}");
        assert_eq!(whole.0, in_pieces.0, "{shown}");
        let conditions = [&whole, &trickled, &in_pieces]
            .map(|(_, error)| error.as_ref().map(|error| error.condition));
        assert!(
            conditions.windows(2).all(|two| two[0] == two[1]),
            "{conditions:?} {shown}"
        );
        if round % 2 == 0 {
            assert_eq!(whole.0.len(), 5, "{shown}");
        }
    }
}

/// Each byte is looked at a bounded number of times: the position never goes back, and no step is
/// taken without progress.
#[test]
fn trickling_makes_progress() {
    let mut framer = Framer::new(Limits::AFTER_LOGIN);
    let mut buffer = BytesMut::from(HEADER);
    run(&mut framer, &mut buffer);
    let stanza = format!(
        "<a b='{}'><![CDATA[{}]]>{}",
        ">".repeat(9000),
        "]>".repeat(9000),
        "x]".repeat(9000)
    );
    for (count, byte) in stanza.bytes().enumerate() {
        buffer.extend_from_slice(&[byte]);
        assert_eq!(framer.next(&mut buffer), Ok(None));
        let behind = count + 1 - framer.scanned;
        assert!(
            behind < CDATA.len(),
            "{behind} bytes to be looked at again at {count}"
        );
    }
}

#[test]
fn depth_has_a_bound_of_its_own() {
    let limits = Limits {
        depth: usize::MAX,
        ..Limits::AFTER_LOGIN
    };
    let deep = |depth: usize| {
        let input = format!("{HEADER}{}{}", "<a>".repeat(depth), "</a>".repeat(depth));
        all(input.as_bytes(), limits)
    };
    assert_eq!(deep(MAX_DEPTH).1, None);
    assert_eq!(
        deep(MAX_DEPTH + 1).1.unwrap().condition,
        StreamCondition::PolicyViolation
    );
}
