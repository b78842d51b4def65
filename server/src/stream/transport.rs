//! The byte side of an authenticated stream: TLS over TCP, and its places in the limits

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use crate::access::{ConnectionPermit, SessionPermit};

/// One pointer wide. Holds no buffer of its own: a session reads into memory that
/// it has only while there is something to read.
#[derive(Debug)]
pub struct Transport(Box<Inner>);

#[derive(Debug)]
struct Inner {
    tls: TlsStream<TcpStream>,
    _connection: ConnectionPermit,
    _session: SessionPermit,
}

impl Transport {
    pub(super) fn new(
        tls: TlsStream<TcpStream>,
        connection: ConnectionPermit,
        session: SessionPermit,
    ) -> Self {
        Transport(Box::new(Inner {
            tls,
            _connection: connection,
            _session: session,
        }))
    }
}

impl AsyncRead for Transport {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.tls).poll_read(cx, buf)
    }
}

impl AsyncWrite for Transport {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0.tls).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.tls).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.tls).poll_shutdown(cx)
    }
}
