//! Handshakes with forged certificates, which need the authority's key.

use rustls::ClientConfig;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::*;
use crate::disk::SimDisk;
use crate::random::{Seeded, SystemRandom};
use crate::transport::tls::{self, Purpose};

const NOW: i64 = 1_800_000_000;

struct Date;

impl WallClock for Date {
    fn unix_seconds(&self) -> i64 {
        NOW
    }
}

struct Cluster {
    port: TcpTransport,
    signer: Signer,
}

async fn cluster() -> Cluster {
    let disk = Arc::new(SimDisk::new(Arc::new(Seeded::new(1, "port"))));
    let secret = JoinSecret::mint(&SystemRandom);
    let settings = TcpSettings {
        listen: "127.0.0.1:0".parse().expect("an address"),
        dir: "member".into(),
        secrets: vec![secret.clone()],
    };
    let parts = TcpParts {
        disk,
        random: Arc::new(SystemRandom),
        clock: Arc::new(crate::clock::SystemClock),
        wall: Arc::new(Date),
        tasks: Tasks::system(),
    };
    let port = TcpTransport::bind(settings, parts).await.expect("a port");
    port.found(false).await.expect("founded");
    let sealed = port.shared.credentials.lock().await.sealed.clone();
    let opened = authority::open(&sealed.expect("sealed"), &[secret]).expect("opened");
    let signer = opened.signer;
    Cluster { port, signer }
}

impl Cluster {
    /// What somebody shows and believes whose certificate was made by `make`.
    fn setup(
        &self,
        make: impl FnOnce(&rcgen::KeyPair) -> rustls::pki_types::CertificateDer<'static>,
    ) -> Setup {
        let key = certificate::new_key().expect("a key");
        let member = MemberId(7);
        let facts = certificate::Facts {
            member,
            key: certificate::public_key(&key),
            begins: 0,
            ends: 0,
        };
        let granted = Granted {
            authority: self.signer.authority.clone(),
            certificate: make(&key),
            facts,
        };
        let credentials = Credentials {
            member,
            key,
            granted: Some(granted),
            sealed: None,
        };
        Setup::new(&credentials, &self.port.shared.judge, &SystemRandom).expect("a setup")
    }

    /// Signed by the authority, whatever it says.
    fn sign(
        &self,
        params: &rcgen::CertificateParams,
        key: &rcgen::KeyPair,
    ) -> rustls::pki_types::CertificateDer<'static> {
        let issuer = rcgen::Issuer::from_ca_cert_der(&self.signer.authority.der, &self.signer.key);
        let issuer = issuer.expect("an issuer");
        params
            .signed_by(key, &issuer)
            .expect("signed")
            .der()
            .clone()
    }

    /// Whether somebody is let in as a member with this configuration.
    async fn lets_in(&self, config: ClientConfig) -> bool {
        let stream = TcpStream::connect(self.port.local_address()).await;
        let connector = TlsConnector::from(Arc::new(config));
        let connected = connector
            .connect(tls::no_name(), stream.expect("open"))
            .await;
        let Ok(mut stream) = connected else {
            return false;
        };
        let mut accepted = std::pin::pin!(self.port.accept());
        tokio::select! {
            biased;
            read = stream.read_u8() => {
                assert!(read.is_err(), "nobody has written");
                false
            }
            accepted = &mut accepted => accepted.is_ok(),
        }
    }
}

fn name(uri: &str) -> rcgen::CertificateParams {
    let mut params = rcgen::CertificateParams::default();
    let uri = uri.to_owned().try_into().expect("ascii");
    params.subject_alt_names = vec![rcgen::SanType::URI(uri)];
    params.not_before = time::OffsetDateTime::from_unix_timestamp(NOW).expect("a date");
    params.not_after = params.not_before + time::Duration::days(1);
    params
}

#[tokio::test]
async fn only_the_authority_s_certificates_with_a_member_s_name_are_let_in() {
    let cluster = cluster().await;
    let talk = |setup: &Setup| setup.client(Purpose::Talk).expect("certified");
    let good = "raft-store:member:0000000000000007";
    let setup = cluster.setup(|key| cluster.sign(&name(good), key));
    assert!(cluster.lets_in(talk(&setup)).await);
    for wrong in ["raft-store:member:7", "raft-store:member:", "urn:member"] {
        let setup = cluster.setup(|key| cluster.sign(&name(wrong), key));
        assert!(!cluster.lets_in(talk(&setup)).await, "{wrong}");
    }
    let setup = cluster.setup(|key| {
        let signed = name(good).self_signed(key).expect("made");
        signed.der().clone()
    });
    assert!(!cluster.lets_in(talk(&setup)).await, "of its own making");
    // One that a member has signed: members sign for nobody.
    let setup = cluster.setup(|key| {
        let member = certificate::new_key().expect("a key");
        let issuer = rcgen::Issuer::new(name(good), &member);
        let signed = name(good).signed_by(key, &issuer).expect("signed");
        signed.der().clone()
    });
    assert!(!cluster.lets_in(talk(&setup)).await, "of a member's making");
    assert_eq!(cluster.port.counters().foreign, 5);
}

/// Shows no certificate.
#[derive(Debug)]
struct Nothing;

impl rustls::client::ResolvesClientCert for Nothing {
    fn resolve(
        &self,
        _: &[&[u8]],
        _: &[rustls::SignatureScheme],
    ) -> Option<Arc<rustls::sign::CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

#[tokio::test]
async fn without_a_certificate_or_the_protocol_nobody_is_let_in() {
    let cluster = cluster().await;
    let good = "raft-store:member:0000000000000007";
    let setup = cluster.setup(|key| cluster.sign(&name(good), key));
    let talk = || setup.client(Purpose::Talk).expect("certified");
    let mut bare = talk();
    bare.client_auth_cert_resolver = Arc::new(Nothing);
    assert!(!cluster.lets_in(bare).await);
    for protocols in [vec![], vec![b"h2".to_vec()]] {
        let mut other = talk();
        other.alpn_protocols = protocols;
        assert!(!cluster.lets_in(other).await);
    }
    // Somebody else's certificate without its key.
    let mut stolen = talk();
    let key = certificate::new_key().expect("a key");
    let key = rustls::crypto::aws_lc_rs::sign::any_eddsa_type(
        &rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialized_der()),
    );
    let certificate = cluster.port.shared.credentials.lock().await;
    let certificate = certificate.granted.as_ref().expect("granted");
    let shown =
        rustls::sign::CertifiedKey::new(vec![certificate.certificate.clone()], key.expect("a key"));
    stolen.client_auth_cert_resolver = Arc::new(rustls::sign::SingleCertAndKey::from(shown));
    assert!(!cluster.lets_in(stolen).await);
    assert!(cluster.lets_in(talk()).await, "the port goes on");
}

/// Members' addresses, and the authority if there is one. Every id has the key that it wants.
struct Rows(Vec<String>, Option<bytes::Bytes>);

impl Registry for Rows {
    fn authority(&self) -> io::Result<Option<(bytes::Bytes, crate::ids::Revision)>> {
        Ok(self
            .1
            .clone()
            .map(|sealed| (sealed, crate::ids::Revision(1))))
    }

    fn put_authority(
        &self,
        _: bytes::Bytes,
        _: Option<crate::ids::Revision>,
    ) -> BoxFuture<'_, io::Result<bool>> {
        Box::pin(std::future::ready(Err(io::ErrorKind::WouldBlock.into())))
    }

    fn bind(
        &self,
        _: MemberId,
        _: [u8; 32],
    ) -> BoxFuture<'_, io::Result<crate::transport::registry::Bound>> {
        Box::pin(std::future::ready(Ok(
            crate::transport::registry::Bound::Yes,
        )))
    }

    fn forget_removed(&self) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn addresses(&self) -> Vec<String> {
        self.0.clone()
    }
}

#[tokio::test]
async fn a_flood_from_many_addresses_keeps_no_member_out() {
    for says in ["nobody", "the rows", "its own proof"] {
        let cluster = cluster().await;
        let good = name("raft-store:member:0000000000000007");
        let setup = cluster.setup(|key| cluster.sign(&good, key));
        let talk = || setup.client(Purpose::Talk).expect("certified");
        if says == "its own proof" {
            assert!(cluster.lets_in(talk()).await);
        }
        let shared = &cluster.port.shared;
        // All turns of strangers that there are for the next ten seconds.
        let now = shared.parts.clock.now() + Duration::from_secs(10);
        for host in 0..3_000_u32 {
            let host = std::net::Ipv4Addr::from(0x0a00_0000 + host);
            shared.unfinished.turn((host, 1).into(), now);
        }
        let let_in = cluster.lets_in(talk()).await;
        assert_eq!(let_in, says == "its own proof", "{says}");
        if says == "the rows" {
            let rows = ["one.raft:7000".to_owned(), "127.0.0.1:7000".to_owned()];
            cluster.port.attach(Arc::new(Rows(rows.to_vec(), None)));
            let known = async { while !cluster.lets_in(talk()).await {} };
            let known = tokio::time::timeout(Duration::from_secs(8), known).await;
            known.expect("before strangers have turns again");
        }
    }
}

#[tokio::test]
async fn who_asks_for_nothing_holds_up_nobody_who_asks() {
    let cluster = cluster().await;
    let shared = &cluster.port.shared;
    let sealed = shared.credentials.lock().await.sealed.clone();
    cluster.port.attach(Arc::new(Rows(Vec::new(), sealed)));
    let good = name("raft-store:member:0000000000000007");
    let setup = cluster.setup(|key| cluster.sign(&good, key));
    let mut open = Vec::new();
    for _ in 0..2 * JOINERS {
        let config = setup.client(Purpose::Renew).expect("certified");
        let stream = TcpStream::connect(cluster.port.local_address()).await;
        let connector = TlsConnector::from(Arc::new(config));
        let connected = connector.connect(tls::no_name(), stream.expect("open"));
        open.push(connected.await.expect("a handshake"));
        // Whoever has opened it is done before it is known here.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let key = certificate::new_key().expect("a key");
    let request = certificate::request(MemberId(7), &key).expect("made");
    let owner = (MemberId(7), certificate::public_key(&key));
    let last = open.last_mut().expect("there are some");
    let answer = crate::transport::join::ask(last, &request, owner).await;
    // The key is another than the connection's; but it is looked at.
    let refused = Err(crate::transport::join::Refusal::Request);
    let answer = answer.map(|_| ()).map_err(|error| match error {
        crate::transport::join::Error::Refused(why) => why,
        other => panic!("{other}"),
    });
    assert_eq!(answer, refused);
}
