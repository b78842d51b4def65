//! XEP-0198 §5: a session waits for its client, and a new stream takes it over.

use std::sync::atomic::Ordering;
use std::time::UNIX_EPOCH;

use eider_xmpp::element::Element;
use eider_xmpp::error::StreamError;
use eider_xmpp::ns;
use eider_xmpp::stream::{CLOSE, stream_error};
use tokio::time::Instant;

use super::{Session, frames};
use crate::c2s::bind;
use crate::c2s::wire::Wire;

impl Session {
    /// The stream goes, the session stays; `None` where it was gone already.
    pub(super) fn detach(&mut self) -> Option<Box<Wire>> {
        let mut wire = self.wire.take()?;
        self.meter = Some(Box::new(wire.meter().clone()));
        self.parts.metrics.sessions_waiting.inc();
        self.probed_at = None;
        self.request_at = None;
        self.requested_at = None;
        // What client state held back will be resent with the rest.
        for delivery in self.client_state.activate() {
            self.put(delivery);
        }
        self.wait();
        Some(wire)
    }

    /// Waits for the client from now on, as administrators are shown.
    pub(super) fn wait(&mut self) {
        let now = Instant::now();
        self.detached_at = Some(now);
        let Some(sm) = &self.sm else { return };
        let until = crate::clock::now() + sm.resume;
        let since_epoch = until.duration_since(UNIX_EPOCH).unwrap_or_default();
        let seconds = since_epoch.as_secs();
        let about = &self.handle.about;
        about.waits_until.store(seconds, Ordering::Relaxed);
        self.wake_at(now + sm.resume);
    }

    /// The new stream becomes this session's. Called once everything read before is handled, so
    /// that `h` is exact.
    pub(super) fn take_over(&mut self) {
        let Some(resume) = self.pending_resume.take() else {
            return;
        };
        let (mut wire, resume) = *resume;
        if let Some(earlier) = self.detach() {
            tokio::spawn(bind::superseded(*earlier));
        }
        let Some(sm) = self.sm.as_mut() else {
            return refuse(wire, None);
        };
        let paid = match sm.acknowledge(resume.h) {
            Ok(paid) => paid,
            Err(error) => {
                self.parts.metrics.resumption_failures.inc();
                return refuse(
                    wire,
                    Some(frames::handled_too_high(error.h, error.send_count)),
                );
            }
        };
        sm.new_stream();
        let resumed = Element::new("resumed", ns::SM)
            .with_attr("previd", resume.previd)
            .with_attr("h", sm.handled.to_string());
        wire.send(resumed.to_xml().as_bytes());
        for sent in sm.unacknowledged() {
            wire.send(&sent.bytes);
        }
        self.handle.set_peer(Some(wire.peer.ip()));
        if let Some(earlier) = self.meter.take() {
            wire.meter().go_on_from(&earlier);
        }
        self.handle.set_weight(wire.weight());
        self.wire = Some(Box::new(wire));
        self.detached_at = None;
        self.handle.about.waits_until.store(0, Ordering::Relaxed);
        self.acknowledge_at = None;
        self.parts.metrics.sessions_waiting.dec();
        self.parts.metrics.resumptions.inc();
        self.pay(paid.iter().filter_map(|sent| sent.debt));
        self.request_now();
        self.parts.presence.resumed(&self.handle);
        self.wake_at(Instant::now());
        tracing::info!(jid = %self.handle.full, "session resumed");
    }
}

/// Ends a stream that could not take the session over; the session goes on waiting.
fn refuse(mut wire: Wire, error: Option<StreamError>) {
    if let Some(error) = error {
        wire.send(stream_error(&error).as_bytes());
        wire.send(CLOSE.as_bytes());
    }
    tokio::spawn(bind::flush_and_close(wire));
}
