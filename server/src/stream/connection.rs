//! The bytes of a stream that is not logged in: reading under budgets, writing, closing

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use bytes::BytesMut;
use eider_xmpp::error::{StreamCondition, StreamError};
use eider_xmpp::framing::{Frame, Framer};
use eider_xmpp::limits::Limits;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use crate::access::{PreLoginPermit, Refusal};
use crate::config;

/// One read takes at most this.
const READ_BYTES: usize = 4 * 1024;
/// How long a client gets to take its last bytes and to close its side.
const CLOSE_TIME: Duration = Duration::from_secs(2);
/// Bytes thrown away while waiting for that.
const CLOSE_BYTES: usize = 256 * 1024;

thread_local! {
    /// Reads land here, so that a silent connection owns no read buffer.
    static SCRATCH: RefCell<[u8; READ_BYTES]> = const { RefCell::new([0; READ_BYTES]) };
}

/// How negotiation ends without a login.
#[derive(Debug)]
pub enum End {
    /// The client closed its stream: the same is owed to it.
    Closed,
    /// To be told to the client.
    Error(StreamError),
    /// A budget is used up: `policy-violation`.
    Limit(Refusal),
    /// The connection is gone, or in no state to say anything.
    Gone,
}

impl<E: Into<StreamError>> From<E> for End {
    fn from(error: E) -> Self {
        End::Error(error.into())
    }
}

/// A shorthand for the many errors that have a condition and nothing else.
pub fn stream_error(condition: StreamCondition) -> End {
    End::Error(StreamError::new(condition))
}

/// The socket, before and after TLS.
#[derive(Debug)]
pub enum Socket {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    /// Taken for a handshake, or by the session.
    Taken,
}

impl Socket {
    fn pin(&mut self) -> Option<Pin<&mut dyn ReadWrite>> {
        match self {
            Socket::Plain(socket) => Some(Pin::new(socket)),
            Socket::Tls(stream) => Some(Pin::new(&mut **stream)),
            Socket::Taken => None,
        }
    }
}

trait ReadWrite: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> ReadWrite for T {}

/// Reads frames and writes answers.
#[derive(Debug)]
pub struct Connection {
    pub socket: Socket,
    pub framer: Framer,
    pub buffered: BytesMut,
    /// Written before the next read: a header and its features leave as one record.
    out: String,
    permit: PreLoginPermit,
    limits: config::Limits,
}

impl Connection {
    pub fn new(
        socket: TcpStream,
        framing: Limits,
        permit: PreLoginPermit,
        limits: config::Limits,
    ) -> Self {
        Connection {
            socket: Socket::Plain(socket),
            framer: Framer::new(framing),
            buffered: BytesMut::new(),
            out: String::new(),
            permit,
            limits,
        }
    }

    /// The next frame, reading as long as it takes.
    pub async fn frame(&mut self) -> Result<Frame, End> {
        loop {
            if let Some(frame) = self.framer.next(&mut self.buffered)? {
                return Ok(frame);
            }
            self.flush().await?;
            self.read().await?;
        }
    }

    async fn read(&mut self) -> Result<(), End> {
        let (socket, buffered) = (&mut self.socket, &mut self.buffered);
        let read = std::future::poll_fn(|cx| {
            let Some(socket) = socket.pin() else {
                return Poll::Ready(Ok(0));
            };
            SCRATCH.with_borrow_mut(|scratch| {
                let mut buf = ReadBuf::new(&mut scratch[..]);
                std::task::ready!(socket.poll_read(cx, &mut buf))?;
                buffered.extend_from_slice(buf.filled());
                Poll::Ready(Ok::<_, io::Error>(buf.filled().len()))
            })
        });
        match read.await {
            Ok(0) | Err(_) => Err(End::Gone),
            Ok(bytes) => {
                let counted = self.permit.receive(bytes, &self.limits);
                counted.map_err(End::Limit)
            }
        }
    }

    /// Appends to what is written before the next read.
    pub fn send(&mut self, text: &str) {
        self.out.push_str(text);
    }

    /// Writes all that was sent.
    pub async fn flush(&mut self) -> Result<(), End> {
        let out = std::mem::take(&mut self.out);
        if out.is_empty() {
            return Ok(());
        }
        let written = match &mut self.socket {
            Socket::Plain(socket) => socket.write_all(out.as_bytes()).await,
            Socket::Tls(stream) => match stream.write_all(out.as_bytes()).await {
                Ok(()) => stream.flush().await,
                error => error,
            },
            Socket::Taken => return Err(End::Gone),
        };
        written.map_err(|_| End::Gone)
    }

    /// Expects a new stream header next.
    pub fn restart(&mut self, framing: Limits) {
        self.framer = Framer::new(framing);
        if self.buffered.is_empty() {
            self.buffered = BytesMut::new();
        }
    }

    /// The closing tag that a client's own is answered with. Who closed first ends the connection (RFC 6120 §4.4);
    /// some that find its end behind the tag miss the tag.
    pub async fn close_in_turn(&mut self, last: &str) {
        let closing = async {
            self.send(last);
            self.flush().await?;
            let mut thrown = 0;
            while thrown < CLOSE_BYTES {
                thrown += match &mut self.socket {
                    Socket::Plain(_) => self.discard().await?,
                    Socket::Tls(stream) => read_and_forget(&mut **stream).await?,
                    Socket::Taken => return Err(End::Gone),
                };
            }
            Ok::<_, End>(())
        };
        let _ = tokio::time::timeout(CLOSE_TIME, closing).await;
        self.close("").await;
    }

    /// Writes the last words, then close_notify and FIN, and waits a little for the
    /// other side: closing with bytes unread would throw away what was just written.
    pub async fn close(&mut self, last: &str) {
        let closing = async {
            self.send(last);
            self.flush().await?;
            let shut = match &mut self.socket {
                Socket::Plain(socket) => socket.shutdown().await,
                Socket::Tls(stream) => stream.shutdown().await,
                Socket::Taken => return Ok(()),
            };
            shut.map_err(|_| End::Gone)?;
            let mut thrown = 0;
            while thrown < CLOSE_BYTES {
                thrown += self.discard().await?;
            }
            Ok::<_, End>(())
        };
        let _ = tokio::time::timeout(CLOSE_TIME, closing).await;
    }

    /// Reads from the bare socket and forgets: what comes is no longer looked at.
    async fn discard(&mut self) -> Result<usize, End> {
        match &mut self.socket {
            Socket::Plain(socket) => read_and_forget(socket).await,
            Socket::Tls(stream) => read_and_forget(stream.get_mut().0).await,
            Socket::Taken => Err(End::Gone),
        }
    }
}

async fn read_and_forget(stream: &mut (impl AsyncRead + Unpin)) -> Result<usize, End> {
    let read = std::future::poll_fn(|cx| {
        SCRATCH.with_borrow_mut(|scratch| {
            let mut buf = ReadBuf::new(&mut scratch[..]);
            std::task::ready!(Pin::new(&mut *stream).poll_read(cx, &mut buf))?;
            Poll::Ready(Ok::<_, io::Error>(buf.filled().len()))
        })
    });
    match read.await {
        Ok(0) | Err(_) => Err(End::Gone),
        Ok(bytes) => Ok(bytes),
    }
}
