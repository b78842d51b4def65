//! A bound resource and its state: the task that owns them (DESIGN §4).
//!
//! The task outlives its stream under stream management. Everything it waits for is polled in
//! one place, `Session::poll`, so that nothing it does for one side keeps the other waiting.

mod deliver;
mod end;
mod frames;
mod owed;
mod resume;
mod timers;
mod work;

use std::collections::VecDeque;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use eider_storage::{AccountId, Storage};
use eider_xmpp::error::StreamError;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::CancellationToken;

pub use end::{End, after_panic};

use crate::access::{Class, Meter, Policy, Subject};
use crate::account::presence::Presence;
use crate::account::resends::Resends;
use crate::account::writer::Writer;
use crate::admin::metrics::Metrics;
use crate::admin::trace::Tracer;
use crate::c2s::bind;
use crate::c2s::catch_up::CatchUp;
use crate::c2s::client_state::ClientState;
use crate::c2s::control::Control;
use crate::c2s::inbox::Inbox;
use crate::c2s::mailbox::Queued;
use crate::c2s::resumable::Resumables;
use crate::c2s::saved::Restored;
use crate::c2s::saver::Saver;
use crate::c2s::stream_management::{Resume, StreamManagement};
use crate::c2s::wire::Wire;
use crate::cluster::sessions::{SessionHandle, Sessions};
use crate::config::{Config, ConfigWatch, Feature};
use crate::router::Router;
use crate::stream::{Identity, limits_after_login};

/// What every session reaches.
pub struct SessionParts {
    /// The configuration valid now.
    pub config: ConfigWatch,
    /// Where stanzas go.
    pub router: Arc<Router>,
    /// Who is bound.
    pub sessions: Arc<Sessions>,
    /// Who waits for its client.
    pub resumables: Arc<Resumables>,
    /// Presence, for the end of a session.
    pub presence: Arc<Presence>,
    /// The database.
    pub storage: Arc<dyn Storage>,
    /// Writes sessions down for the next start.
    pub saver: Saver,
    /// Paid debts.
    pub writer: Writer,
    /// Reads owed messages.
    pub catch_up: Arc<crate::c2s::catch_up::OwedMessages>,
    /// Traffic classes.
    pub policy: Arc<Policy>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Who is traced.
    pub tracer: Tracer,
    /// Cancelled once sessions are being ended for a stop of the server.
    pub draining: CancellationToken,
    /// Messages sent again.
    pub resends: Arc<Resends>,
}

/// See the module's documentation.
pub struct Session {
    parts: Arc<SessionParts>,
    handle: Arc<SessionHandle>,
    identity: Identity,
    wire: Option<Box<Wire>>,
    inbox: Inbox,
    sm: Option<Box<StreamManagement>>,
    client_state: ClientState,
    catch_up: Option<Box<CatchUp>>,
    owed_retry_at: Option<Instant>,
    /// Whether the last presence made this a resource that takes its account's messages.
    took_messages: bool,
    /// What came live and waits behind owed messages, with the places of those left in storage.
    behind_owed: VecDeque<Queued>,
    /// Debts paid once what is gathered has been written (without stream management).
    paid_when_written: VecDeque<(u64, i64)>,
    /// `h` at which an `<a/>` is owed, because an `<r/>` came while stanzas were pending.
    acknowledge_at: Option<u32>,
    pending_resume: Option<Box<(Wire, Resume)>>,
    /// An `<a/>` is in the write buffer.
    acknowledging: bool,
    draining: bool,
    detached_at: Option<Instant>,
    /// The client sends more than its traffic class allows: nothing is read until then.
    paused_until: Option<Instant>,
    request_at: Option<Instant>,
    /// When the request under way was sent.
    requested_at: Option<Instant>,
    /// Stanzas begun since the client last acknowledged, while its answers were over the bound.
    begun_over_bound: usize,
    probed_at: Option<Instant>,
    /// What the last stream was charged by, while there is none.
    meter: Option<Box<Meter>>,
    limits: SessionLimits,
    bound_at: Instant,
    timer: Pin<Box<Sleep>>,
    timer_at: Instant,
}

/// What a session asks of the configuration for every stanza.
#[derive(Debug, Clone, Copy)]
struct SessionLimits {
    inbox_stanzas: usize,
    inbox_bytes: usize,
    queue_bytes: usize,
    request_stanzas: u32,
    request_bytes: usize,
}

impl SessionLimits {
    fn new(config: &Config) -> SessionLimits {
        SessionLimits {
            inbox_stanzas: config.limits.session_inbox_stanzas as usize,
            inbox_bytes: config.limits.session_inbox_bytes as usize,
            queue_bytes: config.limits.session_queue_bytes as usize,
            request_stanzas: config.stream_management.request_stanzas,
            request_bytes: config.stream_management.request_bytes as usize,
        }
    }
}

impl Session {
    /// A session just bound over `wire`.
    pub fn new(
        parts: Arc<SessionParts>,
        handle: Arc<SessionHandle>,
        identity: Identity,
        wire: Wire,
    ) -> Box<Session> {
        let mut session = Session::without_stream(parts, handle, identity);
        session.wire = Some(Box::new(wire));
        session.detached_at = None;
        // Since its client logged in, the configuration may have been replaced.
        session.follow_config();
        session.look_for_host();
        session.after_presence();
        session
    }

    /// A session that an earlier run saved; it waits for its client.
    pub fn restored(parts: Arc<SessionParts>, restored: Restored) -> Box<Session> {
        let account = restored.handle.bare.clone();
        let identity = Identity {
            account,
            mechanism: restored.mechanism,
            anonymous: false,
        };
        let mut session = Session::without_stream(parts, restored.handle, identity);
        session.took_messages = session.handle.takes_messages();
        session.sm = Some(Box::new(restored.sm));
        let mut meter = Meter::new(session.traffic_class(None), std::time::Instant::now());
        meter.add_totals(restored.sent);
        session.meter = Some(Box::new(meter));
        let about = &session.handle.about;
        about.stream_management.store(true, Ordering::Relaxed);
        about.resumable.store(true, Ordering::Relaxed);
        session.wait();
        // While the last run ended, messages may have become owed that its queue does not hold.
        session.start_catch_up();
        session.look_for_host();
        session
    }

    /// Has the session end at its first turn where its host has been taken out since its client logged in.
    fn look_for_host(&self) {
        if !self.is_served() {
            let _ = self.handle.mailbox.control(Control::Reconfigured);
        }
    }

    /// Whether its host is one of ours still.
    fn is_served(&self) -> bool {
        let config = self.parts.config.borrow();
        config.host(self.handle.bare.domain()).is_some()
    }

    fn without_stream(
        parts: Arc<SessionParts>,
        handle: Arc<SessionHandle>,
        identity: Identity,
    ) -> Box<Session> {
        let now = Instant::now();
        let config = parts.config.borrow().clone();
        let limits = SessionLimits::new(&config);
        let host = config.host(handle.bare.domain());
        if host.is_some_and(|host| !host.has(Feature::Presence)) {
            handle.set_available();
        }
        Box::new(Session {
            handle,
            identity,
            wire: None,
            inbox: Inbox::default(),
            sm: None,
            client_state: ClientState::default(),
            catch_up: None,
            owed_retry_at: None,
            took_messages: false,
            behind_owed: VecDeque::new(),
            paid_when_written: VecDeque::new(),
            acknowledge_at: None,
            pending_resume: None,
            acknowledging: false,
            draining: false,
            detached_at: Some(now),
            paused_until: None,
            request_at: None,
            requested_at: None,
            begun_over_bound: 0,
            probed_at: None,
            meter: None,
            limits,
            bound_at: now,
            timer: Box::pin(tokio::time::sleep_until(now)),
            timer_at: now,
            parts,
        })
    }

    /// Runs the session to its end.
    pub async fn run(mut self: Box<Self>) {
        let end = std::future::poll_fn(|cx| self.poll(cx)).await;
        // Apart, so that a running session does not hold room for its end.
        Box::pin(self.finish(end)).await;
    }

    /// What others reach it by.
    pub fn handle(&self) -> Arc<SessionHandle> {
        self.handle.clone()
    }

    fn account(&self) -> Option<AccountId> {
        self.handle.account
    }

    /// One round after another until nothing moves; then only time can move something.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        self.handle.mailbox.awake();
        if let Some(wire) = self.wire.as_mut() {
            wire.read_later = false;
        }
        loop {
            let mut moved = false;
            // What one step makes, a later one takes on: most stanzas need one round.
            for step in [
                Session::poll_read,
                Session::poll_inbox,
                Session::poll_mail,
                Session::poll_owed,
                Session::poll_write,
            ] {
                match step(self, cx) {
                    Move::None => {}
                    Move::Some => moved = true,
                    Move::End(end) => return Poll::Ready(end),
                }
            }
            if moved {
                continue;
            }
            match self.poll_timer(cx) {
                Move::None => return Poll::Pending,
                Move::Some => {}
                Move::End(end) => return Poll::Ready(end),
            }
        }
    }

    /// Obeys the configuration as it is now: limits, traffic class, the times of probes.
    fn follow_config(&mut self) {
        let config = self.parts.config.borrow().clone();
        self.limits = SessionLimits::new(&config);
        self.handle.mailbox.set_limit(self.limits.queue_bytes);
        let address = self.wire.as_ref().map(|wire| wire.peer.ip());
        let class = self.traffic_class(address);
        if let Some(wire) = self.wire.as_mut() {
            wire.set_limits(limits_after_login(&config));
            wire.meter().set_class(class);
            self.handle.set_weight(wire.weight());
        }
        if !self.host_has(Feature::ClientState) {
            self.activate();
        }
        self.wake_at(Instant::now());
    }

    /// Its client's traffic class, connected from this address.
    fn traffic_class(&self, address: Option<IpAddr>) -> Arc<Class> {
        let Identity {
            account, anonymous, ..
        } = &self.identity;
        self.parts.policy.class(&Subject {
            account: (!anonymous).then(|| account.as_str()),
            host: Some(account.domain()),
            address,
        })
    }

    /// Takes what others sent: orders first, then stanzas.
    fn poll_mail(&mut self, cx: &mut Context<'_>) -> Move {
        let held = self.all_held_bytes();
        if self.is_congested() {
            // Orders still come through; stanzas wait, bounded, where they are.
            return self.poll_controls(cx, held);
        }
        let Poll::Ready(mail) = self.handle.mailbox.poll_take(cx, held) else {
            return Move::None;
        };
        for queued in mail.stanzas {
            match queued {
                Queued::Stanza(delivery) => self.deliver(delivery),
                Queued::Owed(position) => self.left_owed(position),
            }
        }
        let metrics = &self.parts.metrics;
        metrics.refused_times("session_queue_bytes", mail.refused);
        self.request_acknowledgement();
        if mail.missed.any() {
            self.parts.presence.make_good(&self.handle, mail.missed);
        }
        self.obey_all(mail.controls)
    }

    fn poll_controls(&mut self, cx: &mut Context<'_>, held_bytes: usize) -> Move {
        match self.handle.mailbox.poll_controls(cx, held_bytes) {
            Poll::Ready(controls) => self.obey_all(controls),
            Poll::Pending => Move::None,
        }
    }

    /// Obeys every order: whoever waits behind one that ends the session is told by its end.
    fn obey_all(&mut self, controls: Vec<Control>) -> Move {
        let obeyed = controls.into_iter().map(|control| self.obey(control));
        obeyed.fold(Move::Some, |first, next| match first {
            Move::End(_) => first,
            _ => next,
        })
    }

    fn obey(&mut self, control: Control) -> Move {
        match control {
            Control::Replaced => return Move::End(End::Replaced),
            Control::Kick(kick) => return Move::End(End::Kicked(kick)),
            Control::Overflow => return Move::End(End::Overflow),
            Control::Resume(resume) => {
                if let Some(earlier) = self.pending_resume.replace(resume) {
                    tokio::spawn(bind::superseded(earlier.0));
                }
            }
            Control::Reconfigured if !self.is_served() => return Move::End(End::HostGone),
            Control::Reconfigured => self.follow_config(),
            Control::CatchUp => self.catch_up_anew(),
            Control::Drain => self.draining = true,
        }
        Move::Some
    }

    /// A stream error that the client caused ends the session.
    fn violated(&self, error: StreamError) -> Move {
        Move::End(End::Violated(error))
    }
}

/// What one step of [`Session::poll`] came to.
enum Move {
    /// Nothing to do until woken.
    None,
    /// Something moved: look at everything again.
    Some,
    /// The session is over.
    End(End),
}
