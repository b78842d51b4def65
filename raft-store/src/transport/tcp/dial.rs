//! The opening side: as a member, or to become one.

use std::io;
use std::sync::Arc;

use rustls::CertificateError;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{Error, Shared};
use crate::ids::MemberId;
use crate::limits::DIAL_MS;
use crate::transport::credentials::Granted;
use crate::transport::join::{self, Refusal};
use crate::transport::tls::{self, Purpose};
use crate::transport::{Connected, certificate};

impl From<join::Error> for Error {
    fn from(error: join::Error) -> Self {
        let kind = match error {
            join::Error::Io(error) => return Error::Io(error),
            join::Error::Refused(Refusal::NoCluster) => io::ErrorKind::NotConnected,
            join::Error::Refused(Refusal::NotNow) => io::ErrorKind::WouldBlock,
            join::Error::Refused(_) | join::Error::Unproven => io::ErrorKind::PermissionDenied,
            _ => io::ErrorKind::InvalidData,
        };
        Error::Io(io::Error::new(kind, error))
    }
}

/// What TLS says of a certificate that another authority has signed.
fn foreign(error: Error) -> Error {
    let Error::Io(error) = error else {
        return error;
    };
    let tls = error.get_ref().and_then(|error| error.downcast_ref());
    match tls {
        Some(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
            certificate::Error::Foreign.into()
        }
        _ => error.into(),
    }
}

impl Shared {
    /// Opens a stream as a member; joins first where this one has no certificate that others take.
    pub(super) async fn connect(&self, address: &str) -> io::Result<Connected> {
        let dial = async {
            if !self.is_certified() {
                let joined = self.join(address).await;
                joined.inspect_err(|error| self.tell_refused(address, error))?;
            }
            let talked = self.talk(address).await.map_err(foreign);
            talked.inspect_err(|error| self.tell_foreign(address, error))
        };
        let connected = timeout(self.limit(DIAL_MS), dial).await;
        Ok(connected.map_err(|_| io::ErrorKind::TimedOut)??)
    }

    /// Whether there is a certificate, and not one that ended so long ago that nobody takes it.
    fn is_certified(&self) -> bool {
        let facts = self.setup().facts;
        facts.is_some_and(|facts| facts.check_dates(self.now()).is_ok())
    }

    async fn talk(&self, address: &str) -> Result<Connected, Error> {
        let stream = self.open(address, Purpose::Talk).await?;
        let setup = self.setup();
        let authority = setup
            .authority
            .as_ref()
            .ok_or(certificate::Error::Foreign)?;
        let shown = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let shown = shown.first().ok_or(certificate::Error::Foreign)?;
        let facts = authority.check(shown)?;
        let address = stream.get_ref().0.peer_addr()?;
        self.unfinished.is_member_s(address.ip());
        Ok(Connected {
            stream: Box::new(stream),
            member: facts.member,
            address: address.to_string(),
        })
    }

    /// A TLS connection for one purpose.
    async fn open(&self, address: &str, purpose: Purpose) -> Result<TlsStream<TcpStream>, Error> {
        let config = self.setup().client(purpose);
        let config = config.ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected))?;
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let connector = TlsConnector::from(Arc::new(config));
        let stream = connector.connect(tls::no_name(), stream).await?;
        let agreed = stream.get_ref().1.alpn_protocol().and_then(Purpose::of);
        if agreed != Some(purpose) {
            let error = io::Error::new(io::ErrorKind::InvalidData, "another protocol");
            return Err(error.into());
        }
        Ok(stream)
    }

    /// A person has to know what is wrong with this member; that nobody answers, or has no cluster, is nothing wrong.
    fn tell_refused(&self, address: &str, error: &Error) {
        let wrong = match error {
            Error::Io(error) => {
                let kinds = [io::ErrorKind::PermissionDenied, io::ErrorKind::InvalidData];
                error.raw_os_error().is_none() && kinds.contains(&error.kind())
            }
            _ => true,
        };
        if wrong && self.seen.said.no_certificate.may(self.parts.clock.now()) {
            tracing::warn!(address, %error, "this member has no certificate, and gets none there");
        }
    }

    /// A member that was joining another cluster would otherwise look for this one for ever, and say nothing.
    fn tell_foreign(&self, address: &str, error: &Error) {
        let foreign = matches!(error, Error::Certificate(certificate::Error::Foreign));
        if foreign && self.seen.said.other_cluster.may(self.parts.clock.now()) {
            tracing::warn!(
                address,
                member = %self.member,
                "another cluster than that of this member's certificate is there; to join it, start with an empty directory"
            );
        }
    }

    /// A request over this member's key, and whose it is.
    async fn request(&self) -> Result<(Vec<u8>, (MemberId, [u8; 32])), Error> {
        let credentials = self.credentials.lock().await;
        let owner = (self.member, credentials.public_key());
        Ok((certificate::request(self.member, &credentials.key)?, owner))
    }

    /// Becomes a member with a certificate from whoever listens at `address`. Several may be asked at once: one that
    /// does not answer must not hold up the others.
    async fn join(&self, address: &str) -> Result<(), Error> {
        let secrets = self.secrets();
        if secrets.is_empty() {
            return Err(crate::transport::authority::Error::NoSecret.into());
        }
        let mut stream = self.open(address, Purpose::Join).await?;
        let connection = stream.get_ref().1;
        let exporter = connection.export_keying_material([0; 32], join::EXPORTER, None)?;
        join::prove(&mut stream, &exporter, &secrets).await?;
        let (request, owner) = self.request().await?;
        let granted = join::ask(&mut stream, &request, owner).await?;
        let _ = stream.shutdown().await;
        let mut credentials = self.credentials.lock().await;
        if self.is_certified() {
            return Ok(());
        }
        self.check_granted(&granted)?;
        self.take_granted(&mut credentials, granted)?;
        tracing::info!(member = %self.member, address, "this member has a certificate");
        Ok(())
    }

    /// Asks a member for a certificate with new dates.
    pub(super) async fn renew(&self, address: &str) -> Result<(), Error> {
        let mut stream = self.open(address, Purpose::Renew).await?;
        let (request, owner) = self.request().await?;
        let granted = join::ask(&mut stream, &request, owner).await?;
        let _ = stream.shutdown().await;
        let mut credentials = self.credentials.lock().await;
        self.check_granted(&granted)?;
        self.take_granted(&mut credentials, granted)
    }

    /// A member never changes its authority, and takes no certificate that it would not take from others.
    fn check_granted(&self, granted: &Granted) -> Result<(), certificate::Error> {
        let setup = self.setup();
        let ours = setup.authority.as_ref();
        if ours.is_some_and(|authority| *authority != granted.authority) {
            return Err(certificate::Error::Foreign);
        }
        granted.facts.check_dates(self.now())
    }
}
