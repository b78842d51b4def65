//! Negotiation with a real TLS client over loopback: what succeeds

mod bad_input;
pub(crate) mod client;
mod external;

use aws_lc_rs::digest;
use eider_storage::Fence;
use eider_xmpp::framing::Frame;
use eider_xmpp::sasl::{BindingKind, Mechanism, ScramHash, scram};
use tokio::io::AsyncReadExt as _;

use client::{HEADER, PASSWORD, STARTTLS, Server, credentials};

use crate::config::{AccessRule, Action};

fn plain(user: &str, password: &str) -> String {
    format!("\0{user}\0{password}")
}

#[tokio::test]
async fn starttls_and_scram_with_channel_binding() {
    let mut server = Server::start(|_| {}).await;
    for kind in ["tls-exporter", "tls-server-end-point"] {
        let mut clear = server.connect().await;
        clear.send(HEADER).await;
        let features = clear.until("</stream:features>").await;
        assert!(
            features.contains("<required/>") && !features.contains("mechanism"),
            "{features}"
        );
        clear.send(STARTTLS).await;
        clear
            .until("<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
            .await;
        let mut client = server.tls(clear.stream).await;
        let data = match kind {
            "tls-exporter" => {
                let connection = client.stream.get_ref().1;
                let label = b"EXPORTER-Channel-Binding";
                let data = connection.export_keying_material([0; 32], label, None);
                data.expect("after the handshake").to_vec()
            }
            _ => {
                let chain = client
                    .stream
                    .get_ref()
                    .1
                    .peer_certificates()
                    .expect("a certificate");
                digest::digest(&digest::SHA256, &chain[0]).as_ref().to_vec()
            }
        };
        client.send(HEADER).await;
        let features = client.until("</stream:features>").await;
        assert!(
            features.contains("<channel-binding type='tls-exporter'/>"),
            "{features}"
        );
        assert!(
            features.contains("<max-bytes>16384</max-bytes>"),
            "{features}"
        );
        let answer = client.scram("Juliet", PASSWORD, Some((kind, &data))).await;
        assert!(answer.starts_with("<success"), "{answer}");
        client.send(HEADER).await;
        let features = client.until("</stream:features>").await;
        assert!(features.contains("<bind ") && features.contains("<c host='localhost'/>"));

        let login = server.logins.recv().await.expect("a login");
        assert_eq!(login.identity.account.as_str(), "juliet@localhost");
        let mechanism = Mechanism::Scram {
            hash: ScramHash::Sha256,
            plus: true,
        };
        assert_eq!(login.identity.mechanism, mechanism);
        assert_eq!(
            login.login.as_ref().map(|login| login.id),
            Some(server.account)
        );
        assert_eq!(login.meter.class().name, "normal");
        assert_eq!(login.framer.limits().stanza_bytes, 256 * 1024);
    }
}

#[tokio::test]
async fn direct_tls_and_plain_goes_on_with_the_same_stream() {
    let mut server = Server::start(|_| {}).await;
    let mut client = server.connect_tls().await;
    let answer = client.auth("PLAIN", &plain("juliet", PASSWORD)).await;
    assert_eq!(
        answer,
        "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>"
    );
    client
        .send(&HEADER.replace("to=", "from='juliet@localhost/balcony' to="))
        .await;
    let header = client.until("</stream:features>").await;
    assert!(header.contains("to='juliet@localhost'"), "{header}");
    let mut login = server.logins.recv().await.expect("a login");
    assert_eq!(login.identity.mechanism, Mechanism::Plain);
    assert_eq!(server.parts.admission.before_login(), 0);

    client
        .send("<iq type='set' id='1'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>")
        .await;
    let mut buffer = login.buffered;
    while login.transport.read_buf(&mut buffer).await.expect("read") > 0 {
        match login.framer.next(&mut buffer).expect("well-formed") {
            Some(frame) => {
                assert!(matches!(frame, Frame::Stanza(_)));
                break;
            }
            None => continue,
        }
    }
}

#[tokio::test]
async fn bytes_may_trickle_in_one_by_one() {
    let mut server = Server::start(|_| {}).await;
    let mut client = server.connect_tls().await;
    client
        .send("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'/>")
        .await;
    assert_eq!(
        client.answer().await,
        "<challenge xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>"
    );
    assert!(
        client
            .respond(&plain("juliet", PASSWORD))
            .await
            .starts_with("<success")
    );
    for byte in HEADER.chars() {
        client.send(&byte.to_string()).await;
    }
    client.until("</stream:features>").await;
    assert!(server.logins.recv().await.is_some());
}

#[tokio::test]
async fn the_downgrade_hash_covers_what_was_offered() {
    let server = Server::start(|config| config.login.plain = false).await;
    let mut client = server.connect_tls().await;
    let challenge = client.auth("SCRAM-SHA-256", "n,,n=juliet,r=abc").await;
    let mut offered: Vec<_> = Mechanism::ALL.to_vec();
    offered.retain(|mechanism| matches!(mechanism, Mechanism::Scram { .. }));
    let bindings = [BindingKind::TlsExporter, BindingKind::TlsServerEndPoint];
    let hash = scram::downgrade_hash(ScramHash::Sha256, &offered, &bindings);
    let message = client::text_of(&challenge);
    assert!(message.ends_with(&format!(",h={hash}")), "{message}");
}

#[tokio::test]
async fn anonymous_users_get_an_address_of_their_own() {
    let mut server = Server::start(|config| config.hosts[0].anonymous = true).await;
    let mut addresses = Vec::new();
    for _ in 0..2 {
        let mut client = server.connect_tls().await;
        assert!(
            client
                .auth_raw("ANONYMOUS", "")
                .await
                .starts_with("<success")
        );
        client.send(HEADER).await;
        client.until("</stream:features>").await;
        let login = server.logins.recv().await.expect("a login");
        assert!(login.identity.anonymous && login.login.is_none());
        addresses.push(login.identity.account);
    }
    assert_ne!(addresses[0], addresses[1]);
    assert_eq!(addresses[0].domain(), "localhost");
}

#[tokio::test]
async fn the_address_behind_a_proxy_is_the_clients() {
    let mut server = Server::start(|config| {
        config.listeners.c2s[0].proxy_networks = vec!["127.0.0.0/8".parse().expect("a network")];
        config.access.rules = vec![AccessRule {
            actions: vec![Action::Connect],
            allow: false,
            networks: vec!["198.51.100.0/24".parse().expect("a network")],
            ..AccessRule::default()
        }];
    })
    .await;
    let mut clear = server.connect().await;
    clear
        .send("PROXY TCP4 192.0.2.7 192.0.2.1 4711 5222\r\n")
        .await;
    clear.send(HEADER).await;
    clear.until("</stream:features>").await;
    clear.send(STARTTLS).await;
    clear.until("/>").await;
    let mut client = server.tls(clear.stream).await;
    client.send(HEADER).await;
    client.until("</stream:features>").await;
    assert!(
        client
            .auth("PLAIN", &plain("juliet", PASSWORD))
            .await
            .starts_with("<success")
    );
    client.send(HEADER).await;
    let login = server.logins.recv().await.expect("a login");
    assert_eq!(login.peer.to_string(), "192.0.2.7:4711");

    for refused in [
        "PROXY TCP4 198.51.100.7 192.0.2.1 4711 5222\r\n",
        "<stream:stream>",
    ] {
        let mut client = server.connect().await;
        client.send(refused).await;
        assert_eq!(client.rest().await, "", "{refused}");
    }
}

#[tokio::test]
async fn a_changed_password_counts_at_once() {
    let server = Server::start(|_| {}).await;
    let keys = credentials("another");
    let changed = server
        .parts
        .storage
        .account_set_keys(Fence::single(), server.account, &keys);
    assert_eq!(changed.await, Ok(true));
    let mut client = server.connect_tls().await;
    assert!(
        client
            .scram("juliet", PASSWORD, None)
            .await
            .contains("<not-authorized/>")
    );
    assert!(
        client
            .scram("juliet", "another", None)
            .await
            .starts_with("<success")
    );
}
