//! Bad input before login: what is sent, and what must come back

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use eider_storage::Fence;

use super::client::{HEADER, PASSWORD, STARTTLS, Server};
use super::plain;
use crate::config::{AccessRule, Action};

const STREAMS: &str = "xmlns:stream='http://etherx.jabber.org/streams'";

fn stream_error(condition: &str) -> String {
    format!("<{condition} xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>")
}

/// Headers: each is answered by a header, then the error (RFC 6120 §4.9.1.2).
#[tokio::test]
async fn headers() {
    let header = |attributes: &str| format!("<stream:stream {attributes} {STREAMS}>");
    let client = "xmlns='jabber:client'";
    let long = "x".repeat(5000);
    let cases = [
        (
            header(&format!("to='example.net' version='1.0' {client}")),
            "host-unknown",
        ),
        (
            header(&format!("to='juliet@localhost' version='1.0' {client}")),
            "host-unknown",
        ),
        (header(&format!("version='1.0' {client}")), "host-unknown"),
        (
            header(&format!("to='localhost' {client}")),
            "unsupported-version",
        ),
        (
            header(&format!("to='localhost' version='0.9' {client}")),
            "unsupported-version",
        ),
        (
            header("to='localhost' version='1.0' xmlns='jabber:server'"),
            "invalid-namespace",
        ),
        (header("to='localhost' version='1.0'"), "invalid-namespace"),
        (
            format!("<stream:stream to='localhost' version='1.0' {client} xmlns:stream='urn:x'>"),
            "invalid-namespace",
        ),
        (
            format!(
                "<s:stream to='localhost' version='1.0' {client} \
                 xmlns:s='http://etherx.jabber.org/streams'>"
            ),
            "bad-namespace-prefix",
        ),
        (
            header(&format!("to='localhost' id='{long}' {client}")),
            "policy-violation",
        ),
        (format!("<!DOCTYPE x []>{HEADER}"), "restricted-xml"),
        (format!("<!-- x -->{HEADER}"), "restricted-xml"),
        (format!("<?x y?>{HEADER}"), "restricted-xml"),
        (
            HEADER.replace("'1.0'?", "'1.0' encoding='utf-16'?"),
            "unsupported-encoding",
        ),
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), "not-well-formed"),
        ("\u{16}\u{3}\u{1}".to_owned(), "not-well-formed"),
        (HEADER.replace("localhost", "&x;"), "restricted-xml"),
    ];
    let server = Server::start(|_| {}).await;
    for (sent, condition) in cases {
        let mut client = server.connect().await;
        client.send(&sent).await;
        let came = client.rest().await;
        assert!(
            came.starts_with("<?xml version='1.0'?><stream:stream "),
            "{sent}: {came}"
        );
        assert_eq!(came.matches("<stream:stream ").count(), 1, "{sent}: {came}");
        assert!(came.contains(&stream_error(condition)), "{sent}: {came}");
        assert!(
            came.ends_with("</stream:error></stream:stream>"),
            "{sent}: {came}"
        );
    }
}

/// In the clear, behind a good header.
#[tokio::test]
async fn before_tls() {
    let server = Server::start(|_| {}).await;
    for (sent, condition) in [
        (
            "<message to='romeo@localhost'><body/></message>",
            "not-authorized",
        ),
        (
            "<iq type='get' id='1'><query xmlns='jabber:iq:auth'/></iq>",
            "not-authorized",
        ),
        ("<x xmlns='urn:x'/>", "not-authorized"),
        ("text", "bad-format"),
        ("<a></b>", "not-well-formed"),
        ("<x:y/>", "not-well-formed"),
        ("<!-- -->", "restricted-xml"),
        ("<x>&y;</x>", "restricted-xml"),
        (&format!("{STARTTLS}<iq/>"), "policy-violation"),
        (&format!("{STARTTLS}{HEADER}"), "policy-violation"),
    ] {
        let mut client = server.connect().await;
        client.send(&format!("{HEADER}{sent}")).await;
        client.until("</stream:features>").await;
        let came = client.rest().await;
        assert!(came.contains(&stream_error(condition)), "{sent}: {came}");
        assert!(!came.contains("proceed"), "{sent}: {came}");
    }
    let mut client = server.connect().await;
    client.send(HEADER).await;
    client.until("</stream:features>").await;
    assert!(
        client
            .auth("PLAIN", "x")
            .await
            .contains("<encryption-required/>")
    );
    client.send("</stream:stream>").await;
    assert_eq!(client.rest().await, "</stream:stream>");
}

/// Behind TLS, before login: the stream ends.
#[tokio::test]
async fn before_login() {
    let server = Server::start(|_| {}).await;
    let big = format!("<x xmlns='urn:x'>{}</x>", "x".repeat(17 * 1024));
    let deep = format!("{}{}", "<x>".repeat(40), "</x>".repeat(40));
    let many = format!("<x>{}</x>", "<y/>".repeat(2000));
    let attributes: String = (0..100).map(|n| format!(" a{n}=''")).collect();
    let spaces = " ".repeat(70 * 1024);
    for (sent, condition) in [
        ("<message to='romeo@localhost'/>", "not-authorized"),
        ("<presence/>", "not-authorized"),
        (
            "<iq type='set' id='1'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>",
            "not-authorized",
        ),
        (
            "<resume xmlns='urn:xmpp:sm:3' previd='x' h='0'/>",
            "not-authorized",
        ),
        (STARTTLS, "not-authorized"),
        (HEADER, "restricted-xml"),
        (
            &HEADER["<?xml version='1.0'?>".len()..],
            "unsupported-stanza-type",
        ),
        (&big, "policy-violation"),
        (&deep, "policy-violation"),
        (&many, "policy-violation"),
        (&format!("<x{attributes}/>"), "policy-violation"),
        (&spaces, "policy-violation"),
        ("<x a='1' a='2'/>", "not-well-formed"),
        ("<x>\u{1}</x>", "not-well-formed"),
    ] {
        let mut client = server.connect_tls().await;
        let short: String = sent.chars().take(80).collect();
        client.send(sent).await;
        let came = client.rest().await;
        assert!(came.contains(&stream_error(condition)), "{short}: {came}");
    }
}

/// mechanism | `b64` or `raw` | what is sent | condition | text. `PW` stands for the password.
const FAILURES: &[&str] = &[
    "DIGEST-MD5|raw||invalid-mechanism|",
    "|raw||invalid-mechanism|",
    "ANONYMOUS|raw||invalid-mechanism|",
    "EXTERNAL|raw||invalid-mechanism|",
    "PLAIN|raw|not base64!|incorrect-encoding|",
    "PLAIN|raw|AGp1bGlldAB4eA|incorrect-encoding|",
    "PLAIN|raw|=|malformed-request|",
    "PLAIN|b64|juliet|malformed-request|",
    "PLAIN|b64|\0juliet\0|malformed-request|",
    "PLAIN|b64|\0\0|malformed-request|",
    "PLAIN|b64|\0juliet\0PW\0PW|malformed-request|",
    "PLAIN|b64|\0juliet\0wrong|not-authorized|",
    "PLAIN|b64|\0nobody\0PW|not-authorized|",
    "PLAIN|b64|\0juliet@localhost\0PW|not-authorized|",
    "PLAIN|b64|romeo@localhost\0juliet\0PW|invalid-authzid|",
    "PLAIN|b64|juliet@other.example\0juliet\0PW|invalid-authzid|",
    "PLAIN|b64|juliet@localhost/balcony\0juliet\0PW|invalid-authzid|",
    "PLAIN|b64|juliet\0juliet\0PW|invalid-authzid|",
    "SCRAM-SHA-256|b64|n,a=romeo@localhost,n=juliet,r=x|invalid-authzid|",
    "SCRAM-SHA-256|b64|y,,n=juliet,r=x|not-authorized|e=server-does-support-channel-binding",
    "SCRAM-SHA-256|b64|p=tls-exporter,,n=u,r=x|malformed-request|e=channel-binding-not-supported",
    "SCRAM-SHA-256-PLUS|b64|p=tls-unique,,n=u,r=x|malformed-request|e=unsupported-channel-binding",
    "SCRAM-SHA-256-PLUS|b64|n,,n=juliet,r=x|malformed-request|e=other-error",
    "SCRAM-SHA-256|b64|n,,m=x,n=juliet,r=x|malformed-request|e=extensions-not-supported",
    "SCRAM-SHA-256|b64|n,,n=jul=iet,r=x|malformed-request|e=invalid-username-encoding",
    "SCRAM-SHA-256|b64|n,,n=a@b,r=x|malformed-request|e=invalid-username-encoding",
    "SCRAM-SHA-256|b64|nonsense|malformed-request|e=invalid-encoding",
];

/// SASL: failures that leave the stream open for another try.
#[tokio::test]
async fn failures() {
    let server = Server::start(|config| {
        config.login.attempts_per_stream = 100;
        config.login.attempts_per_account = 0;
        config.login.attempts_per_address = 0;
    })
    .await;
    let mut client = server.connect_tls().await;
    for case in FAILURES {
        let [mechanism, kind, sent, condition, text] = case
            .split('|')
            .collect::<Vec<_>>()
            .try_into()
            .expect("five columns");
        let sent = sent.replace("PW", PASSWORD);
        let sent = if kind == "b64" {
            STANDARD.encode(sent)
        } else {
            sent
        };
        let came = client.auth_raw(mechanism, &sent).await;
        let found = came.contains(&format!("<{condition}/>")) && came.contains(text);
        assert!(found, "{case}: {came}");
    }
    let first = "n,,n=juliet,r=abc";
    for (sent, text) in [
        ("c=biws,r=abcx,p=AAAA", "e=other-error"),
        ("c=biws,r=abc,p=AAAA", "e=other-error"),
        ("x", "e=invalid-encoding"),
    ] {
        client.auth("SCRAM-SHA-256", first).await;
        let came = client.respond(sent).await;
        assert!(
            came.contains("<malformed-request/>") && came.contains(text),
            "{sent}: {came}"
        );
    }
    client.auth("SCRAM-SHA-256", first).await;
    client
        .send("<abort xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>")
        .await;
    assert!(client.answer().await.contains("<aborted/>"));
    let wrong_channel = client
        .scram("juliet", PASSWORD, Some(("tls-exporter", &[0; 32])))
        .await;
    assert!(
        wrong_channel.contains("e=channel-bindings-dont-match"),
        "{wrong_channel}"
    );
    assert!(
        client
            .scram("juliet", "wrong", None)
            .await
            .contains("e=invalid-proof")
    );
    assert!(
        client
            .scram("nobody", PASSWORD, None)
            .await
            .contains("e=invalid-proof")
    );
    assert!(
        client
            .scram("juliet", PASSWORD, None)
            .await
            .starts_with("<success")
    );
}

#[tokio::test]
async fn an_unknown_user_looks_like_any_other() {
    let server = Server::start(|_| {}).await;
    let mut salts = Vec::new();
    for _ in 0..2 {
        let mut client = server.connect_tls().await;
        let challenge = client.auth("SCRAM-SHA-512", "n,,n=nobody,r=abc").await;
        let message = super::client::text_of(&challenge);
        let parts: Vec<&str> = message.split(',').collect();
        assert!(
            parts[0].starts_with("r=abc") && parts[2] == "i=1000",
            "{message}"
        );
        assert_eq!(STANDARD.decode(&parts[1][2..]).expect("base64").len(), 16);
        salts.push(parts[1].to_owned());
    }
    assert_eq!(salts[0], salts[1]);
}

#[tokio::test]
async fn tries_are_limited() {
    let server = Server::start(|config| config.login.attempts_per_account = 4).await;
    let wrong = plain("juliet", "wrong");
    let mut client = server.connect_tls().await;
    for _ in 0..3 {
        assert!(
            client
                .auth("PLAIN", &wrong)
                .await
                .contains("<not-authorized/>")
        );
    }
    let came = client.rest().await;
    assert!(came.contains(&stream_error("policy-violation")), "{came}");

    let mut client = server.connect_tls().await;
    assert!(
        client
            .auth("PLAIN", &wrong)
            .await
            .contains("<not-authorized/>")
    );
    let came = client.auth("PLAIN", &plain("juliet", PASSWORD)).await;
    assert!(
        came.contains("<temporary-auth-failure/>") && came.contains("wait "),
        "{came}"
    );
    let came = client.auth("PLAIN", &plain("romeo", "x")).await;
    assert!(
        came.contains("<not-authorized/>"),
        "another account: {came}"
    );
}

#[tokio::test]
async fn who_may_not_log_in_is_told_after_the_proof() {
    let server = Server::start(|config| {
        config.access.rules = vec![AccessRule {
            actions: vec![Action::Login],
            allow: false,
            accounts: vec!["juliet@localhost".to_owned()],
            networks: vec!["127.0.0.0/8".parse().expect("a network")],
            ..AccessRule::default()
        }];
    })
    .await;
    let mut client = server.connect_tls().await;
    let came = client.scram("juliet", PASSWORD, None).await;
    assert!(
        came.contains("<not-authorized/>") && came.contains("not allowed"),
        "{came}"
    );

    let server = Server::start(|_| {}).await;
    let storage = &server.parts.storage;
    let disabled = storage
        .account_set_disabled(Fence::single(), server.account, true)
        .await;
    assert_eq!(disabled, Ok(true));
    let mut client = server.connect_tls().await;
    assert!(
        client
            .scram("juliet", "wrong", None)
            .await
            .contains("<not-authorized/>")
    );
    assert!(
        client
            .scram("juliet", PASSWORD, None)
            .await
            .contains("<account-disabled/>")
    );
}

/// The header after login must be of the host and account that logged in.
#[tokio::test]
async fn identity_does_not_change_after_login() {
    let server = Server::start(|_| {}).await;
    for (header, condition) in [
        (
            HEADER.replace("localhost", "other.example"),
            "not-authorized",
        ),
        (
            HEADER.replace("to=", "from='romeo@localhost' to="),
            "invalid-from",
        ),
        (HEADER.replace("version='1.0' ", ""), "unsupported-version"),
    ] {
        let mut client = server.connect_tls().await;
        assert!(
            client
                .scram("juliet", PASSWORD, None)
                .await
                .starts_with("<success")
        );
        client.send(&header).await;
        let came = client.rest().await;
        assert!(
            came.starts_with("<?xml version='1.0'?><stream:stream "),
            "{header}: {came}"
        );
        assert!(came.contains(&stream_error(condition)), "{header}: {came}");
    }
}

#[tokio::test]
async fn silence_ends_at_the_deadline() {
    let server = Server::start(|config| config.login.deadline_seconds = 1).await;
    let mut silent = server.connect().await;
    let came = silent.rest().await;
    assert!(
        came.starts_with("<?xml version='1.0'?><stream:stream "),
        "{came}"
    );
    assert!(came.contains(&stream_error("connection-timeout")), "{came}");
    let mut slow = server.connect_tls().await;
    for byte in "<auth xmlns='urn:ietf:params:xml:ns".chars() {
        if tokio::io::AsyncWriteExt::write_all(&mut slow.stream, byte.to_string().as_bytes())
            .await
            .is_err()
        {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let came = slow.rest().await;
    assert!(came.contains(&stream_error("connection-timeout")), "{came}");
}

#[tokio::test]
async fn a_stop_ends_streams_that_negotiate() {
    let server = Server::start(|_| {}).await;
    let mut client = server.connect_tls().await;
    server.parts.stop.cancel();
    let came = client.rest().await;
    assert!(came.contains(&stream_error("system-shutdown")), "{came}");
}

#[tokio::test]
async fn logins_under_way_are_not_failed_ones_and_guessing_at_once_tells_no_more() {
    let server = Server::start(|config| {
        config.login.attempts_per_account = 2;
        config.login.attempts_per_address = 2;
    })
    .await;
    let mut parked = Vec::new();
    for _ in 0..5 {
        let mut client = server.connect_tls().await;
        let came = client.auth("SCRAM-SHA-256", "n,,n=romeo,r=abc").await;
        assert!(came.contains("<challenge"), "{came}");
        parked.push((client, super::client::text_of(&came)));
    }
    let mut client = server.connect_tls().await;
    let challenge = client.auth("SCRAM-SHA-256", "n,,n=juliet,r=abc").await;
    let late = super::client::text_of(&challenge);
    let mut other = server.connect_tls().await;
    let came = other.scram("juliet", PASSWORD, None).await;
    assert!(came.contains("<success"), "{came}");
    let mut told = Vec::new();
    for (client, challenge) in &mut parked {
        let nonce = challenge.split(',').next().expect("a nonce");
        let proof = STANDARD.encode([0; 32]);
        let came = client.respond(&format!("c=biws,{nonce},p={proof}")).await;
        told.push(came.contains("<not-authorized/>"));
    }
    assert_eq!(told, [true, true, false, false, false]);
    let (last, _) = super::client::client_final("n=juliet,r=abc", &late, "biws", PASSWORD);
    let came = client.respond(&last).await;
    assert!(
        came.contains("<temporary-auth-failure/>") && came.contains("wait 300 seconds"),
        "the right password neither: {came}"
    );
}
