//! A client of its own for the tests of negotiation, and the server it talks to

use std::fs;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::{digest, hmac, pbkdf2};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use eider_storage::{AccountId, Credentials, Fence, SqliteConfig, Timestamp};
use eider_xmpp::sasl;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::access::{Admission, Attempts, Policy};
use crate::admin::metrics::Metrics;
use crate::clock;
use crate::config::{C2sListener, Config, Host, TlsMode};
use crate::listener;
use crate::stream::{Authenticated, PasswordWorkers, StreamParts, decoy_secret};
use crate::tls::{TlsContext, local};

/// The header a well-behaved client sends.
pub const HEADER: &str = "<?xml version='1.0'?><stream:stream to='localhost' version='1.0' \
     xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>";
pub const STARTTLS: &str = "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>";
pub const PASSWORD: &str = "Wherefore art thou";

/// A server that takes clients up to login, with the account `juliet@localhost`.
pub struct Server {
    pub starttls: std::net::SocketAddr,
    pub direct: std::net::SocketAddr,
    pub logins: mpsc::UnboundedReceiver<Authenticated>,
    pub parts: Arc<StreamParts>,
    pub account: AccountId,
    directory: PathBuf,
    _config: watch::Sender<Arc<Config>>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.parts.stop.cancel();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

impl Server {
    pub async fn start(change: impl FnOnce(&mut Config)) -> Server {
        let mut random = [0u8; 8];
        aws_lc_rs::rand::fill(&mut random).expect("randomness of the system");
        let name = format!("eider-stream-{:016x}", u64::from_ne_bytes(random));
        let directory = std::env::temp_dir().join(name);
        fs::create_dir(&directory).expect("a new directory");
        let mut config = Config {
            data_directory: directory.clone(),
            ..Config::default()
        };
        config.hosts.push(Host::named("other.example"));
        config.login.iterations = 1000;
        change(&mut config);
        let storage = SqliteConfig::new(config.sqlite_file());
        let storage = eider_storage::open(&eider_storage::Config::Sqlite(storage)).await;
        let storage = storage.expect("a new database");
        let keys = credentials(PASSWORD);
        let created =
            storage.account_create(Fence::single(), "localhost", "juliet", &keys, Timestamp(0));
        let account = created.await.expect("a new account");
        let (tls, findings) = TlsContext::load(&config, clock::now()).expect("TLS");
        assert!(findings.is_empty(), "{findings:?}");
        let random = Arc::new(SystemRandom::new());
        let (sender, watched) = watch::channel(Arc::new(config.clone()));
        let parts = Arc::new(StreamParts {
            config: watched,
            tls: Arc::new(tls),
            policy: Arc::new(Policy::new(&config)),
            admission: Arc::new(Admission::default()),
            attempts: Arc::new(Attempts::default()),
            storage,
            metrics: Arc::new(Metrics::new()),
            passwords: PasswordWorkers::new(2),
            decoys: decoy_secret(&directory, &*random).expect("written"),
            random,
            features: Arc::new(|host| format!("<c host='{host}'/>")),
            before_login: None,
            stop: CancellationToken::new(),
        });
        let (sent, logins) = mpsc::unbounded_channel();
        Server {
            starttls: listen(&parts, TlsMode::Starttls, &sent),
            direct: listen(&parts, TlsMode::Direct, &sent),
            logins,
            parts,
            account,
            directory,
            _config: sender,
        }
    }

    /// A connection in the clear.
    pub async fn connect(&self) -> Client<TcpStream> {
        Client::new(TcpStream::connect(self.starttls).await.expect("connects"))
    }

    /// A connection with direct TLS, its stream opened and the features read.
    pub async fn connect_tls(&self) -> Client<TlsStream<TcpStream>> {
        let socket = TcpStream::connect(self.direct).await.expect("connects");
        let mut client = self.tls(socket).await;
        client.send(HEADER).await;
        client.until("</stream:features>").await;
        client
    }

    /// TLS over a socket, trusting the server's own authority.
    pub async fn tls(&self, socket: TcpStream) -> Client<TlsStream<TcpStream>> {
        self.tls_as(socket, None).await.expect("handshake")
    }

    /// The same, showing a certificate.
    pub async fn tls_as(
        &self,
        socket: TcpStream,
        identity: Option<(CertificateDer<'static>, PrivateKeyDer<'static>)>,
    ) -> std::io::Result<Client<TlsStream<TcpStream>>> {
        let mut roots = RootCertStore::empty();
        let authority = CertificateDer::from_pem_file(local::authority_file(&self.directory));
        roots.add(authority.expect("authority")).expect("trusted");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots);
        let config = match identity {
            Some((certificate, key)) => builder
                .with_client_auth_cert(vec![certificate], key)
                .expect("a pair"),
            None => builder.with_no_client_auth(),
        };
        let name = ServerName::try_from("localhost").expect("a name");
        let connector = TlsConnector::from(Arc::new(config));
        Ok(Client::new(connector.connect(name, socket).await?))
    }
}

/// A listener on a free port, whose logins go to the test.
fn listen(
    parts: &Arc<StreamParts>,
    tls: TlsMode,
    logins: &mpsc::UnboundedSender<Authenticated>,
) -> std::net::SocketAddr {
    let settings = C2sListener {
        address: "127.0.0.1".to_owned(),
        port: 0,
        tls,
        proxy_networks: parts.config.borrow().listeners.c2s[0]
            .proxy_networks
            .clone(),
        ..C2sListener::default()
    };
    // Not in the configuration: it keeps these settings.
    let bound = listener::bind(&settings, usize::MAX).expect("a free port");
    let (address, logins) = (bound.address, logins.clone());
    let serve = move |authenticated| {
        let _ = logins.send(authenticated);
        std::future::ready(())
    };
    tokio::spawn(listener::serve(
        bound,
        parts.clone(),
        TaskTracker::new(),
        serve,
    ));
    address
}

/// The keys of a password.
pub fn credentials(password: &str) -> Credentials {
    let iterations = NonZeroU32::new(1000).expect("not zero");
    let keys = sasl::ScramKeys::derive_all(password, [[1; 16], [2; 16], [3; 16]], iterations);
    let [sha1, sha256, sha512] = keys.map(|keys| {
        Some(eider_storage::ScramKeys {
            salt: keys.salt,
            iterations: keys.iterations.get(),
            stored_key: keys.stored_key,
            server_key: keys.server_key,
        })
    });
    Credentials {
        sha1,
        sha256,
        sha512,
    }
}

/// One end of a stream, with what was read and not yet looked for.
pub struct Client<S> {
    pub stream: S,
    read: String,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub fn new(stream: S) -> Self {
        Client {
            stream,
            read: String::new(),
        }
    }

    pub async fn send(&mut self, text: &str) {
        self.stream
            .write_all(text.as_bytes())
            .await
            .expect("written");
        self.stream.flush().await.expect("flushed");
    }

    /// Reads up to and with a piece of text.
    pub async fn until(&mut self, end: &str) -> String {
        loop {
            if let Some(at) = self.read.find(end) {
                let rest = self.read.split_off(at + end.len());
                return std::mem::replace(&mut self.read, rest);
            }
            assert!(self.more().await, "{end} is not in {}", self.read);
        }
    }

    /// Reads to the end of the connection.
    pub async fn rest(&mut self) -> String {
        while self.more().await {}
        std::mem::take(&mut self.read)
    }

    async fn more(&mut self) -> bool {
        let mut buffer = [0; 4096];
        let reading = tokio::time::timeout(Duration::from_secs(20), self.stream.read(&mut buffer));
        let read = reading.await.expect("something within 20 s").unwrap_or(0);
        self.read
            .push_str(std::str::from_utf8(&buffer[..read]).expect("UTF-8"));
        read > 0
    }

    /// Sends `<auth/>` with the initial response and reads the whole answer.
    pub async fn auth(&mut self, mechanism: &str, message: &str) -> String {
        let message = STANDARD.encode(message);
        self.auth_raw(mechanism, &message).await
    }

    pub async fn auth_raw(&mut self, mechanism: &str, text: &str) -> String {
        self.send(&format!(
            "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='{mechanism}'>{text}</auth>"
        ))
        .await;
        self.answer().await
    }

    /// Sends `<response/>` and reads the whole answer.
    pub async fn respond(&mut self, message: &str) -> String {
        let message = STANDARD.encode(message);
        self.send(&format!(
            "<response xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>{message}</response>"
        ))
        .await;
        self.answer().await
    }

    /// A challenge, success or failure.
    pub async fn answer(&mut self) -> String {
        loop {
            for end in [
                "</challenge>",
                "</success>",
                "</failure>",
                "sasl'/>",
                "</stream:stream>",
            ] {
                if self.read.contains(end) {
                    return self.until(end).await;
                }
            }
            assert!(self.more().await, "the stream ended after {}", self.read);
        }
    }

    /// A whole SCRAM-SHA-256 exchange; the last answer and what it should hold.
    pub async fn scram(
        &mut self,
        user: &str,
        password: &str,
        binding: Option<(&str, &[u8])>,
    ) -> String {
        let (mechanism, header) = match binding {
            Some((kind, _)) => ("SCRAM-SHA-256-PLUS", format!("p={kind},,")),
            None => ("SCRAM-SHA-256", "n,,".to_owned()),
        };
        let bare = format!("n={user},r=clientnonce");
        let challenge = self.auth(mechanism, &format!("{header}{bare}")).await;
        let server_first = text_of(&challenge);
        let data = binding.map_or(&[][..], |(_, data)| data);
        let c = STANDARD.encode([header.as_bytes(), data].concat());
        let (last, verifier) = client_final(&bare, &server_first, &c, password);
        let answer = self.respond(&last).await;
        if answer.starts_with("<success") {
            assert_eq!(text_of(&answer), verifier);
        }
        answer
    }
}

/// The decoded character data of an answer.
pub fn text_of(answer: &str) -> String {
    let start = answer.find('>').expect("a tag") + 1;
    let end = answer.rfind("</").expect("an end");
    String::from_utf8(STANDARD.decode(&answer[start..end]).expect("base64")).expect("UTF-8")
}

/// client-final-message, and the verifier that must come back.
pub fn client_final(bare: &str, server_first: &str, c: &str, password: &str) -> (String, String) {
    let part = |name: &str| {
        let value = server_first
            .split(',')
            .find_map(|part| part.strip_prefix(name));
        value
            .unwrap_or_else(|| panic!("{name} is not in {server_first}"))
            .to_owned()
    };
    let salt = STANDARD.decode(part("s=")).expect("base64");
    let rounds = NonZeroU32::new(part("i=").parse().expect("number")).expect("not zero");
    let mut salted = [0; 32];
    let algorithm = pbkdf2::PBKDF2_HMAC_SHA256;
    pbkdf2::derive(algorithm, rounds, &salt, password.as_bytes(), &mut salted);
    let mac = |key: &[u8], data: &str| {
        let key = hmac::Key::new(hmac::HMAC_SHA256, key);
        hmac::sign(&key, data.as_bytes()).as_ref().to_vec()
    };
    let client_key = mac(&salted, "Client Key");
    let stored_key = digest::digest(&digest::SHA256, &client_key);
    let without = format!("c={c},r={}", part("r="));
    let message = format!("{bare},{server_first},{without}");
    let signature = mac(stored_key.as_ref(), &message);
    let proof: Vec<u8> = client_key
        .iter()
        .zip(&signature)
        .map(|(key, sign)| key ^ sign)
        .collect();
    let verifier = mac(&mac(&salted, "Server Key"), &message);
    (
        format!("{without},p={}", STANDARD.encode(proof)),
        format!("v={}", STANDARD.encode(verifier)),
    )
}
