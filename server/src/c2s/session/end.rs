//! The end of a session: contacts told, what was not taken passed on, last bytes written (DESIGN §3).

use std::sync::Arc;
use std::sync::atomic::Ordering;

use eider_xmpp::error::{StreamCondition, StreamError};
use eider_xmpp::stream::{CLOSE, stream_error};
use tokio::time::Instant;

use super::{Session, SessionParts};
use crate::c2s::bind;
use crate::c2s::control::{Control, Kick};
use crate::c2s::mailbox::{Delivery, Mail, Queued};
use crate::c2s::saved;
use crate::c2s::stream_management::Sent;
use crate::cluster::sessions::SessionHandle;

/// Why a session ended.
#[derive(Debug, Clone)]
pub enum End {
    /// The client closed its stream.
    Closed,
    /// The connection went away and the session was not resumable.
    Lost(&'static str),
    /// The client did not come back in time.
    ResumeTimeout,
    /// The client broke the protocol.
    Violated(StreamError),
    /// The resource was bound again.
    Replaced,
    /// Ended from outside.
    Kicked(Kick),
    /// The client took too little of what it asked for, or of what its account changed.
    Overflow,
    /// Its host is not served any more.
    HostGone,
    /// The server stops.
    Drained,
}

impl End {
    /// For the log and the metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            End::Closed => "closed",
            End::Lost(why) => why,
            End::ResumeTimeout => "not resumed in time",
            End::Violated(error) => error.condition.as_str(),
            End::Replaced => "replaced",
            End::Kicked(Kick::Administrator) => "kicked",
            End::Kicked(Kick::AccountGone) => "account gone",
            End::Kicked(Kick::CredentialsChanged) => "password changed",
            End::Overflow => "over its bound",
            End::HostGone => "host gone",
            End::Drained => "server stops",
        }
    }

    /// The stream error the client is told, if any.
    fn stream_error(&self) -> Option<StreamError> {
        let condition = match self {
            End::Closed | End::Lost(_) | End::ResumeTimeout => return None,
            End::Violated(error) => return Some(error.clone()),
            End::Replaced => StreamCondition::Conflict,
            End::Kicked(Kick::Administrator) => StreamCondition::PolicyViolation,
            End::Kicked(Kick::AccountGone) => StreamCondition::NotAuthorized,
            End::Kicked(Kick::CredentialsChanged) => StreamCondition::Reset,
            End::Overflow => StreamCondition::ResourceConstraint,
            End::HostGone => StreamCondition::HostGone,
            End::Drained => StreamCondition::SystemShutdown,
        };
        Some(StreamError::new(condition))
    }
}

impl Session {
    /// Ends the session: saved for the next start where the server drains, else for good.
    pub(super) async fn finish(mut self: Box<Self>, end: End) {
        let resumable = self.sm.as_ref().is_some_and(|sm| sm.id.is_some());
        note_end(&self.parts, &self.handle, end.reason());
        if matches!(end, End::Drained) && resumable && self.save().await {
            self.close_unfinished().await;
            self.handle.ended().cancel();
            return;
        }
        if let Some(account) = self.account() {
            let id = self.sm.as_ref().and_then(|sm| sm.id.as_deref());
            let session = id.and_then(|id| self.parts.resumables.read(id).first().copied());
            let resends = &self.parts.resends;
            match (&end, session) {
                (End::Closed, Some(session)) => resends.closed(account, session),
                (End::Closed, None) => {}
                _ => resends.lost(account, session, Instant::now()),
            }
        }
        if let Some(resume) = self.pending_resume.take() {
            tokio::spawn(bind::resume_failed(resume.0));
        }
        let last_words = self.last_words(&end);
        let wire = self.wire.take();
        self.leave().await;
        self.handle.ended().cancel();
        if let Some(mut wire) = wire {
            wire.send(last_words.as_bytes());
            match end {
                End::Violated(_) => bind::close_and_drain(*wire).await,
                End::Closed => bind::close_in_turn(*wire).await,
                _ => bind::flush_and_close(*wire).await,
            }
        }
    }

    fn last_words(&self, end: &End) -> String {
        let mut words = String::new();
        if let Some(error) = end.stream_error() {
            self.parts.metrics.stream_error(&error);
            words.push_str(&stream_error(&error));
        }
        words.push_str(CLOSE);
        words
    }

    /// Takes the session out of the account and passes on what its client never acknowledged.
    async fn leave(&mut self) {
        if let Some(id) = self.sm.as_ref().and_then(|sm| sm.id.as_deref()) {
            self.parts.resumables.remove(id);
        }
        let mut untaken: Vec<Delivery> = Vec::new();
        if let Some(sm) = self.sm.as_mut() {
            let queue = sm.take_queue().into_iter();
            untaken.extend(queue.filter_map(Sent::into_delivery));
        }
        untaken.extend(self.client_state.release());
        let behind_owed = std::mem::take(&mut self.behind_owed);
        untaken.extend(behind_owed.into_iter().filter_map(Queued::into_stanza));
        leave(&self.parts, &self.handle, untaken).await;
    }

    /// Writes the session down for the next start. False where storage failed.
    async fn save(&mut self) -> bool {
        for delivery in self.client_state.release() {
            self.put(delivery);
        }
        let behind_owed = std::mem::take(&mut self.behind_owed);
        let mail = self.handle.mailbox.close();
        self.obey_all(mail.controls);
        // Behind owed messages that were not read yet, a debt stays one: the next run reads all in order.
        let mut catching_up = self.catch_up.is_some();
        for queued in behind_owed.into_iter().chain(mail.stanzas) {
            match queued {
                Queued::Owed(_) => catching_up = true,
                Queued::Stanza(delivery) if catching_up && delivery.debt.is_some() => {}
                Queued::Stanza(delivery) => self.put(delivery),
            }
        }
        let Some(sm) = &self.sm else { return false };
        let on_stream = self.wire.as_mut().map(|wire| wire.meter().totals());
        let sent = on_stream.or(self.meter.as_ref().map(|meter| meter.totals()));
        let mechanism = self.identity.mechanism.as_str();
        match saved::save(&self.handle, sm, mechanism, sent.unwrap_or_default()) {
            Some(saved) => self.parts.saver.save(saved).await,
            None => false,
        }
    }

    /// A last `<a/>`, then close_notify and FIN without a closing tag: clients keep their session (DESIGN §3).
    async fn close_unfinished(&mut self) {
        self.send_acknowledgement();
        let late = self.pending_resume.take().map(|resume| resume.0);
        for wire in self.wire.take().map(|wire| *wire).into_iter().chain(late) {
            bind::flush_and_close(wire).await;
        }
    }
}

/// One line, and the metrics.
fn note_end(parts: &SessionParts, handle: &SessionHandle, reason: &'static str) {
    parts.metrics.session_ended(reason);
    parts.metrics.sessions.dec();
    let seconds = handle.since.elapsed().unwrap_or_default().as_secs();
    tracing::info!(
        jid = %handle.full,
        reason,
        seconds,
        stanzas_in = handle.about.stanzas_in.load(Ordering::Relaxed),
        stanzas_out = handle.about.stanzas_out.load(Ordering::Relaxed),
        "session ended"
    );
}

/// Cleans up after a session whose task panicked: it costs that session, nothing else.
pub async fn after_panic(parts: &SessionParts, handle: &Arc<SessionHandle>) {
    parts.metrics.panics.inc();
    note_end(parts, handle, "panic");
    let session = parts.resumables.remove_session(handle.key);
    if let Some(account) = handle.account {
        parts.resends.lost(account, session, Instant::now());
    }
    leave(parts, handle, Vec::new()).await;
    handle.ended().cancel();
}

/// Unavailable to everyone who saw it, out of the account, then DESIGN §3's rules for each untaken stanza.
async fn leave(parts: &SessionParts, handle: &Arc<SessionHandle>, mut untaken: Vec<Delivery>) {
    if handle.about.waits_until.load(Ordering::Relaxed) != 0 {
        parts.metrics.sessions_waiting.dec();
    }
    parts.presence.ended(handle).await;
    let Mail {
        stanzas,
        controls,
        refused,
        ..
    } = handle.mailbox.close();
    let metrics = &parts.metrics;
    metrics.refused_times("session_queue_bytes", refused);
    untaken.extend(stanzas.into_iter().filter_map(Queued::into_stanza));
    // What was not paid is owed again; without stream management that is what did not leave.
    let departure = parts.sessions.remove(handle, |acknowledged| {
        if let Some(account) = handle.account {
            parts.writer.paid(account, acknowledged);
        }
    });
    if departure.nothing_owed {
        parts.catch_up.settled(handle.bare.as_str());
    }
    if let Some(heir) = departure.heir {
        let _ = heir.mailbox.control(Control::CatchUp);
    }
    for delivery in &untaken {
        parts.router.undelivered(delivery);
    }
    for control in controls {
        if let Control::Resume(resume) = control {
            tokio::spawn(bind::resume_failed(resume.0));
        }
    }
}
