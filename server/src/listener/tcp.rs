//! TCP: binding and accepting, through errors and at a limited rate

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::config::{C2sListener, TlsMode};

/// Connections the system holds for us; it cuts this to its own maximum.
const BACKLOG: u32 = 4096;
/// Pause after an error that trying again at once would only repeat.
const ERROR_PAUSE: Duration = Duration::from_millis(100);
const SECOND: Duration = Duration::from_secs(1);

/// A socket that listens.
#[derive(Debug)]
pub struct Bound {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its section of the configuration at the start.
    pub settings: C2sListener,
    /// The place of that section among those of its kind.
    pub place: usize,
    socket: TcpListener,
}

/// Binds a listener: for `*` both IPv6 and IPv4 on one socket, on a machine
/// without IPv6 the latter alone. `place` is that of its section in the configuration.
///
/// # Errors
/// What the system says of the last address tried.
pub fn bind(settings: &C2sListener, place: usize) -> io::Result<Bound> {
    let invalid = || io::Error::new(io::ErrorKind::InvalidInput, "not an address");
    let addresses = settings.socket_addresses().ok_or_else(invalid)?;
    let mut last = invalid();
    for address in addresses {
        match bind_address(address) {
            Ok(socket) => {
                let address = socket.local_addr()?;
                return Ok(Bound {
                    address,
                    settings: settings.clone(),
                    place,
                    socket,
                });
            }
            Err(error) => last = error,
        }
        // Only a machine without IPv6 is a reason to try IPv4 alone.
        if !address.is_ipv6() || last.kind() == io::ErrorKind::AddrInUse {
            break;
        }
    }
    Err(last)
}

fn bind_address(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv6() {
        TcpSocket::new_v6()
    } else {
        TcpSocket::new_v4()
    }?;
    socket.set_reuseaddr(true)?;
    if address.is_ipv6() {
        rustix::net::sockopt::set_ipv6_v6only(&socket, !address.ip().is_unspecified())?;
    }
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

impl Bound {
    /// One line for who started the server.
    pub fn describe(&self) -> String {
        let kind = match self.settings.tls {
            TlsMode::Starttls => "clients, STARTTLS",
            TlsMode::Direct => "clients, direct TLS",
        };
        format!("{} {kind}", self.address)
    }

    /// Accepts for ever, no more a second than `per_second` says, 0 for any number; what comes faster
    /// waits in the system's queue.
    pub(super) async fn accept(
        &self,
        per_second: impl Fn() -> u32,
        mut each: impl FnMut(TcpStream, SocketAddr),
    ) {
        let (mut second, mut accepted) = (Instant::now(), 0);
        loop {
            match self.socket.accept().await {
                Ok((socket, peer)) => {
                    let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
                    each(socket, peer);
                    accepted += 1;
                }
                Err(error) if concerns_one_connection(&error) => {}
                Err(error) => {
                    // Out of files or memory: what there is goes on being served.
                    tracing::error!(address = %self.address, "accepting: {error}");
                    tokio::time::sleep(ERROR_PAUSE).await;
                }
            }
            let (passed, per_second) = (second.elapsed(), per_second());
            if passed >= SECOND {
                (second, accepted) = (Instant::now(), 0);
            } else if per_second != 0 && accepted >= per_second {
                tokio::time::sleep(SECOND - passed).await;
            }
        }
    }
}

/// Errors of the connection that was to be accepted, not of the listener.
fn concerns_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        error.kind(),
        Kind::ConnectionAborted
            | Kind::ConnectionReset
            | Kind::ConnectionRefused
            | Kind::Interrupted
            | Kind::WouldBlock
            | Kind::TimedOut
            | Kind::HostUnreachable
            | Kind::NetworkUnreachable
    )
}
