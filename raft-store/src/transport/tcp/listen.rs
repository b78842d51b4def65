//! The accepting side of the port: who has shown a certificate is handed on, everybody else is bounded.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::pki_types::CertificateDer;
use rustls::server::Acceptor;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use super::Shared;
use crate::limits::{PROVE_BYTES, PROVE_MS};
use crate::transport::join::{self, Office};
use crate::transport::tls::{Purpose, count};
use crate::transport::{Connected, certificate};

/// How long nothing is accepted when the system has no more sockets.
const PAUSE_MS: u64 = 100;
/// How long a joiner with another secret keeps its place among the unfinished.
const WRONG_SECRET_MS: u64 = 1_000;

/// Accepts until the port is closed.
pub(super) async fn run(shared: Arc<Shared>) {
    while let Some(accepted) = accept(&shared).await {
        match accepted {
            Ok((stream, address)) => begin(&shared, stream, address),
            Err(error) if is_of_the_connection(&error) => {}
            Err(error) => {
                // Out of sockets or memory, which passes: what proves nothing gives back what it has.
                if shared.seen.said.no_socket.may(shared.parts.clock.now()) {
                    tracing::warn!(%error, "no connection can be accepted");
                }
                shared.unfinished.displace_one();
                tokio::time::sleep(shared.limit(PAUSE_MS)).await;
            }
        }
    }
}

/// The next connection; `None` when the port is closed.
async fn accept(shared: &Shared) -> Option<io::Result<(TcpStream, SocketAddr)>> {
    std::future::poll_fn(|context| match &*shared.listener.lock() {
        Some(listener) => listener.poll_accept(context).map(Some),
        None => Poll::Ready(None),
    })
    .await
}

/// It was gone before it was accepted.
fn is_of_the_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionReset | Interrupted
    )
}

fn begin(shared: &Arc<Shared>, stream: TcpStream, address: SocketAddr) {
    let displaced = shared.unfinished.begin(address, |number| {
        let tasks = &shared.parts.tasks;
        let serving = Serving {
            shared: shared.clone(),
            number,
            address,
        };
        tasks.spawn(serving.run(stream)).abort_handle()
    });
    for _ in 0..displaced {
        count(&shared.seen.displaced);
    }
}

/// One connection until it is proven, or closed.
struct Serving {
    shared: Arc<Shared>,
    number: u64,
    address: SocketAddr,
}

type Stream = TlsStream<Metered>;

impl Drop for Serving {
    fn drop(&mut self) {
        self.shared.unfinished.end(self.number);
    }
}

/// Why a connection came to nothing.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("it proved nothing in time")]
    Late,
    #[error("it speaks another protocol, or this member has no certificate yet")]
    Protocol,
    #[error("the certificate: {0}")]
    Certificate(#[from] certificate::Error),
    #[error("{0}")]
    Join(#[from] join::Error),
    #[error("too many at once")]
    Busy,
}

impl Serving {
    async fn run(self, stream: TcpStream) {
        if let Err(error) = self.serve(stream).await {
            count(&self.shared.seen.failed);
            tracing::debug!(address = %self.address, %error, "a connection came to nothing");
        }
    }

    async fn serve(&self, stream: TcpStream) -> Result<(), Ended> {
        let limit = self.shared.limit(PROVE_MS);
        let greeted = timeout(limit, self.greet(stream)).await;
        let (purpose, stream) = greeted.map_err(|_| Ended::Late)??;
        match purpose {
            Purpose::Talk => self.hand_on(stream),
            Purpose::Renew => timeout(limit, self.renew(stream))
                .await
                .map_err(|_| Ended::Late)?,
            Purpose::Join => {
                let proven = timeout(limit, self.check(stream)).await;
                let stream = proven.map_err(|_| Ended::Late)??;
                timeout(limit, self.join(stream))
                    .await
                    .map_err(|_| Ended::Late)?
            }
        }
    }

    /// The TLS handshake.
    async fn greet(&self, stream: TcpStream) -> Result<(Purpose, Stream), Ended> {
        stream.set_nodelay(true)?;
        // Until it says something it costs its socket and this task.
        stream.readable().await?;
        let stream = Metered {
            stream,
            left: PROVE_BYTES,
        };
        let start = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
        self.shared.unfinished.speaks(self.number);
        // What follows costs a signature and a key exchange.
        let now = self.shared.parts.clock.now();
        let turn = self.shared.unfinished.turn(self.address, now);
        let wait = turn.ok_or(Ended::Busy)?;
        if !wait.is_zero() {
            tokio::time::sleep(self.shared.parts.clock.wait(wait)).await;
        }
        let hello = start.client_hello();
        let purpose = hello
            .alpn()
            .and_then(|mut protocols| protocols.find_map(Purpose::of))
            .ok_or(Ended::Protocol)?;
        let config = self.shared.setup().server(purpose).ok_or(Ended::Protocol)?;
        let stream = start.into_stream(config).await?;
        // What rustls has agreed to, not what was looked at above.
        let agreed = stream.get_ref().1.alpn_protocol().and_then(Purpose::of);
        Ok((agreed.ok_or(Ended::Protocol)?, stream))
    }

    fn hand_on(&self, mut stream: Stream) -> Result<(), Ended> {
        let setup = self.shared.setup();
        let authority = setup.authority.as_ref().ok_or(Ended::Protocol)?;
        let facts = authority.check(shown(&stream)?)?;
        self.shared.unfinished.is_member_s(self.address.ip());
        stream.get_mut().0.left = usize::MAX;
        let connected = Connected {
            stream: Box::new(stream),
            member: facts.member,
            address: self.address.to_string(),
        };
        let handed = self.shared.accepted.try_send(connected);
        handed.map_err(|_| Ended::Busy)
    }

    /// A joiner's proof of the secret.
    async fn check(&self, mut stream: Stream) -> Result<Stream, Ended> {
        let exporter = exporter(stream.get_ref().1)?;
        let secrets = self.shared.secrets();
        let checked = join::check_proofs(&mut stream, &exporter, &secrets).await;
        if let Err(join::Error::Refused(join::Refusal::Secret)) = checked {
            count(&self.shared.seen.wrong_secret);
            if self
                .shared
                .seen
                .said
                .wrong_secret
                .may(self.shared.parts.clock.now())
            {
                tracing::warn!(address = %self.address, "somebody tried to join with another secret");
            }
            // It keeps its place: so many tries a second has an address, and no more.
            tokio::time::sleep(self.shared.limit(WRONG_SECRET_MS)).await;
        }
        checked?;
        Ok(stream)
    }

    async fn join(&self, mut stream: Stream) -> Result<(), Ended> {
        let facts = certificate::check_self_signed(shown(&stream)?)?;
        self.office(&mut stream, &facts).await
    }

    async fn renew(&self, mut stream: Stream) -> Result<(), Ended> {
        let setup = self.shared.setup();
        let authority = setup.authority.as_ref().ok_or(Ended::Protocol)?;
        let facts = authority.check(shown(&stream)?)?;
        self.office(&mut stream, &facts).await
    }

    /// Grants a certificate for what the connection has shown.
    async fn office(&self, stream: &mut Stream, shown: &certificate::Facts) -> Result<(), Ended> {
        let request = join::receive(stream).await?;
        // From here on no flood takes its place; who asks nothing, proven or not, holds no other.
        self.shared.unfinished.end(self.number);
        let secrets = self.shared.secrets();
        // Without a certificate of its own this member belongs to no cluster, even if its store is open already.
        let registry = self.shared.registry.get();
        let registry = registry.filter(|_| self.shared.setup().authority.is_some());
        let office = Office {
            registry: registry.map(|registry| &**registry),
            secrets: &secrets,
            now: self.shared.now(),
            random: &*self.shared.parts.random,
        };
        let granted = match self.shared.joiners.try_acquire() {
            Ok(_place) => office.grant(&request, shown).await,
            // It must not take this for a port where nobody is.
            Err(_) => Err(join::Refusal::NotNow),
        };
        join::answer(stream, granted).await?;
        tracing::info!(member = %shown.member, address = %self.address, "a certificate was granted");
        // So that the end of the stream does not overtake the answer.
        use tokio::io::AsyncWriteExt;
        Ok(stream.shutdown().await?)
    }
}

fn shown(stream: &Stream) -> Result<&CertificateDer<'static>, Ended> {
    let certificates = stream.get_ref().1.peer_certificates();
    certificates
        .and_then(|certificates| certificates.first())
        .ok_or(Ended::Protocol)
}

/// What only the two ends of a connection know.
fn exporter(connection: &rustls::ServerConnection) -> Result<[u8; 32], io::Error> {
    let exported = connection.export_keying_material([0; 32], join::EXPORTER, None);
    exported.map_err(io::Error::other)
}

/// A stream of which only so many bytes are read.
pub(super) struct Metered {
    stream: TcpStream,
    left: usize,
}

impl AsyncRead for Metered {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.left == usize::MAX {
            return Pin::new(&mut self.stream).poll_read(context, buffer);
        }
        if self.left == 0 {
            return Poll::Ready(Err(io::Error::other("too much before any proof")));
        }
        let room = buffer.remaining().min(self.left);
        let mut part = ReadBuf::new(buffer.initialize_unfilled_to(room));
        let polled = Pin::new(&mut self.stream).poll_read(context, &mut part);
        let read = part.filled().len();
        buffer.advance(read);
        self.left -= read;
        polled
    }
}

impl AsyncWrite for Metered {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, buffer)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
