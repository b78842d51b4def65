//! RFC 6120 §7 and XEP-0198 §5: an authenticated stream becomes a session, new or resumed.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use eider_xmpp::element::Element;
use eider_xmpp::error::{ErrorType, StanzaCondition, StanzaError, StreamCondition, StreamError};
use eider_xmpp::framing::Frame;
use eider_xmpp::jid::{BareJid, FullJid};
use eider_xmpp::ns;
use eider_xmpp::stanza::{IqType, Kind, Received, Stanza, error_reply, iq_result};
use eider_xmpp::stream::{CLOSE, stream_error};
use futures_util::FutureExt as _;
use rustls::ProtocolVersion;
use tokio::time::Instant;

use crate::account::ledger::Acknowledged;
use crate::c2s::control::Control;
use crate::c2s::resumable::Lineage;
use crate::c2s::session::{Session, SessionParts, after_panic};
use crate::c2s::stream_management::Resume;
use crate::c2s::wire::{Read, Wire};
use crate::cluster::sessions::SessionHandle;
use crate::config::{Config, ResourceConflict};
use crate::stream::{Authenticated, Identity};

/// A client that is told its stream has ended gets this long to take the last bytes.
const CLOSE_TIME: Duration = Duration::from_secs(2);
/// Bytes thrown away meanwhile.
const CLOSE_BYTES: usize = 1024 * 1024;
/// A session that is replaced gets this long to leave.
const REPLACE_TIME: Duration = Duration::from_secs(5);

/// Serves an authenticated stream to its end.
pub fn serve(
    parts: Arc<SessionParts>,
    authenticated: Authenticated,
) -> impl Future<Output = ()> + Send {
    // Boxed before the future is made: a future has room for what it was given as long as it lives,
    // and an idle session's is counted in bytes.
    let deadline = Instant::from_std(authenticated.deadline);
    let binding = Box::new(Binding::new(parts.clone(), authenticated));
    let binding = Box::pin(bound(parts.clone(), binding, deadline));
    async move {
        if let Some(session) = binding.await {
            run(parts, session).await;
        }
    }
}

/// The session that binding came to; `None` where the stream ended or went to the session it resumes.
async fn bound(
    parts: Arc<SessionParts>,
    mut binding: Box<Binding>,
    deadline: Instant,
) -> Option<Box<Session>> {
    let negotiated = tokio::select! {
        negotiated = tokio::time::timeout_at(deadline, binding.negotiate()) => negotiated,
        () = parts.draining.cancelled() => Ok(Outcome::Unfinished),
    };
    match negotiated {
        Ok(Outcome::Bound(handle)) => {
            if parts.draining.is_cancelled() {
                let _ = handle.mailbox.control(Control::Drain);
            }
            let Binding { wire, identity, .. } = *binding;
            Some(Session::new(parts, handle, identity, wire?))
        }
        Ok(Outcome::Unfinished) => {
            if let Some(wire) = binding.wire {
                flush_and_close(wire).await;
            }
            None
        }
        Ok(Outcome::HandedOver) => None,
        Ok(Outcome::Ended(error)) => {
            end(*binding, error).await;
            None
        }
        Err(_) => {
            let timeout = StreamError::new(StreamCondition::ConnectionTimeout);
            end(*binding, Some(timeout)).await;
            None
        }
    }
}

/// Runs a session; a panic in it costs this session and nothing else.
pub async fn run(parts: Arc<SessionParts>, session: Box<Session>) {
    let handle = session.handle();
    let running = std::panic::AssertUnwindSafe(session.run()).catch_unwind();
    if running.await.is_err() {
        Box::pin(after_panic(&parts, &handle)).await;
    }
}

async fn end(binding: Binding, error: Option<StreamError>) {
    let Some(mut wire) = binding.wire else { return };
    let Some(error) = error else {
        wire.send(CLOSE.as_bytes());
        return close_in_turn(wire).await;
    };
    binding.parts.metrics.stream_error(&error);
    wire.send(stream_error(&error).as_bytes());
    wire.send(CLOSE.as_bytes());
    close_and_drain(wire).await;
}

/// Writes what is left, then close_notify and FIN, in bounded time.
pub async fn flush_and_close(mut wire: Wire) {
    let closing = async {
        std::future::poll_fn(|cx| wire.poll_write(cx)).await?;
        std::future::poll_fn(|cx| wire.poll_shutdown(cx)).await
    };
    let _ = tokio::time::timeout(CLOSE_TIME, closing).await;
}

/// The same for a client that may still be sending: what comes is read and forgotten for a while. A connection
/// closed with unread bytes is reset, and its client may never see why.
pub async fn close_and_drain(mut wire: Wire) {
    let closing = async {
        std::future::poll_fn(|cx| wire.poll_write(cx)).await?;
        std::future::poll_fn(|cx| wire.poll_shutdown(cx)).await?;
        drain(&mut wire).await;
        Ok::<_, std::io::Error>(())
    };
    let _ = tokio::time::timeout(CLOSE_TIME, closing).await;
}

/// The same for a client that closed its stream: who closed first ends the connection (RFC 6120 §4.4). Some that find
/// its end behind our closing tag miss the tag.
pub async fn close_in_turn(mut wire: Wire) {
    let closing = async {
        std::future::poll_fn(|cx| wire.poll_write(cx)).await?;
        drain(&mut wire).await;
        Ok::<_, std::io::Error>(())
    };
    let _ = tokio::time::timeout(CLOSE_TIME, closing).await;
    flush_and_close(wire).await;
}

/// Reads to the client's end, and forgets.
async fn drain(wire: &mut Wire) {
    let mut forgotten = 0;
    while forgotten < CLOSE_BYTES {
        match std::future::poll_fn(|cx| wire.poll_read(cx)).await {
            Read::Some(bytes) => forgotten += bytes,
            Read::End | Read::Broken(_) => break,
        }
        wire.forget();
    }
}

/// The byte side of an authenticated stream; its framer has the limits after login.
fn wire(authenticated: Authenticated) -> Wire {
    let Authenticated {
        transport,
        framer,
        buffered,
        context,
        peer,
        meter,
        ..
    } = authenticated;
    Wire::new(transport, framer, buffered, context, peer, meter)
}

/// The session went to a newer stream (XEP-0198 §5).
pub async fn superseded(mut wire: Wire) {
    let conflict = StreamError::new(StreamCondition::Conflict);
    wire.send(stream_error(&conflict).as_bytes());
    wire.send(CLOSE.as_bytes());
    flush_and_close(wire).await;
}

/// The session to resume ended before the new stream got to it.
pub async fn resume_failed(mut wire: Wire) {
    wire.send(failed(StanzaCondition::ItemNotFound).to_xml().as_bytes());
    // The client would bind now; it does so on a new connection, after this one's orderly end.
    wire.send(CLOSE.as_bytes());
    flush_and_close(wire).await;
}

fn failed(condition: StanzaCondition) -> Element {
    Element::new("failed", ns::SM).with_child(Element::new(condition.as_str(), ns::STANZA_ERRORS))
}

enum Outcome {
    Bound(Arc<SessionHandle>),
    HandedOver,
    /// The server stops: the client may have a session to resume, and would drop it on an error or
    /// on a closing tag (DESIGN §3).
    Unfinished,
    Ended(Option<StreamError>),
}

struct Binding {
    parts: Arc<SessionParts>,
    identity: Identity,
    stored: Acknowledged,
    account: Option<eider_storage::AccountId>,
    tls: (ProtocolVersion, &'static str),
    failed: Lineage,
    wire: Option<Wire>,
}

impl Binding {
    fn new(parts: Arc<SessionParts>, authenticated: Authenticated) -> Binding {
        let identity = authenticated.identity.clone();
        let account = authenticated.login.as_ref().map(|login| login.id);
        let stored = authenticated
            .login
            .as_ref()
            .map(|login| acknowledged(&login.watermark))
            .unwrap_or_default();
        let tls = (authenticated.tls.version, authenticated.tls.suite);
        let wire = Some(wire(authenticated));
        Binding {
            tls,
            failed: Lineage::new(),
            parts,
            identity,
            stored,
            account,
            wire,
        }
    }

    async fn negotiate(&mut self) -> Outcome {
        loop {
            let frame = match self.next_frame().await {
                Ok(Some(frame)) => frame,
                Ok(None) => return Outcome::Ended(None),
                Err(error) => return Outcome::Ended(Some(error)),
            };
            let outcome = match frame {
                Frame::Close => return Outcome::Ended(None),
                Frame::Open(_) => {
                    return Outcome::Ended(Some(StreamError::new(StreamCondition::BadFormat)));
                }
                Frame::Stanza(bytes) => self.on_element(bytes).await,
            };
            match outcome {
                Ok(Some(outcome)) => return outcome,
                Ok(None) => {}
                Err(error) => return Outcome::Ended(Some(error)),
            }
        }
    }

    /// The next frame; `None` where the client is gone.
    async fn next_frame(&mut self) -> Result<Option<Frame>, StreamError> {
        let Some(wire) = self.wire.as_mut() else {
            return Ok(None);
        };
        loop {
            if let Some(frame) = wire.next_frame()? {
                return Ok(Some(frame));
            }
            if std::future::poll_fn(|cx| wire.poll_write(cx))
                .await
                .is_err()
            {
                return Ok(None);
            }
            match std::future::poll_fn(|cx| wire.poll_read(cx)).await {
                Read::Some(_) => {}
                Read::End | Read::Broken(_) => return Ok(None),
            }
        }
    }

    fn send(&mut self, bytes: &[u8]) {
        if let Some(wire) = self.wire.as_mut() {
            wire.send(bytes);
        }
    }

    async fn on_element(&mut self, bytes: bytes::Bytes) -> Result<Option<Outcome>, StreamError> {
        let Some(wire) = self.wire.as_ref() else {
            return Ok(Some(Outcome::Ended(None)));
        };
        match Received::parse(bytes, &wire.context, wire.limits())? {
            Received::Stanza(stanza) => self.on_stanza(&stanza).await,
            Received::Other(element) if element.is("resume", ns::SM) => {
                Ok(self.on_resume(&element))
            }
            Received::Other(element) if element.is("enable", ns::SM) => {
                self.send(
                    failed(StanzaCondition::UnexpectedRequest)
                        .to_xml()
                        .as_bytes(),
                );
                Ok(None)
            }
            Received::Other(_) => Err(StreamError::new(StreamCondition::UnsupportedStanzaType)),
        }
    }

    /// RFC 6120 §7.1: nothing but binding before it is done.
    async fn on_stanza(&mut self, stanza: &Stanza) -> Result<Option<Outcome>, StreamError> {
        let request = stanza.kind() == Kind::Iq && stanza.iq_type() == Ok(IqType::Set);
        let Some(bind) = request.then(|| stanza.child("bind", ns::BIND)).flatten() else {
            return Err(StreamError::new(StreamCondition::NotAuthorized));
        };
        if stanza.id().is_none() {
            self.refuse(stanza, &StanzaError::new(StanzaCondition::BadRequest));
            return Ok(None);
        }
        match self.bind(&bind).await {
            Ok(handle) => {
                let jid = Element::new("jid", ns::BIND).with_text(handle.full.as_str());
                let bound = Element::new("bind", ns::BIND).with_child(jid);
                self.send(iq_result(stanza, Some(bound)).as_bytes());
                Ok(Some(Outcome::Bound(handle)))
            }
            Err(error) => {
                self.refuse(stanza, &error);
                Ok(None)
            }
        }
    }

    fn refuse(&mut self, stanza: &Stanza, error: &StanzaError) {
        self.parts.metrics.stanza_error(error);
        if let Some(reply) = error_reply(stanza, error) {
            self.send(reply.as_bytes());
        }
    }

    async fn bind(&mut self, bind: &Element) -> Result<Arc<SessionHandle>, StanzaError> {
        let wished = bind
            .child_text("resource", ns::BIND)
            .filter(|resource| !resource.is_empty());
        let account = self.identity.account.clone();
        let mut full = match &wished {
            Some(resource) => account.with_resource(resource).map_err(|_| {
                StanzaError::new(StanzaCondition::BadRequest).kind(ErrorType::Modify)
            })?,
            None => made_resource(&account),
        };
        let config = self.parts.config.borrow().clone();
        let sessions = self.parts.sessions.of(account.as_str());
        let replaces = sessions.iter().any(|session| session.full == full);
        if !replaces && sessions.len() >= config.limits.sessions_per_account as usize {
            return Err(StanzaError::over("sessions_per_account").kind(ErrorType::Wait));
        }
        if replaces {
            match config.login.resource_conflict {
                ResourceConflict::ReplaceOld => {}
                ResourceConflict::NewResource => full = made_resource(&account),
                ResourceConflict::Refuse => {
                    return Err(StanzaError::new(StanzaCondition::Conflict));
                }
            }
        }
        self.enter(full, &config).await
    }

    /// Puts the session in its place, after whoever holds it has left.
    async fn enter(
        &mut self,
        full: FullJid,
        config: &Config,
    ) -> Result<Arc<SessionHandle>, StanzaError> {
        let peer = self.wire.as_ref().map(|wire| wire.peer.ip());
        let limit = config.limits.session_queue_bytes as usize;
        let handle = Arc::new(SessionHandle::new(
            full,
            self.account,
            peer,
            crate::clock::now(),
            limit,
        ));
        let deadline = Instant::now() + REPLACE_TIME;
        while let Err(holder) = self.parts.sessions.insert(&handle, self.stored.clone()) {
            let _ = holder.mailbox.control(Control::Replaced);
            if tokio::time::timeout_at(deadline, holder.ended().cancelled())
                .await
                .is_err()
            {
                return Err(StanzaError::new(StanzaCondition::Conflict));
            }
        }
        if let Some(account) = self.account {
            let failed = std::mem::take(&mut self.failed);
            let time = crate::clock::timestamp();
            let watch = self
                .parts
                .resends
                .watch(account, failed, Instant::now(), time);
            *handle.resends.lock() = watch;
        }
        *handle.about.mechanism.lock() = self.identity.mechanism.as_str();
        *handle.about.tls.lock() = Some(self.tls);
        self.parts.metrics.sessions.inc();
        self.parts.metrics.sessions_started.inc();
        tracing::info!(
            jid = %handle.full,
            mechanism = self.identity.mechanism.as_str(),
            peer = ?peer,
            "session started"
        );
        Ok(handle)
    }

    /// XEP-0198 §5: the session's own task goes on with this stream.
    fn on_resume(&mut self, element: &Element) -> Option<Outcome> {
        let h = element.attr("h").and_then(|h| h.parse().ok());
        let (Some(previd), Some(h)) = (element.attr("previd"), h) else {
            self.send(failed(StanzaCondition::BadRequest).to_xml().as_bytes());
            return None;
        };
        let account = self.identity.account.as_str();
        let found = self.parts.resumables.find(previd, account);
        let resume = Resume {
            previd: previd.to_owned(),
            h,
        };
        if let Some(handle) = found
            && let Some(wire) = self.wire.take()
        {
            match handle
                .mailbox
                .control(Control::Resume(Box::new((wire, resume))))
            {
                Ok(()) => return Some(Outcome::HandedOver),
                Err(Control::Resume(refused)) => self.wire = Some(refused.0),
                Err(_) => return Some(Outcome::Ended(None)),
            }
        }
        if self.parts.draining.is_cancelled() {
            // Saved already: the next run has it.
            return Some(Outcome::Unfinished);
        }
        self.parts.metrics.resumption_failures.inc();
        self.failed = self.parts.resumables.read(previd);
        self.send(failed(StanzaCondition::ItemNotFound).to_xml().as_bytes());
        None
    }
}

/// What storage knows to be acknowledged.
pub fn acknowledged(watermark: &eider_storage::Watermark) -> Acknowledged {
    let ranges = watermark.acked_above.iter();
    Acknowledged {
        up_to: watermark.acked_up_to.0,
        above: ranges.map(|range| (range.first.0, range.last.0)).collect(),
    }
}

/// A resource that nobody else has: 72 random bits.
fn made_resource(account: &BareJid) -> FullJid {
    let mut bytes = [0u8; 9];
    SystemRandom::new()
        .fill(&mut bytes)
        .expect("the system has randomness");
    let resource = URL_SAFE_NO_PAD.encode(bytes);
    account
        .with_resource(&resource)
        .expect("the base64 alphabet is a resource's")
}

#[cfg(test)]
mod tests;
