//! Reading: frames from the wire, nonzas answered at once, stanzas into the inbox.

use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use eider_xmpp::element::Element;
use eider_xmpp::error::{StanzaCondition, StreamCondition, StreamError};
use eider_xmpp::framing::Frame;
use eider_xmpp::jid::FullJid;
use eider_xmpp::ns;
use eider_xmpp::stanza::{Kind, Stanza};

use tokio::time::Instant;

use super::{End, Move, Session};
use crate::access::Verdict;
use crate::admin::trace::{Direction, TraceEvent};
use crate::c2s::stream_management::{HandledTooHigh, StreamManagement};
use crate::c2s::wire::Read;
use crate::config::Feature;
use crate::fault::{self, Point};

impl Session {
    /// Handles frames already read, then reads once more.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>) -> Move {
        let mut moved = false;
        loop {
            // A client that does not read is not read either: each frame may ask for an answer.
            let waits = self.draining || self.is_inbox_full() || self.is_congested();
            if waits || self.is_paused() {
                break;
            }
            let Some(wire) = self.wire.as_mut() else {
                break;
            };
            match wire.next_frame() {
                Err(error) => return self.violated(error),
                Ok(Some(frame)) => match self.on_frame(frame) {
                    Move::End(end) => return Move::End(end),
                    _ => moved = true,
                },
                Ok(None) => match self.poll_wire(cx) {
                    Move::None => break,
                    Move::Some => moved = true,
                    Move::End(end) => return Move::End(end),
                },
            }
        }
        if moved { Move::Some } else { Move::None }
    }

    pub(super) fn is_inbox_full(&self) -> bool {
        self.inbox
            .is_full(self.limits.inbox_stanzas, self.limits.inbox_bytes)
    }

    fn poll_wire(&mut self, cx: &mut Context<'_>) -> Move {
        let Some(wire) = self.wire.as_mut().filter(|wire| !wire.read_later) else {
            return Move::None;
        };
        match wire.poll_read(cx) {
            Poll::Pending => {
                wire.read_later = true;
                Move::None
            }
            Poll::Ready(Read::Some(bytes)) => self.on_read(bytes as u64),
            Poll::Ready(Read::End) => self.lost("connection closed"),
            Poll::Ready(Read::Broken(_)) => self.lost("connection broken"),
        }
    }

    /// Bytes have come: the client is alive, and its traffic class is charged.
    fn on_read(&mut self, bytes: u64) -> Move {
        let Some(wire) = self.wire.as_mut() else {
            return Move::None;
        };
        let now = Instant::now();
        wire.last_read = now;
        self.probed_at = None;
        self.parts.metrics.bytes_in.inc_by(bytes);
        let seconds = now.duration_since(self.bound_at).as_secs();
        self.handle
            .about
            .read_at_seconds
            .store(seconds, Ordering::Relaxed);
        match wire.charge(bytes, now) {
            Verdict::Go => {}
            Verdict::Wait(time) => {
                self.parts.metrics.refused("traffic");
                self.paused_until = Some(now + time);
                self.wake_at(now + time);
            }
            Verdict::Disconnect => {
                let over = StreamError::new(StreamCondition::PolicyViolation);
                return self.violated(over.limit("traffic"));
            }
        }
        Move::Some
    }

    fn is_paused(&mut self) -> bool {
        let paused = self
            .paused_until
            .is_some_and(|until| Instant::now() < until);
        if !paused {
            self.paused_until = None;
        }
        paused
    }

    /// Shows a stanza's header to whoever traces the account.
    pub(super) fn trace(&self, direction: Direction, stanza: &Stanza) {
        if self.parts.tracer.is_active() {
            let account = self.handle.bare.as_str();
            self.parts.tracer.record(account, || {
                trace_event(&self.handle.full, direction, stanza)
            });
        }
    }

    fn on_frame(&mut self, frame: Frame) -> Move {
        match frame {
            Frame::Stanza(bytes) => self.on_element(bytes),
            Frame::Close => {
                self.inbox.push_end(End::Closed);
                Move::Some
            }
            Frame::Open(_) => self.violated(StreamError::new(StreamCondition::BadFormat)),
        }
    }

    fn on_element(&mut self, bytes: Bytes) -> Move {
        if !looks_like_stanza(&bytes) {
            return self.on_nonza(bytes);
        }
        let Some(wire) = self.wire.as_ref() else {
            return Move::None;
        };
        match Stanza::parse(bytes, &wire.context, wire.limits()) {
            Ok(stanza) => self.on_stanza(stanza),
            Err(error) => self.violated(error.into()),
        }
    }

    fn on_stanza(&mut self, stanza: Stanza) -> Move {
        // RFC 6120 §8.1.2.1: a client speaks for its own session only.
        if let Some(from) = stanza.from()
            && from.as_str() != self.handle.full.as_str()
            && from.as_str() != self.handle.bare.as_str()
        {
            return self.violated(StreamError::new(StreamCondition::InvalidFrom));
        }
        self.handle.about.stanzas_in.fetch_add(1, Ordering::Relaxed);
        self.trace(Direction::In, &stanza);
        let counters = &self.parts.metrics.stanzas_in;
        match stanza.kind() {
            Kind::Message => counters.message.inc(),
            Kind::Presence => counters.presence.inc(),
            Kind::Iq => counters.iq.inc(),
        };
        self.inbox.push(stanza, self.sm.is_some());
        Move::Some
    }

    fn on_nonza(&mut self, bytes: Bytes) -> Move {
        // As nearly every client writes it, and by far the most frequent.
        if matches!(
            &bytes[..],
            b"<r xmlns='urn:xmpp:sm:3'/>" | b"<r xmlns=\"urn:xmpp:sm:3\"/>"
        ) {
            return self.on_request();
        }
        let Some(wire) = self.wire.as_ref() else {
            return Move::None;
        };
        let element = match Element::parse(&bytes) {
            Ok(element) => element,
            // Prefixes of the stream header are unknown here; the stanza parser knows them.
            Err(_) => {
                return match Stanza::parse(bytes, &wire.context, wire.limits()) {
                    Ok(stanza) => self.on_stanza(stanza),
                    Err(error) => self.violated(error.into()),
                };
            }
        };
        match (element.ns(), element.name()) {
            (ns::SM, "r") => self.on_request(),
            (ns::SM, "a") => self.on_acknowledgement(&element),
            (ns::SM, "enable") => self.on_enable(&element),
            (ns::SM, "resume") => {
                self.sm_failed(StanzaCondition::UnexpectedRequest);
                Move::Some
            }
            (ns::CSI, "inactive") => {
                // Without a word where the host is without it: it may have been switched off since it was offered.
                if self.host_has(Feature::ClientState) {
                    self.client_state.deactivate();
                    self.handle.about.inactive.store(true, Ordering::Relaxed);
                }
                Move::Some
            }
            (ns::CSI, "active") => {
                self.activate();
                Move::Some
            }
            // Not one of ours: a stanza in disguise, or a stream error of the parser's choosing.
            _ => match Stanza::parse(bytes, &wire.context, wire.limits()) {
                Ok(stanza) => self.on_stanza(stanza),
                Err(error) => self.violated(error.into()),
            },
        }
    }

    pub(super) fn host_has(&self, feature: Feature) -> bool {
        let config = self.parts.config.borrow();
        let host = config.host(self.handle.bare.domain());
        host.is_some_and(|host| host.has(feature))
    }

    /// XEP-0352 §4: what was held back goes out.
    pub(super) fn activate(&mut self) {
        self.handle.about.inactive.store(false, Ordering::Relaxed);
        for delivery in self.client_state.activate() {
            self.put(delivery);
        }
    }

    /// XEP-0198 §4: answered at once with what is handled; an unasked answer follows for the rest.
    fn on_request(&mut self) -> Move {
        let Some(sm) = &self.sm else {
            return self.unsupported();
        };
        let pending = self.inbox.counted();
        self.acknowledge_at = (pending > 0).then(|| sm.handled.wrapping_add(pending));
        self.send_acknowledgement();
        Move::Some
    }

    fn unsupported(&self) -> Move {
        self.violated(StreamError::new(StreamCondition::UnsupportedStanzaType))
    }

    pub(super) fn send_acknowledgement(&mut self) {
        if let (Some(sm), Some(wire)) = (&self.sm, self.wire.as_mut()) {
            wire.send(format!("<a xmlns='{}' h='{}'/>", ns::SM, sm.handled).as_bytes());
            self.acknowledging = true;
        }
    }

    fn on_acknowledgement(&mut self, element: &Element) -> Move {
        let Some(sm) = self.sm.as_mut() else {
            return self.unsupported();
        };
        let Some(h) = element.attr("h").and_then(|h| h.parse().ok()) else {
            return self.violated(StreamError::new(StreamCondition::BadFormat));
        };
        fault::reached(Point::AcknowledgementRead);
        sm.requested = false;
        self.requested_at = None;
        match sm.acknowledge(h) {
            Ok(paid) => {
                self.begun_over_bound = 0;
                self.pay(paid.iter().filter_map(|sent| sent.debt));
                self.request_acknowledgement();
                Move::Some
            }
            Err(HandledTooHigh { h, send_count }) => self.violated(handled_too_high(h, send_count)),
        }
    }

    /// XEP-0198 §3.
    fn on_enable(&mut self, element: &Element) -> Move {
        let config = self.parts.config.borrow().clone();
        if !self.host_has(Feature::StreamManagement) {
            self.sm_failed(StanzaCondition::ServiceUnavailable);
            return Move::Some;
        }
        if self.sm.is_some() {
            self.sm_failed(StanzaCondition::UnexpectedRequest);
            return Move::Some;
        }
        let wished = matches!(element.attr("resume"), Some("true" | "1"));
        let max = element.attr("max").and_then(|max| max.parse().ok());
        let resume = config.stream_management.resume(max);
        let id = wished.then(|| {
            let now = crate::clock::timestamp();
            let watch = self.handle.resends.lock();
            let resumables = &self.parts.resumables;
            resumables.register(&self.handle, now, watch.failed())
        });
        self.send_enabled(id.as_deref(), resume);
        self.handle
            .about
            .stream_management
            .store(true, Ordering::Relaxed);
        self.handle
            .about
            .resumable
            .store(id.is_some(), Ordering::Relaxed);
        self.sm = Some(Box::new(StreamManagement::new(id, resume)));
        Move::Some
    }

    fn send_enabled(&mut self, id: Option<&str>, resume: Duration) {
        let mut enabled = Element::new("enabled", ns::SM);
        if let Some(id) = id {
            enabled = enabled.with_attr("id", id).with_attr("resume", "true");
            enabled = enabled.with_attr("max", resume.as_secs().to_string());
        }
        if let Some(wire) = self.wire.as_mut() {
            wire.send(enabled.to_xml().as_bytes());
        }
    }

    fn sm_failed(&mut self, condition: StanzaCondition) {
        let failed = Element::new("failed", ns::SM)
            .with_child(Element::new(condition.as_str(), ns::STANZA_ERRORS));
        if let Some(wire) = self.wire.as_mut() {
            wire.send(failed.to_xml().as_bytes());
        }
    }

    /// The connection is gone. What was read before is still handled.
    pub(super) fn lost(&mut self, why: &'static str) -> Move {
        let resumable = self.sm.as_ref().is_some_and(|sm| sm.id.is_some());
        if resumable {
            tracing::debug!(jid = %self.handle.full, why, "waiting for the client to return");
            self.detach();
            return Move::Some;
        }
        self.wire = None;
        if self.inbox.is_empty() {
            return Move::End(End::Lost(why));
        }
        self.inbox.push_end(End::Lost(why));
        Move::Some
    }
}

/// A cheap look at the first bytes; the parser decides.
fn looks_like_stanza(bytes: &[u8]) -> bool {
    [&b"<message"[..], b"<presence", b"<iq"]
        .iter()
        .any(|name| bytes.starts_with(name))
}

/// XEP-0198 §4, example of `handled-count-too-high`.
pub(super) fn handled_too_high(h: u32, send_count: u32) -> StreamError {
    let detail = Element::new("handled-count-too-high", ns::SM)
        .with_attr("h", h.to_string())
        .with_attr("send-count", send_count.to_string());
    StreamError {
        application: Some(Box::new(detail)),
        ..StreamError::new(StreamCondition::UndefinedCondition)
    }
}

fn trace_event(session: &FullJid, direction: Direction, stanza: &Stanza) -> TraceEvent {
    let payloads = stanza
        .children()
        .map(|child| format!("{} {}", child.name, child.ns));
    TraceEvent {
        at_us: crate::clock::timestamp().0,
        direction,
        session: session.as_str().to_owned(),
        kind: stanza.kind().as_str().to_owned(),
        stanza_type: stanza.type_attr().map(|kind| kind.into_owned()),
        id: stanza.id().map(|id| id.into_owned()),
        from: stanza.from().map(|jid| jid.as_str().to_owned()),
        to: stanza.to().map(|jid| jid.as_str().to_owned()),
        payloads: payloads.collect(),
        bytes: stanza.as_bytes().len(),
    }
}
