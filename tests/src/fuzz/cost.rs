//! What reading costs, in instructions: as many for each byte of a long input as of a short one
//!
//! `fuzz --cost` feeds each [`Shape`] at three sizes; `tests/tests/cost.rs` has valgrind count.

use std::hint::black_box;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::BytesMut;
use eider_xmpp::{Framer, Limits};

use super::targets;

/// Bytes of the shortest input; the others have twice and four times as many.
pub const BYTES: usize = 3 * 1024;

/// Reads an input.
type Feed = fn(&[u8]);

/// An input that can be of any length, and who reads it.
pub struct Shape {
    /// For a failure's message.
    pub name: &'static str,
    /// About so many bytes.
    make: fn(usize) -> Vec<u8>,
    feed: Feed,
}

const STREAM: &str =
    "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>";
const FORM: &str = "<x xmlns='jabber:x:data' type='submit'>";

/// `piece` as often as it takes, between two others; `#` in it is the number of the repetition.
fn repeated(before: &str, piece: &str, after: &str, bytes: usize) -> Vec<u8> {
    let mut text = before.to_owned();
    let mut number = 0;
    while text.len() + after.len() < bytes {
        text.push_str(&piece.replace('#', &number.to_string()));
        number += 1;
    }
    text.push_str(after);
    text.into_bytes()
}

fn message(piece: &str, bytes: usize) -> Vec<u8> {
    repeated("<message>", piece, "</message>", bytes)
}

/// As many prefixes in force as may be, the oldest of them used again and again.
fn prefixes(bytes: usize) -> Vec<u8> {
    let mut before = "<message>".to_owned();
    for level in 0..2 {
        before.push_str("<a");
        for number in 0..60 {
            before.push_str(&format!(" xmlns:p{level}-{number}='urn:{number}'"));
        }
        before.push('>');
    }
    repeated(&before, "<p0-0:b p0-1:c=''/>", "</a></a></message>", bytes)
}

fn deep(bytes: usize) -> Vec<u8> {
    let nested = format!("{}{}", "<a>".repeat(60), "</a>".repeat(60));
    message(&nested, bytes)
}

fn attributes(bytes: usize) -> Vec<u8> {
    let attributes: String = (0..60).map(|n| format!(" a{n}='&amp;'")).collect();
    message(&format!("<a{attributes}/>"), bytes)
}

fn vcard(bytes: usize) -> Vec<u8> {
    let photo = STANDARD.encode(vec![7; bytes * 3 / 4]);
    format!("<vCard xmlns='vcard-temp'><PHOTO><BINVAL>{photo}</BINVAL></PHOTO></vCard>")
        .into_bytes()
}

fn framed(input: &[u8], piece: usize) {
    let mut framer = Framer::new(Limits::AFTER_LOGIN);
    let mut buffer = BytesMut::from(STREAM);
    let header = framer.next(&mut buffer);
    assert!(matches!(header, Ok(Some(_))), "{header:?}");
    for piece in input.chunks(piece) {
        buffer.extend_from_slice(piece);
        while let Ok(Some(frame)) = framer.next(&mut buffer) {
            black_box(frame);
        }
    }
}

fn whole(input: &[u8]) {
    framed(input, input.len());
}

fn trickled(input: &[u8]) {
    framed(input, 1);
}

/// Name, reader, input.
macro_rules! shapes {
    ($($name:literal $feed:path: $make:expr,)*) => {
        &[$(Shape { name: $name, make: $make, feed: $feed }),*]
    };
}

/// All of them.
pub const SHAPES: &[Shape] = shapes! {
    "text, whole" whole: |n| message("x", n),
    "text, byte by byte" trickled: |n| message("x", n),
    "elements, byte by byte" trickled: |n| message("<a b='c'/>", n),
    "CDATA that does not end, byte by byte" trickled: |n| repeated("<message><![CDATA[", "]] >", "", n),
    "a tag that does not end, byte by byte" trickled: |n| repeated("<message a='", "x", "", n),
    "spaces in a tag, byte by byte" trickled: |n| repeated("<message", " ", "", n),
    "deep, byte by byte" trickled: deep,
    "many stanzas, byte by byte" trickled: |n| repeated("", "<message/> ", "", n),
    "many stanzas, whole" whole: |n| repeated("", "<message/> ", "", n),
    "text" targets::stanza: |n| message("x", n),
    "text of three bytes a character" targets::stanza: |n| message("\u{20ac}", n),
    "references" targets::stanza: |n| message("&lt;&#x20ac;", n),
    "CDATA" targets::stanza: |n| message("<![CDATA[<]]>", n),
    "brackets" targets::stanza: |n| message("]] ", n),
    "lines" targets::stanza: |n| message("\r\n\t", n),
    "children" targets::stanza: |n| message("<a/>", n),
    "namespaces" targets::stanza: |n| message("<a xmlns='urn:#'/>", n),
    "foreign prefixes" targets::stanza: |n| message("<h:a/>", n),
    "prefixed content" targets::stanza: |n| message("<c:body xmlns:c='jabber:client'>x</c:body>", n),
    "prefixes" targets::stanza: prefixes,
    "deep" targets::stanza: deep,
    "attributes" targets::stanza: attributes,
    "a long attribute" targets::stanza: |n| repeated("<message id='", "x&apos;", "'/>", n),
    "a broken tag" targets::stanza: |n| repeated("<message><a", " b='c'", "", n),
    "no stanza" targets::stanza: |n| repeated("<auth>", "<a b='c'>d</a>", "</auth>", n),
    "form, fields" targets::payload: |n| repeated(FORM, "<field var='f#'><value>v</value></field>", "</x>", n),
    "form, values" targets::payload: |n| repeated(&format!("{FORM}<field var='f'>"), "<value>v</value>", "</field></x>", n),
    "form, options" targets::payload: |n| repeated("<x xmlns='jabber:x:data' type='form'><field var='f' type='list-single'>", "<option><value>#</value></option>", "</field></x>", n),
    "form, items" targets::payload: |n| repeated("<x xmlns='jabber:x:data' type='result'><reported><field var='f'/></reported>", "<item><field var='f'><value>#</value></field></item>", "</x>", n),
    "disco" targets::payload: |n| repeated("<query xmlns='http://jabber.org/protocol/disco#info'><identity category='a' type='b'/>", "<feature var='urn:#'/>", "</query>", n),
    "disco, identities" targets::payload: |n| repeated("<query xmlns='http://jabber.org/protocol/disco#info'>", "<identity category='a' type='b' name='#'/>", "</query>", n),
    "disco, forms" targets::payload: |n| repeated("<query xmlns='http://jabber.org/protocol/disco#info'>", "<x xmlns='jabber:x:data' type='result'><field var='FORM_TYPE' type='hidden'><value>urn:#</value></field></x>", "</query>", n),
    "roster groups" targets::payload: |n| repeated("<query xmlns='jabber:iq:roster'><item jid='a@b'>", "<group>g#</group>", "</item></query>", n),
    "blocking" targets::payload: |n| repeated("<block xmlns='urn:xmpp:blocking'>", "<item jid='a#@b'/>", "</block>", n),
    "archive, ids" targets::payload: |n| repeated("<query xmlns='urn:xmpp:mam:2'><x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>urn:xmpp:mam:2</value></field><field var='ids'>", "<value>#</value>", "</field></x></query>", n),
    "archive preferences" targets::payload: |n| repeated("<prefs xmlns='urn:xmpp:mam:2' default='never'><always>", "<jid>a#@b</jid>", "</always><never/></prefs>", n),
    "pubsub items" targets::payload: |n| repeated("<pubsub xmlns='http://jabber.org/protocol/pubsub'><publish node='n'>", "<item id='#'><a xmlns='urn:a'/></item>", "</publish></pubsub>", n),
    "pubsub retractions" targets::payload: |n| repeated("<pubsub xmlns='http://jabber.org/protocol/pubsub'><retract node='n'>", "<item id='#'/>", "</retract></pubsub>", n),
    "pubsub affiliations" targets::payload: |n| repeated("<pubsub xmlns='http://jabber.org/protocol/pubsub#owner'><affiliations node='n'>", "<affiliation jid='a#@b' affiliation='none'/>", "</affiliations></pubsub>", n),
    "registration" targets::payload: |n| repeated("<query xmlns='jabber:iq:register'>", "<a#>b</a#>", "</query>", n),
    "command" targets::payload: |n| repeated("<command xmlns='http://jabber.org/protocol/commands' node='n'><x xmlns='jabber:x:data' type='submit'>", "<field var='f#'><value>v</value></field>", "</x></command>", n),
    "a photo" targets::payload: vcard,
    "no time" targets::payload: |n| repeated("2026-11-22T12:00:00.", "1", "Z", n),
    "PLAIN" targets::sasl_messages: |n| repeated("\0a\0", "x", "", n),
    "SCRAM, extensions" targets::sasl_messages: |n| repeated("n,,n=a,r=b", ",x=y", "", n),
    "SCRAM, a name" targets::sasl_messages: |n| repeated("n,,n=", "=2C", ",r=b", n),
    "base64" targets::sasl_messages: |n| repeated("", "QUJD", "", n),
    "a password" targets::sasl_messages: |n| repeated("", "\u{20ac}", "", n),
    "JID, localpart" targets::jid: |n| repeated("", "\u{e9}", "@b", n / 24),
    "JID, domain" targets::jid: |n| repeated("a@", "b.", "b", n / 24),
    "JID, resource" targets::jid: |n| repeated("a@b/", "\u{20ac}", "", n / 24),
    "JID over its bound" targets::jid: |n| repeated("a@b/", "\u{20ac}", "", n),
    "PROXY" targets::proxy: |n| repeated("PROXY TCP4 ", "1.1.1.1 ", "\r\n", n),
};

/// Feeds each shape at three sizes, shortest first; before all of them something that costs nothing, so that what was
/// made to be fed is behind it.
pub fn feed_all() {
    let inputs = SHAPES.iter().flat_map(|shape| {
        let made = [1, 2, 4].map(|times| (shape.make)(BYTES * times));
        made.map(|input| (shape.feed, input))
    });
    let inputs: Vec<(Feed, Vec<u8>)> = inputs.collect();
    measured(|_| {}, b"");
    for (feed, input) in inputs {
        measured(feed, black_box(&input));
    }
}

/// Where instructions are counted.
#[inline(never)]
fn measured(feed: Feed, input: &[u8]) {
    feed(input);
    // Not the last call: this function has to be there to be seen.
    black_box(());
}
