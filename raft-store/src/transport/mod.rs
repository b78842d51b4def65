//! Byte streams between members, whose other end is known: TCP with TLS in production, simulated links in tests.
//! Everything above (hello, frames, requests, channels) is the same on both.

use std::future::Future;
use std::io;
use std::pin::Pin;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::ids::MemberId;

/// A future behind a pointer: these traits are used as objects.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A stream of bytes both ways.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A stream that is open, with what was proven when it was opened.
pub struct Connected {
    pub stream: Box<dyn Stream>,
    /// Whose certificate the other end has shown.
    pub member: MemberId,
    /// Its address as the system sees it, for limits and log lines. It proves nothing.
    pub address: String,
}

/// Opens streams to other members and accepts theirs. Dropping a future that is not ready gives the attempt up.
pub trait Transport: Send + Sync {
    /// Opens a stream to whoever listens at `address` (`host:port`).
    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Connected>>;

    /// The next stream that another member has opened. An error ends the store: nobody can reach it any more.
    fn accept(&self) -> BoxFuture<'_, io::Result<Connected>>;
}

/// The transport of a member that has no peers.
pub struct Nowhere;

impl Transport for Nowhere {
    fn connect<'a>(&'a self, _address: &'a str) -> BoxFuture<'a, io::Result<Connected>> {
        let refused = io::Error::new(io::ErrorKind::ConnectionRefused, "this member has no peers");
        Box::pin(std::future::ready(Err(refused)))
    }

    fn accept(&self) -> BoxFuture<'_, io::Result<Connected>> {
        Box::pin(std::future::pending())
    }
}
