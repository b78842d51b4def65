//! SASL EXTERNAL with client certificates (XEP-0178)

use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    OtherNameValue, SanType,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpStream;

use super::client::{Client, HEADER, Server};
use crate::config::Config;

/// An authority for client certificates.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

type Pair = (CertificateDer<'static>, PrivateKeyDer<'static>);

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("params");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).expect("signed").pem();
        Authority {
            pem,
            issuer: Issuer::new(params, key),
        }
    }

    /// A certificate that states these addresses.
    fn issue(&self, addresses: &[&str]) -> Pair {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("params");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        for address in addresses {
            let value = OtherNameValue::Utf8String((*address).to_owned());
            let oid = vec![1, 3, 6, 1, 5, 5, 7, 8, 5];
            params
                .subject_alt_names
                .push(SanType::OtherName((oid, value)));
        }
        let certificate = params.signed_by(&key, &self.issuer).expect("signed");
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("PKCS #8");
        (certificate.der().clone(), key)
    }

    /// Makes a server trust it for the host `localhost`.
    fn trust(&self, config: &mut Config) {
        let file = config.data_directory.join("clients.pem");
        std::fs::write(&file, &self.pem).expect("written");
        config.tls.client_authorities = Some(file);
        config.hosts[0].external = true;
    }
}

type TlsClient = Client<tokio_rustls::client::TlsStream<TcpStream>>;

/// A stream up to the features before login.
async fn open(server: &Server, identity: Option<Pair>) -> (TlsClient, String) {
    let socket = TcpStream::connect(server.direct).await.expect("connects");
    let mut client = server.tls_as(socket, identity).await.expect("handshake");
    client.send(HEADER).await;
    let features = client.until("</stream:features>").await;
    (client, features)
}

#[tokio::test]
async fn a_certificate_that_names_the_account_logs_in() {
    let authority = Authority::new();
    let mut server = Server::start(|config| authority.trust(config)).await;
    let romeo_too = [
        "juliet@localhost",
        "romeo@localhost",
        "juliet@other.example",
    ];
    for (stated, wished, answer) in [
        (&["juliet@localhost"][..], "", "<success"),
        (&["juliet@localhost"], "juliet@localhost", "<success"),
        (
            &["juliet@localhost"],
            "romeo@localhost",
            "<invalid-authzid/>",
        ),
        (&["juliet@localhost"], "not a jid @", "<invalid-authzid/>"),
        (&romeo_too, "", "<invalid-authzid/>"),
        (&romeo_too, "juliet@localhost", "<success"),
        (&romeo_too, "juliet@other.example", "<invalid-authzid/>"),
        (&["nobody@localhost"], "", "<not-authorized/>"),
    ] {
        let (mut client, features) = open(&server, Some(authority.issue(stated))).await;
        assert!(
            features.contains("<mechanism>EXTERNAL</mechanism>"),
            "{features}"
        );
        let came = match wished {
            "" => client.auth_raw("EXTERNAL", "=").await,
            wished => client.auth("EXTERNAL", wished).await,
        };
        assert!(came.contains(answer), "{stated:?} {wished}: {came}");
        if answer == "<success" {
            client.send(HEADER).await;
            client.until("</stream:features>").await;
            let login = server.logins.recv().await.expect("a login");
            assert_eq!(login.identity.account.as_str(), "juliet@localhost");
        }
    }
}

#[tokio::test]
async fn without_a_certificate_for_the_host_it_is_not_offered() {
    let authority = Authority::new();
    let server = Server::start(|config| authority.trust(config)).await;
    for identity in [None, Some(authority.issue(&["juliet@other.example"]))] {
        let (mut client, features) = open(&server, identity).await;
        assert!(!features.contains("EXTERNAL"), "{features}");
        let came = client.auth_raw("EXTERNAL", "=").await;
        assert!(came.contains("<invalid-mechanism/>"), "{came}");
    }
    let stranger = Authority::new().issue(&["juliet@localhost"]);
    let socket = TcpStream::connect(server.direct).await.expect("connects");
    // With TLS 1.3 the client learns of it by its first read.
    if let Ok(mut client) = server.tls_as(socket, Some(stranger)).await {
        assert_eq!(client.rest().await, "");
    }
}
