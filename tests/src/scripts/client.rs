//! A client of protocol scripts: the login, and stanzas as they come.

use super::xml::{self, Item, Node};
use crate::harness::Server;
use anyhow::{Context, Result, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use rustls::pki_types::ServerName;
use std::collections::VecDeque;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;

pub const SASL: &str = "urn:ietf:params:xml:ns:xmpp-sasl";
pub const BIND: &str = "urn:ietf:params:xml:ns:xmpp-bind";
pub const TLS: &str = "urn:ietf:params:xml:ns:xmpp-tls";
pub const SM: &str = "urn:xmpp:sm:3";

/// How long anything expected may take. Far above what it does take, for machines that are busy.
pub const PATIENCE: Duration = Duration::from_secs(15);

trait Io: AsyncRead + AsyncWrite + Unpin + Send + Sync {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send + Sync> Io for T {}

enum Wire {
    Plain(TcpStream),
    Tls(Box<dyn Io>),
    Gone,
}

/// What a read gave.
#[derive(Debug)]
pub enum Received {
    Node(Node),
    Header(Node),
    /// `</stream:stream>`.
    End,
    /// The connection's end.
    Cut,
    /// Nothing in time.
    Silence,
}

/// Stream management as this client keeps it (XEP-0198).
#[derive(Clone, Debug, Default)]
pub struct Management {
    pub enabled: bool,
    /// Whether `<r/>` is answered.
    pub answers: bool,
    /// Stanzas handled.
    pub h: u32,
    pub id: String,
}

pub struct Client {
    wire: Wire,
    buffer: Vec<u8>,
    /// Taken off the wire and not yet expected by the script.
    pub queue: VecDeque<Node>,
    pub log: Vec<String>,
    pub domain: String,
    pub user: String,
    pub jid: String,
    pub management: Management,
    pub features: Option<Node>,
    pub bound: bool,
}

impl Client {
    /// Connects without a word; `direct` with TLS from the first byte (XEP-0368).
    pub async fn connect(server: &Server, user: &str, direct: bool) -> Result<Self> {
        let port = if direct {
            server.direct_port
        } else {
            server.port
        };
        let tcp = TcpStream::connect(("127.0.0.1", port)).await?;
        tcp.set_nodelay(true)?;
        let mut client = Self {
            wire: Wire::Plain(tcp),
            buffer: Vec::new(),
            queue: VecDeque::new(),
            log: Vec::new(),
            domain: server.domain.clone(),
            user: user.to_owned(),
            jid: String::new(),
            management: Management::default(),
            features: None,
            bound: false,
        };
        if direct {
            client.secure(server).await?;
        }
        Ok(client)
    }

    /// The TLS handshake, with the server's own authority as the only one trusted.
    async fn secure(&mut self, server: &Server) -> Result<()> {
        let Wire::Plain(tcp) = std::mem::replace(&mut self.wire, Wire::Gone) else {
            bail!("TLS twice");
        };
        let mut config = server.tls_config()?;
        config.alpn_protocols = vec![b"xmpp-client".to_vec()];
        let name = ServerName::try_from(self.domain.clone())?;
        let connector = TlsConnector::from(std::sync::Arc::new(config));
        let tls = tokio::time::timeout(PATIENCE, connector.connect(name, tcp)).await??;
        self.wire = Wire::Tls(Box::new(tls));
        self.buffer.clear();
        Ok(())
    }

    pub async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        let text = String::from_utf8_lossy(bytes);
        self.log.push(format!("> {}", shorten(&text)));
        self.write(bytes).await
    }

    /// Sends each byte by itself, each in its own TLS record.
    pub async fn trickle(&mut self, bytes: &[u8]) -> Result<()> {
        let text = String::from_utf8_lossy(bytes);
        self.log.push(format!("> {}", shorten(&text)));
        for byte in bytes.chunks(1) {
            self.write(byte).await?;
        }
        Ok(())
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let sending = async {
            match &mut self.wire {
                Wire::Plain(tcp) => tcp.write_all(bytes).await,
                Wire::Tls(tls) => {
                    tls.write_all(bytes).await?;
                    tls.flush().await
                }
                Wire::Gone => Err(std::io::ErrorKind::NotConnected.into()),
            }
        };
        tokio::time::timeout(PATIENCE, sending)
            .await
            .context("sending takes too long")??;
        Ok(())
    }

    /// Reads the next item, be it queued or off the wire.
    pub async fn receive(&mut self, patience: Duration) -> Result<Received> {
        match self.queue.pop_front() {
            Some(node) => Ok(Received::Node(node)),
            None => self.read(patience).await,
        }
    }

    /// Reads the next item off the wire; answers and counts for stream management.
    pub async fn read(&mut self, patience: Duration) -> Result<Received> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(item) = xml::take(&mut self.buffer)? {
                return Ok(match item {
                    Item::Header(node) => Received::Header(node),
                    Item::End => Received::End,
                    Item::Node(node) => {
                        self.log.push(format!("< {}", shorten(&node.to_string())));
                        self.count(&node).await?;
                        self.note_bound(&node);
                        Received::Node(node)
                    }
                });
            }
            let mut chunk = [0_u8; 16_384];
            let reading = async {
                match &mut self.wire {
                    Wire::Plain(tcp) => tcp.read(&mut chunk).await,
                    Wire::Tls(tls) => tls.read(&mut chunk).await,
                    Wire::Gone => Ok(0),
                }
            };
            match timeout_at(deadline, reading).await {
                Err(_) => return Ok(Received::Silence),
                // An end without close_notify, or a reset, is an end as well.
                Ok(Ok(0) | Err(_)) => return Ok(Received::Cut),
                Ok(Ok(n)) => self.buffer.extend_from_slice(&chunk[..n]),
            }
        }
    }

    /// However it asked for a resource, from here on it has one.
    fn note_bound(&mut self, node: &Node) {
        let bind = node.child("bind", BIND);
        if let Some(jid) = bind.and_then(|bind| bind.child("jid", BIND)) {
            self.jid = jid.text();
            self.bound = true;
        }
    }

    async fn count(&mut self, node: &Node) -> Result<()> {
        if !self.management.enabled {
            return Ok(());
        }
        if node.ns == xml::CLIENT {
            self.management.h = self.management.h.wrapping_add(1);
        } else if node.is("r", SM) && self.management.answers {
            let answer = format!("<a xmlns='{SM}' h='{}'/>", self.management.h);
            self.send(answer.as_bytes()).await?;
        }
        Ok(())
    }

    /// Reads until an element for which `wanted` holds; others wait in the queue.
    pub async fn until(&mut self, wanted: impl Fn(&Node) -> bool) -> Result<Node> {
        loop {
            match self.read(PATIENCE).await? {
                Received::Node(node) if wanted(&node) => return Ok(node),
                Received::Node(node) if node.is("error", xml::STREAMS) => {
                    bail!("stream error: {node}")
                }
                Received::Node(node) => self.queue.push_back(node),
                other => bail!("waited for an element, got {other:?}"),
            }
        }
    }

    /// Opens a stream and takes the server's header and features.
    pub async fn open(&mut self) -> Result<()> {
        let header = format!(
            "<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='{}' \
             to='{}' version='1.0'>",
            xml::STREAMS,
            self.domain
        );
        self.send(header.as_bytes()).await?;
        match self.read(PATIENCE).await? {
            Received::Header(_) => {}
            other => bail!("expected a stream header, got {other:?}"),
        }
        let features = self.until(|node| node.is("features", xml::STREAMS)).await?;
        self.features = Some(features);
        Ok(())
    }

    pub async fn start_tls(&mut self, server: &Server) -> Result<()> {
        self.send(format!("<starttls xmlns='{TLS}'/>").as_bytes())
            .await?;
        self.until(|node| node.is("proceed", TLS)).await?;
        self.secure(server).await?;
        self.open().await
    }

    pub async fn authenticate(&mut self, password: &str) -> Result<()> {
        let secret = BASE64.encode(format!("\0{}\0{password}", self.user));
        let auth = format!("<auth xmlns='{SASL}' mechanism='PLAIN'>{secret}</auth>");
        self.send(auth.as_bytes()).await?;
        let answer = self.until(|node| node.ns == SASL).await?;
        ensure!(answer.name == "success", "login refused: {answer}");
        self.open().await
    }

    pub async fn bind(&mut self, resource: &str) -> Result<()> {
        let wish = format!(
            "<iq type='set' id='bind'><bind xmlns='{BIND}'><resource>{}</resource></bind></iq>",
            xml::escape(resource)
        );
        self.send(wish.as_bytes()).await?;
        let result = self.until(|node| node.attr("id") == Some("bind")).await?;
        ensure!(self.bound, "not bound: {result}");
        Ok(())
    }

    /// Switches stream management on.
    pub async fn manage(&mut self, resume: bool, answers: bool) -> Result<()> {
        self.send(format!("<enable xmlns='{SM}' resume='{resume}'/>").as_bytes())
            .await?;
        let enabled = self.until(|node| node.ns == SM).await?;
        ensure!(
            enabled.name == "enabled",
            "stream management refused: {enabled}"
        );
        let id = enabled.attr("id").unwrap_or_default().to_owned();
        self.management = Management {
            enabled: true,
            answers,
            h: 0,
            id,
        };
        Ok(())
    }

    /// Sends an iq to the own account or server and returns its answer; others wait in the queue.
    pub async fn ask(&mut self, kind: &str, id: &str, payload: &str) -> Result<Node> {
        let iq = format!("<iq type='{kind}' id='{id}'>{payload}</iq>");
        self.send(iq.as_bytes()).await?;
        self.until(|node| node.name == "iq" && node.attr("id") == Some(id))
            .await
    }

    /// Returns once the server has handled what was sent before, and what it had for us is here.
    ///
    /// An iq to ourselves has to stand behind everything that others sent us; what the server says itself, a ping's
    /// answer too, may overtake messages that wait until a session has read what it is owed.
    pub async fn barrier(&mut self) -> Result<()> {
        if !self.bound {
            return Ok(());
        }
        let ping = format!(
            "<iq type='get' id='barrier' to='{}'><ping xmlns='urn:xmpp:ping'/></iq>",
            xml::escape(&self.jid)
        );
        self.send(ping.as_bytes()).await?;
        // As it is; or, where the session has no room for it, its error.
        self.until(|node| node.name == "iq" && node.attr("id") == Some("barrier"))
            .await?;
        Ok(())
    }

    /// Ends the stream: the closing tag, the server's, then the connection (RFC 6120 §4.4).
    pub async fn close(&mut self) -> Result<()> {
        self.send(b"</stream:stream>").await?;
        self.bound = false;
        loop {
            match self.read(PATIENCE).await? {
                Received::End => break,
                Received::Node(node) if !node.is("error", xml::STREAMS) => {
                    self.queue.push_back(node);
                }
                other => bail!("expected the closing tag, got {other:?}"),
            }
        }
        let ending = async {
            match &mut self.wire {
                Wire::Plain(tcp) => tcp.shutdown().await,
                Wire::Tls(tls) => tls.shutdown().await,
                Wire::Gone => Ok(()),
            }
        };
        tokio::time::timeout(PATIENCE, ending)
            .await
            .context("closing takes too long")??;
        match self.read(PATIENCE).await? {
            Received::Cut => Ok(()),
            other => bail!("expected the end, got {other:?}"),
        }
    }

    /// Drops the connection without a word.
    pub fn cut(&mut self) {
        self.wire = Wire::Gone;
        self.bound = false;
        self.log.push("cut".to_owned());
    }
}

fn shorten(text: &str) -> String {
    const LONGEST_CHARS: usize = 1500;
    match text.char_indices().nth(LONGEST_CHARS) {
        None => text.to_owned(),
        Some((at, _)) => format!("{}… ({} bytes)", &text[..at], text.len()),
    }
}
