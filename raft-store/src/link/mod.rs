//! Requests between members, over the streams of a [`crate::transport::Transport`].

mod book;
mod channel;
mod connection;
mod dial;
mod frame;
mod handshake;
mod manager;
pub(crate) mod messages;
mod outbox;
mod peer;
mod wire;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

pub(crate) use book::AddressBook;
pub use channel::{Channel, ChannelError, ChannelReceiver, ChannelSender, Gone, SendError};

use crate::config::Parts;

use crate::ids::{BootNonce, ClusterId, Incarnation, MemberId};
use crate::log::{LogId, Vote};
use crate::transport::BoxFuture;
use messages::{Lane, Reply, Request};

/// What each side says first on a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hello {
    /// `None`: an empty disk, which may ask but not be asked.
    pub(crate) cluster: Option<ClusterId>,
    pub(crate) member: MemberId,
    pub(crate) nonce: BootNonce,
    /// First and last format of entries, snapshots and frames that this build reads.
    pub(crate) formats: (u16, u16),
    /// What its disk says, so that a peer that remembers better can tell a reverted log (DESIGN §8).
    pub(crate) vote: Option<Vote>,
    pub(crate) last: Option<LogId>,
    /// Where it can be reached: hints.
    pub(crate) addresses: Vec<String>,
}

/// Why a member does not talk to another. Said to it before the connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Of another cluster.
    Cluster,
    /// The hello names another member than the certificate.
    Certificate,
    /// Two live runs of one id: a copied disk. Both are refused until one is gone.
    TwoRuns,
    /// The id has a tombstone: it never comes back.
    Removed,
    /// It has less on its disk than it once acknowledged.
    Reverted,
    /// No common format.
    Format,
    /// Too many connections.
    Busy,
}

/// Why a request has no reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LinkError {
    /// There is no connection, and none could be made. The request was not sent.
    Unreachable,
    /// It was sent; nothing came back in time, or the connection ended.
    NoReply,
    /// The peer refused this member.
    Refused(Refused),
}

/// How a member asks others.
pub(crate) trait Link: Send + Sync {
    /// Sends a request and waits for its reply, `limit` at most. Requests to one peer may overtake each other only
    /// where [`Request::lane`] differs.
    fn call(
        &self,
        to: MemberId,
        request: Request,
        limit: Duration,
    ) -> BoxFuture<'_, Result<Reply, LinkError>>;

    /// Peers that have said hello on a connection that is open.
    fn peers(&self) -> Vec<Hello>;

    /// Waits until `to` is connected.
    fn connected(&self, to: MemberId) -> BoxFuture<'_, ()>;

    /// Asks who is at `address`: a dial and a hello, `limit` at most. Who answers is a peer from then on. `Refused`:
    /// somebody is there, and does not say what it has.
    fn greet<'a>(
        &'a self,
        address: &'a str,
        limit: Duration,
    ) -> BoxFuture<'a, Result<Hello, LinkError>>;

    /// Says hello again to everybody: what [`Serve::hello`] says has changed, or [`Serve::judge`] judges otherwise.
    fn renew(&self);

    /// Opens a channel with a peer, as the run `own`, once the peer is connected. A link without streams has none.
    fn channel<'a>(
        &'a self,
        _name: &'a str,
        _peer: MemberId,
        _own: Incarnation,
    ) -> BoxFuture<'a, Result<Channel, ChannelError>> {
        Box::pin(std::future::ready(Err(ChannelError::Unreachable)))
    }

    /// The first run of each member that still counts: what earlier ones send on channels is dropped.
    fn runs_over(&self, _floors: &BTreeMap<MemberId, Incarnation>) {}

    /// Frames of channels that were dropped for that.
    fn dropped_frames(&self) -> u64 {
        0
    }

    /// Ends all connections; nothing is dialled or accepted any more.
    fn close(&self);
}

/// How a member answers others.
pub(crate) trait Serve: Send + Sync {
    /// What this member says of itself now.
    fn hello(&self) -> Hello;

    /// Whether to talk to a peer. What only a connection can know (certificate, two runs) is judged before.
    fn judge(&self, peer: &Hello) -> Result<(), Refused>;

    /// A peer does not talk to this member, and has said why.
    fn refused(&self, by: MemberId, why: Refused);

    /// The reply to a request of a peer that was not refused.
    fn serve(&self, from: MemberId, request: Request) -> BoxFuture<'static, Reply>;
}

/// Starts the connections of this member: they are kept open to all who have a row in the book, and made to others
/// that are asked for. Needs a tokio runtime around it.
pub(crate) fn start(parts: &Parts, serve: Arc<dyn Serve>, book: AddressBook) -> Arc<dyn Link> {
    manager::start(parts, serve, book)
}

/// The link of a member without peers.
#[cfg(test)]
pub(crate) struct Nobody;

#[cfg(test)]
impl Link for Nobody {
    fn call(
        &self,
        _to: MemberId,
        _request: Request,
        _limit: Duration,
    ) -> BoxFuture<'_, Result<Reply, LinkError>> {
        Box::pin(std::future::ready(Err(LinkError::Unreachable)))
    }

    fn peers(&self) -> Vec<Hello> {
        Vec::new()
    }

    fn connected(&self, _to: MemberId) -> BoxFuture<'_, ()> {
        Box::pin(std::future::pending())
    }

    fn greet<'a>(&'a self, _: &'a str, _: Duration) -> BoxFuture<'a, Result<Hello, LinkError>> {
        Box::pin(std::future::ready(Err(LinkError::Unreachable)))
    }

    fn renew(&self) {}

    fn close(&self) {}
}

#[cfg(test)]
mod tests;
