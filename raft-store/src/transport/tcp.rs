//! The transport of production: one TCP port, TLS 1.3 both ways, certificates of the cluster's own authority.
//!
//! A member without a certificate asks for one, by the join secret, at the first address that it connects to; the
//! founder makes the authority. Whoever has not shown a certificate gets 5 s, 16 KiB and one of a bounded number of
//! places; behind that streams belong to the layer above.

mod dial;
mod listen;
mod upkeep;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::RwLock;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{Mutex, Semaphore, mpsc};
use tokio::task::AbortHandle;

use super::authority::{self, Signer};
use super::credentials::{self, Credentials, Granted};
use super::registry::Registry;
use super::tls::{Judge, Seen, Setup};
use super::unfinished::Unfinished;
use super::{BoxFuture, Connected, JoinSecret, Transport, certificate};
use crate::clock::{Clock, WallClock};
use crate::disk::Disk;
use crate::gate::Tasks;
use crate::identity::Identity;
use crate::ids::MemberId;
use crate::limits::JOINERS;
use crate::random::Random;

/// Streams of members that nobody has taken from [`Transport::accept`] yet.
const ACCEPTED: usize = 64;
/// Connections that the system keeps until they are accepted.
const BACKLOG: u32 = 1024;

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

/// Why a port did not open, or a cluster could not be founded.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Identity(#[from] crate::error::OpenError),
    #[error(transparent)]
    Credentials(#[from] credentials::Error),
    #[error("a certificate: {0}")]
    Certificate(#[from] certificate::Error),
    #[error(transparent)]
    Authority(#[from] authority::Error),
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Io(error) | Error::Credentials(credentials::Error::Io(error)) => error,
            // Somebody has one, and it is of no use here: a clock is wrong, or it is another cluster's.
            Error::Certificate(error) => io::Error::new(io::ErrorKind::PermissionDenied, error),
            error => io::Error::other(error),
        }
    }
}

/// What the port has met since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Connections whose other end proved nothing, with those below that were refused.
    pub failed: u64,
    /// Unfinished connections that were closed because newer ones came.
    pub displaced: u64,
    /// Certificates that are none of this cluster's.
    pub foreign: u64,
    /// Certificates, or clocks, wrong by less than 30 days: accepted.
    pub dates_tolerated: u64,
    /// Wrong by more: refused.
    pub dates_refused: u64,
    /// Joiners that did not know the secret.
    pub wrong_secret: u64,
}

/// See the module's documentation. Dropped, it closes its port; streams that were handed out stay.
pub struct TcpTransport {
    shared: Arc<Shared>,
    accepted: Mutex<mpsc::Receiver<Connected>>,
    address: SocketAddr,
    listening: AbortHandle,
    upkeep: OnceLock<AbortHandle>,
}

/// What the tasks of a port share.
struct Shared {
    parts: TcpParts,
    dir: PathBuf,
    member: MemberId,
    judge: Arc<Judge>,
    seen: Arc<Seen>,
    secrets: RwLock<Vec<JoinSecret>>,
    /// Held while the credentials change, over the disk's work.
    credentials: Mutex<Credentials>,
    setup: RwLock<Arc<Setup>>,
    registry: OnceLock<Arc<dyn Registry>>,
    /// Until the port is closed: whoever closes it does so at once, whatever the task is doing.
    listener: parking_lot::Mutex<Option<TcpListener>>,
    unfinished: Unfinished,
    joiners: Semaphore,
    accepted: mpsc::Sender<Connected>,
    /// Ends the upkeep's sleep.
    look: tokio::sync::Notify,
}

impl TcpTransport {
    /// Opens the port. The member's id and key are minted if its directory has none. Reads and writes files, so it
    /// blocks its thread for as long as that takes.
    pub async fn bind(settings: TcpSettings, parts: TcpParts) -> Result<Self, Error> {
        let (disk, dir) = (&*parts.disk, &settings.dir);
        let member = Identity::open(disk, dir, &*parts.random)?.member;
        let credentials = Credentials::open(disk, dir, member)?;
        let seen = Arc::new(Seen::default());
        let judge = Arc::new(Judge {
            wall: parts.wall.clone(),
            clock: parts.clock.clone(),
            seen: seen.clone(),
        });
        let setup = Setup::new(&credentials, &judge, &*parts.random)?;
        let socket = match settings.listen {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        // A restarted member gets its port back at once.
        socket.set_reuseaddr(true)?;
        socket.bind(settings.listen)?;
        let listener = socket.listen(BACKLOG)?;
        let address = listener.local_addr()?;
        let (sender, accepted) = mpsc::channel(ACCEPTED);
        let tasks = parts.tasks.clone();
        let shared = Arc::new(Shared {
            parts,
            dir: settings.dir,
            member,
            judge,
            seen,
            secrets: RwLock::new(settings.secrets),
            credentials: Mutex::new(credentials),
            setup: RwLock::new(Arc::new(setup)),
            registry: OnceLock::new(),
            listener: parking_lot::Mutex::new(Some(listener)),
            unfinished: Unfinished::default(),
            joiners: Semaphore::new(JOINERS),
            accepted: sender,
            look: tokio::sync::Notify::new(),
        });
        let listening = tasks.spawn(listen::run(shared.clone()));
        Ok(Self {
            shared,
            accepted: Mutex::new(accepted),
            address,
            listening: listening.abort_handle(),
            upkeep: OnceLock::new(),
        })
    }

    /// Where it listens.
    pub fn local_address(&self) -> SocketAddr {
        self.address
    }

    /// The member whose directory this is.
    pub fn member(&self) -> MemberId {
        self.shared.member
    }

    /// Whether this member has a certificate.
    pub fn has_certificate(&self) -> bool {
        self.shared.setup().facts.is_some()
    }

    /// When its certificate ends, in seconds since 1970.
    pub fn certificate_ends(&self) -> Option<i64> {
        Some(self.shared.setup().facts?.ends)
    }

    /// Other join secrets from now on, as [`TcpSettings::secrets`]. A rotation has three steps, each on all members: the
    /// old and the new one; the new and the old one, which seals the authority anew; the new one alone.
    pub fn set_secrets(&self, secrets: Vec<JoinSecret>) {
        *self.shared.secrets.write() = secrets;
        self.shared.look.notify_one();
    }

    /// Since the start.
    pub fn counters(&self) -> Counters {
        let read = |counter: &std::sync::atomic::AtomicU64| {
            counter.load(std::sync::atomic::Ordering::Relaxed)
        };
        let seen = &self.shared.seen;
        Counters {
            failed: read(&seen.failed),
            displaced: read(&seen.displaced),
            foreign: read(&seen.foreign),
            dates_tolerated: read(&seen.dates_tolerated),
            dates_refused: read(&seen.dates_refused),
            wrong_secret: read(&seen.wrong_secret),
        }
    }
}

impl Drop for TcpTransport {
    fn drop(&mut self) {
        self.shared.listener.lock().take();
        self.listening.abort();
        self.shared.unfinished.close();
        if let Some(upkeep) = self.upkeep.get() {
            upkeep.abort();
        }
    }
}

impl Transport for TcpTransport {
    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Connected>> {
        Box::pin(self.shared.connect(address))
    }

    fn accept(&self) -> BoxFuture<'_, io::Result<Connected>> {
        Box::pin(async {
            let next = self.accepted.lock().await.recv().await;
            next.ok_or_else(|| io::Error::other("the port is closed"))
        })
    }

    fn found(&self, goes_on: bool) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(async move { Ok(self.shared.found(goes_on).await?) })
    }

    fn attach(&self, registry: Arc<dyn Registry>) {
        if self.shared.registry.set(registry).is_ok() {
            let run = upkeep::run(self.shared.clone());
            let task = self.shared.parts.tasks.spawn(run);
            let _ = self.upkeep.set(task.abort_handle());
        }
    }
}

impl Shared {
    fn setup(&self) -> Arc<Setup> {
        self.setup.read().clone()
    }

    fn secrets(&self) -> Vec<JoinSecret> {
        self.secrets.read().clone()
    }

    fn now(&self) -> i64 {
        self.parts.wall.unix_seconds()
    }

    fn limit(&self, milliseconds: u64) -> Duration {
        self.parts.clock.wait(Duration::from_millis(milliseconds))
    }

    /// Writes changed credentials and takes them into use.
    fn take(&self, credentials: &Credentials) -> Result<(), Error> {
        credentials.write(&*self.parts.disk, &self.dir)?;
        let setup = Setup::new(credentials, &self.judge, &*self.parts.random)?;
        *self.setup.write() = Arc::new(setup);
        Ok(())
    }

    /// Takes a new certificate into use: for connections from now on.
    fn take_granted(&self, credentials: &mut Credentials, granted: Granted) -> Result<(), Error> {
        let before = credentials.granted.replace(granted);
        self.take(credentials)
            .inspect_err(|_| credentials.granted = before)
    }

    /// The authority and this member's certificate. The store is given the authority once it is open.
    async fn found(&self, goes_on: bool) -> Result<(), Error> {
        let mut credentials = self.credentials.lock().await;
        // A certificate from before may be of a cluster that this member was about to join, whose key it does not have.
        let made = match goes_on {
            true => credentials.granted.is_some(),
            false => credentials.sealed.is_some(),
        };
        if made {
            return Ok(());
        }
        let secrets = self.secrets();
        let secret = secrets.first().ok_or(authority::Error::NoSecret)?;
        let (now, random) = (self.now(), &*self.parts.random);
        let signer = Signer::new(now, random)?;
        let request = certificate::request(self.member, &credentials.key)?;
        let requested = certificate::read_request(&request)?;
        let issued = certificate::issue(&signer.authority, &signer.key, &requested, now, random)?;
        let owner = (self.member, credentials.public_key());
        let granted = Granted::new(signer.authority.clone(), &issued, owner)?;
        credentials.sealed = Some(signer.seal(secret, random)?);
        let taken = self.take_granted(&mut credentials, granted);
        taken.inspect_err(|_| credentials.sealed = None)?;
        self.look.notify_one();
        Ok(())
    }
}

#[cfg(test)]
mod tests;
