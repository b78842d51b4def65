//! RFC 6120 §4.3: header, features, STARTTLS, login, and how it all may end

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use eider_xmpp::element::Element;
use eider_xmpp::error::{StreamCondition, StreamError};
use eider_xmpp::framing::{Frame, Framer};
use eider_xmpp::jid::Jid;
use eider_xmpp::ns;
use eider_xmpp::sasl::ChannelBindings;
use eider_xmpp::stanza::Received;
use eider_xmpp::stream::{self, CLOSE, Open, StreamContext, StreamHeader, write_open};
use tokio::time::{Instant, timeout_at};

use super::authenticate::Proven;
use super::connection::{Connection, End, Socket, stream_error};
use super::features::{self, Offer};
use super::{
    Accepted, Authenticated, StreamParts, Transport, limits_after_login, limits_before_login,
    random,
};
use crate::access::{Attempt, ConnectionPermit, Meter, Subject};
use crate::config::{Config, Host, TlsMode};
use crate::tls::{self, HandshakeError, TlsFacts, TlsKind};

/// Bytes of randomness in a stream's id.
const STREAM_ID_BYTES: usize = 16;

/// Takes a connection through header, TLS and login up to the features that
/// offer binding, within `login.deadline_seconds`. `None`: it ended before, the
/// client was told why, and nothing is left of it.
pub async fn negotiate(parts: &StreamParts, accepted: Accepted) -> Option<Authenticated> {
    let config = parts.config.borrow().clone();
    let deadline = accepted.at + Duration::from_secs(config.login.deadline_seconds.into());
    let mut negotiation = Negotiation::new(parts, config, accepted);
    let outcome = tokio::select! {
        outcome = timeout_at(Instant::from_std(deadline), negotiation.run()) => outcome
            .unwrap_or_else(|_| Err(stream_error(StreamCondition::ConnectionTimeout))),
        () = parts.stop.cancelled() => Err(stream_error(StreamCondition::SystemShutdown)),
    };
    match outcome {
        Ok(done) => negotiation.finish(done, deadline),
        Err(end) => {
            negotiation.end(end).await;
            None
        }
    }
}

/// What negotiation came to.
struct Done {
    proven: Proven,
    context: StreamContext,
}

pub(super) struct Negotiation<'a> {
    pub parts: &'a StreamParts,
    pub config: Arc<Config>,
    pub connection: Connection,
    pub peer: SocketAddr,
    pub bindings: ChannelBindings,
    pub tls: Option<TlsFacts>,
    /// What the current stream's header said.
    pub context: StreamContext,
    /// Failed tries on this stream.
    pub failures: u32,
    /// The try to log in that is under way.
    pub attempt: Option<Attempt>,
    mode: TlsMode,
    permit: ConnectionPermit,
    /// The domain that speaks here: of the header, once one was accepted.
    host: Option<String>,
    stream_id: String,
    /// Whether the current stream's header has been answered.
    header_sent: bool,
}

impl<'a> Negotiation<'a> {
    fn new(parts: &'a StreamParts, config: Arc<Config>, accepted: Accepted) -> Self {
        let framing = limits_before_login(&config);
        let Accepted {
            socket,
            peer,
            mode,
            connection,
            before_login,
            at: _,
        } = accepted;
        Negotiation {
            connection: Connection::new(socket, framing, before_login, config.limits.clone()),
            parts,
            config,
            peer,
            bindings: ChannelBindings::default(),
            tls: None,
            context: StreamContext::default(),
            failures: 0,
            attempt: None,
            mode,
            permit: connection,
            host: None,
            stream_id: String::new(),
            header_sent: false,
        }
    }

    async fn run(&mut self) -> Result<Done, End> {
        let config = self.config.clone();
        match self.mode {
            TlsMode::Direct => self.handshake(TlsKind::Direct).await?,
            TlsMode::Starttls => self.starttls(&config).await?,
        }
        let host = self.open(&config).await?;
        let offer = Offer::new(
            &config,
            host,
            &self.bindings,
            self.has_certificate_for(host),
        );
        let register = self.offers_registration(host);
        self.connection
            .send(&features::before_login(&offer, &config, register));
        let proven = self.log_in(host, &offer).await?;
        self.restart();
        self.open_again(&config, host, &proven).await?;
        let more = (self.parts.features)(&host.name);
        self.connection
            .send(&features::after_login(&config, host, &more));
        self.connection.flush().await?;
        Ok(Done {
            proven,
            context: std::mem::take(&mut self.context),
        })
    }

    /// RFC 6120 §5.4: the stream in the clear, which can do nothing but begin TLS.
    async fn starttls(&mut self, config: &Config) -> Result<(), End> {
        let host = self.open(config).await?;
        self.connection.send(&features::before_tls());
        loop {
            let element = match self.received().await? {
                Received::Other(element) => element,
                Received::Stanza(_) => return Err(stream_error(StreamCondition::NotAuthorized)),
            };
            if element.is("starttls", ns::TLS) {
                break;
            }
            if !element.is("auth", ns::SASL) {
                return Err(stream_error(StreamCondition::NotAuthorized));
            }
            // RFC 6120 §6.5.4.
            let required = Element::new("encryption-required", ns::SASL);
            let failure = Element::new("failure", ns::SASL).with_child(required);
            self.connection.send(&failure.to_xml());
            self.count_failure()?;
        }
        if !self.connection.buffered.trim_ascii().is_empty() {
            // Whatever came in the clear behind it could be somebody else's (RFC 6120 §5.4.3.3).
            let text = "data behind starttls";
            return Err(StreamError::with_text(StreamCondition::PolicyViolation, text).into());
        }
        let certificates = self.parts.tls.current();
        if certificates
            .for_domain(&host.name)
            .or(certificates.default_certificate())
            .is_none()
        {
            self.connection
                .send(&Element::new("failure", ns::TLS).to_xml());
            return Err(End::Closed);
        }
        self.connection
            .send(&Element::new("proceed", ns::TLS).to_xml());
        self.connection.flush().await?;
        self.connection.buffered = BytesMut::new();
        self.restart();
        self.handshake(TlsKind::Starttls { host: &host.name }).await
    }

    async fn handshake(&mut self, kind: TlsKind<'_>) -> Result<(), End> {
        let Socket::Plain(socket) = std::mem::replace(&mut self.connection.socket, Socket::Taken)
        else {
            return Err(End::Gone);
        };
        match tls::accept(&self.parts.tls, socket, kind).await {
            Ok((stream, facts, bindings)) => {
                self.parts.metrics.tls_handshakes.inc();
                self.connection.socket = Socket::Tls(stream);
                self.bindings = bindings;
                self.tls = Some(facts);
                Ok(())
            }
            Err(error) => {
                self.parts.metrics.tls_failures.inc();
                match error {
                    HandshakeError::Io(error) => {
                        tracing::debug!(peer = %self.peer, %error, "TLS handshake failed");
                    }
                    error => tracing::info!(peer = %self.peer, %error, "TLS handshake refused"),
                }
                Err(End::Gone)
            }
        }
    }

    /// Reads a stream's header, checks it and answers it.
    async fn open<'c>(&mut self, config: &'c Config) -> Result<&'c Host, End> {
        let header = self.header().await?;
        let host = served(&header, config);
        if let Ok(host) = &host {
            self.host = Some(host.name.clone());
        }
        header.check(ns::CLIENT)?;
        let host = host?;
        self.context = header.context();
        // RFC 6120 §4.7.2: to whom, where the client has said so.
        let from = header
            .from
            .as_deref()
            .and_then(|from| Jid::parse(from).ok());
        self.answer_header(from.as_ref().map(Jid::as_str));
        Ok(host)
    }

    /// The header after login: host and user are those that were authenticated.
    async fn open_again(
        &mut self,
        config: &Config,
        host: &Host,
        proven: &Proven,
    ) -> Result<(), End> {
        let header = self.header().await?;
        header.check(ns::CLIENT)?;
        if served(&header, config)?.name != host.name {
            let text = "login was at another host";
            return Err(StreamError::with_text(StreamCondition::NotAuthorized, text).into());
        }
        let account = &proven.identity.account;
        if let Some(from) = &header.from
            && !proven.identity.anonymous
            && Jid::parse(from)
                .ok()
                .is_none_or(|from| from.bare_str() != account.as_str())
        {
            return Err(stream_error(StreamCondition::InvalidFrom));
        }
        self.context = header.context();
        self.answer_header(Some(account.as_str()));
        Ok(())
    }

    async fn header(&mut self) -> Result<StreamHeader, End> {
        match self.connection.frame().await? {
            Frame::Open(header) => Ok(header),
            Frame::Close => Err(End::Closed),
            Frame::Stanza(_) => Err(stream_error(StreamCondition::BadFormat)),
        }
    }

    fn answer_header(&mut self, to: Option<&str>) {
        self.header_sent = true;
        let header = self.own_header(to);
        self.connection.send(&header);
    }

    fn own_header(&mut self, to: Option<&str>) -> String {
        self.stream_id = random::token::<STREAM_ID_BYTES>(&*self.parts.random);
        let default = self.config.hosts.first().map(|host| host.name.as_str());
        let open = Open {
            content_ns: ns::CLIENT,
            from: self.host.as_deref().or(default),
            to,
            id: Some(&self.stream_id),
            lang: Some("en"),
        };
        let mut out = String::new();
        write_open(&mut out, &open);
        out
    }

    /// The next element of the stream, checked.
    pub async fn received(&mut self) -> Result<Received, End> {
        match self.connection.frame().await? {
            Frame::Stanza(bytes) => {
                let limits = limits_before_login(&self.config);
                Ok(Received::parse(bytes, &self.context, &limits)?)
            }
            Frame::Close => Err(End::Closed),
            Frame::Open(_) => Err(stream_error(StreamCondition::BadFormat)),
        }
    }

    /// Counts a failed try; too many end the stream (RFC 6120 §6.4.5).
    pub fn count_failure(&mut self) -> Result<(), End> {
        self.failures += 1;
        if self.failures >= self.config.login.attempts_per_stream {
            let text = "too many failed logins";
            return Err(StreamError::with_text(StreamCondition::PolicyViolation, text).into());
        }
        Ok(())
    }

    fn restart(&mut self) {
        self.connection.restart(limits_before_login(&self.config));
        self.header_sent = false;
    }

    /// Says why it ends, behind a header where none was sent (RFC 6120 §4.9.1.2).
    async fn end(&mut self, end: End) {
        let mut last = String::new();
        if !self.header_sent && !matches!(end, End::Gone) {
            last.push_str(&self.own_header(None));
        }
        let error = match end {
            End::Gone => return,
            End::Closed => {
                last.push_str(CLOSE);
                return self.connection.close_in_turn(&last).await;
            }
            End::Error(error) => error,
            End::Limit(refusal) => {
                let text = format!("over the limit {}", refusal.as_str());
                StreamError::with_text(StreamCondition::PolicyViolation, text)
                    .limit(refusal.as_str())
            }
        };
        self.parts.metrics.stream_error(&error);
        tracing::debug!(peer = %self.peer, %error, "stream ended before login");
        last.push_str(&stream::stream_error(&error));
        self.connection.close(&last).await;
    }

    fn finish(self, done: Done, deadline: std::time::Instant) -> Option<Authenticated> {
        let Done { proven, context } = done;
        let Socket::Tls(stream) = self.connection.socket else {
            return None;
        };
        let Proven {
            identity,
            login,
            session,
        } = proven;
        let subject = Subject {
            account: (!identity.anonymous).then(|| identity.account.as_str()),
            host: Some(identity.account.domain()),
            address: Some(self.peer.ip()),
        };
        let class = self.parts.policy.class(&subject);
        let mut framer: Framer = self.connection.framer;
        framer.set_limits(limits_after_login(&self.config));
        Some(Authenticated {
            transport: Transport::new(*stream, self.permit, session),
            framer,
            buffered: self.connection.buffered,
            context,
            identity,
            login,
            peer: self.peer,
            deadline,
            stream_id: self.stream_id,
            tls: self.tls?,
            meter: Meter::new(class, std::time::Instant::now()),
        })
    }
}

/// The host a header is addressed to.
fn served<'c>(header: &StreamHeader, config: &'c Config) -> Result<&'c Host, End> {
    let to = header.to.as_deref().and_then(|to| Jid::parse(to).ok());
    to.filter(Jid::is_domain)
        .and_then(|to| config.host(to.domain()))
        .ok_or_else(|| stream_error(StreamCondition::HostUnknown))
}
