//! One client stream over TLS: bytes in, top-level elements out, stream management counted.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, ready};

use anyhow::{Context, Result, bail, ensure};
use bytes::{Buf, BytesMut};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::wire::{Event, Scanner, attribute};

/// After how many stanzas sent a request for an acknowledgement follows.
const STANZAS_PER_REQUEST: u32 = 10;

/// Stream management as this side sees it.
#[derive(Debug, Default, Clone)]
pub struct Management {
    /// The id to resume with.
    pub id: Option<String>,
    /// Stanzas received.
    pub received: u32,
    /// Stanzas sent.
    pub sent: u32,
    /// The last `h` the server told.
    pub acknowledged: u32,
}

/// Where and how to connect.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// The server's address.
    pub address: SocketAddr,
    /// The domain of the stream.
    pub host: String,
    /// TLS from the first byte instead of STARTTLS.
    pub direct: bool,
    /// The client's TLS settings.
    pub tls: Arc<ClientConfig>,
}

/// A stream over a transport.
pub struct Connection<T = TlsStream<TcpStream>> {
    io: T,
    input: BytesMut,
    output: BytesMut,
    scanner: Scanner,
    flushing: bool,
    /// `Some` once stream management is on.
    pub management: Option<Management>,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Connection<T> {
    fn new(io: T) -> Self {
        let (input, output, scanner) = Default::default();
        Self {
            io,
            input,
            output,
            scanner,
            flushing: false,
            management: None,
        }
    }

    /// Queues bytes that are no stanza.
    pub fn push(&mut self, bytes: &str) {
        self.output.extend_from_slice(bytes.as_bytes());
    }

    /// Queues one stanza; every tenth is followed by a request for an acknowledgement.
    pub fn push_stanza(&mut self, stanza: &str) {
        self.push(stanza);
        if let Some(management) = &mut self.management {
            management.sent = management.sent.wrapping_add(1);
            if management.sent.is_multiple_of(STANZAS_PER_REQUEST) {
                self.push("<r xmlns='urn:xmpp:sm:3'/>");
            }
        }
    }

    /// Writes what is queued, as far as the socket takes it.
    pub fn poll_write(&mut self, context: &mut TaskContext<'_>) -> Poll<Result<()>> {
        while !self.output.is_empty() {
            let written = ready!(Pin::new(&mut self.io).poll_write(context, &self.output))?;
            if written == 0 {
                return Poll::Ready(Err(anyhow::anyhow!("the server takes nothing any more")));
            }
            self.output.advance(written);
            self.flushing = true;
        }
        if self.flushing {
            ready!(Pin::new(&mut self.io).poll_flush(context))?;
            self.flushing = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Reads once; the number of bytes that came.
    pub fn poll_read(&mut self, context: &mut TaskContext<'_>) -> Poll<Result<usize>> {
        if self.input.capacity() - self.input.len() < 2048 {
            self.input.reserve(8192);
        }
        let read = ready!(pin!(self.io.read_buf(&mut self.input)).poll(context))?;
        if read == 0 {
            let seen = String::from_utf8_lossy(&self.input).into_owned();
            return Poll::Ready(Err(anyhow::anyhow!(
                "the server closed the connection {seen}"
            )));
        }
        Poll::Ready(Ok(read))
    }

    /// Writes what is queued, reads what is there: ready once something was read.
    pub fn poll_progress(&mut self, context: &mut TaskContext<'_>) -> Poll<Result<()>> {
        if let Poll::Ready(result) = self.poll_write(context) {
            result?;
        }
        let read = self.poll_read(context);
        read.map_ok(drop)
    }

    /// Hands every complete stanza to `stanza`. Stream management is dealt with here: requests are
    /// answered with the next write, acknowledgements noted.
    pub fn drain(&mut self, mut stanza: impl FnMut(&[u8])) -> Result<()> {
        while let Some(event) = self.scanner.next(&self.input) {
            let Event::Element(range) = event else {
                bail!("unexpected {event:?}");
            };
            let element = &self.input[range];
            if is_stanza(element) {
                if let Some(management) = &mut self.management {
                    management.received = management.received.wrapping_add(1);
                }
                stanza(element);
            } else if element.starts_with(b"<stream:error") {
                bail!("{}", String::from_utf8_lossy(element));
            } else if let Some(management) = &mut self.management {
                match element.get(1..3) {
                    Some(b"r " | b"r/") => {
                        let answer =
                            format!("<a xmlns='urn:xmpp:sm:3' h='{}'/>", management.received);
                        self.output.extend_from_slice(answer.as_bytes());
                    }
                    Some(b"a ") => {
                        let h = attribute(element, "h").and_then(|h| h.parse().ok());
                        management.acknowledged = h.unwrap_or(management.acknowledged);
                    }
                    _ => {}
                }
            }
        }
        let done = self.scanner.done();
        self.input.advance(done);
        self.scanner.consumed(done);
        if self.input.is_empty() {
            // Idle connections of this program hold no buffer either.
            self.input = BytesMut::new();
        }
        Ok(())
    }

    /// Writes what is queued, whole.
    pub async fn flush(&mut self) -> Result<()> {
        std::future::poll_fn(|context| self.poll_write(context)).await
    }

    /// The next event with its element's bytes; for the time before the load begins.
    async fn next_event(&mut self) -> Result<(Event, Vec<u8>)> {
        loop {
            if let Some(event) = self.scanner.next(&self.input) {
                let bytes = match &event {
                    Event::Element(range) => self.input[range.clone()].to_vec(),
                    _ => Vec::new(),
                };
                let done = self.scanner.done();
                self.input.advance(done);
                self.scanner.consumed(done);
                return Ok((event, bytes));
            }
            std::future::poll_fn(|context| self.poll_progress(context)).await?;
        }
    }

    /// The next element other than presence and messages, which are only counted.
    pub async fn answer(&mut self) -> Result<Vec<u8>> {
        self.wait_for(|element| {
            !element.starts_with(b"<presence") && !element.starts_with(b"<message")
        })
        .await
    }

    /// The next element that fits; others are counted and dropped.
    pub async fn wait_for(&mut self, fits: impl Fn(&[u8]) -> bool) -> Result<Vec<u8>> {
        loop {
            let (event, element) = self.next_event().await?;
            ensure!(event != Event::Close, "the server closed the stream");
            if let (Some(management), true) = (&mut self.management, is_stanza(&element)) {
                management.received = management.received.wrapping_add(1);
            } else if let (Some(management), Some(b"r " | b"r/")) =
                (&self.management, element.get(1..3))
            {
                let answer = format!("<a xmlns='urn:xmpp:sm:3' h='{}'/>", management.received);
                self.push(&answer);
                continue;
            }
            let failed = element.starts_with(b"<stream:error");
            ensure!(!failed, "{}", String::from_utf8_lossy(&element));
            if matches!(event, Event::Element(_)) && fits(&element) {
                return Ok(element);
            }
        }
    }

    /// Sends a stream header and waits for the server's features.
    pub async fn open(&mut self, host: &str) -> Result<Vec<u8>> {
        self.scanner = Scanner::default();
        self.push(&format!(
            "<?xml version='1.0'?><stream:stream to='{host}' version='1.0' xmlns='jabber:client' \
             xmlns:stream='http://etherx.jabber.org/streams'>"
        ));
        self.answer().await
    }

    /// Closes the stream properly.
    pub async fn close(mut self) -> Result<()> {
        self.push("</stream:stream>");
        self.flush().await?;
        while !matches!(self.next_event().await?.0, Event::Close) {}
        self.io.shutdown().await?;
        Ok(())
    }
}

fn is_stanza(element: &[u8]) -> bool {
    [b"<message".as_slice(), b"<presence", b"<iq"]
        .iter()
        .any(|name| element.starts_with(name))
}

/// The client addresses are spread over the loopback network, so that ports last for every client.
pub fn source(index: u32) -> SocketAddr {
    let [_, _, _, low] = index.to_be_bytes();
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 1 + low % 32)), 0)
}

/// Connects, up to an encrypted transport, without a stream yet.
pub async fn connect(endpoint: &Endpoint, index: u32) -> Result<Connection> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(source(index))?;
    let tcp = socket
        .connect(endpoint.address)
        .await
        .context("connecting")?;
    tcp.set_nodelay(true)?;
    let tcp = if endpoint.direct {
        tcp
    } else {
        let mut plain = Connection::new(tcp);
        plain.open(&endpoint.host).await?;
        plain.push("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>");
        let answer = plain.answer().await?;
        ensure!(
            answer.starts_with(b"<proceed"),
            "STARTTLS: {}",
            String::from_utf8_lossy(&answer)
        );
        plain.io
    };
    let connector = TlsConnector::from(endpoint.tls.clone());
    let name = ServerName::try_from(endpoint.host.clone())?;
    Ok(Connection::new(
        connector.connect(name, tcp).await.context("TLS")?,
    ))
}
