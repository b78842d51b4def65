//! The transport of production: one TCP port, TLS 1.3 both ways, certificates of the cluster's own authority.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use super::{BoxFuture, Connected, JoinSecret, Transport};
use crate::clock::{Clock, WallClock};
use crate::disk::Disk;
use crate::gate::Tasks;
use crate::ids::MemberId;
use crate::random::Random;

/// Settings of one member's port.
#[derive(Debug, Clone)]
pub struct TcpSettings {
    /// Where it listens; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// The member's directory, that of [`crate::Settings::dir`].
    pub dir: PathBuf,
    /// The join secret; during its rotation two. The first is the one that this member seals with.
    pub secrets: Vec<JoinSecret>,
}

/// What the transport stands on.
#[derive(Clone)]
pub struct TcpParts {
    pub disk: Arc<dyn Disk>,
    pub random: Arc<dyn Random>,
    pub clock: Arc<dyn Clock>,
    pub wall: Arc<dyn WallClock>,
    pub tasks: Tasks,
}

/// See the module's documentation. Dropped, it closes its port.
pub struct TcpTransport {
    member: MemberId,
    address: SocketAddr,
}

impl TcpTransport {
    /// Opens the port. The member's id and key are minted if its directory has none.
    pub async fn bind(_settings: TcpSettings, _parts: TcpParts) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Where it listens.
    pub fn local_address(&self) -> SocketAddr {
        self.address
    }

    /// The member whose directory this is.
    pub fn member(&self) -> MemberId {
        self.member
    }

    /// Other join secrets from now on, as [`TcpSettings::secrets`].
    pub fn set_secrets(&self, _secrets: Vec<JoinSecret>) {}
}

impl Transport for TcpTransport {
    fn connect<'a>(&'a self, _address: &'a str) -> BoxFuture<'a, io::Result<Connected>> {
        Box::pin(std::future::ready(Err(io::ErrorKind::Unsupported.into())))
    }

    fn accept(&self) -> BoxFuture<'_, io::Result<Connected>> {
        Box::pin(std::future::pending())
    }
}
