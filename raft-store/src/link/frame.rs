//! Frames on a stream, `[length of the body 4][channel 2][body]`, and what the link itself says in them.

use bytes::{Buf, Bytes, BytesMut};

use super::wire;
use super::{Hello, Lane};
use crate::codec::{Error, Reader, Writer};
use crate::limits::{FRAME_BYTES, HELLO_BYTES};

pub(super) const HEAD_BYTES: usize = 6;
/// What the link says for itself.
pub(super) const CONTROL: u16 = 0;
/// `[number 8][request]`.
pub(super) const REQUEST: u16 = 1;
/// `[number of the request 8][reply]`.
pub(super) const REPLY: u16 = 2;
/// Channels are numbered from here on, by whoever sends on them.
pub(super) const FIRST_CHANNEL: u16 = 16;
/// The name of a channel.
pub(super) const NAME_BYTES: usize = 64;

/// A head, and room for the body behind it: fill it and give it to [`close`].
pub(super) fn begin(channel: u16, number: Option<u64>) -> Vec<u8> {
    let mut frame = Vec::with_capacity(256);
    frame.extend([0; 4]);
    frame.extend(channel.to_le_bytes());
    frame.extend(number.map(u64::to_le_bytes).into_iter().flatten());
    frame
}

/// Writes the length into the head of a frame that is whole.
pub(super) fn close(frame: &mut [u8]) {
    // No frame is longer than FRAME_BYTES.
    let length = (frame.len() - HEAD_BYTES) as u32;
    frame[..4].copy_from_slice(&length.to_le_bytes());
}

/// The head of a frame whose body has this length.
pub(super) fn head(channel: u16, length: usize) -> [u8; HEAD_BYTES] {
    // No frame is longer than FRAME_BYTES.
    let [a, b, c, d] = (length as u32).to_le_bytes();
    let [low, high] = channel.to_le_bytes();
    [a, b, c, d, low, high]
}

/// The length of the first body, of frames that are whole.
pub(super) fn body_bytes(frames: &[u8]) -> usize {
    let length = frames.first_chunk().expect("it is whole");
    u32::from_le_bytes(*length) as usize
}

/// How many they are, of frames that are whole.
pub(super) fn count(mut frames: &[u8]) -> u64 {
    let mut count = 0;
    while !frames.is_empty() {
        frames = &frames[HEAD_BYTES + body_bytes(frames)..];
        count += 1;
    }
    count
}

/// The channel of the first frame, and its bytes, with those of all frames of this channel that follow if it is one that
/// was opened; `None` when the first is not whole yet.
pub(super) fn run(from: &[u8], limit_bytes: usize) -> Result<Option<(u16, usize)>, Error> {
    let (mut channel, mut bytes) = (0, 0);
    while let Some(head) = from[bytes..].first_chunk::<HEAD_BYTES>() {
        let [a, b, c, d, low, high] = *head;
        let length = u32::from_le_bytes([a, b, c, d]) as usize;
        match check(length, limit_bytes) {
            Ok(()) => {}
            Err(error) if bytes == 0 => return Err(error),
            // What is whole comes first.
            Err(_) => break,
        }
        let this = u16::from_le_bytes([low, high]);
        let other = bytes > 0 && this != channel;
        if other || from.len() - bytes < HEAD_BYTES + length {
            break;
        }
        channel = this;
        bytes += HEAD_BYTES + length;
        // Others are taken one by one: to look at what follows each time would cost the square of it.
        if channel < FIRST_CHANNEL {
            break;
        }
    }
    Ok((bytes > 0).then_some((channel, bytes)))
}

fn check(length: usize, limit_bytes: usize) -> Result<(), Error> {
    if length <= limit_bytes - HEAD_BYTES {
        return Ok(());
    }
    let (value, limit) = (length as u64, limit_bytes as u64);
    let what = "frame";
    Err(Error::TooLarge { what, value, limit })
}

/// The first frame of `from`, of at most `limit_bytes`; `None` when it is not whole yet.
pub(super) fn next(
    from: &mut BytesMut,
    limit_bytes: usize,
) -> Result<Option<(u16, BytesMut)>, Error> {
    let Some(head) = from.first_chunk::<HEAD_BYTES>() else {
        return Ok(None);
    };
    let [a, b, c, d, low, high] = *head;
    let length = u32::from_le_bytes([a, b, c, d]) as usize;
    check(length, limit_bytes)?;
    if from.len() < HEAD_BYTES + length {
        return Ok(None);
    }
    from.advance(HEAD_BYTES);
    Ok(Some((
        u16::from_le_bytes([low, high]),
        from.split_to(length),
    )))
}

/// What the link says for itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Control {
    /// First on each connection, from both sides; again when something in it has changed.
    Hello(Lane, Hello),
    /// Why the connection ends. The byte of a [`super::Refused`], or [`CROSSED`].
    Refused(u8),
    /// Answered with a [`Control::Pong`] of its number at once.
    Ping(u64),
    Pong(u64),
    /// Frames of this number are of the channel `name`, sent by the run `token`.
    Open {
        number: u16,
        token: u64,
        name: String,
    },
    /// So many bytes more may be sent.
    Credit {
        number: u16,
        bytes: u64,
    },
}

/// Both dialled at once, and the other connection stays. No refusal.
pub(super) const CROSSED: u8 = 255;

impl Control {
    /// A whole frame.
    pub(super) fn frame(&self) -> Vec<u8> {
        let mut to = Writer::with_buffer(begin(CONTROL, None), HELLO_BYTES);
        match self {
            Self::Hello(lane, hello) => {
                to.u8(1);
                wire::put_hello(&mut to, *lane, hello);
            }
            Self::Refused(reason) => {
                to.u8(2);
                to.u8(*reason);
            }
            Self::Ping(number) => {
                to.u8(3);
                to.u64(*number);
            }
            Self::Pong(number) => {
                to.u8(4);
                to.u64(*number);
            }
            Self::Open {
                number,
                token,
                name,
            } => {
                to.u8(5);
                to.u16(*number);
                to.u64(*token);
                to.bytes(name.as_bytes());
            }
            Self::Credit { number, bytes } => {
                to.u8(6);
                to.u16(*number);
                to.u64(*bytes);
            }
        }
        // Eight addresses of 255 bytes, and less than 200 besides.
        let mut frame = to.finish("control").expect("a hello is below its limit");
        close(&mut frame);
        frame
    }

    pub(super) fn decode(body: &[u8]) -> Result<Self, Error> {
        let from = &mut Reader::new(body);
        let control = match from.u8("control")? {
            1 => {
                let (lane, hello) = wire::hello(from)?;
                Self::Hello(lane, hello)
            }
            2 => Self::Refused(from.u8("reason")?),
            3 => Self::Ping(from.u64("ping")?),
            4 => Self::Pong(from.u64("pong")?),
            5 => Self::Open {
                number: from.u16("number of a channel")?,
                token: from.u64("token")?,
                name: name(from)?,
            },
            6 => Self::Credit {
                number: from.u16("number of a channel")?,
                bytes: from.u64("credit")?,
            },
            other => {
                let (what, value) = ("control", u64::from(other));
                return Err(Error::Unknown { what, value });
            }
        };
        from.clone().finish("control")?;
        Ok(control)
    }
}

fn name(from: &mut Reader<'_>) -> Result<String, Error> {
    let what = "name of a channel";
    let text = std::str::from_utf8(from.bytes(NAME_BYTES, what)?);
    let text = text.map_err(|_| Error::Unknown { what, value: 0 })?;
    Ok(text.to_owned())
}

/// `[number 8]` and what follows it, of a request or a reply. What follows is copied: it must not keep alive what else
/// was read with it.
pub(super) fn numbered(body: &[u8]) -> Result<(u64, Bytes), Error> {
    let mut from = Reader::new(body);
    let number = from.u64("number of a request")?;
    Ok((number, Bytes::copy_from_slice(from.rest())))
}

const _: () = assert!(FRAME_BYTES < u32::MAX as usize);
