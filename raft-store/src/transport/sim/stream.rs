//! One host's view: it dials, accepts, reads and writes.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep, sleep_until};

use super::Seen;
use super::world::{BUFFER_BYTES, Condition, World};
use crate::ids::MemberId;
use crate::transport::{BoxFuture, Connected, Transport};

/// When nothing answers, a dial is tried again so often.
const DIAL_AGAIN: Duration = Duration::from_secs(1);
/// One read or write in so many is cut short.
const CUT_SHORT: u64 = 4;

/// The transport of one host.
pub struct SimTransport {
    world: Arc<Mutex<World>>,
    host: Arc<str>,
    boot: u64,
}

/// What becomes of a dial that has got through to where it was sent.
enum Answer {
    Opened,
    Refused,
    Silence,
}

impl SimTransport {
    pub(super) fn new(world: Arc<Mutex<World>>, (host, boot): (Arc<str>, u64)) -> Self {
        Self { world, host, boot }
    }

    async fn dial(&self, address: &str) -> io::Result<Connected> {
        let unknown = || io::Error::new(io::ErrorKind::HostUnreachable, "nobody has this address");
        self.count(address).ok_or_else(unknown)?;
        loop {
            let Some((there, arrives)) = self.set_out(address) else {
                sleep(DIAL_AGAIN).await;
                continue;
            };
            sleep_until(arrives).await;
            let (answer, arrives) = self.arrive(&there);
            let Some(arrives) = arrives else {
                sleep(DIAL_AGAIN).await;
                continue;
            };
            sleep_until(arrives).await;
            match answer {
                Answer::Silence => sleep(DIAL_AGAIN).await,
                Answer::Refused => return Err(io::ErrorKind::ConnectionRefused.into()),
                Answer::Opened => {
                    if let Some(connected) = self.open(&there) {
                        return Ok(connected);
                    }
                    sleep(DIAL_AGAIN).await;
                }
            }
        }
    }

    fn count(&self, address: &str) -> Option<()> {
        let mut world = self.world.lock();
        let there = world.addresses.get(address)?.clone();
        let from = world.hosts.get(&self.host)?.member;
        let to = world.hosts.get(&there)?.member;
        *world.dials.entry((from, to)).or_default() += 1;
        world.tell(&Seen::Dialled { from, to });
        Some(())
    }

    /// Which host it goes to and when it arrives; `None`: on the way it is lost.
    fn set_out(&self, address: &str) -> Option<(Arc<str>, Instant)> {
        let mut world = self.world.lock();
        let there = world.addresses.get(address)?.clone();
        let from = world.hosts.get(&self.host)?.member;
        let to = world.hosts.get(&there)?.member;
        if world.road(from, to).hole {
            return None;
        }
        let at = world.arrival(from, to);
        Some((there, at))
    }

    /// What the host there answers, and when that is here; `None`: it is lost.
    fn arrive(&self, there: &Arc<str>) -> (Answer, Option<Instant>) {
        let mut world = self.world.lock();
        let host = &world.hosts[there];
        let answer = match host.condition {
            Condition::Listening => Answer::Opened,
            Condition::Crashed => Answer::Refused,
            Condition::Off => Answer::Silence,
        };
        let (from, to) = (host.member, world.hosts[&self.host].member);
        if world.road(from, to).hole {
            return (answer, None);
        }
        let at = world.arrival(from, to);
        (answer, Some(at))
    }

    fn open(&self, there: &Arc<str>) -> Option<Connected> {
        let mut world = self.world.lock();
        let here = &world.hosts[&self.host];
        let both = here.boot == self.boot
            && here.condition == Condition::Listening
            && world.hosts[there].condition == Condition::Listening;
        let id = both.then(|| world.open(&self.host, there)).flatten()?;
        let member = world.hosts[there].member;
        Some(self.connected(id, 0, member, there))
    }

    fn connected(&self, id: u64, side: usize, member: MemberId, address: &str) -> Connected {
        let stream = SimStream {
            world: self.world.clone(),
            id,
            side,
            arrives: None,
            told: None,
        };
        Connected {
            stream: Box::new(stream),
            member,
            address: address.to_owned(),
        }
    }

    fn poll_accept(&self, context: &Context<'_>) -> Poll<io::Result<Connected>> {
        let mut world = self.world.lock();
        let Some(host) = world.hosts.get_mut(&self.host) else {
            return Poll::Pending;
        };
        if host.boot != self.boot || host.condition != Condition::Listening {
            return Poll::Pending;
        }
        let Some(id) = host.backlog.pop_front() else {
            host.acceptor = Some(context.waker().clone());
            return Poll::Pending;
        };
        let Some(wire) = world.wires.get(&id) else {
            // Given up before it was accepted.
            context.waker().wake_by_ref();
            return Poll::Pending;
        };
        let (member, address) = (wire.ends[0].member, wire.ends[0].host.clone());
        drop(world);
        Poll::Ready(Ok(self.connected(id, 1, member, &address)))
    }
}

impl Transport for SimTransport {
    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Connected>> {
        Box::pin(self.dial(address))
    }

    fn accept(&self) -> BoxFuture<'_, io::Result<Connected>> {
        Box::pin(std::future::poll_fn(|context| self.poll_accept(context)))
    }
}

/// One end of a stream.
struct SimStream {
    world: Arc<Mutex<World>>,
    id: u64,
    side: usize,
    /// When the reader and the writer have to look again.
    arrives: Option<Pin<Box<Sleep>>>,
    told: Option<Pin<Box<Sleep>>>,
}

/// Waits for `at` in `place`.
fn wait(place: &mut Option<Pin<Box<Sleep>>>, at: Instant, context: &mut Context<'_>) -> Poll<()> {
    let sleep = place.get_or_insert_with(|| Box::pin(sleep_until(at)));
    if sleep.deadline() != at {
        sleep.as_mut().reset(at);
    }
    sleep.as_mut().poll(context)
}

impl SimStream {
    /// Fails when this end is told of a reset, or nobody's any more.
    fn check(&self, world: &mut World) -> io::Result<Option<Instant>> {
        let end = world.wires.get(&self.id).map(|wire| &wire.ends[self.side]);
        let Some(end) = end.filter(|end| end.held) else {
            return Err(io::ErrorKind::ConnectionReset.into());
        };
        let (at, member) = (end.reset_at, end.member);
        if at.is_some_and(|at| at <= Instant::now()) {
            let stream = self.id;
            world.tell(&Seen::Reset { at: member, stream });
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        Ok(at)
    }

    /// Reads what has arrived; else says when to look again, if that is known.
    fn read(
        &self,
        context: &Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> io::Result<Result<(), Option<Instant>>> {
        let mut world = self.world.lock();
        let reset_at = self.check(&mut world)?;
        let cut = world.random.below(CUT_SHORT) == 0;
        let cut = cut.then(|| world.random.below(4096) as usize + 1);
        let wire = world.wires.get_mut(&self.id).expect("checked");
        let [to, from] = [self.side, 1 - self.side].map(|side| wire.ends[side].member);
        let pipe = &mut wire.ends[1 - self.side].sent;
        let Some(chunk) = pipe.queue.front_mut() else {
            wire.ends[self.side].reader = Some(context.waker().clone());
            return Ok(Err(reset_at));
        };
        if chunk.at.is_none_or(|at| at > Instant::now()) {
            let look_at = chunk.at.into_iter().chain(reset_at).min();
            wire.ends[self.side].reader = Some(context.waker().clone());
            return Ok(Err(look_at));
        }
        if chunk.bytes.is_empty() {
            return Ok(Ok(()));
        }
        let most = chunk.bytes.len().min(into.remaining());
        let bytes = chunk.bytes.split_to(cut.map_or(most, |cut| cut.min(most)));
        if chunk.bytes.is_empty() {
            pipe.queue.pop_front();
        }
        pipe.bytes -= bytes.len();
        into.put_slice(&bytes);
        wire.ends[1 - self.side].wake();
        let (stream, bytes) = (self.id, &*bytes);
        world.tell(&Seen::Delivered {
            from,
            to,
            stream,
            bytes,
        });
        Ok(Ok(()))
    }

    /// Sends some of `bytes`; `None`: there is no room.
    fn write(
        &self,
        context: &Context<'_>,
        bytes: &[u8],
    ) -> io::Result<Result<usize, Option<Instant>>> {
        let mut world = self.world.lock();
        let reset_at = self.check(&mut world)?;
        if bytes.is_empty() {
            return Ok(Ok(0));
        }
        let wire = world.wires.get_mut(&self.id).expect("checked");
        let end = &mut wire.ends[self.side];
        let room = BUFFER_BYTES.saturating_sub(end.sent.bytes);
        if room == 0 {
            end.writer = Some(context.waker().clone());
            return Ok(Err(reset_at));
        }
        let mut length = bytes.len().min(room);
        if length > 1 && world.random.below(CUT_SHORT) == 0 {
            length = world.random.below(length as u64) as usize + 1;
        }
        let chunk = bytes::Bytes::copy_from_slice(&bytes[..length]);
        world.send(self.id, self.side, chunk);
        Ok(Ok(length))
    }
}

impl AsyncRead for SimStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            match self.read(context, into)? {
                Ok(()) => return Poll::Ready(Ok(())),
                Err(None) => return Poll::Pending,
                Err(Some(at)) => ready!(wait(&mut self.arrives, at, context)),
            }
        }
    }
}

impl AsyncWrite for SimStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            match self.write(context, bytes)? {
                Ok(length) => return Poll::Ready(Ok(length)),
                Err(None) => return Poll::Pending,
                Err(Some(at)) => ready!(wait(&mut self.told, at, context)),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut world = self.world.lock();
        self.check(&mut world)?;
        world.send(self.id, self.side, bytes::Bytes::new());
        Poll::Ready(Ok(()))
    }
}

impl Drop for SimStream {
    fn drop(&mut self) {
        self.world.lock().release(self.id, self.side);
    }
}
