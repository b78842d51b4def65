//! Stanzas read, made independent of their streams, and rewritten

use super::*;
use crate::error::{ErrorType, StreamCondition};
use crate::jid::FullJid;
use crate::testing::{Random, mutate, random_element};

fn context() -> StreamContext {
    StreamContext {
        lang: Some("en".into()),
        prefixes: vec![
            ("stream".into(), ns::STREAM.into()),
            ("h".into(), "urn:h".into()),
        ],
        ..StreamContext::default()
    }
}

fn parse(input: &str) -> Result<Stanza, ParseError> {
    Stanza::parse(
        Bytes::copy_from_slice(input.as_bytes()),
        &StreamContext::default(),
        &Limits::AFTER_LOGIN,
    )
}

fn parse_in(input: &str, context: &StreamContext) -> Result<Stanza, ParseError> {
    Stanza::parse(
        Bytes::copy_from_slice(input.as_bytes()),
        context,
        &Limits::AFTER_LOGIN,
    )
}

fn text(stanza: &Stanza) -> &str {
    std::str::from_utf8(stanza.as_bytes()).unwrap()
}

/// The index says what reading the bytes again says.
fn check_index(stanza: &Stanza) {
    let again = Stanza::parse_stored(stanza.as_bytes().clone()).expect("written bytes read again");
    assert_eq!(
        again.as_bytes(),
        stanza.as_bytes(),
        "nothing more to change"
    );
    assert_eq!(again.kind(), stanza.kind());
    assert_eq!(again.id(), stanza.id());
    assert_eq!(again.type_attr(), stanza.type_attr());
    assert_eq!(again.lang(), stanza.lang());
    assert_eq!(again.to(), stanza.to());
    assert_eq!(again.from(), stanza.from());
    assert_eq!(
        (again.bad_to(), again.bad_from()),
        (stanza.bad_to(), stanza.bad_from())
    );
    assert_eq!(again.inner_bytes(), stanza.inner_bytes());
    assert_eq!(again.children().len(), stanza.children().len());
    let tree = stanza.element();
    assert_eq!(tree.children().count(), stanza.children().len());
    for ((one, other), element) in again.children().zip(stanza.children()).zip(tree.children()) {
        assert_eq!(
            (one.name, &one.ns, one.range()),
            (other.name, &other.ns, other.range())
        );
        assert_eq!((one.name, &*one.ns), (element.name(), element.ns()));
        assert_eq!(&other.element(), element, "a child reads alone");
        assert_eq!(stanza.child_bytes(&other), other.bytes);
    }
}

#[test]
fn index() {
    let input = "<message id='&lt;1' type=\"chat\" to='Juliet@example.com/x' from='a@b' xml:lang='de'>\
        <body>hi</body> <x xmlns='urn:a&amp;b'/><p:y xmlns:p='urn:p'><body/></p:y></message >";
    let stanza = parse(input).unwrap();
    assert_eq!(text(&stanza), input, "shared as received");
    assert_eq!(stanza.kind(), Kind::Message);
    assert_eq!(stanza.id().as_deref(), Some("<1"));
    assert_eq!(stanza.message_type(), MessageType::Chat);
    assert_eq!(stanza.to().unwrap(), &"juliet@example.com/x");
    assert_eq!(stanza.from().unwrap(), &"a@b");
    assert_eq!(stanza.lang().as_deref(), Some("de"));
    let children: Vec<_> = stanza
        .children()
        .map(|child| (child.name.to_owned(), child.ns.into_owned()))
        .collect();
    assert_eq!(
        children,
        [
            ("body".to_owned(), "jabber:client".to_owned()),
            ("x".to_owned(), "urn:a&b".to_owned()),
            ("y".to_owned(), "urn:p".to_owned())
        ]
    );
    assert!(stanza.has("y", "urn:p") && !stanza.has("y", ns::CLIENT));
    assert_eq!(stanza.child("body", ns::CLIENT).unwrap().text(), "hi");
    check_index(&stanza);
}

#[test]
fn nothing_to_change_shares_the_bytes() {
    let bytes = Bytes::from_static(b"<presence/>");
    let stanza = Stanza::parse(
        bytes.clone(),
        &StreamContext::default(),
        &Limits::AFTER_LOGIN,
    )
    .unwrap();
    assert_eq!(stanza.as_bytes().as_ptr(), bytes.as_ptr());
    assert_eq!(
        stanza
            .clone()
            .rewrite()
            .strip(&|_| true)
            .build()
            .as_bytes()
            .as_ptr(),
        bytes.as_ptr()
    );
}

#[test]
fn independent_of_the_stream() {
    for (input, expected) in [
        ("<message/>", "<message xml:lang='en'/>"),
        ("<message xml:lang='de'/>", "<message xml:lang='de'/>"),
        ("<message xml:lang=''/>", "<message xml:lang=''/>"),
        (
            "<iq xmlns='jabber:client' id='1'/>",
            "<iq xml:lang='en' id='1'/>",
        ),
        (
            "<iq id='1' xmlns=\"jabber:client\"><a/></iq>",
            "<iq xml:lang='en' id='1'><a/></iq>",
        ),
        (
            "<message><body xmlns='jabber:client'>x</body></message>",
            "<message xml:lang='en'><body>x</body></message>",
        ),
        (
            "<message><a xmlns='u'><body xmlns='jabber:client'/></a></message>",
            "<message xml:lang='en'><a xmlns='u'><body xmlns='jabber:client'/></a></message>",
        ),
        (
            "<c:message xmlns:c='jabber:client'><c:body/></c:message>",
            "<message xml:lang='en'><body/></message>",
        ),
        (
            "<message xmlns:p='urn:p'><p:a><b/></p:a></message>",
            "<message xml:lang='en'><a xmlns='urn:p'><b xmlns='jabber:client'/></a></message>",
        ),
        (
            "<message xmlns:p='urn:p' p:a='1'/>",
            "<message xml:lang='en' xmlns:p='urn:p' p:a='1'/>",
        ),
        (
            "<message><h:a h:b='1'/></message>",
            "<message xml:lang='en'><a xmlns='urn:h' xmlns:a0='urn:h' a0:b='1'/></message>",
        ),
        (
            "<message h:b='1'/>",
            "<message xml:lang='en' xmlns:a0='urn:h' a0:b='1'/>",
        ),
    ] {
        let stanza = parse_in(input, &context()).unwrap();
        assert_eq!(text(&stanza), expected, "{input}");
        check_index(&stanza);
    }
}

#[test]
fn server_streams() {
    let context = StreamContext {
        content_ns: ns::SERVER.into(),
        ..StreamContext::default()
    };
    for (input, expected) in [
        ("<message><body/></message>", "<message><body/></message>"),
        (
            "<message xmlns='jabber:server'><body/></message>",
            "<message><body/></message>",
        ),
        (
            "<message><body xmlns='jabber:server'/></message>",
            "<message><body/></message>",
        ),
        (
            "<message><forwarded xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client'/></forwarded></message>",
            "<message><forwarded xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client'/></forwarded></message>",
        ),
        (
            "<message><f xmlns='u'><message xmlns='jabber:server'/></f></message>",
            "<message><f xmlns='u'><message xmlns='jabber:client'/></f></message>",
        ),
    ] {
        let stanza = parse_in(input, &context).unwrap();
        assert_eq!(text(&stanza), expected, "{input}");
        check_index(&stanza);
    }
    assert_eq!(
        parse_in("<message xmlns='jabber:client'/>", &context).unwrap_err(),
        ParseError::NotAStanza
    );
}

#[test]
fn the_sender_is_stamped() {
    let sender = FullJid::parse("romeo@example.net/orchard").unwrap();
    let context = StreamContext {
        sender: Some(sender.clone()),
        ..StreamContext::default()
    };
    for (input, expected) in [
        (
            "<message to='a@b'/>",
            "<message from='romeo@example.net/orchard' to='a@b'/>",
        ),
        (
            "<message from='romeo@example.net' to='a@b'/>",
            "<message from='romeo@example.net/orchard' to='a@b'/>",
        ),
        (
            "<message to='a@b'  from='Romeo@example.net/orchard'/>",
            "<message to='a@b'  from='romeo@example.net/orchard'/>",
        ),
        (
            "<message from='romeo@example.net/orchard'/>",
            "<message from='romeo@example.net/orchard'/>",
        ),
    ] {
        let stanza = parse_in(input, &context).unwrap();
        assert_eq!(text(&stanza), expected);
        assert_eq!(stanza.from(), Some(&sender.to_jid()));
        check_index(&stanza);
    }
    for spoofed in [
        "juliet@example.com",
        "romeo@example.net/balcony",
        "example.net",
        "",
        "@",
        "romeo@example.net/",
    ] {
        let error = parse_in(&format!("<message from='{spoofed}'/>"), &context).unwrap_err();
        assert_eq!(error.condition(), StreamCondition::InvalidFrom, "{spoofed}");
    }
}

#[test]
fn a_sender_that_needs_escapes() {
    let sender = FullJid::parse("a@b/<'&\">").unwrap();
    let context = StreamContext {
        sender: Some(sender.clone()),
        ..StreamContext::default()
    };
    let stanza = parse_in("<iq/>", &context).unwrap();
    assert_eq!(text(&stanza), "<iq from='a@b/&lt;&apos;&amp;&quot;&gt;'/>");
    check_index(&stanza);
    let again = parse_in(text(&stanza), &context).unwrap();
    assert_eq!(again.from(), Some(&sender.to_jid()));
}

#[test]
fn what_is_no_stanza() {
    for input in [
        "<r xmlns='urn:xmpp:sm:3'/>",
        "<message xmlns='urn:x'/>",
        "<msg/>",
        "<stream:features/>",
    ] {
        let received = Received::parse(
            Bytes::copy_from_slice(input.as_bytes()),
            &context(),
            &Limits::AFTER_LOGIN,
        );
        assert!(matches!(received, Ok(Received::Other(_))), "{input}");
    }
    let broken = Received::parse(
        Bytes::from_static(b"<r><a></r>"),
        &context(),
        &Limits::AFTER_LOGIN,
    );
    assert_eq!(
        broken.unwrap_err().condition(),
        StreamCondition::NotWellFormed
    );
}

#[test]
fn types() {
    assert_eq!(
        parse("<message type='x'/>").unwrap().message_type(),
        MessageType::Normal
    );
    assert_eq!(
        parse("<message type='groupchat'/>").unwrap().message_type(),
        MessageType::Groupchat
    );
    assert_eq!(
        parse("<presence/>").unwrap().presence_type(),
        Ok(PresenceType::Available)
    );
    assert_eq!(
        parse("<presence type='available'/>")
            .unwrap()
            .presence_type(),
        Err(StanzaCondition::BadRequest)
    );
    assert_eq!(
        parse("<iq type='set'/>").unwrap().iq_type(),
        Ok(IqType::Set)
    );
    assert_eq!(
        parse("<iq/>").unwrap().iq_type(),
        Err(StanzaCondition::BadRequest)
    );
    assert!(parse("<iq to='@'/>").unwrap().bad_to());
}

#[test]
fn rewriting() {
    let stanza = parse("<message to='a@b' id=\"1\" from='c@d/e'><body>x</body>\n<stanza-id xmlns='urn:xmpp:sid:0' by='a@b'/><y xmlns='u'/></message>").unwrap();
    let fragment = Fragment::new(&Element::new("delay", ns::DELAY).with_attr("stamp", "now"));
    let other =
        Fragment::new(&Element::new("z", "urn:'<").with_child(Element::new("body", ns::CLIENT)));
    let to = Jid::parse("a@b/'r'").unwrap();
    let rewritten = stanza
        .rewrite()
        .from(Jid::parse("x@y").unwrap())
        .to(to.clone())
        .lang("de")
        .type_attr("chat")
        .strip(&|child| child.is("stanza-id", ns::STANZA_ID))
        .append(&fragment)
        .append(&other)
        .build();
    assert_eq!(
        text(&rewritten),
        "<message xml:lang='de' type='chat' to='a@b/&apos;r&apos;' id=\"1\" from='x@y'><body>x</body>\n<y xmlns='u'/>\
         <delay xmlns='urn:xmpp:delay' stamp='now'/><z xmlns='urn:&apos;&lt;'><body xmlns='jabber:client'/></z></message>"
    );
    assert_eq!(rewritten.to(), Some(&to));
    assert_eq!(rewritten.id().as_deref(), Some("1"));
    check_index(&rewritten);

    let empty = parse("<presence/>")
        .unwrap()
        .rewrite()
        .append(&fragment)
        .build();
    assert_eq!(
        text(&empty),
        "<presence><delay xmlns='urn:xmpp:delay' stamp='now'/></presence>"
    );
    check_index(&empty);
    let bare = empty.rewrite().strip(&|_| true).id("a&b").no_to().build();
    assert_eq!(text(&bare), "<presence id='a&amp;b'></presence>");
    check_index(&bare);
    let without = rewritten
        .rewrite()
        .no_to()
        .no_from()
        .id("2")
        .id("3")
        .build();
    assert!(text(&without).starts_with("<message xml:lang='de' type='chat' id='3'>"));
    check_index(&without);
}

#[test]
fn written_where_another_namespace_rules() {
    let stanza = parse("<message to='a@b'><body/></message>").unwrap();
    let mut out = Vec::new();
    stanza.write_with_ns(&mut out, ns::CLIENT);
    assert_eq!(
        out,
        b"<message xmlns='jabber:client' to='a@b'><body/></message>"
    );
}

#[test]
fn answers() {
    let request = parse("<iq type='get' id='1' from='a@b/c' to='d@e'/>").unwrap();
    let result = iq_result(&request, Some(Element::new("query", ns::LAST)));
    assert_eq!(
        text(&result),
        "<iq from='d@e' to='a@b/c' type='result' id='1'><query xmlns='jabber:iq:last'/></iq>"
    );
    let error = StanzaError::new(StanzaCondition::ItemNotFound)
        .kind(ErrorType::Wait)
        .text("no");
    let reply = error_reply(&request, &error).unwrap();
    assert_eq!(
        text(&reply),
        "<iq to='a@b/c' from='d@e' id='1' type='error'><error type='wait'>\
         <item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>\
         <text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas' xml:lang='en'>no</text></error></iq>"
    );
    assert_eq!(
        StanzaError::from_element(&reply.child("error", ns::CLIENT).unwrap()),
        error
    );
    for silent in [
        "<iq type='result'/>",
        "<iq type='error'/>",
        "<message type='error'/>",
        "<presence type='error'/>",
    ] {
        assert!(
            error_reply(&parse(silent).unwrap(), &error).is_none(),
            "{silent}"
        );
    }
    let malformed = parse("<message to='@' id='2'/>").unwrap();
    let reply = error_reply(&malformed, &StanzaCondition::JidMalformed.into()).unwrap();
    assert!(text(&reply).starts_with("<message from='@' id='2' type='error'>"));
}

#[test]
fn debug_output_holds_no_body() {
    let stanza = parse("<message to='a@b'><body>secret</body></message>").unwrap();
    assert_eq!(format!("{stanza:?}"), "<message to='a@b'>");
}

/// Random stanzas of random streams: whatever is done to the bytes, the tree is the one that was
/// sent, plus what was asked for.
#[test]
fn independence_keeps_the_tree() {
    let mut random = Random::new(8);
    let sender = FullJid::parse("romeo@example.net/orchard").unwrap();
    for _ in 0..5000 {
        let name = *random.pick(&["message", "presence", "iq"]);
        let input = random_element(&mut random, name, 3);
        let mut context = context();
        if random.one_in(2) {
            context.sender = Some(sender.clone());
        }
        let mut tree = Element::parse_in(input.as_bytes(), &context, &Limits::AFTER_LOGIN).unwrap();
        let stanza = parse_in(&input, &context).unwrap_or_else(|error| panic!("{input}: {error}"));
        if tree.attr("xml:lang").is_none() {
            tree.set_attr("xml:lang", "en");
        }
        if context.sender.is_some() {
            tree.set_attr("from", sender.as_str());
        }
        assert_same(&stanza.element(), &tree, &input);
        check_index(&stanza);

        let to = Jid::parse("juliet@example.com/balcony").unwrap();
        let fragment = Fragment::new(&Element::new("x", "urn:appended"));
        let strip = |child: &Child<'_>| child.name.len() == 4;
        let rewritten = stanza
            .rewrite()
            .to(to.clone())
            .strip(&strip)
            .append(&fragment)
            .build();
        tree.set_attr("to", to.as_str());
        tree.retain_children(|child| child.name().len() != 4);
        tree.push(Element::new("x", "urn:appended"));
        assert_same(&rewritten.element(), &tree, &input);
        check_index(&rewritten);

        let mut forwarded = b"<forwarded xmlns='urn:xmpp:forward:0'>".to_vec();
        stanza.write_with_ns(&mut forwarded, ns::CLIENT);
        forwarded.extend_from_slice(b"</forwarded>");
        let forwarded =
            Element::parse_in(&forwarded, &StreamContext::default(), &Limits::TRUSTED).unwrap();
        assert_eq!(forwarded.first_child(), Some(&stanza.element()));
    }
}

/// Equal but for the order of attributes and the joints of text where a child was taken out.
fn assert_same(one: &Element, other: &Element, input: &str) {
    let sorted = |element: &Element| {
        let mut attrs = element.attrs().to_vec();
        attrs.sort_by(|a, b| (&a.name, a.ns.as_deref()).cmp(&(&b.name, b.ns.as_deref())));
        (
            element.name().to_owned(),
            element.ns().to_owned(),
            attrs,
            element.text(),
        )
    };
    assert_eq!(sorted(one), sorted(other), "{input}");
    let (ones, others): (Vec<_>, Vec<_>) = (one.children().collect(), other.children().collect());
    assert_eq!(ones, others, "{input}");
}

#[test]
fn damaged_stanzas_never_panic_and_stay_readable() {
    let mut random = Random::new(9);
    let mut accepted = 0;
    for _ in 0..20_000 {
        let input = random_element(&mut random, "message", 3);
        let damaged = mutate(&mut random, input.as_bytes());
        if let Ok(stanza) = Stanza::parse(damaged.into(), &context(), &Limits::AFTER_LOGIN) {
            accepted += 1;
            check_index(&stanza);
        }
    }
    assert!(accepted > 500, "{accepted}");
}

/// A prefix is a cheap way to write a long name often.
#[test]
fn prefixes_do_not_inflate() {
    let long = "x".repeat(20_000);
    let uses = "<p:b/>".repeat(4000);
    let input = format!("<message xmlns:p='urn:{long}'>{uses}</message>");
    let error = parse(&input).unwrap_err();
    assert_eq!(error.condition(), StreamCondition::PolicyViolation);
    let fine = format!("<message xmlns:p='urn:x'>{uses}</message>");
    assert_eq!(parse(&fine).unwrap().children().len(), 4000);
}
