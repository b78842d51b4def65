//! The byte side of one client stream: reading without a buffer while idle, writing what has gathered.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::BytesMut;
use eider_xmpp::error::StreamError;
use eider_xmpp::framing::{Frame, Framer};
use eider_xmpp::limits::Limits;
use eider_xmpp::stream::StreamContext;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use crate::access::{Meter, Verdict};
use crate::stream::Transport;

/// One read takes at most this, a TLS record's worth.
const READ_BYTES: usize = 16 * 1024;
/// More than this waiting to be written stops the gathering: it waits in the mailbox instead.
pub const WRITE_HIGH_BYTES: usize = 32 * 1024;

thread_local! {
    /// Reads land here, so that an idle connection owns no read buffer.
    static SCRATCH: RefCell<Box<[u8; READ_BYTES]>> = RefCell::new(Box::new([0; READ_BYTES]));
    /// Write buffers not in use, so that an idle connection owns none and a busy one makes none.
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// Write buffers kept per thread.
const SPARE_MAX: usize = 16;
/// A larger one is given back to the allocator.
const SPARE_BYTES: usize = 64 * 1024;

/// What reading came to.
pub enum Read {
    /// Bytes were added; look for frames.
    Some(usize),
    /// The peer closed its side.
    End,
    /// The connection broke.
    Broken(io::Error),
}

/// See the module's documentation.
pub struct Wire {
    transport: Transport,
    framer: Framer,
    buffered: BytesMut,
    out: Vec<u8>,
    written: usize,
    /// Bytes the transport has taken in all.
    taken: u64,
    flushing: bool,
    meter: Box<Meter>,
    /// Stanzas framed since the meter was last charged.
    framed: u64,
    /// What the stream header said.
    pub context: StreamContext,
    /// The client's address.
    pub peer: SocketAddr,
    /// Its session has asked for bytes in vain and will be woken once there are some.
    pub read_later: bool,
    /// When anything was last read.
    pub last_read: Instant,
    /// When bytes began to wait for a client that does not take them.
    pub blocked_since: Option<Instant>,
}

impl Wire {
    /// A stream that has passed negotiation.
    pub fn new(
        transport: Transport,
        framer: Framer,
        buffered: BytesMut,
        context: StreamContext,
        peer: SocketAddr,
        meter: Meter,
    ) -> Wire {
        Wire {
            transport,
            framer,
            buffered,
            out: Vec::new(),
            written: 0,
            taken: 0,
            flushing: false,
            context,
            peer,
            meter: Box::new(meter),
            framed: 0,
            read_later: false,
            last_read: Instant::now(),
            blocked_since: None,
        }
    }

    /// Reads once.
    pub fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Read> {
        SCRATCH.with_borrow_mut(|scratch| {
            let mut buf = ReadBuf::new(&mut scratch[..]);
            match Pin::new(&mut self.transport).poll_read(cx, &mut buf) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(Err(error)) => Poll::Ready(Read::Broken(error)),
                Poll::Ready(Ok(())) if buf.filled().is_empty() => Poll::Ready(Read::End),
                Poll::Ready(Ok(())) => {
                    if self.buffered.is_empty() {
                        self.buffered = BytesMut::from(buf.filled());
                    } else {
                        self.buffered.extend_from_slice(buf.filled());
                    }
                    Poll::Ready(Read::Some(buf.filled().len()))
                }
            }
        })
    }

    /// Drops what was read and not framed.
    pub fn forget(&mut self) {
        self.buffered = BytesMut::new();
    }

    /// The next whole frame of what was read.
    ///
    /// # Errors
    /// What the framer finds wrong.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, StreamError> {
        if self.buffered.is_empty() {
            return Ok(None);
        }
        let frame = self.framer.next(&mut self.buffered)?;
        self.framed += u64::from(frame.is_some());
        if self.buffered.is_empty() {
            // Frames share the buffer's memory; a new one costs nothing until it is used.
            self.buffered = BytesMut::new();
        }
        Ok(frame)
    }

    /// Limits of stanzas.
    pub fn limits(&self) -> &Limits {
        self.framer.limits()
    }

    /// The weight of the client's traffic class.
    pub fn weight(&self) -> u32 {
        self.meter.class().weight
    }

    /// Obeys other limits from now on.
    pub fn set_limits(&mut self, limits: Limits) {
        self.framer.set_limits(limits);
    }

    /// What the client's traffic class is charged by.
    pub fn meter(&mut self) -> &mut Meter {
        &mut self.meter
    }

    /// Counts a read against the client's traffic class, with the stanzas framed since the last one.
    pub fn charge(&mut self, bytes: u64, now: Instant) -> Verdict {
        let stanzas = std::mem::take(&mut self.framed);
        self.meter.take(bytes, stanzas, now.into_std())
    }

    /// Appends bytes to what is to be written.
    pub fn send(&mut self, bytes: &[u8]) {
        if self.out.capacity() == 0 {
            self.out = SPARE.with_borrow_mut(Vec::pop).unwrap_or_default();
        }
        // A client that always takes some and never all would have this grow for ever.
        if self.written >= WRITE_HIGH_BYTES {
            self.out.drain(..self.written);
            self.written = 0;
        }
        self.out.extend_from_slice(bytes);
    }

    /// Bytes not yet taken by the connection.
    pub fn unwritten(&self) -> usize {
        self.out.len() - self.written
    }

    /// Bytes that the transport has taken since the stream began.
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// The same once everything sent so far is taken.
    pub fn sent(&self) -> u64 {
        self.taken + self.unwritten() as u64
    }

    /// Writes what has gathered; ready once all is written and flushed.
    pub fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.out.len() {
            match Pin::new(&mut self.transport).poll_write(cx, &self.out[self.written..]) {
                Poll::Pending => {
                    self.blocked_since.get_or_insert_with(Instant::now);
                    return Poll::Pending;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(written)) => {
                    self.written += written;
                    self.taken += written as u64;
                    self.blocked_since = None;
                    self.flushing = true;
                }
            }
        }
        if self.flushing {
            match Pin::new(&mut self.transport).poll_flush(cx) {
                Poll::Pending => {
                    self.blocked_since.get_or_insert_with(Instant::now);
                    return Poll::Pending;
                }
                Poll::Ready(result) => {
                    self.flushing = false;
                    self.blocked_since = None;
                    result?;
                }
            }
        }
        self.written = 0;
        self.put_aside();
        Poll::Ready(Ok(()))
    }

    fn put_aside(&mut self) {
        let mut buffer = std::mem::take(&mut self.out);
        buffer.clear();
        SPARE.with_borrow_mut(|spare| {
            if spare.len() < SPARE_MAX && (1..=SPARE_BYTES).contains(&buffer.capacity()) {
                spare.push(buffer);
            }
        });
    }

    /// Whether nothing waits to be written or flushed.
    pub fn is_flushed(&self) -> bool {
        self.out.is_empty() && !self.flushing
    }

    /// TLS close_notify and FIN.
    pub fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_shutdown(cx)
    }
}
