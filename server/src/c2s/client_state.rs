//! XEP-0352: Client State Indication: what an inactive client need not hear at once. No I/O.

use std::collections::HashMap;

use eider_xmpp::jid::Jid;
use eider_xmpp::ns;
use eider_xmpp::stanza::{Kind, MessageType, PresenceType, Stanza};

use crate::c2s::mailbox::Delivery;
use crate::config::Feature;
use crate::xep::{Spec, Status};

/// See [`Spec`].
pub const SPEC: Spec = Spec {
    number: 352,
    name: "Client State Indication",
    version: "1.0.0",
    status: Status::Complete,
    note: "",
    features: &[],
    switch: Some(Feature::ClientState),
};

/// Presences held back at most; more than that wakes the client's connection.
const HELD_MAX: usize = 512;
/// Bytes of presences held back at most.
const HELD_MAX_BYTES: usize = 64 * 1024;

/// What to do with a stanza for an inactive client.
#[derive(Debug, PartialEq, Eq)]
enum Weight {
    /// Written at once, after everything held back.
    Important,
    /// Held back; the latest per sender is enough.
    Presence,
    /// Dropped: it has no meaning later.
    Fleeting,
}

/// State of one session. Lost with its stream (XEP-0352 §5).
#[derive(Debug, Default)]
pub struct ClientState {
    inactive: bool,
    /// Only while something is.
    held: Option<Box<Held>>,
}

/// What is held back.
#[derive(Debug, Default)]
struct Held {
    presences: HashMap<Jid, (u64, Delivery)>,
    bytes: usize,
    next: u64,
}

impl ClientState {
    /// Whether the client said it is inactive.
    pub fn is_inactive(&self) -> bool {
        self.inactive
    }

    /// The client is inactive from now on.
    pub fn deactivate(&mut self) {
        self.inactive = true;
    }

    /// The client is active again: everything held back, in the order it came.
    pub fn activate(&mut self) -> Vec<Delivery> {
        self.inactive = false;
        self.release()
    }

    /// What is held back, in bytes of a queue's bound.
    pub fn held_bytes(&self) -> usize {
        self.held.as_ref().map_or(0, |held| held.bytes)
    }

    /// Everything held back, in the order it came.
    pub fn release(&mut self) -> Vec<Delivery> {
        let held = self.held.take().map(|held| held.presences);
        let mut held: Vec<(u64, Delivery)> = held.unwrap_or_default().into_values().collect();
        held.sort_unstable_by_key(|(order, _)| *order);
        held.into_iter().map(|(_, delivery)| delivery).collect()
    }

    /// Passes a stanza on: nothing, or it with what was held back before it.
    pub fn pass(&mut self, delivery: Delivery) -> Vec<Delivery> {
        if !self.inactive {
            return vec![delivery];
        }
        match weight(&delivery.stanza) {
            Weight::Fleeting if delivery.debt.is_none() => Vec::new(),
            Weight::Presence if self.has_room(&delivery) => self.hold(delivery),
            _ => {
                let mut all = self.release();
                all.push(delivery);
                all
            }
        }
    }

    fn has_room(&self, delivery: &Delivery) -> bool {
        let count = self.held.as_ref().map_or(0, |held| held.presences.len());
        count < HELD_MAX && self.held_bytes() + delivery.cost_bytes() <= HELD_MAX_BYTES
    }

    fn hold(&mut self, delivery: Delivery) -> Vec<Delivery> {
        let Some(from) = delivery.stanza.from().cloned() else {
            return vec![delivery];
        };
        let held = self.held.get_or_insert_default();
        held.next += 1;
        held.bytes += delivery.cost_bytes();
        if let Some((_, before)) = held.presences.insert(from, (held.next, delivery)) {
            held.bytes -= before.cost_bytes();
        }
        Vec::new()
    }
}

fn weight(stanza: &Stanza) -> Weight {
    match stanza.kind() {
        Kind::Iq => Weight::Important,
        // Subscription requests, probes' errors and room traffic matter; plain availability does not.
        Kind::Presence
            if matches!(
                stanza.presence_type(),
                Ok(PresenceType::Available | PresenceType::Unavailable)
            ) =>
        {
            if stanza
                .children()
                .any(|child| child.ns.as_ref() == ns::MUC_USER)
            {
                Weight::Important
            } else {
                Weight::Presence
            }
        }
        Kind::Presence => Weight::Important,
        Kind::Message if stanza.message_type() == MessageType::Error => Weight::Important,
        Kind::Message if only_chat_state(stanza) => Weight::Fleeting,
        Kind::Message => Weight::Important,
    }
}

fn only_chat_state(stanza: &Stanza) -> bool {
    let mut states = 0;
    for child in stanza.children() {
        match child.ns.as_ref() {
            ns::CHAT_STATES => states += 1,
            ns::HINTS | ns::STANZA_ID => {}
            _ if child.name == "thread" => {}
            _ => return false,
        }
    }
    states > 0
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn presence(from: usize, status_bytes: usize) -> Delivery {
        let status = "x".repeat(status_bytes);
        let xml = format!("<presence from='a{from}@b/c'><status>{status}</status></presence>");
        Delivery::copy(Stanza::parse_stored(Bytes::from(xml)).expect("well-formed"))
    }

    #[test]
    fn what_is_held_back_is_bounded_in_bytes_and_counted() {
        let mut state = ClientState::default();
        state.deactivate();
        for _ in 0..3 {
            assert!(state.pass(presence(1, 20_000)).is_empty());
        }
        assert!(state.held_bytes() < 21_000, "the latest is enough");
        assert!(state.pass(presence(2, 20_000)).is_empty());
        assert!(state.pass(presence(3, 20_000)).is_empty());
        assert_eq!(state.pass(presence(4, 20_000)).len(), 4);
        assert_eq!(state.held_bytes(), 0);
    }
}
