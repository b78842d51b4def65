//! One connection with a peer: requests of both sides on it, what is being served, whether the other end is alive.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::{Notify, oneshot};
use tokio::time::{sleep, timeout};

use super::channel::{Channels, Inbox, Misplaced};
use super::frame::{self, CONTROL, Control, FIRST_CHANNEL, REPLY, REQUEST};
use super::messages::{Lane, Reply, Request};
use super::outbox::Outbox;
use super::{Hello, LinkError, Serve, wire};
use crate::bell::Bell;
use crate::clock::Clock;
use crate::codec;
use crate::ids::{BootNonce, Incarnation, MemberId};
use crate::limits::{CALLS_IN_FLIGHT, CALLS_SERVED, CALLS_SERVED_BYTES, FRAME_BYTES};
use crate::transport::{BoxFuture, Stream};

/// Bytes asked for with one read.
const READ_BYTES: usize = 64 * 1024;
/// …unless there is room for so many.
const READ_LEAST: usize = 16 * 1024;
/// Frames of a channel that are read keep so many times their size alive, at most.
const KEPT_FOR: usize = 8;
/// A ping so often…
const PING_EVERY: Duration = Duration::from_millis(500);
/// …and the connection is dead when nothing, no answer either, came for so long.
const DEAD_AFTER: Duration = Duration::from_secs(2);
/// What was put before the end is still written for so long.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// A snapshot's connection without requests is closed.
const IDLE: Duration = Duration::from_secs(10);

/// What a connection stands on.
pub(super) struct Around {
    pub(super) serve: Arc<dyn Serve>,
    pub(super) clock: Arc<dyn Clock>,
    /// Told of hellos that come again, and of the end.
    pub(super) told: Arc<dyn Told>,
}

/// Who keeps connections.
pub(super) trait Told: Send + Sync {
    /// The peer says hello again. `Err`: the reason byte with which the connection is refused now.
    fn hello_again(&self, connection: &Connection, hello: Hello) -> Result<(), u8>;

    fn ended(&self, connection: &Arc<Connection>);

    /// The peer's run says which it is. The first run that counts, as far as is known.
    fn floor(&self, peer: MemberId, says: Incarnation) -> Incarnation;

    /// Frames of a run that does not count any more.
    fn dropped(&self, frames: u64);
}

/// See the module's documentation.
pub(super) struct Connection {
    pub(super) peer: MemberId,
    pub(super) nonce: BootNonce,
    pub(super) lane: Lane,
    pub(super) out: Outbox,
    pub(super) channels: Channels,
    calls: Mutex<Calls>,
    /// A reply came, or the end.
    freed: Bell,
    /// The reader's alone: it must end.
    end: Notify,
    pings: AtomicU64,
    pongs: AtomicU64,
    ponged: Bell,
}

#[derive(Default)]
struct Calls {
    last: u64,
    waiting: BTreeMap<u64, oneshot::Sender<Reply>>,
    ended: bool,
    refused: Option<u8>,
}

/// Why a request was not sent.
pub(super) enum NotSent {
    /// The connection has ended.
    Ended,
    /// No frame holds it.
    TooLarge(codec::Error),
}

impl Connection {
    pub(super) fn new(peer: MemberId, nonce: BootNonce, lane: Lane) -> Arc<Self> {
        Arc::new(Self {
            peer,
            nonce,
            lane,
            out: Outbox::default(),
            channels: Channels::default(),
            calls: Mutex::default(),
            freed: Bell::default(),
            end: Notify::new(),
            pings: AtomicU64::new(0),
            pongs: AtomicU64::new(0),
            ponged: Bell::default(),
        })
    }

    /// Sends a request when there is room for it. Dropping the receiver gives the reply up.
    pub(super) async fn ask(&self, request: &Request) -> Result<oneshot::Receiver<Reply>, NotSent> {
        let mut body = wire::encode_request(request, frame::begin(REQUEST, Some(0)))
            .map_err(NotSent::TooLarge)?;
        frame::close(&mut body);
        self.out.room().await;
        let (number, receiver) = self.freed.wait(|| self.place()).await?;
        body[frame::HEAD_BYTES..frame::HEAD_BYTES + 8].copy_from_slice(&number.to_le_bytes());
        match self.out.put(&body) {
            true => Ok(receiver),
            false => Err(NotSent::Ended),
        }
    }

    fn place(&self) -> Option<Result<(u64, oneshot::Receiver<Reply>), NotSent>> {
        let mut calls = self.calls.lock();
        if calls.ended {
            return Some(Err(NotSent::Ended));
        }
        if calls.waiting.len() >= CALLS_IN_FLIGHT {
            return None;
        }
        calls.last += 1;
        let (number, (sender, receiver)) = (calls.last, oneshot::channel());
        calls.waiting.insert(number, sender);
        Some(Ok((number, receiver)))
    }

    /// Puts something of the link's own behind what waits. Small, and bounded by what it answers.
    pub(super) fn say(&self, control: &Control) {
        self.out.put(&control.frame());
    }

    /// Whether the other end answers now, within `limit`.
    pub(super) async fn is_alive(&self, clock: &dyn Clock, limit: Duration) -> bool {
        let number = self.ping();
        let answered = || {
            let ended = self.has_ended();
            let answered = self.pongs.load(Ordering::Acquire) >= number;
            (ended || answered).then_some(answered)
        };
        let answer = timeout(clock.wait(limit), self.ponged.wait(answered)).await;
        answer.unwrap_or(false)
    }

    fn ping(&self) -> u64 {
        let number = self.pings.fetch_add(1, Ordering::AcqRel) + 1;
        self.say(&Control::Ping(number));
        number
    }

    pub(super) fn has_ended(&self) -> bool {
        self.calls.lock().ended
    }

    /// With which reason the peer has ended it.
    pub(super) fn refused(&self) -> Option<u8> {
        self.calls.lock().refused
    }

    /// Ends it. What waits for replies gets none.
    pub(super) fn close(&self) {
        let waiting = {
            let mut calls = self.calls.lock();
            calls.ended = true;
            std::mem::take(&mut calls.waiting)
        };
        drop(waiting);
        self.out.close();
        self.channels.end();
        self.end.notify_one();
        self.freed.ring();
        self.ponged.ring();
    }

    /// Says why, and ends it.
    pub(super) fn refuse(&self, reason: u8) {
        self.say(&Control::Refused(reason));
        self.close();
    }

    /// Writes until the end.
    pub(super) async fn write(
        self: Arc<Self>,
        mut half: WriteHalf<Box<dyn Stream>>,
        clock: Arc<dyn Clock>,
    ) {
        let mut frames = Vec::new();
        while self.out.take(&mut frames).await {
            let writing = async {
                half.write_all(&frames).await?;
                half.flush().await
            };
            let written = tokio::select! {
                biased;
                written = writing => written,
                () = self.cut_off(&*clock) => Err(io::ErrorKind::TimedOut.into()),
            };
            if written.is_err() {
                break;
            }
            frames.clear();
        }
        // The end may be known here first.
        self.close();
        let _ = timeout(clock.wait(LAST_WORDS), half.shutdown()).await;
    }

    /// Some time behind the end.
    async fn cut_off(&self, clock: &dyn Clock) {
        self.ponged.wait(|| self.has_ended().then_some(())).await;
        sleep(clock.wait(LAST_WORDS)).await;
    }

    /// Reads and serves until the end. `buffer`: what came behind the hello.
    pub(super) async fn read(
        self: Arc<Self>,
        half: ReadHalf<Box<dyn Stream>>,
        buffer: BytesMut,
        around: Around,
    ) {
        let now = around.clock.now();
        let mut reader = Reader {
            connection: &self,
            around: &around,
            half,
            buffer,
            whole: 0,
            serving: FuturesUnordered::new(),
            served_bytes: 0,
            inbox: None,
            alive: now,
            used: now,
        };
        if let Err(error) = reader.run().await {
            tracing::debug!(peer = %self.peer, lane = ?self.lane, %error, "a connection has ended");
        }
        self.close();
        around.told.ended(&self);
    }
}

/// Why a connection ends.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Codec(#[from] codec::Error),
    #[error("its end was told")]
    Told,
    #[error("the other end does not answer")]
    Silent,
    #[error("not used any more")]
    Idle,
    #[error("the other end does not read what it is answered")]
    Unread,
    #[error("something that does not belong here")]
    Misplaced,
}

struct Reader<'a> {
    connection: &'a Connection,
    around: &'a Around,
    half: ReadHalf<Box<dyn Stream>>,
    buffer: BytesMut,
    /// What the buffer had room for when it was made: what stays of it keeps all of it alive.
    whole: usize,
    serving: FuturesUnordered<BoxFuture<'static, (u64, usize, Reply)>>,
    /// Of those requests.
    served_bytes: usize,
    /// Of the channel that something came for last.
    inbox: Option<(u16, Arc<Inbox>)>,
    /// When something was heard last, or the beginning.
    alive: Duration,
    /// When a request was last under way.
    used: Duration,
}

impl Reader<'_> {
    async fn run(&mut self) -> Result<(), End> {
        let clock = self.around.clock.clone();
        let tick = sleep(clock.wait(PING_EVERY));
        tokio::pin!(tick);
        loop {
            while self.has_room()
                && let Some((channel, bytes)) = frame::run(&self.buffer, FRAME_BYTES)?
            {
                if channel >= FIRST_CHANNEL {
                    self.deliver(channel, bytes)?;
                } else if let Some((_, body)) = frame::next(&mut self.buffer, FRAME_BYTES)? {
                    self.take(channel, &body)?;
                }
            }
            if !self.connection.out.is_read() {
                return Err(End::Unread);
            }
            tokio::select! {
                biased;
                () = self.connection.end.notified() => return Err(End::Told),
                Some((number, bytes, reply)) = self.serving.next() => {
                    self.served_bytes -= bytes;
                    self.answer(number, &reply)?;
                }
                count = read(&mut self.half, &mut self.buffer, &mut self.whole), if self.has_room() => {
                    if count? == 0 {
                        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
                    }
                    // A ping of ours, or its answer, may wait behind much else.
                    self.alive = clock.now();
                }
                () = &mut tick => {
                    self.tick()?;
                    tick.set(sleep(clock.wait(PING_EVERY)));
                }
            }
        }
    }

    /// Whether another request could be served.
    fn has_room(&self) -> bool {
        self.serving.len() < CALLS_SERVED && self.served_bytes < CALLS_SERVED_BYTES
    }

    /// Frames of a channel, the next so many bytes.
    fn deliver(&mut self, channel: u16, bytes: usize) -> Result<(), End> {
        let run = self.buffer.split_to(bytes).freeze();
        let known = self.inbox.take().filter(|(number, _)| *number == channel);
        let inbox = match known {
            Some((_, inbox)) => inbox,
            None => self
                .connection
                .channels
                .inbox(channel)
                .ok_or(End::Misplaced)?,
        };
        // They may stay unread, while other channels and requests fill one buffer after the other.
        let few = bytes * KEPT_FOR < self.whole;
        if !inbox.put(&run, few)? {
            self.around.told.dropped(frame::count(&run));
        }
        self.inbox = Some((channel, inbox));
        Ok(())
    }

    fn take(&mut self, channel: u16, body: &[u8]) -> Result<(), End> {
        match channel {
            CONTROL => self.control(Control::decode(body)?),
            REQUEST => {
                let (number, body) = frame::numbered(body)?;
                let request = wire::decode_request(&body)?;
                if request.lane() != self.connection.lane {
                    return Err(End::Misplaced);
                }
                let reply = self.around.serve.serve(self.connection.peer, request);
                let bytes = body.len();
                self.served_bytes += bytes;
                let serving = async move { (number, bytes, reply.await) };
                self.serving.push(Box::pin(serving));
                Ok(())
            }
            REPLY => {
                let (number, body) = frame::numbered(body)?;
                let reply = wire::decode_reply(&body)?;
                let waiting = self.connection.calls.lock().waiting.remove(&number);
                // Nobody was promised a reply to a request never made.
                let waiting = waiting.ok_or(End::Misplaced)?;
                // Who asked may have given up.
                let _ = waiting.send(reply);
                self.connection.freed.ring();
                Ok(())
            }
            _ => Err(End::Misplaced),
        }
    }

    fn control(&mut self, control: Control) -> Result<(), End> {
        let connection = self.connection;
        match control {
            Control::Ping(number) => connection.say(&Control::Pong(number)),
            Control::Pong(number) if number > connection.pings.load(Ordering::Acquire) => {
                return Err(End::Misplaced);
            }
            Control::Pong(number) => {
                connection.pongs.fetch_max(number, Ordering::AcqRel);
                connection.ponged.ring();
            }
            Control::Refused(reason) => {
                connection.calls.lock().refused = Some(reason);
                if let Some(why) = wire::reason(reason) {
                    self.around.serve.refused(connection.peer, why);
                }
                return Err(End::Told);
            }
            Control::Open { .. } | Control::Credit { .. } if connection.lane != Lane::Calls => {
                return Err(End::Misplaced);
            }
            Control::Open {
                number,
                token,
                name,
            } => {
                if token > Incarnation::CEILING {
                    return Err(End::Misplaced);
                }
                let token = Incarnation(token);
                let floor = self.around.told.floor(connection.peer, token);
                connection.channels.opened(number, token, name, floor)?;
            }
            Control::Credit { number, bytes } => connection.channels.credited(number, bytes)?,
            Control::Hello(lane, hello) => {
                let same = (lane, hello.member, hello.nonce)
                    == (connection.lane, connection.peer, connection.nonce);
                if !same {
                    return Err(End::Misplaced);
                }
                if let Err(reason) = self.around.told.hello_again(connection, hello) {
                    connection.refuse(reason);
                    return Err(End::Told);
                }
            }
        }
        Ok(())
    }

    fn answer(&mut self, number: u64, reply: &Reply) -> Result<(), End> {
        let mut body = wire::encode_reply(reply, frame::begin(REPLY, Some(number)))?;
        frame::close(&mut body);
        self.connection.out.put(&body);
        Ok(())
    }

    fn tick(&mut self) -> Result<(), End> {
        let now = self.around.clock.now();
        let busy = !self.serving.is_empty() || !self.connection.calls.lock().waiting.is_empty();
        if busy {
            self.used = now;
        }
        if self.connection.lane == Lane::Snapshot && now.saturating_sub(self.used) >= IDLE {
            return Err(End::Idle);
        }
        if now.saturating_sub(self.alive) >= DEAD_AFTER {
            return Err(End::Silent);
        }
        self.connection.ping();
        Ok(())
    }
}

async fn read(
    half: &mut ReadHalf<Box<dyn Stream>>,
    buffer: &mut BytesMut,
    whole: &mut usize,
) -> io::Result<usize> {
    // Small reads share a buffer.
    if buffer.capacity() - buffer.len() < READ_LEAST {
        buffer.reserve(READ_BYTES);
        *whole = buffer.capacity();
    }
    half.read_buf(buffer).await
}

impl From<Misplaced> for End {
    fn from(_: Misplaced) -> Self {
        End::Misplaced
    }
}

impl From<NotSent> for LinkError {
    fn from(why: NotSent) -> Self {
        if let NotSent::TooLarge(error) = why {
            tracing::error!(%error, "a request that no frame holds");
        }
        LinkError::Unreachable
    }
}
