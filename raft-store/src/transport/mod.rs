//! Byte streams between members, whose other end is known: TCP with TLS in production, simulated links in tests.
//! Everything above (hello, frames, requests, channels) is the same on both.

mod authority;
mod certificate;
mod credentials;
#[cfg(test)]
mod fuzz;
mod join;
pub mod registry;
pub mod secret;
#[doc(hidden)]
pub mod sim;
pub mod tcp;
mod tls;
mod unfinished;

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::ids::MemberId;
pub use registry::Registry;
pub use secret::JoinSecret;
pub use tcp::{Counters, TcpParts, TcpSettings, TcpTransport};

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
    /// Opens a stream to whoever listens at `address` (`host:port`). Where members need certificates and this one has
    /// none, it asks there for one first: `NotConnected` if nobody there has a cluster, `PermissionDenied` if this member
    /// is not let in, `WouldBlock` if not now.
    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Connected>>;

    /// The next stream that another member has opened. After an error nothing is accepted any more, while this member
    /// still dials.
    fn accept(&self) -> BoxFuture<'_, io::Result<Connected>>;

    /// This member founds a cluster: whatever its members need to know each other is made, durably. Called when the
    /// founding record names this member and before consensus begins; harmless when repeated. `goes_on`: consensus has
    /// begun in an earlier run, so what there is belongs to this cluster.
    fn found(&self, _goes_on: bool) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// The store is open, and keeps what the transports of all members share. Called once.
    fn attach(&self, _registry: Arc<dyn Registry>) {}
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
