//! Everything of a session that happens by time: one timer, set to the nearest deadline.

use std::task::{Context, Poll};
use std::time::Duration;

use eider_xmpp::element::Element;
use eider_xmpp::ns;
use tokio::time::Instant;

use super::{End, Move, Session};
use crate::config::ProbeKind;

/// Where nothing is due, the timer is set this far ahead.
const FAR: Duration = Duration::from_secs(3_600);

impl Session {
    /// Makes sure the session looks at its deadlines at `at` or before.
    pub(super) fn wake_at(&mut self, at: Instant) {
        if at < self.timer_at {
            self.timer_at = at;
            self.timer.as_mut().reset(at);
        }
    }

    pub(super) fn poll_timer(&mut self, cx: &mut Context<'_>) -> Move {
        if self.timer.as_mut().poll(cx) == Poll::Pending {
            return Move::None;
        }
        let now = Instant::now();
        let moved = self.due(now);
        self.timer_at = now + FAR;
        let next = self.next_deadline(now);
        self.timer_at = next;
        self.timer.as_mut().reset(next);
        match moved {
            // The timer was reset: poll it once more, so that it wakes this task.
            Move::None => Move::Some,
            moved => moved,
        }
    }

    /// What is due at `now`.
    fn due(&mut self, now: Instant) -> Move {
        self.handle.resends.lock().forget_if_over(now);
        if let Some(since) = self.detached_at {
            let resume = self.sm.as_ref().map_or(Duration::ZERO, |sm| sm.resume);
            if now >= since + resume && self.pending_resume.is_none() {
                return Move::End(End::ResumeTimeout);
            }
            return Move::None;
        }
        if self.request_at.is_some_and(|at| now >= at) {
            self.request_now();
        }
        let config = self.parts.config.borrow().clone();
        let Some(wire) = &self.wire else {
            return Move::None;
        };
        let write_timeout = self.write_timeout();
        if wire
            .blocked_since
            .is_some_and(|since| now >= since + write_timeout)
        {
            return self.lost("client takes nothing");
        }
        if self
            .requested_at
            .is_some_and(|at| now >= at + write_timeout)
        {
            if self.waits_for_acknowledgement() {
                return self.lost("client acknowledges nothing");
            }
            self.requested_at = Some(now);
        }
        // A client that has not taken what was sent is not asked for more.
        if self.is_congested() {
            self.probed_at = None;
            return Move::None;
        }
        let probe_timeout = Duration::from_secs(config.keepalive.timeout_seconds.into());
        if self.probed_at.is_some_and(|at| now >= at + probe_timeout) {
            return self.lost("no answer to a probe");
        }
        let interval = Duration::from_secs(config.keepalive.interval_seconds.into());
        if !interval.is_zero() && self.probed_at.is_none() && now >= wire.last_read + interval {
            self.probe(config.keepalive.kind, now);
        }
        Move::None
    }

    fn next_deadline(&self, now: Instant) -> Instant {
        let config = self.parts.config.borrow();
        let mut next = now + FAR;
        if let Some(since) = self.detached_at {
            let resume = self.sm.as_ref().map_or(Duration::ZERO, |sm| sm.resume);
            return next.min(since + resume);
        }
        let seconds = |seconds: u32| Duration::from_secs(seconds.into());
        for at in [self.request_at, self.paused_until, self.owed_retry_at]
            .into_iter()
            .flatten()
        {
            next = next.min(at);
        }
        if let Some(wire) = &self.wire {
            for since in [wire.blocked_since, self.requested_at]
                .into_iter()
                .flatten()
            {
                next = next.min(since + seconds(config.limits.write_timeout_seconds));
            }
            if self.is_congested() {
                return next.max(now + Duration::from_millis(10));
            }
            if config.keepalive.interval_seconds > 0 {
                next = next.min(match self.probed_at {
                    Some(at) => at + seconds(config.keepalive.timeout_seconds),
                    None => wire.last_read + seconds(config.keepalive.interval_seconds),
                });
            }
        }
        next.max(now + Duration::from_millis(10))
    }

    /// Finds out whether a silent client is still there (XEP-0199 §4.1, RFC 6120 §4.6.1).
    fn probe(&mut self, kind: ProbeKind, now: Instant) {
        let with_sm = self.sm.is_some();
        let Some(wire) = self.wire.as_mut() else {
            return;
        };
        match kind {
            // A space asks for no answer: it is repeated each interval, and a broken connection shows itself.
            ProbeKind::Whitespace => {
                wire.send(b" ");
                wire.last_read = now;
            }
            ProbeKind::Ping if with_sm => {
                wire.send(format!("<r xmlns='{}'/>", ns::SM).as_bytes());
                if let Some(sm) = self.sm.as_mut() {
                    sm.note_request();
                }
                self.requested_at = Some(now);
                self.probed_at = Some(now);
            }
            ProbeKind::Ping => {
                let ping = Element::new("iq", ns::CLIENT)
                    .with_attr("type", "get")
                    .with_attr("id", "keepalive")
                    .with_attr("from", self.handle.bare.domain())
                    .with_attr("to", self.handle.full.as_str())
                    .with_child(Element::new("ping", ns::PING))
                    .to_xml();
                wire.send(ping.as_bytes());
                self.probed_at = Some(now);
            }
        }
    }
}
