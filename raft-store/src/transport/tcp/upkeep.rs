//! What an open member's port looks after: the founder's authority into the store, sealed under the secret that is
//! valid now, a certificate that is renewed in time, no keys of members that were removed, and where members are.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::{Error, Shared};
use crate::limits::DIAL_MS;
use crate::transport::credentials::Granted;
use crate::transport::join::Office;
use crate::transport::registry::{Bound, Registry};
use crate::transport::{authority, certificate};

/// How often is looked.
const LOOK: Duration = Duration::from_secs(3_600);
/// When something was not possible, it is tried again after this time, later after twice as long, up to the longest.
const AGAIN: Duration = Duration::from_millis(200);
const AGAIN_LONGEST: Duration = Duration::from_secs(300);

/// Looks until it is dropped.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut again = AGAIN;
    loop {
        let wait = match shared.look_after().await {
            Ok(()) => {
                again = AGAIN;
                LOOK
            }
            Err(error) => {
                tracing::debug!(%error, "the certificates are to be looked after once more");
                again = (again * 2).min(AGAIN_LONGEST);
                again / 2
            }
        };
        let _ = timeout(shared.parts.clock.wait(wait), shared.look.notified()).await;
    }
}

fn not_now(what: &'static str) -> Error {
    io::Error::new(io::ErrorKind::WouldBlock, what).into()
}

impl Shared {
    async fn look_after(&self) -> Result<(), Error> {
        let Some(registry) = self.registry.get().cloned() else {
            return Ok(());
        };
        // Behind a start nobody has proven anything yet, and a flood must not keep members out. Where rows say names,
        // those count that have proven themselves.
        for address in registry.addresses() {
            if let Ok(address) = address.parse::<SocketAddr>() {
                self.unfinished.is_member_s(address.ip());
            }
        }
        self.store_authority(&*registry).await?;
        self.seal_anew(&*registry).await?;
        self.renew_in_time(&*registry).await?;
        Ok(registry.forget_removed().await?)
    }

    /// Of a founder: its authority belongs into the store, and its own id has its key.
    async fn store_authority(&self, registry: &dyn Registry) -> Result<(), Error> {
        let mut credentials = self.credentials.lock().await;
        let Some(sealed) = credentials.sealed.clone() else {
            return Ok(());
        };
        if registry.authority()?.is_none() {
            registry.put_authority(sealed.clone(), None).await?;
        }
        let bound = registry.bind(self.member, credentials.public_key()).await?;
        if bound != Bound::Yes {
            return Err(not_now("the founder's id has another key"));
        }
        // Only what is seen in the store is forgotten here.
        if registry.authority()?.is_none() {
            return Err(not_now("the authority is not in the store yet"));
        }
        credentials.sealed = None;
        let written = self.take(&credentials);
        written.inspect_err(|_| credentials.sealed = Some(sealed))
    }

    /// After a rotation: the first member that seals with the new secret does it for all.
    async fn seal_anew(&self, registry: &dyn Registry) -> Result<(), Error> {
        let secrets = self.secrets();
        let (Some((sealed, revision)), Some(first)) = (registry.authority()?, secrets.first())
        else {
            return Ok(());
        };
        match authority::open(&sealed, &secrets) {
            Ok(opened) if !opened.by_first => {
                let sealed = opened.signer.seal(first, &*self.parts.random)?;
                if !registry.put_authority(sealed, Some(revision)).await? {
                    return Err(not_now("another member has sealed the authority"));
                }
                tracing::info!("the authority is sealed under the new join secret");
                Ok(())
            }
            Ok(_) => Ok(()),
            Err(error) => {
                tracing::warn!(%error, "this member cannot sign certificates");
                Ok(())
            }
        }
    }

    /// Renewed at a third of its time: by another member, whose clock then counts, or by itself where it is alone.
    async fn renew_in_time(&self, registry: &dyn Registry) -> Result<(), Error> {
        let due = |shared: &Self| {
            let facts = shared.setup().facts;
            facts.is_some_and(|facts| facts.is_due(shared.now()))
        };
        if !due(self) {
            return Ok(());
        }
        let addresses = registry.addresses();
        if addresses.is_empty() {
            return self.renew_alone(registry).await;
        }
        for address in addresses {
            match timeout(self.limit(DIAL_MS), self.renew(&address)).await {
                Ok(Ok(())) => {
                    tracing::info!(address, "the certificate was renewed");
                    return Ok(());
                }
                Ok(Err(error)) => {
                    tracing::info!(address, %error, "the certificate was not renewed there");
                }
                Err(_) => tracing::info!(address, "nobody renewed the certificate in time"),
            }
        }
        Err(not_now("no member has renewed the certificate"))
    }

    async fn renew_alone(&self, registry: &dyn Registry) -> Result<(), Error> {
        let mut credentials = self.credentials.lock().await;
        let Some(facts) = self.setup().facts else {
            return Ok(());
        };
        let secrets = self.secrets();
        let office = Office {
            registry: Some(registry),
            secrets: &secrets,
            now: self.now(),
            random: &*self.parts.random,
        };
        let request = certificate::request(self.member, &credentials.key)?;
        let granted: Granted = office
            .grant(&request, &facts)
            .await
            .map_err(crate::transport::join::Error::from)?;
        self.take_granted(&mut credentials, granted)
    }
}
