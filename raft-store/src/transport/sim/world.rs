//! What there is on the network: hosts, roads between members, and streams on them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use tokio::time::Instant;

use super::{Observer, Seen};
use crate::ids::MemberId;
use crate::random::Random;

/// Bytes of one direction that are sent and not yet read; a writer waits above.
pub(super) const BUFFER_BYTES: usize = 256 * 1024;
/// Streams that wait to be accepted by one host; more are dialled again, as a full backlog makes TCP do.
const BACKLOG: usize = 256;
/// One healed stream in so many stays dead.
const STAYS_DEAD: u64 = 4;
/// Until lost bytes are sent again, at most.
const RETRANSMIT_MS: u64 = 1000;

pub(super) struct World {
    pub(super) random: Arc<dyn Random>,
    pub(super) observer: Option<Observer>,
    pub(super) latency: (Duration, Duration),
    /// Which host answers at an address.
    pub(super) addresses: BTreeMap<String, Arc<str>>,
    pub(super) hosts: BTreeMap<Arc<str>, Host>,
    roads: BTreeMap<(MemberId, MemberId), Road>,
    pub(super) wires: BTreeMap<u64, Wire>,
    next_wire: u64,
    pub(super) dials: BTreeMap<(MemberId, MemberId), u64>,
}

/// Someone's machine.
pub(super) struct Host {
    pub(super) member: MemberId,
    /// How often a host was started here: what an earlier one held is not this one's.
    pub(super) boot: u64,
    pub(super) condition: Condition,
    /// Streams to be accepted.
    pub(super) backlog: VecDeque<u64>,
    pub(super) acceptor: Option<Waker>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Condition {
    Listening,
    /// The system answers, with resets.
    Crashed,
    Off,
}

/// One direction between two members.
#[derive(Default)]
pub(super) struct Road {
    pub(super) latency: Option<(Duration, Duration)>,
    pub(super) loss: u32,
    pub(super) hole: bool,
    held_until: Option<Instant>,
    /// How often something was done to it.
    pub(super) faults: u64,
}

impl Road {
    /// Nothing is lost on it or held back.
    pub(super) fn is_well(&self) -> bool {
        let held = self.held_until.is_some_and(|until| until > Instant::now());
        !self.hole && self.loss == 0 && !held
    }
}

/// A stream: two ends, and a pipe from each.
pub(super) struct Wire {
    pub(super) ends: [End; 2],
}

pub(super) struct End {
    pub(super) member: MemberId,
    pub(super) host: Arc<str>,
    /// Somebody holds it.
    pub(super) held: bool,
    /// When it is told of a reset.
    pub(super) reset_at: Option<Instant>,
    /// What it has sent.
    pub(super) sent: Pipe,
    pub(super) reader: Option<Waker>,
    pub(super) writer: Option<Waker>,
}

#[derive(Default)]
pub(super) struct Pipe {
    pub(super) queue: VecDeque<Chunk>,
    pub(super) bytes: usize,
    /// The newest chunk arrives then; none may arrive before it.
    last: Option<Instant>,
    /// Nothing gets through any more.
    dead: bool,
}

pub(super) struct Chunk {
    /// `None`: lost, until it is sent again.
    pub(super) at: Option<Instant>,
    /// Empty: the end of the stream.
    pub(super) bytes: bytes::Bytes,
}

impl End {
    fn new(member: MemberId, host: Arc<str>) -> Self {
        Self {
            member,
            host,
            held: true,
            reset_at: None,
            sent: Pipe::default(),
            reader: None,
            writer: None,
        }
    }

    pub(super) fn wake(&mut self) {
        self.reader.take().into_iter().for_each(Waker::wake);
        self.writer.take().into_iter().for_each(Waker::wake);
    }
}

impl World {
    pub(super) fn new(random: Arc<dyn Random>) -> Self {
        Self {
            random,
            observer: None,
            latency: (Duration::from_millis(1), Duration::from_millis(2)),
            addresses: BTreeMap::new(),
            hosts: BTreeMap::new(),
            roads: BTreeMap::new(),
            wires: BTreeMap::new(),
            next_wire: 0,
            dials: BTreeMap::new(),
        }
    }

    pub(super) fn tell(&mut self, seen: &Seen<'_>) {
        if let Some(observer) = &mut self.observer {
            observer(seen);
        }
    }

    pub(super) fn road(&mut self, from: MemberId, to: MemberId) -> &mut Road {
        self.roads.entry((from, to)).or_default()
    }

    pub(super) fn roads_known(&self) -> Vec<(MemberId, MemberId)> {
        self.roads.keys().copied().collect()
    }

    /// When something sent now arrives.
    pub(super) fn arrival(&mut self, from: MemberId, to: MemberId) -> Instant {
        let everywhere = self.latency;
        let road = self.road(from, to);
        let (least, most) = road.latency.unwrap_or(everywhere);
        let held_until = road.held_until;
        let spread = most.saturating_sub(least).as_micros() as u64;
        let drawn = Duration::from_micros(self.random.below(spread + 1));
        let at = Instant::now() + least + drawn;
        held_until.map_or(at, |held| held.max(at))
    }

    pub(super) fn start_host(&mut self, member: MemberId, address: &str) -> (Arc<str>, u64) {
        let key: Arc<str> = address.into();
        let boot = self.hosts.get(&key).map_or(0, |host| host.boot + 1);
        self.stop_host(&key, Condition::Off);
        let host = Host {
            member,
            boot,
            condition: Condition::Listening,
            backlog: VecDeque::new(),
            acceptor: None,
        };
        self.hosts.insert(key.clone(), host);
        self.addresses.insert(address.to_owned(), key.clone());
        // It knows nothing of the streams of the one before, and says so to whoever sends on them.
        self.answer_strays();
        (key, boot)
    }

    pub(super) fn stop_hosts(&mut self, member: MemberId, says_so: bool) {
        let of_member = self.hosts.iter().filter(|(_, host)| host.member == member);
        let keys: Vec<_> = of_member.map(|(key, _)| key.clone()).collect();
        let condition = match says_so {
            true => Condition::Crashed,
            false => Condition::Off,
        };
        for key in keys {
            self.stop_host(&key, condition);
        }
    }

    fn stop_host(&mut self, key: &Arc<str>, condition: Condition) {
        let Some(host) = self.hosts.get_mut(key) else {
            return;
        };
        host.condition = condition;
        host.backlog.clear();
        for id in self.wires.keys().copied().collect::<Vec<_>>() {
            for side in 0..2 {
                let wire = self.wires.get_mut(&id).expect("nothing removes wires here");
                let end = &mut wire.ends[side];
                if end.host != *key || !end.held {
                    continue;
                }
                end.held = false;
                end.wake();
                if condition == Condition::Crashed {
                    self.reset_end(id, 1 - side);
                }
            }
        }
        self.wires
            .retain(|_, wire| wire.ends.iter().any(|end| end.held));
    }

    /// Tells one end of a reset, if what the other end says gets through.
    fn reset_end(&mut self, id: u64, side: usize) {
        let Some(wire) = self.wires.get(&id) else {
            return;
        };
        let (from, to) = (wire.ends[1 - side].member, wire.ends[side].member);
        let dead = wire.ends[1 - side].sent.dead;
        if dead || self.road(from, to).hole {
            return;
        }
        let at = self.arrival(from, to);
        let end = &mut self.wires.get_mut(&id).expect("seen above").ends[side];
        end.reset_at = Some(end.reset_at.map_or(at, |known| known.min(at)));
        end.wake();
    }

    pub(super) fn reset_between(&mut self, one: MemberId, other: MemberId) {
        let now = Instant::now();
        self.road(one, other).faults += 1;
        self.road(other, one).faults += 1;
        for wire in self.wires.values_mut() {
            let members = wire.ends.each_ref().map(|end| end.member);
            if members == [one, other] || members == [other, one] {
                wire.ends.iter_mut().for_each(|end| {
                    end.reset_at = Some(now);
                    end.wake();
                });
            }
        }
    }

    pub(super) fn streams_between(&self, one: MemberId, other: MemberId) -> usize {
        let is_between = |wire: &&Wire| {
            let members = wire.ends.each_ref().map(|end| end.member);
            let whole = wire
                .ends
                .iter()
                .all(|end| end.held && end.reset_at.is_none());
            whole && (members == [one, other] || members == [other, one])
        };
        self.wires.values().filter(is_between).count()
    }

    pub(super) fn hold(&mut self, from: MemberId, to: MemberId, time: Duration) {
        let until = Instant::now() + time;
        let road = self.road(from, to);
        road.held_until = Some(until);
        road.faults += 1;
        for end in self.ends_on(from, to) {
            end.sent.last = end.sent.last.map(|last| last.max(until));
            for chunk in &mut end.sent.queue {
                chunk.at = chunk.at.map(|at| at.max(until));
            }
        }
    }

    /// The sending ends of one direction.
    fn ends_on(&mut self, from: MemberId, to: MemberId) -> impl Iterator<Item = &mut End> {
        self.wires.values_mut().filter_map(move |wire| {
            let members = wire.ends.each_ref().map(|end| end.member);
            match members {
                [one, other] if (one, other) == (from, to) => Some(&mut wire.ends[0]),
                [one, other] if (other, one) == (from, to) => Some(&mut wire.ends[1]),
                _ => None,
            }
        })
    }

    pub(super) fn heal(&mut self, from: MemberId, to: MemberId) {
        let road = self.road(from, to);
        let was_hole = std::mem::take(&mut road.hole);
        (road.loss, road.held_until) = (0, None);
        if !was_hole {
            return;
        }
        for id in self.wires.keys().copied().collect::<Vec<_>>() {
            for side in 0..2 {
                self.retransmit(id, side, from, to);
            }
        }
        self.answer_strays();
    }

    /// What one end sent into the hole that was on its road.
    fn retransmit(&mut self, id: u64, side: usize, from: MemberId, to: MemberId) {
        let ends = &self.wires[&id].ends;
        let here = (ends[side].member, ends[1 - side].member) == (from, to);
        if !here || ends[side].sent.queue.iter().all(|chunk| chunk.at.is_some()) {
            return;
        }
        let dead = self.random.below(STAYS_DEAD) == 0;
        let pause = Duration::from_millis(self.random.below(RETRANSMIT_MS));
        let at = self.arrival(from, to) + pause;
        let wire = self.wires.get_mut(&id).expect("seen above");
        let pipe = &mut wire.ends[side].sent;
        if dead {
            pipe.dead = true;
            return;
        }
        let at = pipe.last.map_or(at, |last| last.max(at));
        pipe.last = Some(at);
        for chunk in &mut pipe.queue {
            chunk.at = chunk.at.or(Some(at));
        }
        wire.ends[1 - side].wake();
    }

    /// Resets ends that have sent something to nobody, where a system is there to say so.
    fn answer_strays(&mut self) {
        for id in self.wires.keys().copied().collect::<Vec<_>>() {
            (0..2).for_each(|side| self.answer_stray(id, side));
        }
    }

    fn answer_stray(&mut self, id: u64, side: usize) {
        let ends = &self.wires[&id].ends;
        let (here, there) = (&ends[side], &ends[1 - side]);
        let answers = self.hosts.get(&there.host);
        let answers = answers.is_some_and(|host| host.condition != Condition::Off);
        let stray = !there.held && !here.sent.queue.is_empty() && answers;
        let (from, to, dead) = (here.member, there.member, here.sent.dead);
        if stray && !dead && !self.road(from, to).hole {
            self.reset_end(id, side);
        }
    }

    /// Puts bytes, or with none the end of the stream, on their way.
    pub(super) fn send(&mut self, id: u64, side: usize, bytes: bytes::Bytes) {
        let ends = &self.wires[&id].ends;
        let (from, to) = (ends[side].member, ends[1 - side].member);
        let at = self.arrival(from, to);
        let road = self.road(from, to);
        let (lost, loss) = (road.hole, u64::from(road.loss));
        let wire = self.wires.get_mut(&id).expect("seen above");
        let pipe = &mut wire.ends[side].sent;
        let at = pipe.last.map_or(at, |last| last.max(at));
        // Behind a lost chunk nothing arrives.
        let lost = lost || pipe.dead || pipe.queue.iter().any(|chunk| chunk.at.is_none());
        pipe.bytes += bytes.len();
        if !lost {
            pipe.last = Some(at);
        }
        let at = (!lost).then_some(at);
        pipe.queue.push_back(Chunk { at, bytes });
        wire.ends[1 - side].wake();
        self.answer_stray(id, side);
        if loss > 0 && self.random.below(1_000_000) < loss {
            self.wires.get_mut(&id).expect("seen above").ends[side].reset_at = Some(Instant::now());
            self.reset_end(id, 1 - side);
        }
    }

    /// An end is dropped.
    pub(super) fn release(&mut self, id: u64, side: usize) {
        let Some(wire) = self.wires.get_mut(&id) else {
            return;
        };
        if !wire.ends[side].held {
            return;
        }
        wire.ends[side].held = false;
        if !wire.ends[1 - side].held {
            self.wires.remove(&id);
            return;
        }
        let unread = wire.ends[1 - side].sent.bytes > 0;
        match unread {
            // As TCP does when what was sent is never read.
            true => self.reset_end(id, 1 - side),
            false => self.send(id, side, bytes::Bytes::new()),
        }
    }

    /// A stream between two hosts; the second has it in its backlog. `None`: that one does not take it now.
    pub(super) fn open(&mut self, from: &Arc<str>, to: &Arc<str>) -> Option<u64> {
        let (from_member, to_member) = (self.hosts[from].member, self.hosts[to].member);
        let host = self.hosts.get_mut(to).expect("looked up");
        if host.backlog.len() >= BACKLOG {
            return None;
        }
        let id = self.next_wire;
        self.next_wire += 1;
        host.backlog.push_back(id);
        host.acceptor.take().into_iter().for_each(Waker::wake);
        let ends = [
            End::new(from_member, from.clone()),
            End::new(to_member, to.clone()),
        ];
        self.wires.insert(id, Wire { ends });
        let (from, to, stream) = (from_member, to_member, id);
        self.tell(&Seen::Opened { from, to, stream });
        Some(id)
    }
}
