//! What is known of one peer: its connections by lane, who wants one, how dialling goes, and which runs of it there are.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::connection::Connection;
use super::frame::CROSSED;
use super::messages::Lane;
use super::{Hello, LinkError, Refused, wire};
use crate::bell::Bell;
use crate::ids::{BootNonce, Incarnation, MemberId};
use crate::seldom::Seldom;

/// A dial whose hello was not answered for so long gives way to one of the other side.
const CROSSING: Duration = Duration::from_secs(1);
/// A run of which nothing was heard for so long is gone, and the other one is let in.
const RUN_IS_GONE: Duration = Duration::from_secs(5);

const LANES: [Lane; 3] = [Lane::Raft, Lane::Calls, Lane::Snapshot];

/// See the module's documentation.
pub(super) struct Peer {
    pub(super) id: MemberId,
    state: Mutex<State>,
    /// Connections, dials and hellos.
    pub(super) changed: Bell,
    /// The dialler's alone: there may be something to dial.
    pub(super) kick: Notify,
    /// That it is refused.
    pub(super) said: Seldom,
}

#[derive(Default)]
struct State {
    /// Of the run that is connected.
    hello: Option<Hello>,
    lanes: [Option<Arc<Connection>>; 3],
    wanted: [usize; 3],
    /// Who needs this to be the peer that is known, and no other made in its place.
    held: usize,
    /// Somebody waits for a dial.
    urgent: bool,
    /// Our hello is out on a stream to this peer, since when.
    said: Option<(Lane, Duration)>,
    dials: Dials,
    /// Two live runs of one id, and when each said hello last. Empty unless there were two.
    runs: BTreeMap<BootNonce, Duration>,
    /// The first run that counts.
    floor: Option<Incarnation>,
}

/// Dials by number.
#[derive(Default)]
struct Dials {
    begun: u64,
    under_way: bool,
    /// The newest that failed, and why.
    failed: u64,
    why: Option<LinkError>,
}

/// Somebody wants a lane while this lives.
pub(super) struct Wanted {
    peer: Arc<Peer>,
    lane: Lane,
}

impl Drop for Wanted {
    fn drop(&mut self) {
        self.peer.state.lock().wanted[self.lane as usize] -= 1;
    }
}

/// The peer is not forgotten while this lives.
pub(super) struct Held(Arc<Peer>);

impl Drop for Held {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.held -= 1;
        if state.lanes.iter().all(Option::is_none) {
            self.0.kick.notify_one();
        }
    }
}

/// What a dialler has to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ToDial {
    Nothing,
    Lane {
        lane: Lane,
        urgent: bool,
    },
    /// Nobody needs this peer.
    Forget,
}

/// What is known of runs when another one says hello.
pub(super) enum Runs {
    One,
    /// Connections of another run, which may be gone.
    Other(Vec<Arc<Connection>>),
    Two,
}

impl Peer {
    pub(super) fn new(id: MemberId) -> Arc<Self> {
        Arc::new(Self {
            id,
            state: Mutex::default(),
            changed: Bell::default(),
            kick: Notify::new(),
            said: Seldom::default(),
        })
    }

    pub(super) fn live(&self, lane: Lane) -> Option<Arc<Connection>> {
        self.state.lock().live(lane)
    }

    /// The hello of the run that is connected.
    pub(super) fn hello(&self) -> Option<Hello> {
        let state = self.state.lock();
        let open = LANES.iter().any(|lane| state.live(*lane).is_some());
        state.hello.clone().filter(|_| open)
    }

    pub(super) fn connections(&self) -> Vec<Arc<Connection>> {
        let state = self.state.lock();
        state.lanes.iter().flatten().cloned().collect()
    }

    pub(super) fn hold(self: &Arc<Self>) -> Held {
        self.state.lock().held += 1;
        Held(self.clone())
    }

    /// Wants a lane; `urgent`: at once. Also gives the number of the dial whose failure answers who asks now.
    pub(super) fn want(self: &Arc<Self>, lane: Lane, urgent: bool) -> (Wanted, u64) {
        let mut state = self.state.lock();
        state.wanted[lane as usize] += 1;
        let missing = state.live(lane).is_none();
        state.urgent |= urgent && missing;
        let under_way = u64::from(!state.dials.under_way);
        let number = state.dials.begun + under_way;
        drop(state);
        if missing {
            self.kick.notify_one();
        }
        let peer = self.clone();
        (Wanted { peer, lane }, number)
    }

    /// Why the dial with this number, or a later one, failed.
    pub(super) fn failed(&self, number: u64) -> Option<LinkError> {
        let state = self.state.lock();
        (state.dials.failed >= number)
            .then(|| state.dials.why.clone().unwrap_or(LinkError::Unreachable))
    }

    pub(super) fn to_dial(&self, kept: bool) -> ToDial {
        let state = self.state.lock();
        let wanted = |lane: &&Lane| {
            let always = kept && **lane != Lane::Snapshot;
            (always || state.wanted[**lane as usize] > 0) && state.live(**lane).is_none()
        };
        if let Some(lane) = LANES.iter().find(wanted) {
            let (lane, urgent) = (*lane, state.urgent);
            return ToDial::Lane { lane, urgent };
        }
        let needed = kept
            || state.held > 0
            || state.wanted.iter().any(|count| *count > 0)
            || state.lanes.iter().any(Option::is_some)
            || !state.runs.is_empty();
        match needed {
            true => ToDial::Nothing,
            false => ToDial::Forget,
        }
    }

    pub(super) fn dial_begins(&self) {
        let mut state = self.state.lock();
        state.dials.begun += 1;
        state.dials.under_way = true;
        state.urgent = false;
    }

    pub(super) fn dial_ended(&self, failed: Option<LinkError>) {
        let mut state = self.state.lock();
        state.dials.under_way = false;
        state.said = None;
        if failed.is_some() {
            state.dials.failed = state.dials.begun;
            state.dials.why = failed;
        }
        drop(state);
        self.changed.ring();
    }

    /// Our hello goes out on a stream that is the peer's.
    pub(super) fn said(&self, lane: Lane, now: Duration) {
        self.state.lock().said = Some((lane, now));
    }

    /// That stream came to something, or to nothing.
    pub(super) fn unsaid(&self) {
        self.state.lock().said = None;
    }

    /// Makes a connection the one of its lane. One that was accepted gives way to a dial of ours that is about to
    /// succeed, if this member's id is the lower one: else both sides would keep another one.
    pub(super) fn install(
        &self,
        connection: &Arc<Connection>,
        hello: Hello,
        accepted_by: Option<(MemberId, Duration)>,
    ) -> Result<(), u8> {
        let mut state = self.state.lock();
        if let (Some((me, now)), Some((lane, at))) = (accepted_by, state.said)
            && me < self.id
            && lane == connection.lane
            && now.saturating_sub(at) < CROSSING
        {
            return Err(CROSSED);
        }
        let lane = connection.lane as usize;
        let mut old: Vec<_> = state.lanes[lane]
            .replace(connection.clone())
            .into_iter()
            .collect();
        for other in &mut state.lanes {
            if other
                .as_ref()
                .is_some_and(|one| one.nonce != connection.nonce)
            {
                old.extend(other.take());
            }
        }
        state.hello = Some(hello);
        drop(state);
        old.iter().for_each(|one| one.close());
        self.changed.ring();
        Ok(())
    }

    /// Said again on `connection`, which may have given its place to another run's in the meantime.
    pub(super) fn renew(&self, connection: &Connection, hello: Hello) {
        let mut state = self.state.lock();
        let place = state.lanes[connection.lane as usize].as_ref();
        if !place.is_some_and(|one| std::ptr::eq(&**one, connection)) {
            return;
        }
        state.hello = Some(hello);
        drop(state);
        self.changed.ring();
    }

    pub(super) fn ended(&self, connection: &Arc<Connection>) {
        let mut state = self.state.lock();
        let place = &mut state.lanes[connection.lane as usize];
        if place
            .as_ref()
            .is_some_and(|one| Arc::ptr_eq(one, connection))
        {
            *place = None;
        }
        if state.lanes.iter().all(Option::is_none) {
            state.hello = None;
        }
        drop(state);
        self.changed.ring();
        self.kick.notify_one();
    }

    /// A run says hello.
    pub(super) fn hears(&self, nonce: BootNonce, now: Duration) -> Runs {
        let mut state = self.state.lock();
        state
            .runs
            .retain(|_, at| now.saturating_sub(*at) < RUN_IS_GONE);
        if !state.runs.is_empty() {
            state.runs.insert(nonce, now);
            if state.runs.len() > 1 {
                return Runs::Two;
            }
            state.runs.clear();
        }
        let lanes = state.lanes.iter().flatten();
        let others: Vec<_> = lanes
            .filter(|one| one.nonce != nonce && !one.has_ended())
            .cloned()
            .collect();
        match others.is_empty() {
            true => Runs::One,
            false => Runs::Other(others),
        }
    }

    /// Both runs live: neither is talked to.
    pub(super) fn two_runs(&self, one: BootNonce, other: BootNonce, now: Duration) {
        let mut state = self.state.lock();
        state.runs.extend([(one, now), (other, now)]);
        let all: Vec<_> = state.lanes.iter_mut().filter_map(Option::take).collect();
        state.hello = None;
        drop(state);
        let reason = wire::reason_byte(Refused::TwoRuns);
        all.iter().for_each(|one| one.refuse(reason));
        self.changed.ring();
    }

    /// Runs below this one are over; returns what is known now. A floor never sinks.
    pub(super) fn raise(&self, floor: Incarnation) -> Incarnation {
        let mut state = self.state.lock();
        let known = state.floor.max(Some(floor));
        state.floor = known;
        known.unwrap_or(floor)
    }
}

impl State {
    fn live(&self, lane: Lane) -> Option<Arc<Connection>> {
        let connection = self.lanes[lane as usize].as_ref();
        connection.filter(|one| !one.has_ended()).cloned()
    }
}
