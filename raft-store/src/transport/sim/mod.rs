//! A simulated network of byte streams for many members on one runtime with a paused clock.
//!
//! Streams behave as TCP's do: bytes arrive in order, in pieces, late or never, and nobody is told of a lost one but by
//! silence or a reset. Everything that is drawn comes from one seeded stream in the order of calls, so that one seed
//! gives one run. Time is tokio's, whose paused clock knows whole milliseconds: shorter latencies take one.

mod stream;
mod world;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::ids::MemberId;
use crate::random::Random;
use world::World;

pub use stream::SimTransport;

/// What the network tells its observer, in order. The observer must not call the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen<'a> {
    /// `from` tries to open a stream; `to` is who has the address, whether it answers or not.
    Dialled { from: MemberId, to: MemberId },
    Opened {
        from: MemberId,
        to: MemberId,
        stream: u64,
    },
    /// The reader has taken these bytes.
    Delivered {
        from: MemberId,
        to: MemberId,
        stream: u64,
        bytes: &'a [u8],
    },
    /// This end has been told that the stream was reset.
    Reset { at: MemberId, stream: u64 },
}

/// Told of everything that happens on the network.
pub type Observer = Box<dyn FnMut(&Seen<'_>) + Send>;

/// The network: clones are handles of the same one. All functions need a tokio runtime around them.
#[derive(Clone)]
pub struct Network(Arc<Mutex<World>>);

impl Network {
    /// A network without faults and a latency of 1 to 2 ms.
    pub fn new(random: Arc<dyn Random>) -> Self {
        Self(Arc::new(Mutex::new(World::new(random))))
    }

    /// Starts a host at `address`, that proves to be `member`; it takes the place of one that was there. Two hosts of one
    /// member at two addresses are a copied disk.
    pub fn transport(&self, member: MemberId, address: &str) -> Arc<SimTransport> {
        let host = self.0.lock().start_host(member, address);
        Arc::new(SimTransport::new(self.0.clone(), host))
    }

    /// Tells everything to `observer` from now on.
    pub fn observe(&self, observer: Observer) {
        self.0.lock().observer = Some(observer);
    }

    /// Latency of all roads that have none of their own; drawn for each write.
    pub fn set_latency(&self, least: Duration, most: Duration) {
        self.0.lock().latency = (least, most);
    }

    /// Latency of one direction.
    pub fn set_latency_of(&self, from: MemberId, to: MemberId, least: Duration, most: Duration) {
        self.0.lock().road(from, to).latency = Some((least, most));
    }

    /// So many writes of a million in this direction reset their stream.
    pub fn set_loss(&self, from: MemberId, to: MemberId, writes_per_million: u32) {
        let mut world = self.0.lock();
        let road = world.road(from, to);
        road.loss = writes_per_million;
        road.faults += 1;
    }

    /// Nothing arrives in this direction for `time`, what is under way included; then all of it does.
    pub fn hold(&self, from: MemberId, to: MemberId, time: Duration) {
        self.0.lock().hold(from, to, time);
    }

    /// What is sent in this direction from now on vanishes, while streams stay open: a one-way partition.
    pub fn black_hole(&self, from: MemberId, to: MemberId) {
        let mut world = self.0.lock();
        let road = world.road(from, to);
        road.hole = true;
        road.faults += 1;
    }

    /// Ends a black hole, a hold and losses of one direction. Streams that lost bytes are sent them again within a second
    /// or so, as TCP does; one in four stays dead without a word, as when something between has forgotten it.
    pub fn heal_one(&self, from: MemberId, to: MemberId) {
        self.0.lock().heal(from, to);
    }

    /// Black holes both ways.
    pub fn cut(&self, one: MemberId, other: MemberId) {
        self.black_hole(one, other);
        self.black_hole(other, one);
    }

    /// Cuts every member of `some` from every one of `others`.
    pub fn cut_groups(&self, some: &[MemberId], others: &[MemberId]) {
        for (one, other) in pairs(some, others) {
            self.cut(one, other);
        }
    }

    /// Ends all faults between two.
    pub fn heal(&self, one: MemberId, other: MemberId) {
        self.heal_one(one, other);
        self.heal_one(other, one);
    }

    /// Ends all faults of all roads. Latencies stay.
    pub fn heal_all(&self) {
        let mut world = self.0.lock();
        for (from, to) in world.roads_known() {
            world.heal(from, to);
        }
    }

    /// Resets all streams between two, at both ends, at once.
    pub fn reset(&self, one: MemberId, other: MemberId) {
        self.0.lock().reset_between(one, other);
    }

    /// The member's process is gone: its streams are reset, and dials are refused. To be called before its tasks are
    /// dropped.
    pub fn crash(&self, member: MemberId) {
        self.0.lock().stop_hosts(member, true);
    }

    /// The member's machine is gone: its streams stay open at their other ends, in silence, and dials get no answer.
    /// Once another host is at its address, that one resets them. To be called before its tasks are dropped.
    pub fn power_off(&self, member: MemberId) {
        self.0.lock().stop_hosts(member, false);
    }

    /// Whoever dials `address` gets to the host started as `host` from now on.
    pub fn move_address(&self, address: &str, host: &str) {
        let mut world = self.0.lock();
        world.addresses.insert(address.to_owned(), host.into());
    }

    /// How often `from` tried to open a stream to an address that was `to`'s.
    pub fn dials(&self, from: MemberId, to: MemberId) -> u64 {
        let world = self.0.lock();
        world.dials.get(&(from, to)).copied().unwrap_or(0)
    }

    /// Streams between two of which both ends are held.
    pub fn streams(&self, one: MemberId, other: MemberId) -> usize {
        self.0.lock().streams_between(one, other)
    }

    /// How often something went wrong on the road from `from` to `to`, if nothing does now.
    pub fn faults(&self, from: MemberId, to: MemberId) -> Option<u64> {
        let mut world = self.0.lock();
        let road = world.road(from, to);
        road.is_well().then_some(road.faults)
    }

    /// Whether `from` reaches `to`, as far as the network is concerned.
    pub fn is_open(&self, from: MemberId, to: MemberId) -> bool {
        !self.0.lock().road(from, to).hole
    }
}

fn pairs<'a>(
    some: &'a [MemberId],
    others: &'a [MemberId],
) -> impl Iterator<Item = (MemberId, MemberId)> + 'a {
    let one = move |one: &'a MemberId| others.iter().map(move |other| (*one, *other));
    some.iter()
        .flat_map(one)
        .filter(|(one, other)| one != other)
}

#[cfg(test)]
mod tests;
