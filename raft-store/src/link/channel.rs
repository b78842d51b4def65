//! Channels: frames of bytes to and from one run of a peer, in order, without replies.
//!
//! A channel has a name and, in each direction, a credit in bytes that its reader gives back as it reads: a slow reader
//! stops its own channel and no other. Whoever opens a channel so gives the first credit: what nobody reads is not sent.
//! It ends with the connection that carries it, and says so at once; what was sent last may then have arrived or not.
//! Sending puts a frame behind others in one buffer, reading takes it from the buffer it came in: neither allocates, calls
//! the system or wakes a task for each frame.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Buf, Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::connection::Connection;
use super::frame::{self, Control, HEAD_BYTES};
use super::outbox::Put;
use crate::bell::Bell;
use crate::ids::{Incarnation, MemberId};
use crate::limits::{CHANNEL_BYTES, CHANNELS, FRAME_BYTES};

/// Credit is given back when so much of it was read.
const CREDIT_STEP: usize = CHANNEL_BYTES / 4;
/// Frames that were copied are passed on as one piece of about this size.
const PIECE_BYTES: usize = 32 * 1024;

/// The run of the peer at the other end is out of reach: its connection has ended, or another run has taken its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the peer's run is gone")]
pub struct Gone {
    /// Which run it was, if it ever said so on this connection.
    pub incarnation: Option<Incarnation>,
}

/// Why there is no channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChannelError {
    #[error("the peer was not reached in time")]
    Unreachable,
    #[error("the channel is open already")]
    Taken,
    #[error("a peer has {CHANNELS} channels at most, with names of 1 to 64 bytes")]
    TooMany,
    /// This run is not registered, or not any more.
    #[error("this run has no incarnation")]
    NotRegistered,
}

/// Why a frame was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    #[error(transparent)]
    Gone(#[from] Gone),
    /// The reader, or the connection, is behind. Only [`ChannelSender::try_send`] says so.
    #[error("the channel is full")]
    Full,
    /// Nothing of it was sent.
    #[error("a frame over {limit_bytes} bytes")]
    TooLarge { limit_bytes: usize },
}

/// Both directions of a channel.
pub struct Channel {
    /// To the peer.
    pub sender: ChannelSender,
    /// From it.
    pub receiver: ChannelReceiver,
}

/// Sends frames. Clones send on the same channel.
#[derive(Clone)]
pub struct ChannelSender {
    connection: Arc<Connection>,
    outgoing: Arc<Outgoing>,
}

/// Receives frames. Dropped, the channel can be opened again; what is not read is there for whoever does.
pub struct ChannelReceiver {
    connection: Arc<Connection>,
    inbox: Arc<Inbox>,
    /// Whole frames, being read.
    current: Bytes,
    /// Read, and not yet given back as credit.
    owed: usize,
}

/// The sending end.
struct Outgoing {
    number: u16,
    credit: Mutex<usize>,
    more: Bell,
}

/// The receiving end.
#[derive(Default)]
pub(super) struct Inbox {
    state: Mutex<Arrived>,
    /// The receiver's alone.
    arrived: Notify,
}

#[derive(Default)]
struct Arrived {
    /// Whole frames, many in each.
    runs: VecDeque<Bytes>,
    /// Those behind them.
    copied: BytesMut,
    /// The peer's number, once it has opened the channel.
    number: Option<u16>,
    /// How many bytes the peer may still send: none before the channel is opened here.
    credit: usize,
    /// Nothing comes any more, or counts any more.
    gone: bool,
    stale: bool,
}

/// All channels of one connection.
#[derive(Default)]
pub(super) struct Channels(Mutex<Ends>);

#[derive(Default)]
struct Ends {
    by_name: BTreeMap<String, Ending>,
    /// Numbers given to what is sent here.
    sending: u16,
    /// What the peer numbers, in order.
    receiving: Vec<Arc<Inbox>>,
    ended: bool,
    /// Which run the peer said it is.
    token: Option<Incarnation>,
}

#[derive(Default)]
struct Ending {
    outgoing: Option<Arc<Outgoing>>,
    inbox: Arc<Inbox>,
    taken: bool,
}

/// Something that no peer of this build sends.
#[derive(Debug)]
pub(super) struct Misplaced;

impl Channels {
    /// Opens the channel `name` on a connection, as the run `own`.
    pub(super) fn open(
        connection: &Arc<Connection>,
        name: &str,
        own: Incarnation,
    ) -> Result<Channel, ChannelError> {
        let mut ends = connection.channels.0.lock();
        let ends = &mut *ends;
        if ends.ended {
            return Err(ChannelError::Unreachable);
        }
        let known = ends.by_name.get(name);
        let new = known.is_none_or(|ending| ending.outgoing.is_none());
        let full = new && usize::from(ends.sending) >= CHANNELS;
        if full || name.is_empty() || name.len() > frame::NAME_BYTES {
            return Err(ChannelError::TooMany);
        }
        let ending = ends.by_name.entry(name.to_owned()).or_default();
        if std::mem::replace(&mut ending.taken, true) {
            return Err(ChannelError::Taken);
        }
        let outgoing = ending.outgoing.get_or_insert_with(|| {
            let number = frame::FIRST_CHANNEL + ends.sending;
            ends.sending += 1;
            let mut arrived = ending.inbox.state.lock();
            arrived.credit = CHANNEL_BYTES;
            let credit = arrived.number.map_or(0, |_| CHANNEL_BYTES);
            drop(arrived);
            let name = name.to_owned();
            let token = own.0;
            connection.say(&Control::Open {
                number,
                token,
                name,
            });
            Arc::new(Outgoing {
                number,
                credit: Mutex::new(credit),
                more: Bell::default(),
            })
        });
        let sender = ChannelSender {
            connection: connection.clone(),
            outgoing: outgoing.clone(),
        };
        let receiver = ChannelReceiver {
            connection: connection.clone(),
            inbox: ending.inbox.clone(),
            current: Bytes::new(),
            owed: 0,
        };
        Ok(Channel { sender, receiver })
    }

    /// The peer has opened a channel: it may send on it once it is opened here, and reads what is sent to it.
    pub(super) fn opened(
        &self,
        number: u16,
        token: Incarnation,
        name: String,
        floor: Incarnation,
    ) -> Result<(), Misplaced> {
        let mut ends = self.0.lock();
        let expected = usize::from(number.wrapping_sub(frame::FIRST_CHANNEL));
        if ends.token.is_some_and(|known| known != token) {
            return Err(Misplaced);
        }
        // Each side numbers in order.
        if expected != ends.receiving.len() || expected >= CHANNELS {
            return Err(Misplaced);
        }
        let ended = ends.ended;
        let ending = ends.by_name.entry(name).or_default();
        let inbox = ending.inbox.clone();
        if inbox.state.lock().number.replace(number).is_some() {
            return Err(Misplaced);
        }
        if let Some(outgoing) = ending.outgoing.as_ref().filter(|_| !ended) {
            *outgoing.credit.lock() = CHANNEL_BYTES;
            outgoing.more.ring();
        }
        let stale = token < floor;
        ends.receiving.push(inbox);
        ends.token = Some(token);
        drop(ends);
        if stale {
            self.raise(floor);
        }
        Ok(())
    }

    /// The peer gives credit back.
    pub(super) fn credited(&self, number: u16, bytes: u64) -> Result<(), Misplaced> {
        let ends = self.0.lock();
        let outgoing = ends
            .by_name
            .values()
            .filter_map(|one| one.outgoing.as_ref());
        let outgoing = outgoing.clone().find(|one| one.number == number);
        let outgoing = outgoing.ok_or(Misplaced)?.clone();
        if ends.ended {
            return Ok(());
        }
        // Before somebody ends them, who would find more credit afterwards.
        let mut credit = outgoing.credit.lock();
        drop(ends);
        let sum = usize::try_from(bytes)
            .ok()
            .and_then(|bytes| credit.checked_add(bytes));
        *credit = sum.filter(|sum| *sum <= CHANNEL_BYTES).ok_or(Misplaced)?;
        drop(credit);
        outgoing.more.ring();
        Ok(())
    }

    /// Where frames with this number go.
    pub(super) fn inbox(&self, number: u16) -> Option<Arc<Inbox>> {
        let at = usize::from(number.wrapping_sub(frame::FIRST_CHANNEL));
        self.0.lock().receiving.get(at).cloned()
    }

    /// The connection has ended.
    pub(super) fn end(&self) {
        let mut ends = self.0.lock();
        ends.ended = true;
        for ending in ends.by_name.values() {
            ending.inbox.state.lock().gone = true;
            ending.inbox.arrived.notify_one();
            if let Some(outgoing) = &ending.outgoing {
                *outgoing.credit.lock() = 0;
                outgoing.more.ring();
            }
        }
    }

    /// Runs of the peer below `floor` do not count any more. Frames that were dropped.
    pub(super) fn raise(&self, floor: Incarnation) -> u64 {
        let ends = self.0.lock();
        if ends.token.is_none_or(|token| token >= floor) {
            return 0;
        }
        let drop_all = |inbox: &Arc<Inbox>| {
            let mut state = inbox.state.lock();
            state.stale = true;
            let copied = std::mem::take(&mut state.copied);
            let runs = std::mem::take(&mut state.runs);
            let runs = runs.iter().map(|run| frame::count(run));
            runs.sum::<u64>() + frame::count(&copied)
        };
        let dropped = ends.receiving.iter().map(drop_all).sum();
        drop(ends);
        self.end();
        dropped
    }

    fn gone(&self) -> Gone {
        let incarnation = self.0.lock().token;
        Gone { incarnation }
    }

    fn has_ended(&self) -> bool {
        self.0.lock().ended
    }

    fn give_back(&self, inbox: &Arc<Inbox>) {
        let mut ends = self.0.lock();
        let mut endings = ends.by_name.values_mut();
        if let Some(ending) = endings.find(|one| Arc::ptr_eq(&one.inbox, inbox)) {
            ending.taken = false;
        }
    }
}

impl Arrived {
    /// `copy`: what else was read with `run` must not stay alive for it.
    fn put(&mut self, run: &Bytes, copy: bool) {
        if copy {
            self.copied.extend_from_slice(run);
        }
        if !self.copied.is_empty() && (!copy || self.copied.len() >= PIECE_BYTES) {
            self.runs.push_back(self.copied.split().freeze());
        }
        if !copy {
            self.runs.push_back(run.clone());
        }
    }

    fn take(&mut self) -> Option<Bytes> {
        let behind = |copied: &mut BytesMut| (!copied.is_empty()).then(|| copied.split().freeze());
        self.runs.pop_front().or_else(|| behind(&mut self.copied))
    }

    fn is_empty(&self) -> bool {
        self.runs.is_empty() && self.copied.is_empty()
    }
}

#[cfg(test)]
impl Inbox {
    /// All that a channel may hold.
    pub(super) fn grant(&self) {
        self.state.lock().credit = CHANNEL_BYTES;
    }

    /// All that has come.
    pub(super) fn read_all(&self) -> Vec<u8> {
        let mut state = self.state.lock();
        std::iter::from_fn(|| state.take()).flatten().collect()
    }
}

impl Inbox {
    /// Whole frames have come, all for this channel, to be copied or not. `Ok(false)`: they are of a run that does not
    /// count any more.
    pub(super) fn put(&self, run: &Bytes, copy: bool) -> Result<bool, Misplaced> {
        let mut state = self.state.lock();
        state.credit = state.credit.checked_sub(run.len()).ok_or(Misplaced)?;
        if state.stale {
            // What is not read gives no credit back: the sender stops.
            return Ok(false);
        }
        let first = state.is_empty();
        state.put(run, copy);
        drop(state);
        if first {
            self.arrived.notify_one();
        }
        Ok(true)
    }
}

impl ChannelSender {
    /// The peer.
    pub fn peer(&self) -> MemberId {
        self.connection.peer
    }

    /// Sends a frame of at most 1 MiB less six bytes; waits while the reader or the connection is behind.
    pub async fn send(&self, frame: &[u8]) -> Result<(), SendError> {
        loop {
            match self.try_send(frame) {
                Err(SendError::Full) => self.room(HEAD_BYTES + frame.len()).await,
                other => return other,
            }
        }
    }

    /// Sends a frame if there is room for it now.
    pub fn try_send(&self, frame: &[u8]) -> Result<(), SendError> {
        let cost = HEAD_BYTES + frame.len();
        if cost > FRAME_BYTES {
            let limit_bytes = FRAME_BYTES - HEAD_BYTES;
            return Err(SendError::TooLarge { limit_bytes });
        }
        let mut credit = self.outgoing.credit.lock();
        if *credit < cost {
            drop(credit);
            return Err(match self.connection.channels.has_ended() {
                true => self.connection.channels.gone().into(),
                false => SendError::Full,
            });
        }
        let put = self.connection.out.put_behind(self.outgoing.number, frame);
        if matches!(put, Put::Done) {
            *credit -= cost;
        }
        drop(credit);
        match put {
            Put::Done => Ok(()),
            Put::Full => Err(SendError::Full),
            Put::Closed => Err(self.connection.channels.gone().into()),
        }
    }

    async fn room(&self, cost: usize) {
        let has_credit = || {
            let enough = *self.outgoing.credit.lock() >= cost;
            (enough || self.connection.channels.has_ended()).then_some(())
        };
        self.outgoing.more.wait(has_credit).await;
        self.connection.out.room_behind().await;
    }
}

impl ChannelReceiver {
    /// The peer.
    pub fn peer(&self) -> MemberId {
        self.connection.peer
    }

    /// The next frame. What had arrived before the end of the connection is still given, unless the peer's run is known
    /// to be over. A frame keeps up to 64 KiB alive that came with it: whoever keeps it for long, copies it. Nothing is lost when the future is dropped.
    pub async fn receive(&mut self) -> Result<Bytes, Gone> {
        loop {
            if let Some(frame) = self.try_receive() {
                return Ok(frame);
            }
            {
                let state = self.inbox.state.lock();
                if state.is_empty() && (state.gone || state.stale) {
                    drop(state);
                    return Err(self.connection.channels.gone());
                }
            }
            self.inbox.arrived.notified().await;
        }
    }

    /// The next frame, if one is there.
    pub fn try_receive(&mut self) -> Option<Bytes> {
        if self.current.is_empty() {
            self.current = self.inbox.state.lock().take()?;
        }
        let length = frame::body_bytes(&self.current);
        self.current.advance(HEAD_BYTES);
        let frame = self.current.split_to(length);
        self.owed += HEAD_BYTES + length;
        if self.owed >= CREDIT_STEP {
            self.give_credit();
        }
        Some(frame)
    }

    fn give_credit(&mut self) {
        let mut state = self.inbox.state.lock();
        state.credit += self.owed;
        let number = state.number.expect("frames came under it");
        drop(state);
        let bytes = self.owed as u64;
        self.connection.say(&Control::Credit { number, bytes });
        self.owed = 0;
    }
}

impl Drop for ChannelReceiver {
    fn drop(&mut self) {
        if !self.current.is_empty() {
            let rest = std::mem::take(&mut self.current);
            self.inbox.state.lock().runs.push_front(rest);
            self.inbox.arrived.notify_one();
        }
        if self.owed > 0 {
            self.give_credit();
        }
        self.connection.channels.give_back(&self.inbox);
    }
}

/// Frames dropped because the run that sent them was over.
#[derive(Default)]
pub(super) struct Dropped(AtomicU64);

impl Dropped {
    pub(super) fn add(&self, frames: u64) {
        self.0.fetch_add(frames, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
