//! Hello on both sides of a new stream, and who is let in.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::connection::{Around, Connection};
use super::frame::{self, CONTROL, CROSSED, Control};
use super::manager::Shared;
use super::messages::Lane;
use super::peer::{Peer, Runs};
use super::{Hello, LinkError, Refused, wire};
use crate::codec;
use crate::limits::HELLO_BYTES;
use crate::transport::{Connected, Stream};

/// Until a hello has come, on either side.
pub(super) const HELLO_WITHIN: Duration = Duration::from_secs(5);
/// A run that does not answer a ping for so long is gone.
const RUN_ANSWERS_WITHIN: Duration = Duration::from_secs(1);
/// Until the other end has been told why it is refused.
const REFUSAL_WITHIN: Duration = Duration::from_secs(1);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failed {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Codec(#[from] codec::Error),
    #[error("no hello came in time")]
    Late,
    #[error("something else came first")]
    NoHello,
    #[error("another member is there")]
    Another,
    #[error("the other side's connection stays")]
    Crossed,
    /// By whom matters to nobody.
    #[error("refused: {0:?}")]
    Refused(Refused),
    #[error("refused for a reason that this build does not know")]
    Unknown,
}

impl Failed {
    fn by(reason: u8) -> Self {
        match (reason, wire::reason(reason)) {
            (CROSSED, _) => Self::Crossed,
            (_, Some(reason)) => Self::Refused(reason),
            (_, None) => Self::Unknown,
        }
    }
}

impl From<Failed> for LinkError {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Refused(reason) => LinkError::Refused(reason),
            _ => LinkError::Unreachable,
        }
    }
}

/// The first frame of a stream. What came behind it stays in `buffer`.
async fn first(stream: &mut Box<dyn Stream>, buffer: &mut BytesMut) -> Result<Control, Failed> {
    loop {
        if let Some((channel, body)) = frame::next(buffer, HELLO_BYTES)? {
            return match channel {
                CONTROL => Ok(Control::decode(&body)?),
                _ => Err(Failed::NoHello),
            };
        }
        let room = HELLO_BYTES - buffer.len();
        let count = stream.read_buf(&mut buffer.limit(room)).await?;
        if count == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
    }
}

impl Shared {
    /// Says hello on a stream that was dialled to `peer`, and hears the other's.
    pub(super) async fn introduce(
        self: &Arc<Self>,
        peer: &Arc<Peer>,
        lane: Lane,
        mut stream: Box<dyn Stream>,
    ) -> Result<Hello, Failed> {
        let mut buffer = BytesMut::new();
        let exchange = async {
            peer.said(lane, self.clock().now());
            let hello = Control::Hello(lane, self.serve.hello());
            stream.write_all(&hello.frame()).await?;
            stream.flush().await?;
            first(&mut stream, &mut buffer).await
        };
        let answer = timeout(self.clock().wait(HELLO_WITHIN), exchange).await;
        let hello = match answer.map_err(|_| Failed::Late)?? {
            Control::Hello(said, hello) if said == lane => hello,
            Control::Refused(reason) => {
                if let Some(why) = wire::reason(reason) {
                    self.serve.refused(peer.id, why);
                }
                return Err(Failed::by(reason));
            }
            _ => return Err(Failed::NoHello),
        };
        let connection = Connection::new(peer.id, hello.nonce, lane);
        let verdict = self.judge(peer, &hello).await;
        let installed = verdict.and_then(|()| peer.install(&connection, hello.clone(), None));
        if let Err(reason) = installed {
            self.turn_away(peer, stream, reason).await;
            return Err(Failed::by(reason));
        }
        self.begin(peer, connection, &hello, (stream, buffer));
        Ok(hello)
    }

    /// Hears the hello of a stream that was accepted, and answers it.
    pub(super) async fn receive(self: &Arc<Self>, connected: Connected) -> Result<(), Failed> {
        let Connected {
            mut stream, member, ..
        } = connected;
        let mut buffer = BytesMut::new();
        let first = first(&mut stream, &mut buffer);
        let first = timeout(self.clock().wait(HELLO_WITHIN), first).await;
        let Control::Hello(lane, hello) = first.map_err(|_| Failed::Late)?? else {
            return Err(Failed::NoHello);
        };
        let (peer, _held) = self.hold(member);
        let connection = Connection::new(member, hello.nonce, lane);
        // Behind it, whatever is sent on this connection.
        connection.say(&Control::Hello(lane, self.serve.hello()));
        let verdict = self.judge(&peer, &hello).await;
        let accepted = Some((self.me, self.clock().now()));
        let installed = verdict.and_then(|()| peer.install(&connection, hello.clone(), accepted));
        if let Err(reason) = installed {
            self.turn_away(&peer, stream, reason).await;
            return Err(Failed::by(reason));
        }
        self.begin(&peer, connection, &hello, (stream, buffer));
        Ok(())
    }

    /// Whether a peer's run is let in; else the reason's byte.
    async fn judge(&self, peer: &Peer, hello: &Hello) -> Result<(), u8> {
        let refuse = |reason| Err(wire::reason_byte(reason));
        if hello.member != peer.id {
            return refuse(Refused::Certificate);
        }
        if let Err(reason) = self.serve.judge(hello) {
            return refuse(reason);
        }
        if hello.member == self.me {
            let own = self.serve.hello().nonce;
            // This member at one of its own addresses, or a copy of its disk.
            return match hello.nonce == own {
                true => Err(CROSSED),
                false => refuse(Refused::TwoRuns),
            };
        }
        loop {
            let others = match peer.hears(hello.nonce, self.clock().now()) {
                Runs::One => return Ok(()),
                Runs::Two => return refuse(Refused::TwoRuns),
                Runs::Other(others) => others,
            };
            let clock = self.clock();
            let asked = others
                .iter()
                .map(|one| one.is_alive(clock, RUN_ANSWERS_WITHIN));
            let mut answers: FuturesUnordered<_> = asked.collect();
            let mut lives = false;
            while let Some(answer) = answers.next().await {
                lives |= answer;
                if lives {
                    break;
                }
            }
            if lives {
                peer.two_runs(others[0].nonce, hello.nonce, self.clock().now());
                return refuse(Refused::TwoRuns);
            }
            others.iter().for_each(|one| one.close());
        }
    }

    /// Tells the other end why, and the log once a minute.
    async fn turn_away(&self, peer: &Peer, mut stream: Box<dyn Stream>, reason: u8) {
        if reason != CROSSED && peer.said.may(self.clock().now()) {
            let reason = wire::reason(reason);
            tracing::warn!(peer = %peer.id, ?reason, "a peer is refused");
        }
        let telling = async {
            stream.write_all(&Control::Refused(reason).frame()).await?;
            stream.shutdown().await?;
            // Closed before the other end has read it, a stream might be reset and the reason lost.
            let mut rest = [0; 64];
            while stream.read(&mut rest).await? > 0 {}
            Ok::<_, io::Error>(())
        };
        // It is gone anyway.
        let _ = timeout(self.clock().wait(REFUSAL_WITHIN), telling).await;
    }

    fn begin(
        self: &Arc<Self>,
        peer: &Peer,
        connection: Arc<Connection>,
        hello: &Hello,
        (stream, buffer): (Box<dyn Stream>, BytesMut),
    ) {
        if self.is_closed() {
            // Closed before this one could be found: its tasks end at once.
            connection.close();
        }
        self.book.note_hello(peer.id, &hello.addresses);
        let (reading, writing) = tokio::io::split(stream);
        let around = Around {
            serve: self.serve.clone(),
            clock: self.parts.clock.clone(),
            told: self.clone(),
        };
        let writer = connection.clone().write(writing, self.parts.clock.clone());
        self.parts.tasks.spawn(writer);
        self.parts
            .tasks
            .spawn(connection.read(reading, buffer, around));
    }
}
