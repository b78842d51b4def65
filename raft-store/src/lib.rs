//! A small replicated store for what a cluster must agree on; knows nothing of XMPP. See `DESIGN.md`.

mod bell;
pub mod clock;
mod config;
pub mod discovery;
mod elections;
mod error;
pub mod founding;
#[cfg(test)]
mod fuzz;
mod hand_over;
mod identity;
#[doc(hidden)]
pub mod observe;
mod peers;
mod poll;
mod proposer;
mod rounds;
mod seldom;
mod serve;
mod store;
#[cfg(test)]
mod test_cluster;
mod waiters;

// Hidden modules are no promise to anybody: open for this crate's own tests, benchmark and fuzz targets.
#[doc(hidden)]
pub mod codec;
pub mod disk;
#[doc(hidden)]
pub mod entry;
pub mod gate;
pub mod ids;
mod leases;
pub mod limits;
mod link;
#[doc(hidden)]
pub mod log;
mod membership;
pub mod offline;
mod raft;
pub mod random;
#[doc(hidden)]
pub mod snapshot;
pub mod spawner;
#[doc(hidden)]
pub mod state;
pub mod transport;
pub mod watch;

pub use config::{Parts, Settings};
pub use entry::{Action, Expect, MemberInfo, Write};
pub use error::{Error, Fatal, OpenError, Refusal};
pub use hand_over::HandOverError;
pub use leases::{Lease, LeaseWatch};
pub use link::{Channel, ChannelError, ChannelReceiver, ChannelSender, Gone, SendError};
pub use membership::Rules as MembershipRules;
pub use peers::{Peer, PeerWatch};
pub use snapshot::save::Saved;
pub use state::{Item, Versioned};
pub use store::{
    BatchOutcome, FatalWatch, Inspection, MemberStatus, Prefix, Resolution, Role, SeenByLeader,
    Status, Store, WriteOutcome, open,
};
