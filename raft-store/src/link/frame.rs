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
    if length > limit_bytes - HEAD_BYTES {
        let (value, limit) = (length as u64, limit_bytes as u64);
        let what = "frame";
        return Err(Error::TooLarge { what, value, limit });
    }
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
            other => {
                let (what, value) = ("control", u64::from(other));
                return Err(Error::Unknown { what, value });
            }
        };
        from.clone().finish("control")?;
        Ok(control)
    }
}

/// `[number 8]` and what follows it, of a request or a reply. What follows is copied: it must not keep alive what else
/// was read with it.
pub(super) fn numbered(body: &[u8]) -> Result<(u64, Bytes), Error> {
    let mut from = Reader::new(body);
    let number = from.u64("number of a request")?;
    Ok((number, Bytes::copy_from_slice(from.rest())))
}

const _: () = assert!(FRAME_BYTES < u32::MAX as usize);
