//! Addresses from the DNS: those of a name, or the targets of a service (RFC 2782).

use std::net::SocketAddr;
use std::time::Duration;

use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{RData, RecordType};
use hickory_resolver::{ResolverBuilder, TokioResolver};
use tokio::time::timeout;

use super::{Discovery, DiscoveryError};
use crate::transport::BoxFuture;

/// One question; a search asks two at most.
const LIMIT: Duration = Duration::from_secs(4);

/// See the module's documentation. A name that does not exist has no addresses.
pub struct Dns {
    resolver: TokioResolver,
    /// With a dot at its end: nothing is appended to it.
    domain: String,
    /// `None`: a service's name, whose records say the ports.
    port: Option<u16>,
    name: String,
}

impl Dns {
    /// The A and AAAA records of `name`, each with `port`. Asks the system's resolver.
    pub fn addresses(name: &str, port: u16) -> Result<Self, DiscoveryError> {
        Ok(Self::new(system()?, name, Some(port)))
    }

    /// The SRV records of `name` (`_service._tcp.domain`).
    pub fn service(name: &str) -> Result<Self, DiscoveryError> {
        Ok(Self::new(system()?, name, None))
    }

    fn new(resolver: TokioResolver, name: &str, port: Option<u16>) -> Self {
        let domain = format!("{}.", name.trim_end_matches('.'));
        let name = format!("DNS {name}");
        Self {
            resolver,
            domain,
            port,
            name,
        }
    }

    async fn ask(&self, kind: RecordType) -> Result<Vec<RData>, DiscoveryError> {
        let asked = self.resolver.lookup(self.domain.as_str(), kind);
        match timeout(LIMIT, asked).await {
            Ok(Ok(found)) => {
                let answers = found.answers().iter();
                Ok(answers.map(|record| record.data.clone()).collect())
            }
            Ok(Err(error)) if error.is_no_records_found() || error.is_nx_domain() => Ok(Vec::new()),
            Ok(Err(error)) => Err(DiscoveryError(error.to_string())),
            Err(_) => Err(DiscoveryError("no answer in time".into())),
        }
    }

    /// Sorted: name servers turn their answers round, which is no change.
    async fn search(&self) -> Result<Vec<String>, DiscoveryError> {
        let Some(port) = self.port else {
            let found = self.ask(RecordType::SRV).await?;
            let mut targets: Vec<_> = found.iter().filter_map(target).collect();
            targets.sort();
            return Ok(targets);
        };
        let mut found = self.ask(RecordType::A).await?;
        match self.ask(RecordType::AAAA).await {
            Ok(more) => found.extend(more),
            Err(error) if found.is_empty() => return Err(error),
            Err(_) => {}
        }
        let addresses = found.iter().filter_map(RData::ip_addr);
        let mut addresses: Vec<_> = addresses.map(|ip| SocketAddr::new(ip, port)).collect();
        addresses.sort();
        Ok(addresses.iter().map(SocketAddr::to_string).collect())
    }
}

fn system() -> Result<TokioResolver, DiscoveryError> {
    let builder = TokioResolver::builder_tokio();
    let built = builder.and_then(|builder| fresh(builder).build());
    built.map_err(|error| DiscoveryError(error.to_string()))
}

/// A member that is not there yet must not be so for as long as its absence may be remembered.
fn fresh(
    mut builder: ResolverBuilder<TokioRuntimeProvider>,
) -> ResolverBuilder<TokioRuntimeProvider> {
    builder.options_mut().cache_size = 0;
    builder
}

/// `None`: no such record, or one that says there is no such service.
fn target(record: &RData) -> Option<String> {
    let RData::SRV(srv) = record else {
        return None;
    };
    let host = srv.target.to_string();
    let host = host.trim_end_matches('.');
    (!host.is_empty()).then(|| format!("{host}:{}", srv.port))
}

impl Discovery for Dns {
    fn name(&self) -> &str {
        &self.name
    }

    fn find(&self) -> BoxFuture<'_, Result<Vec<String>, DiscoveryError>> {
        Box::pin(self.search())
    }
}

#[cfg(test)]
mod tests;
