//! The connections of one member: accepted, dialled, kept and ended.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, timeout, timeout_at};

use super::channel::{Channel, ChannelError, Channels, Dropped};
use super::connection::{Connection, NotSent, Told};
use super::frame::Control;
use super::messages::{Lane, Reply, Request};
use super::peer::{Held, Peer, ToDial};
use super::{AddressBook, Hello, Link, LinkError, Refused, Serve, wire};
use crate::bell::Bell;
use crate::clock::Clock;
use crate::config::Parts;
use crate::ids::{Incarnation, MemberId};
use crate::limits::{STRANGERS, STRANGERS_A_MEMBER};
use crate::transport::{BoxFuture, Connected};

/// See [`super::start`].
pub(super) fn start(parts: &Parts, serve: Arc<dyn Serve>, book: AddressBook) -> Arc<dyn Link> {
    let shared = Arc::new(Shared {
        me: serve.hello().member,
        parts: parts.clone(),
        serve,
        book,
        peers: Mutex::default(),
        strangers: Mutex::default(),
        closed: AtomicBool::new(false),
        closing: Bell::default(),
        dropped: Dropped::default(),
    });
    parts
        .tasks
        .spawn(shared.clone().until_closed(shared.clone().accept()));
    parts
        .tasks
        .spawn(shared.clone().until_closed(shared.clone().follow_book()));
    Arc::new(Manager(shared))
}

/// Closes when it is dropped.
struct Manager(Arc<Shared>);

impl Drop for Manager {
    fn drop(&mut self) {
        self.0.close();
    }
}

pub(super) struct Shared {
    pub(super) me: MemberId,
    pub(super) parts: Parts,
    pub(super) serve: Arc<dyn Serve>,
    pub(super) book: AddressBook,
    peers: Mutex<BTreeMap<MemberId, Arc<Peer>>>,
    /// Connections that have not said hello, by who has opened them.
    strangers: Mutex<BTreeMap<MemberId, usize>>,
    closed: AtomicBool,
    closing: Bell,
    dropped: Dropped,
}

impl Shared {
    pub(super) fn clock(&self) -> &dyn Clock {
        &*self.parts.clock
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    async fn until_closed(self: Arc<Self>, task: impl Future<Output = ()>) {
        tokio::select! {
            biased;
            () = self.closing.wait(|| self.is_closed().then_some(())) => {}
            () = task => {}
        }
    }

    /// A peer, known or not, that is not forgotten meanwhile.
    pub(super) fn hold(self: &Arc<Self>, id: MemberId) -> (Arc<Peer>, Held) {
        let mut peers = self.peers.lock();
        let peer = self.peer(&mut peers, id);
        let held = peer.hold();
        (peer, held)
    }

    fn peer(
        self: &Arc<Self>,
        peers: &mut BTreeMap<MemberId, Arc<Peer>>,
        id: MemberId,
    ) -> Arc<Peer> {
        if let Some(peer) = peers.get(&id) {
            return peer.clone();
        }
        let peer = Peer::new(id);
        peers.insert(id, peer.clone());
        if id != self.me {
            let dialler = self.clone().dial_for(peer.clone());
            self.parts.tasks.spawn(self.clone().until_closed(dialler));
        }
        peer
    }

    /// Forgets a peer if nobody needs it even now.
    pub(super) fn forget(&self, peer: &Peer) -> bool {
        let mut peers = self.peers.lock();
        let forget = peer.to_dial(self.is_kept(peer.id)) == ToDial::Forget;
        if forget {
            peers.remove(&peer.id);
        }
        forget
    }

    /// Whether connections to it are kept open.
    pub(super) fn is_kept(&self, member: MemberId) -> bool {
        member != self.me && self.book.has_row(member)
    }

    fn all_peers(&self) -> Vec<Arc<Peer>> {
        self.peers.lock().values().cloned().collect()
    }

    /// Connects to whoever has a row.
    async fn follow_book(self: Arc<Self>) {
        let mut seen = 0;
        loop {
            seen = self.book.changed(seen).await;
            let mut members: BTreeSet<_> = self.book.members();
            members.remove(&self.me);
            {
                let mut peers = self.peers.lock();
                members
                    .iter()
                    .for_each(|id| drop(self.peer(&mut peers, *id)));
            }
            self.all_peers()
                .iter()
                .for_each(|peer| peer.kick.notify_one());
        }
    }

    async fn accept(self: Arc<Self>) {
        loop {
            match self.parts.transport.accept().await {
                Ok(connected) => self.let_in(connected),
                Err(error) => {
                    // Peers that are connected stay so, and this member still dials.
                    tracing::error!(%error, "no connections are accepted any more");
                    return;
                }
            }
        }
    }

    fn let_in(self: &Arc<Self>, connected: Connected) {
        let Some(stranger) = Stranger::enter(self, connected.member) else {
            return;
        };
        let shared = self.clone();
        let task = async move {
            let (peer, address) = (connected.member, connected.address.clone());
            if let Err(error) = shared.receive(connected).await {
                tracing::debug!(%peer, address, %error, "no connection");
            }
            drop(stranger);
        };
        self.parts.tasks.spawn(self.clone().until_closed(task));
    }

    fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.closing.ring();
        for peer in self.all_peers() {
            peer.connections().iter().for_each(|one| one.close());
            peer.changed.ring();
        }
    }

    /// A connection, dialled if need be.
    async fn connection(
        self: &Arc<Self>,
        to: MemberId,
        lane: Lane,
    ) -> Result<Arc<Connection>, LinkError> {
        if to == self.me {
            return Err(LinkError::Unreachable);
        }
        let known = self.peers.lock().get(&to).cloned();
        if let Some(connection) = known.and_then(|peer| peer.live(lane)) {
            return Ok(connection);
        }
        let (peer, _held) = self.hold(to);
        let (_wanted, dial) = peer.want(lane, true);
        let outcome = || match (self.is_closed(), peer.live(lane)) {
            (true, _) => Some(Err(LinkError::Unreachable)),
            (false, Some(connection)) => Some(Ok(connection)),
            (false, None) => peer.failed(dial).map(Err),
        };
        peer.changed.wait(outcome).await
    }

    async fn ask(
        self: &Arc<Self>,
        to: MemberId,
        request: &Request,
        deadline: Instant,
    ) -> Result<Reply, LinkError> {
        let mut again = true;
        let (connection, reply) = loop {
            let sending = async {
                let connection = self.connection(to, request.lane()).await?;
                let sent = connection.ask(request).await;
                Ok::<_, LinkError>((connection, sent))
            };
            let sending = timeout_at(deadline, sending).await;
            match sending.map_err(|_| LinkError::Unreachable)?? {
                (connection, Ok(reply)) => break (connection, reply),
                // It ended in the meantime: once more, with a fresh one.
                (_, Err(NotSent::Ended)) if again => again = false,
                (_, Err(why)) => return Err(why.into()),
            }
        };
        match timeout_at(deadline, reply).await {
            Ok(Ok(reply)) => Ok(reply),
            _ => Err(match connection.refused().and_then(wire::reason) {
                Some(reason) => LinkError::Refused(reason),
                None => LinkError::NoReply,
            }),
        }
    }

    /// Dials an address, whoever is there.
    async fn visit(self: &Arc<Self>, address: &str) -> Result<Hello, LinkError> {
        let connected = self.parts.transport.connect(address).await;
        let Connected { stream, member, .. } = connected.map_err(|error| {
            tracing::debug!(address, %error, "nobody answers");
            not_let_in(&error).map_or(LinkError::Unreachable, LinkError::Refused)
        })?;
        if member == self.me {
            return Err(LinkError::Unreachable);
        }
        let (peer, _held) = self.hold(member);
        if peer.live(Lane::Raft).is_none() {
            let met = self.introduce(&peer, Lane::Raft, stream).await;
            peer.unsaid();
            match met {
                Ok(hello) => return Ok(hello),
                Err(super::handshake::Failed::Crossed) => {}
                Err(failed) => return Err(failed.into()),
            }
        }
        Ok(peer.changed.wait(|| peer.hello()).await)
    }
}

/// Whether somebody is there who does not let this member in, as [`crate::transport::Transport::connect`] says it.
fn not_let_in(error: &io::Error) -> Option<Refused> {
    match error.kind() {
        // What the system says of a connection that it does not make.
        _ if error.raw_os_error().is_some() => None,
        io::ErrorKind::PermissionDenied => Some(Refused::Certificate),
        io::ErrorKind::WouldBlock => Some(Refused::Busy),
        _ => None,
    }
}

impl Told for Shared {
    fn hello_again(&self, connection: &Connection, hello: Hello) -> Result<(), u8> {
        self.serve.judge(&hello).map_err(wire::reason_byte)?;
        self.book.note_hello(connection.peer, &hello.addresses);
        if let Some(peer) = self.peers.lock().get(&connection.peer) {
            peer.renew(connection, hello);
        }
        Ok(())
    }

    fn floor(&self, peer: MemberId, says: Incarnation) -> Incarnation {
        let peer = self.peers.lock().get(&peer).cloned();
        let Some(peer) = peer else { return says };
        let floor = peer.raise(says);
        for connection in peer.connections() {
            self.dropped.add(connection.channels.raise(floor));
        }
        floor
    }

    fn dropped(&self, frames: u64) {
        self.dropped.add(frames);
    }

    fn ended(&self, connection: &Arc<Connection>) {
        let peer = self.peers.lock().get(&connection.peer).cloned();
        peer.into_iter().for_each(|peer| peer.ended(connection));
    }
}

impl Shared {
    /// Opens a channel as soon as the peer is connected.
    async fn open(
        self: &Arc<Self>,
        name: &str,
        to: MemberId,
        own: Incarnation,
    ) -> Result<Channel, ChannelError> {
        let (peer, _held) = self.hold(to);
        let (_wanted, _) = peer.want(Lane::Calls, true);
        let live = || match self.is_closed() {
            true => Some(None),
            false => peer.live(Lane::Calls).map(Some),
        };
        let connection = peer.changed.wait(live).await;
        Channels::open(&connection.ok_or(ChannelError::Unreachable)?, name, own)
    }
}

impl Link for Manager {
    fn call(
        &self,
        to: MemberId,
        request: Request,
        limit: Duration,
    ) -> BoxFuture<'_, Result<Reply, LinkError>> {
        let deadline = Instant::now() + self.0.clock().wait(limit);
        Box::pin(async move { self.0.ask(to, &request, deadline).await })
    }

    fn peers(&self) -> Vec<Hello> {
        self.0
            .all_peers()
            .iter()
            .filter_map(|peer| peer.hello())
            .collect()
    }

    fn connected(&self, to: MemberId) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let (peer, _held) = self.0.hold(to);
            let (_wanted, _) = peer.want(Lane::Raft, false);
            peer.changed.wait(|| peer.live(Lane::Raft).map(drop)).await;
        })
    }

    fn greet<'a>(
        &'a self,
        address: &'a str,
        limit: Duration,
    ) -> BoxFuture<'a, Result<Hello, LinkError>> {
        Box::pin(async move {
            let visit = timeout(self.0.clock().wait(limit), self.0.visit(address));
            visit.await.unwrap_or(Err(LinkError::Unreachable))
        })
    }

    fn renew(&self) {
        let hello = self.0.serve.hello();
        for peer in self.0.all_peers() {
            let verdict = peer.hello().map(|theirs| self.0.serve.judge(&theirs));
            for connection in peer.connections() {
                match verdict {
                    Some(Err(reason)) => connection.refuse(wire::reason_byte(reason)),
                    _ => connection.say(&Control::Hello(connection.lane, hello.clone())),
                }
            }
        }
    }

    fn channel<'a>(
        &'a self,
        name: &'a str,
        peer: MemberId,
        own: Incarnation,
    ) -> BoxFuture<'a, Result<Channel, ChannelError>> {
        Box::pin(self.0.open(name, peer, own))
    }

    fn runs_over(&self, floors: &BTreeMap<MemberId, Incarnation>) {
        for (member, floor) in floors.iter().filter(|(id, _)| **id != self.0.me) {
            let (_peer, _held) = self.0.hold(*member);
            self.0.floor(*member, *floor);
        }
    }

    fn dropped_frames(&self) -> u64 {
        self.0.dropped.get()
    }

    fn close(&self) {
        self.0.close();
    }
}

/// A connection that has not said hello. Who has opened it is proven: one member alone cannot keep others out.
struct Stranger {
    shared: Arc<Shared>,
    member: MemberId,
}

impl Stranger {
    /// `None`: there are too many.
    fn enter(shared: &Arc<Shared>, member: MemberId) -> Option<Self> {
        let mut strangers = shared.strangers.lock();
        let of_member = strangers.get(&member).copied().unwrap_or(0);
        if of_member >= STRANGERS_A_MEMBER || strangers.values().sum::<usize>() >= STRANGERS {
            return None;
        }
        strangers.insert(member, of_member + 1);
        drop(strangers);
        let shared = shared.clone();
        Some(Self { shared, member })
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let mut strangers = self.shared.strangers.lock();
        if let Some(count) = strangers.get_mut(&self.member) {
            *count -= 1;
            if *count == 0 {
                strangers.remove(&self.member);
            }
        }
    }
}
