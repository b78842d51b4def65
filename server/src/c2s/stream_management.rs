//! XEP-0198: Stream Management: counters and the queue of unacknowledged stanzas. No I/O.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use eider_xmpp::stanza::Stanza;

use crate::c2s::mailbox::{Delivery, Origin, STANZA_OVERHEAD_BYTES};
use crate::config::Feature;
use crate::xep::{Spec, Status};

/// See [`Spec`].
pub const SPEC: Spec = Spec {
    number: 198,
    name: "Stream Management",
    version: "1.6.3",
    status: Status::Complete,
    note: "",
    features: &[],
    switch: Some(Feature::StreamManagement),
};

/// A client's wish to take up its session again (XEP-0198 §5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resume {
    /// The id given when stream management was enabled.
    pub previd: String,
    /// How many of our stanzas the client has handled.
    pub h: u32,
}

/// The client's `h` is beyond what was sent (XEP-0198 §4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HandledTooHigh {
    /// What the client says.
    pub h: u32,
    /// What was sent.
    pub send_count: u32,
}

/// A stanza that the client has not acknowledged. Its bytes are what sending it again takes: of the
/// stanza nothing else is kept.
#[derive(Debug, Clone)]
pub struct Sent {
    /// As it was written.
    pub bytes: Bytes,
    /// See [`Delivery::debt`].
    pub debt: Option<i64>,
    /// See [`Delivery::origin`].
    pub origin: Origin,
}

impl Sent {
    fn cost_bytes(&self) -> usize {
        self.bytes.len() + STANZA_OVERHEAD_BYTES
    }

    /// The stanza, where its client has not taken it; what was written reads again.
    pub fn into_delivery(self) -> Option<Delivery> {
        Some(Delivery {
            stanza: Stanza::parse_stored(self.bytes).ok()?,
            debt: self.debt,
            origin: self.origin,
        })
    }
}

impl From<Delivery> for Sent {
    fn from(delivery: Delivery) -> Sent {
        Sent {
            bytes: delivery.stanza.into_bytes(),
            debt: delivery.debt,
            origin: delivery.origin,
        }
    }
}

/// State of one enabled session.
#[derive(Debug)]
pub struct StreamManagement {
    /// The id for resumption; `None` where the client did not ask for it.
    pub id: Option<String>,
    /// How long the session waits for its client.
    pub resume: Duration,
    /// Stanzas handled from the client, modulo 2³².
    pub handled: u32,
    /// Stanzas sent to the client, modulo 2³².
    pub sent: u32,
    /// Stanzas the client has acknowledged, modulo 2³².
    pub acknowledged: u32,
    queue: VecDeque<Sent>,
    queue_bytes: usize,
    answer_bytes: usize,
    /// Sent since the last request for an acknowledgement.
    unrequested: u32,
    unrequested_bytes: usize,
    /// A request is under way.
    pub requested: bool,
}

impl StreamManagement {
    /// Counters at zero.
    pub fn new(id: Option<String>, resume: Duration) -> StreamManagement {
        StreamManagement {
            id,
            resume,
            handled: 0,
            sent: 0,
            acknowledged: 0,
            queue: VecDeque::new(),
            queue_bytes: 0,
            answer_bytes: 0,
            unrequested: 0,
            unrequested_bytes: 0,
            requested: false,
        }
    }

    /// Counters and queue of a session saved by an earlier run.
    pub fn restored(
        id: String,
        resume: Duration,
        handled: u32,
        acknowledged: u32,
        queue: VecDeque<Sent>,
    ) -> StreamManagement {
        let sent = acknowledged.wrapping_add(u32::try_from(queue.len()).unwrap_or(u32::MAX));
        let queue_bytes = queue.iter().map(Sent::cost_bytes).sum();
        StreamManagement {
            handled,
            sent,
            acknowledged,
            queue,
            queue_bytes,
            ..StreamManagement::new(Some(id), resume)
        }
    }

    /// Notes a stanza that is written now.
    pub fn push(&mut self, delivery: Delivery) {
        let sent = Sent::from(delivery);
        self.sent = self.sent.wrapping_add(1);
        self.unrequested += 1;
        self.unrequested_bytes += sent.cost_bytes();
        *self.bytes_of(&sent) += sent.cost_bytes();
        self.queue.push_back(sent);
    }

    /// Where a stanza's bytes are counted.
    fn bytes_of(&mut self, sent: &Sent) -> &mut usize {
        match sent.origin {
            Origin::Answer => &mut self.answer_bytes,
            Origin::Direct | Origin::Copy | Origin::Push => &mut self.queue_bytes,
        }
    }

    /// The client has handled `h` stanzas: those it newly acknowledges leave the queue.
    ///
    /// # Errors
    /// [`HandledTooHigh`]; a smaller `h` than before counts as one, modulo 2³².
    pub fn acknowledge(&mut self, h: u32) -> Result<Vec<Sent>, HandledTooHigh> {
        let newly = h.wrapping_sub(self.acknowledged);
        if newly as usize > self.queue.len() {
            return Err(HandledTooHigh {
                h,
                send_count: self.sent,
            });
        }
        self.acknowledged = h;
        let paid: Vec<Sent> = self.queue.drain(..newly as usize).collect();
        for sent in &paid {
            *self.bytes_of(sent) -= sent.cost_bytes();
        }
        if self.queue.is_empty() {
            self.queue = VecDeque::new();
        }
        Ok(paid)
    }

    /// Stanzas sent and not acknowledged, oldest first.
    pub fn unacknowledged(&self) -> &VecDeque<Sent> {
        &self.queue
    }

    /// What they cost, without the answers among them.
    pub fn queue_bytes(&self) -> usize {
        self.queue_bytes
    }

    /// What the answers among them cost.
    pub fn answer_bytes(&self) -> usize {
        self.answer_bytes
    }

    /// Takes the queue, when the session ends.
    pub fn take_queue(&mut self) -> VecDeque<Sent> {
        self.queue_bytes = 0;
        self.answer_bytes = 0;
        std::mem::take(&mut self.queue)
    }

    /// Whether a request for an acknowledgement is due after `stanzas` or `bytes` unrequested ones.
    pub fn request_due(&self, stanzas: u32, bytes: usize) -> bool {
        !self.requested && (self.unrequested >= stanzas || self.unrequested_bytes >= bytes)
    }

    /// Whether anything is sent that no request asked about.
    pub fn unrequested(&self) -> bool {
        !self.requested && self.unrequested > 0
    }

    /// A request was written.
    pub fn note_request(&mut self) {
        self.requested = true;
        self.unrequested = 0;
        self.unrequested_bytes = 0;
    }

    /// The stream is another one: a request that was under way is lost.
    pub fn new_stream(&mut self) {
        self.requested = false;
        self.unrequested = u32::try_from(self.queue.len()).unwrap_or(u32::MAX);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use eider_xmpp::stanza::Stanza;

    use super::*;

    fn delivery() -> Delivery {
        let bytes = Bytes::from_static(b"<message to='a@b/c'><body>x</body></message>");
        Delivery::direct(Stanza::parse_stored(bytes).expect("well-formed"))
    }

    #[test]
    fn counters_wrap_and_acknowledgements_are_checked() {
        let mut sm = StreamManagement::new(None, Duration::from_secs(1));
        sm.acknowledged = u32::MAX;
        sm.sent = u32::MAX;
        sm.push(delivery());
        sm.push(delivery());
        assert_eq!(sm.sent, 1);
        assert_eq!(sm.acknowledge(0).map(|paid| paid.len()), Ok(1));
        assert_eq!(
            sm.acknowledge(2).err(),
            Some(HandledTooHigh {
                h: 2,
                send_count: 1
            })
        );
        assert_eq!(sm.acknowledge(1).map(|paid| paid.len()), Ok(1));
        assert_eq!(sm.queue_bytes(), 0);
        assert!(sm.acknowledge(0).is_err());
    }
}
