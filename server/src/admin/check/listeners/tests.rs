//! Listeners that are taken, mute, without TLS, or show the wrong certificate.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;

const FEATURES: &str = "<stream:stream><stream:features><starttls \
    xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/></starttls></stream:features>";
const PROCEED: &str = "<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>";

fn config(port: u16, tls: TlsMode) -> Config {
    let mut config = Config::default();
    config.listeners.http.enabled = false;
    let address = "127.0.0.1".to_owned();
    config.listeners.c2s = vec![C2sListener {
        address,
        port,
        tls,
        ..C2sListener::default()
    }];
    config
}

fn ids(findings: &[Finding]) -> Vec<&str> {
    findings.iter().map(|f| f.id).collect()
}

async fn holder() -> (TcpListener, u16) {
    let holder = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = holder.local_addr().unwrap().port();
    (holder, port)
}

/// Shows clients a certificate for `host`; `folder` is the test's own.
fn acceptor(folder: &str, host: &str) -> TlsAcceptor {
    let folder = format!("eider-handshake-{folder}-{}", std::process::id());
    let folder = std::env::temp_dir().join(folder);
    std::fs::create_dir_all(&folder).unwrap();
    let file = tls::local::certificate_for(&folder, host, crate::clock::now()).unwrap();
    let pem = std::fs::read(file).unwrap();
    std::fs::remove_dir_all(folder).unwrap();
    let chain = CertificateDer::pem_slice_iter(&pem).collect::<Result<_, _>>();
    let key = PrivateKeyDer::from_pem_slice(&pem).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain.unwrap(), key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

fn now() -> i64 {
    crate::clock::timestamp().0 / 1_000_000
}

async fn says(stream: &mut TcpStream, answer: &str) {
    let mut read = [0; 512];
    let _ = stream.read(&mut read).await.unwrap();
    stream.write_all(answer.as_bytes()).await.unwrap();
}

#[tokio::test]
async fn finds_a_taken_port() {
    let (_holder, port) = holder().await;
    let found = check(&config(port, TlsMode::Starttls), false, now()).await;
    assert_eq!(ids(&found), ["server-not-running", "port-taken"]);
    assert!(found[1].remedy.contains(&port.to_string()));
}

#[tokio::test]
async fn finds_listeners_that_refuse_or_are_mute_or_come_to_no_tls() {
    let (holder, port) = holder().await;
    let config = config(port, TlsMode::Starttls);
    let acceptor = acceptor("starttls", "localhost");
    let serve = tokio::spawn(async move {
        let (mut mute, _) = holder.accept().await.unwrap();
        says(&mut mute, "HTTP/1.1 400 Bad Request\r\n\r\n").await;
        drop(mute);
        let (mut without, _) = holder.accept().await.unwrap();
        says(&mut without, FEATURES).await;
        says(&mut without, PROCEED).await;
        drop(without);
        let (mut well, _) = holder.accept().await.unwrap();
        says(&mut well, FEATURES).await;
        says(&mut well, PROCEED).await;
        acceptor.accept(well).await.unwrap();
    });
    let mut found = Vec::new();
    for _ in 0..3 {
        found.extend(check(&config, true, now()).await);
    }
    assert_eq!(ids(&found), ["listener-mute", "listener-without-tls"]);
    serve.await.unwrap();
    assert_eq!(
        ids(&check(&config, true, now()).await),
        ["listener-refuses"]
    );
}

#[tokio::test]
async fn finds_what_direct_tls_shows() {
    let (holder, port) = holder().await;
    let config = config(port, TlsMode::Direct);
    let acceptors = [
        acceptor("direct", "localhost"),
        acceptor("direct", "localhost"),
        acceptor("direct", "other.example"),
    ];
    let serve = tokio::spawn(async move {
        for acceptor in acceptors {
            let (stream, _) = holder.accept().await.unwrap();
            acceptor.accept(stream).await.unwrap();
        }
    });
    assert!(check(&config, true, now()).await.is_empty());
    let later = now() + 2 * 365 * 86_400;
    let ended = check(&config, true, later).await;
    assert_eq!(ids(&ended), ["listener-certificate"]);
    let other = check(&config, true, now()).await;
    assert_eq!(ids(&other), ["listener-certificate"]);
    assert!(other[0].what.contains("other.example"), "{}", other[0].what);
    serve.await.unwrap();
}
