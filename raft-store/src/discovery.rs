//! Where other members may be: addresses found outside the cluster. They are hints; the hello decides who it is.

mod command;
mod dns;
mod file;
mod fixed;
mod search;

use std::time::Duration;

use crate::transport::BoxFuture;

pub use command::Command;
pub use dns::Dns;
pub use file::AddressFile;
pub use fixed::Fixed;
pub(crate) use search::Search;

/// Why nothing was found this time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct DiscoveryError(pub String);

/// A way to find addresses. Asked again and again; a call that takes longer than ten seconds is given up.
pub trait Discovery: Send + Sync {
    /// For log lines.
    fn name(&self) -> &str;

    /// Addresses (`host:port`, a host that is a name, an IPv4 address, or an IPv6 address in brackets) of members,
    /// perhaps of this one too. More than are wanted, and what is no address, is left out.
    fn find(&self) -> BoxFuture<'_, Result<Vec<String>, DiscoveryError>>;

    /// How long an answer holds.
    fn holds(&self) -> Duration {
        Duration::from_secs(30)
    }
}
