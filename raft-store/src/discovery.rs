//! Where other members may be: addresses found outside the cluster. They are hints; the hello decides who it is.

mod fixed;

use crate::transport::BoxFuture;

pub use fixed::Fixed;

/// Why nothing was found this time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct DiscoveryError(pub String);

/// A way to find addresses. Asked again and again; calls have a time limit outside.
pub trait Discovery: Send + Sync {
    /// For log lines.
    fn name(&self) -> &str;

    /// Addresses (`host:port`, a host that is a name or a number) of members, perhaps of this one too.
    fn find(&self) -> BoxFuture<'_, Result<Vec<String>, DiscoveryError>>;
}
