//! What is fuzzed, and what has to hold of each besides not panicking

use std::path::Path;

use bytes::{Bytes, BytesMut};
use eider::config::load::from_text;
use eider::listener::proxy_protocol;
use eider_xmpp::payload::{
    blocking, caps, commands, data_forms, delay, disco, forwarding, hints, mam, private, pubsub,
    register, roster, rsm, stanza_id, vcard,
};
use eider_xmpp::sasl::{self, ChannelBindings, ClientFirst, ScramHash};
use eider_xmpp::{
    Child, Element, Frame, Framer, FullJid, Jid, Limits, Received, Stanza, StreamCondition,
    StreamContext, datetime,
};

/// A decoder under test.
pub struct Target {
    /// On the command line and of the folder of examples.
    pub name: &'static str,
    /// Panics where a promise is broken.
    pub feed: fn(&[u8]),
    /// An example that is generated, beside those in the folder.
    pub more_examples: fn() -> Option<String>,
}

/// All of them.
pub const TARGETS: &[Target] = &[
    target("framing", framing),
    target("stanza", stanza),
    target("jid", jid),
    target("sasl", sasl_messages),
    target("payload", payload),
    target("proxy", proxy),
    Target {
        more_examples: || Some(eider::config::render::example()),
        ..target("config", config)
    },
];

const fn target(name: &'static str, feed: fn(&[u8])) -> Target {
    Target {
        name,
        feed,
        more_examples: || None,
    }
}

/// However the bytes come in pieces, the frames and the error are the same.
fn framing(input: &[u8]) {
    let whole = frames(input, input.len().max(1));
    assert_eq!(whole, frames(input, 1));
    assert_eq!(whole, frames(input, 7));
}

fn frames(input: &[u8], piece: usize) -> (Vec<Frame>, Option<StreamCondition>) {
    let mut framer = Framer::new(Limits::BEFORE_LOGIN);
    let mut buffer = BytesMut::new();
    let mut found = Vec::new();
    for piece in input.chunks(piece) {
        buffer.extend_from_slice(piece);
        loop {
            match framer.next(&mut buffer) {
                Ok(Some(frame)) => found.push(frame),
                Ok(None) => break,
                Err(error) => return (found, Some(error.condition)),
            }
        }
        assert!(
            buffer.len() <= Limits::BEFORE_LOGIN.stanza_bytes,
            "unbounded buffer"
        );
    }
    (found, None)
}

/// What is accepted reads again as the same, is as its index says, and stands for itself.
pub(super) fn stanza(input: &[u8]) {
    let context = StreamContext {
        lang: Some("en".into()),
        prefixes: vec![("h".into(), "urn:h".into())],
        sender: FullJid::parse("romeo@example.net/orchard").ok(),
        ..StreamContext::default()
    };
    let bytes = Bytes::copy_from_slice(input);
    let received = match Received::parse(bytes, &context, &Limits::AFTER_LOGIN) {
        Ok(Received::Stanza(stanza)) => stanza,
        Ok(Received::Other(element)) => return writes_and_reads(&element),
        Err(_) => return,
    };
    assert_eq!(
        received.from(),
        context.sender.as_ref().map(Jid::from).as_ref()
    );
    consistent(&received);
    let appended = Element::new("x", "urn:x").into();
    let strip = |child: &Child<'_>| child.name.len().is_multiple_of(2);
    let to = Jid::parse("juliet@example.com").expect("a JID");
    let rewritten = received
        .rewrite()
        .to(to)
        .strip(&strip)
        .append(&appended)
        .build();
    consistent(&rewritten);
    let _ = hints::Hints::of(&received);
    let _ = stanza_id::origin_id(&received);
    let _ = caps::Caps::of(&received);
}

fn consistent(stanza: &Stanza) {
    let again = Stanza::parse_stored(stanza.as_bytes().clone()).expect("reads again");
    assert_eq!(again.as_bytes(), stanza.as_bytes());
    assert_eq!(again.id(), stanza.id());
    assert_eq!(again.type_attr(), stanza.type_attr());
    assert_eq!(again.to(), stanza.to());
    assert_eq!(again.from(), stanza.from());
    let tree = stanza.element();
    writes_and_reads(&tree);
    let trees = tree.children().zip(again.children());
    assert_eq!(tree.children().count(), stanza.children().len());
    for (child, (tree, other)) in stanza.children().zip(trees) {
        assert_eq!((child.name, &*child.ns), (tree.name(), tree.ns()));
        assert_eq!(child.range(), other.range());
        assert_eq!(&child.element(), tree);
    }
}

fn writes_and_reads(element: &Element) {
    let context = StreamContext::default();
    let written = element.to_xml();
    let read = Element::parse_in(written.as_bytes(), &context, &Limits::TRUSTED);
    assert_eq!(read.as_ref(), Ok(element));
}

/// Preparing again changes nothing, and the parts make the whole.
pub(super) fn jid(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let Ok(jid) = Jid::parse(text) else { return };
    assert_eq!(Jid::parse(jid.as_str()).as_ref(), Ok(&jid));
    let mut joined = String::new();
    if let Some(localpart) = jid.localpart() {
        joined = format!("{localpart}@");
    }
    joined.push_str(jid.domain());
    assert_eq!(joined, jid.bare_str());
    if let Some(resource) = jid.resource() {
        joined = format!("{joined}/{resource}");
    }
    assert_eq!(joined, jid.as_str());
}

pub(super) fn sasl_messages(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    if let Ok(Some(decoded)) = sasl::decode(&text) {
        assert_eq!(sasl::decode(&sasl::encode(&decoded)), Ok(Some(decoded)));
    }
    let _ = sasl::Plain::parse(input);
    let _ = sasl::trace(input);
    let _ = sasl::requested_identity(input);
    let _ = sasl::prepare_password(&text);
    let bindings = ChannelBindings::default();
    for (plus, offered) in [(false, false), (false, true), (true, true)] {
        let _ = ClientFirst::parse(ScramHash::Sha256, plus, offered, &bindings, input);
    }
}

pub(super) fn payload(input: &[u8]) {
    if let Ok(text) = std::str::from_utf8(input)
        && let Ok(at) = datetime::parse(text)
    {
        assert_eq!(datetime::parse(&datetime::format(at)), Ok(at));
    }
    let Ok(element) = Element::parse(input) else {
        return;
    };
    writes_and_reads(&element);
    every_reader(&element);
    for child in element.children() {
        every_reader(child);
        child.children().for_each(every_reader);
    }
}

/// Wider than any configuration's.
const ROSTER: roster::Limits = roster::Limits {
    max_name_bytes: 4096,
    max_group_bytes: 4096,
    max_groups: 1024,
};

/// Each reader of payloads is offered each element.
fn every_reader(element: &Element) {
    if let Ok(form) = data_forms::Form::parse(element) {
        assert_eq!(data_forms::Form::parse(&form.to_element()), Ok(form));
    }
    if let Ok(request) = rsm::Request::parse(element) {
        let items = ["a", "b", "c"];
        if let Some((range, _)) = request.page_of(&items, 2, |item| item) {
            assert!(range.len() <= 2 && range.end <= items.len());
        }
    }
    if let Ok(info) = disco::Info::parse(element) {
        let _ = caps::ver(&info, caps::Hash::Sha256);
    }
    if let Some(caps) = caps::Caps::parse(element) {
        assert_eq!(caps::Caps::parse(&caps.to_element()), Some(caps));
    }
    if let Some(delay) = delay::Delay::parse(element) {
        assert_eq!(delay::Delay::parse(&delay.to_element()), Some(delay));
    }
    let _ = forwarding::read(element);
    let _ = mam::Query::parse(element);
    let _ = mam::Preferences::parse(element);
    let _ = pubsub::Request::parse(element, true);
    let _ = pubsub::Request::parse(element, false);
    let _ = blocking::Change::parse(element);
    let _ = commands::Request::parse(element);
    let _ = register::Request::parse(element);
    let _ = private::parse(element, true);
    let _ = roster::parse_get(element);
    let _ = roster::parse_set(element, &ROSTER);
    let _ = vcard::photo(element);
    let _ = vcard::parse_update(Some(element));
}

pub(super) fn proxy(input: &[u8]) {
    let _ = proxy_protocol::parse_v1(input);
    let _ = proxy_protocol::parse_v2(input);
}

fn config(input: &[u8]) {
    if let Ok(text) = std::str::from_utf8(input) {
        let _ = from_text(Path::new("eider.toml"), text);
    }
}
