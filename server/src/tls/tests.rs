//! Certificates: local authority, directory, hot swap, choice by name

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, CustomExtension, KeyPair, SanType};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;

use super::*;
use crate::clock;
use crate::config::{Config, Host};

/// A directory of its own, removed at the end.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        let mut random = [0u8; 8];
        aws_lc_rs::rand::fill(&mut random).expect("randomness of the system");
        let name = format!("eider-tls-{:016x}", u64::from_ne_bytes(random));
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).expect("a new directory");
        Directory(path)
    }

    fn config(&self, hosts: &[&str]) -> Config {
        Config {
            data_directory: self.0.clone(),
            hosts: hosts.iter().map(|name| Host::named(name)).collect(),
            ..Config::default()
        }
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Writes a self-signed certificate for the names with its key into one file.
fn write_pem(file: &Path, names: &[&str]) -> String {
    fs::create_dir_all(file.parent().expect("a parent")).expect("directory");
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
    let pem = made.cert.pem();
    fs::write(file, format!("{pem}{}", made.signing_key.serialize_pem())).expect("written");
    pem
}

#[test]
fn local_authority_is_made_once_and_renews() {
    let directory = Directory::new();
    let now = clock::now();
    let file = local::certificate_for(&directory.0, "localhost", now).expect("made");
    let (first, authority) = (
        fs::read_to_string(&file).expect("certificate"),
        fs::read_to_string(local::authority_file(&directory.0)).expect("authority"),
    );
    for secret in [&file, &directory.0.join("local-authority/ca.key")] {
        let mode = fs::metadata(secret).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", secret.display());
    }
    local::certificate_for(&directory.0, "localhost", now).expect("kept");
    assert_eq!(first, fs::read_to_string(&file).expect("certificate"));

    let later = now + Duration::from_secs(370 * 24 * 3600);
    local::certificate_for(&directory.0, "localhost", later).expect("renewed");
    assert_ne!(first, fs::read_to_string(&file).expect("certificate"));
    let same = fs::read_to_string(local::authority_file(&directory.0)).expect("authority");
    assert_eq!(authority, same);

    fs::write(&file, "broken").expect("written");
    local::certificate_for(&directory.0, "localhost", now).expect("repaired");
    assert!(
        fs::read_to_string(&file)
            .expect("certificate")
            .contains("PRIVATE KEY")
    );
}

#[test]
fn every_layout_of_the_directory_is_read() {
    let directory = Directory::new();
    let certificates = directory.0.join("certificates");
    write_pem(
        &certificates.join("one.example.pem"),
        &["one.example", "*.one.example"],
    );
    write_pem(
        &certificates.join("two.example/fullchain.pem"),
        &["two.example"],
    );
    fs::copy(
        certificates.join("two.example/fullchain.pem"),
        certificates.join("two.example/privkey.pem"),
    )
    .expect("key");
    write_pem(
        &certificates.join("three.example.crt"),
        &["xn--bcher-kva.example"],
    );
    fs::copy(
        certificates.join("three.example.crt"),
        certificates.join("three.example.key"),
    )
    .expect("key");
    let config = directory.config(&["one.example", "two.example", "bücher.example"]);
    let (context, findings) = TlsContext::load(&config, clock::now()).expect("loads");
    assert!(findings.is_empty(), "{findings:?}");
    assert!(
        !directory.0.join("ca.pem").exists(),
        "no local authority was needed"
    );
    let set = context.current();
    let source = |name: &str| set.for_domain(name).map(|c| c.source.clone());
    assert_eq!(
        source("one.example"),
        Some(certificates.join("one.example.pem"))
    );
    assert_eq!(
        source("chat.one.example"),
        Some(certificates.join("one.example.pem"))
    );
    assert_eq!(source("a.b.one.example"), None);
    assert_eq!(
        source("two.example"),
        Some(certificates.join("two.example/fullchain.pem"))
    );
    assert_eq!(
        source("BÜCHER.example"),
        Some(certificates.join("three.example.crt"))
    );
    assert_eq!(source("other.example"), None);
    assert!(Arc::ptr_eq(
        set.default_certificate().expect("the first host's"),
        set.for_domain("one.example").expect("there"),
    ));
}

#[test]
fn a_broken_file_keeps_the_old_certificate() {
    let directory = Directory::new();
    let file = directory.0.join("certificates/one.example.pem");
    write_pem(&file, &["one.example"]);
    let config = directory.config(&["one.example"]);
    let (context, _) = TlsContext::load(&config, clock::now()).expect("loads");
    let shown = || {
        context
            .current()
            .for_domain("one.example")
            .expect("there")
            .end_point
            .clone()
    };
    let first = shown();

    assert!(!context.is_stale(&config));
    let good = fs::read(&file).expect("there");
    for broken in [&b"not a certificate"[..], &good[..good.len() / 2]] {
        fs::write(&file, broken).expect("written");
        assert!(context.is_stale(&config));
        let findings = context
            .reload(&config, clock::now())
            .expect("directory is there");
        assert!(
            matches!(findings[..], [Error::BadFile { .. }]),
            "{findings:?}"
        );
        assert_eq!(shown(), first);
    }
    write_pem(&file, &["one.example"]);
    assert!(
        context
            .reload(&config, clock::now())
            .expect("reads")
            .is_empty()
    );
    assert_ne!(shown(), first);

    let last = shown();
    fs::remove_file(&file).expect("removed");
    let findings = context.reload(&config, clock::now()).expect("reads");
    assert!(
        matches!(findings[..], [Error::Vanished { .. }]),
        "{findings:?}"
    );
    assert_eq!(shown(), last, "clients see no other authority's");
    let mut strict = config.clone();
    strict.tls.local_authority = false;
    assert!(TlsContext::load(&strict, clock::now()).is_err());
    TlsContext::load(&config, clock::now()).expect("loads");
    assert!(
        directory.0.join("ca.pem").exists(),
        "at the next start the local authority takes over"
    );
}

#[test]
fn an_expired_certificate_is_reported() {
    let directory = Directory::new();
    write_pem(
        &directory.0.join("certificates/one.example.pem"),
        &["one.example"],
    );
    let long_ago = SystemTime::UNIX_EPOCH;
    let config = directory.config(&["one.example"]);
    let (_, findings) = TlsContext::load(&config, long_ago).expect("loads");
    assert!(
        matches!(findings[..], [Error::Expired { .. }]),
        "{findings:?}"
    );
}

/// A client that trusts the local authority and asks for a name, if any.
fn connector(directory: &Directory, server_name: bool, alpn: &[&[u8]]) -> TlsConnector {
    connector_of(directory, server_name, alpn, rustls::DEFAULT_VERSIONS)
}

/// The same, speaking only some versions.
fn connector_of(
    directory: &Directory,
    server_name: bool,
    alpn: &[&[u8]],
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    let authority = CertificateDer::from_pem_file(local::authority_file(&directory.0));
    roots.add(authority.expect("authority")).expect("trusted");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.enable_sni = server_name;
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    TlsConnector::from(Arc::new(config))
}

/// One handshake over loopback: what the client and the server say of it.
async fn handshake(
    context: &TlsContext,
    connector: TlsConnector,
    name: &str,
    kind: TlsKind<'_>,
) -> (
    Result<Option<Vec<u8>>, String>,
    Result<TlsFacts, HandshakeError>,
) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let client = tokio::spawn(async move {
        let socket = TcpStream::connect(address).await.expect("connects");
        match connector.connect(name, socket).await {
            Ok(stream) => Ok(stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec)),
            Err(error) => Err(error.to_string()),
        }
    });
    let (socket, _) = listener.accept().await.expect("accepts");
    let server = accept(context, socket, kind)
        .await
        .map(|(_, facts, bindings)| {
            // RFC 9266: the exporter binds on TLS 1.3 only.
            let new = facts.version == rustls::ProtocolVersion::TLSv1_3;
            assert_eq!(bindings.tls_exporter.is_some(), new);
            assert!(bindings.tls_server_end_point.is_some());
            facts
        });
    (client.await.expect("no panic"), server)
}

#[tokio::test]
async fn names_choose_certificates() {
    let directory = Directory::new();
    let config = directory.config(&["localhost", "one.example"]);
    let (context, _) = TlsContext::load(&config, clock::now()).expect("loads");
    let connect = |sni| connector(&directory, sni, &[]);

    let (client, server) = handshake(&context, connect(true), "one.example", TlsKind::Direct).await;
    assert_eq!(client, Ok(None));
    let facts = server.expect("accepted");
    assert_eq!(facts.server_name.as_deref(), Some("one.example"));
    assert_eq!(facts.version, rustls::ProtocolVersion::TLSv1_3);

    let (client, server) = handshake(&context, connect(true), "x.example", TlsKind::Direct).await;
    assert!(client.expect_err("refused").contains("UnrecognisedName"));
    assert!(matches!(server, Err(HandshakeError::UnknownName(name)) if name == "x.example"));

    let (client, _) = handshake(&context, connect(false), "localhost", TlsKind::Direct).await;
    assert_eq!(client, Ok(None), "no name: the default host's certificate");
    let kind = TlsKind::Starttls {
        host: "one.example",
    };
    let (client, _) = handshake(&context, connect(false), "one.example", kind).await;
    assert_eq!(
        client,
        Ok(None),
        "no name: the certificate of the stream's host"
    );
}

#[tokio::test]
async fn alpn_is_answered_on_direct_tls() {
    let directory = Directory::new();
    let config = directory.config(&["localhost"]);
    let (context, _) = TlsContext::load(&config, clock::now()).expect("loads");
    let offer = |protocol| connector(&directory, true, &[protocol]);
    let (client, _) = handshake(
        &context,
        offer(b"xmpp-client"),
        "localhost",
        TlsKind::Direct,
    )
    .await;
    assert_eq!(client, Ok(Some(b"xmpp-client".to_vec())));
    let (client, server) = handshake(&context, offer(b"h2"), "localhost", TlsKind::Direct).await;
    assert!(
        client
            .expect_err("refused")
            .contains("NoApplicationProtocol")
    );
    assert!(matches!(server, Err(HandshakeError::Io(_))));
}

#[tokio::test]
async fn versions_and_suites() {
    let directory = Directory::new();
    let mut config = directory.config(&["localhost"]);
    let (context, _) = TlsContext::load(&config, clock::now()).expect("loads");
    let old = |directory| connector_of(directory, true, &[], &[&rustls::version::TLS12]);
    let (client, server) = handshake(&context, old(&directory), "localhost", TlsKind::Direct).await;
    assert_eq!(client, Ok(None));
    let facts = server.expect("accepted");
    assert_eq!(facts.version, rustls::ProtocolVersion::TLSv1_2);
    assert!(
        facts.suite.starts_with("TLS_ECDHE_ECDSA_WITH_"),
        "{}",
        facts.suite
    );

    config.tls.min_version = crate::config::TlsVersion::V1_3;
    let (context, _) = TlsContext::load(&config, clock::now()).expect("loads");
    let (client, server) = handshake(&context, old(&directory), "localhost", TlsKind::Direct).await;
    assert!(client.expect_err("refused").contains("ProtocolVersion"));
    assert!(server.is_err());
}

#[test]
fn xmpp_addresses_of_client_certificates() {
    let key = KeyPair::generate().expect("key");
    let mut params = CertificateParams::new(vec!["x.example".to_owned()]).expect("params");
    let address = rcgen::string::Ia5String::try_from("mail@x.example").expect("ascii");
    params.subject_alt_names.push(SanType::Rfc822Name(address));
    let oid = vec![1, 3, 6, 1, 5, 5, 7, 8, 5];
    let value = rcgen::OtherNameValue::Utf8String("juliet@im.example".to_owned());
    params
        .subject_alt_names
        .push(SanType::OtherName((oid, value)));
    let other = rcgen::OtherNameValue::Utf8String("not-an-address".to_owned());
    params
        .subject_alt_names
        .push(SanType::OtherName((vec![1, 2, 3], other)));
    params
        .custom_extensions
        .push(CustomExtension::from_oid_content(&[1, 2, 4], vec![5, 0]));
    let certificate = params.self_signed(&key).expect("signed");
    assert_eq!(xmpp_addresses(certificate.der()), ["juliet@im.example"]);
    assert!(xmpp_addresses(b"garbage").is_empty());
}
