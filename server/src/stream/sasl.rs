//! RFC 6120 §6.4: SASL on the wire: auth, challenge, response, abort, failure, success

use std::time::Instant;

use eider_xmpp::element::Element;
use eider_xmpp::error::StreamCondition;
use eider_xmpp::jid::BareJid;
use eider_xmpp::ns;
use eider_xmpp::sasl::{self, Failure, Mechanism};
use eider_xmpp::stanza::Received;

use super::authenticate::{Proven, throttled};
use super::connection::{End, stream_error};
use super::features::Offer;
use super::negotiation::Negotiation;
use crate::admin::metrics::LoginOutcome;
use crate::config::Host;

/// A try that failed; the client may try again.
#[derive(Debug)]
pub struct Refusal {
    pub failure: Failure,
    /// English for people, also the reason in the log.
    pub text: Option<String>,
    pub outcome: LoginOutcome,
    /// The account that was meant, as far as that was said.
    pub account: Option<BareJid>,
    /// Whether it counts against the limits per account and address.
    pub counts: bool,
}

impl Refusal {
    pub fn new(failure: Failure, outcome: LoginOutcome) -> Self {
        Refusal {
            failure,
            text: None,
            outcome,
            account: None,
            counts: false,
        }
    }

    /// The message breaks the mechanism.
    pub fn malformed(failure: Failure) -> Self {
        Refusal::new(failure, LoginOutcome::Refused)
    }

    pub fn text(mut self, text: impl Into<String>) -> Self {
        self.text = Some(text.into());
        self
    }

    pub fn account(mut self, account: &BareJid) -> Self {
        self.account = Some(account.clone());
        self
    }

    fn to_element(&self) -> Element {
        let condition = Element::new(self.failure.as_str(), ns::SASL);
        let failure = Element::new("failure", ns::SASL).with_child(condition);
        match &self.text {
            Some(text) => {
                let text = Element::new("text", ns::SASL)
                    .with_attr("xml:lang", "en")
                    .with_text(text);
                failure.with_child(text)
            }
            None => failure,
        }
    }
}

/// How a try ends without a login.
#[derive(Debug)]
pub enum Failed {
    /// The client is told and may go on.
    Refused(Box<Refusal>),
    /// The stream ends.
    End(End),
}

impl From<Refusal> for Failed {
    fn from(refusal: Refusal) -> Self {
        Failed::Refused(Box::new(refusal))
    }
}

impl From<End> for Failed {
    fn from(end: End) -> Self {
        Failed::End(end)
    }
}

impl Negotiation<'_> {
    /// Waits for tries until one succeeds, and tells the client.
    pub async fn log_in(&mut self, host: &Host, offer: &Offer) -> Result<Proven, End> {
        loop {
            let element = match self.received().await? {
                Received::Other(element) => element,
                Received::Stanza(stanza) => {
                    self.answer_before_login(host, &stanza).await?;
                    continue;
                }
            };
            let tried = if element.is("auth", ns::SASL) {
                self.try_once(host, offer, &element).await
            } else if element.is("abort", ns::SASL) {
                Err(Refusal::new(Failure::Aborted, LoginOutcome::Aborted).into())
            } else {
                return Err(stream_error(StreamCondition::NotAuthorized));
            };
            match tried {
                Ok((proven, success)) => {
                    let mut element = Element::new("success", ns::SASL);
                    if let Some(message) = success {
                        element.push_text(&sasl::encode(message.as_bytes()));
                    }
                    self.connection.send(&element.to_xml());
                    return Ok(proven);
                }
                Err(Failed::Refused(refusal)) => self.refuse(&refusal).await?,
                Err(Failed::End(end)) => return Err(end),
            }
        }
    }

    /// One `<auth/>` up to its end; with the proof the data that goes with success.
    async fn try_once(
        &mut self,
        host: &Host,
        offer: &Offer,
        auth: &Element,
    ) -> Result<(Proven, Option<String>), Failed> {
        let name = auth.attr("mechanism").unwrap_or_default();
        let mechanism = Mechanism::from_name(name).filter(|m| offer.mechanisms.contains(m));
        let Some(mechanism) = mechanism else {
            return Err(Refusal::malformed(Failure::InvalidMechanism).into());
        };
        let outcome = match sasl::decode(&auth.text()) {
            Ok(initial) => self.authenticate(host, offer, mechanism, initial).await,
            Err(failure) => Err(Refusal::malformed(failure).into()),
        };
        let outcome = self.held_back(outcome);
        let result = match &outcome {
            Ok(_) => LoginOutcome::Success,
            Err(Failed::Refused(refusal)) => refusal.outcome,
            Err(Failed::End(_)) => LoginOutcome::Aborted,
        };
        self.parts.metrics.login(mechanism.as_str(), result);
        outcome
    }

    /// The try is over: counts it where it was wrong, which is not told where others were enough by now.
    fn held_back<T>(&mut self, outcome: Result<T, Failed>) -> Result<T, Failed> {
        let attempt = self.attempt.take();
        match (outcome, attempt) {
            (Err(Failed::Refused(mut refusal)), Some(attempt)) if refusal.counts => {
                if let Err(wait) = attempt.failed(Instant::now()) {
                    let account = refusal.account.take();
                    *refusal = Refusal {
                        account,
                        ..throttled(wait)
                    };
                }
                Err(Failed::Refused(refusal))
            }
            (outcome, _) => outcome,
        }
    }

    /// Sends a challenge and waits for the response.
    pub async fn challenge(&mut self, message: &[u8]) -> Result<Vec<u8>, Failed> {
        let mut challenge = Element::new("challenge", ns::SASL);
        if !message.is_empty() {
            challenge.push_text(&sasl::encode(message));
        }
        self.connection.send(&challenge.to_xml());
        let Received::Other(element) = self.received().await? else {
            return Err(stream_error(StreamCondition::NotAuthorized).into());
        };
        if element.is("response", ns::SASL) {
            let message = sasl::decode(&element.text()).map_err(Refusal::malformed)?;
            Ok(message.unwrap_or_default())
        } else if element.is("abort", ns::SASL) {
            Err(Refusal::new(Failure::Aborted, LoginOutcome::Aborted).into())
        } else {
            Err(stream_error(StreamCondition::NotAuthorized).into())
        }
    }

    /// The initial response, asked for where the client did not send one along.
    pub async fn initial(&mut self, initial: Option<Vec<u8>>) -> Result<Vec<u8>, Failed> {
        match initial {
            Some(message) => Ok(message),
            None => self.challenge(b"").await,
        }
    }

    async fn refuse(&mut self, refusal: &Refusal) -> Result<(), End> {
        let account = refusal.account.as_ref();
        tracing::info!(
            peer = %self.peer,
            account = account.map(tracing::field::display),
            condition = refusal.failure.as_str(),
            reason = refusal.text.as_deref(),
            "login refused"
        );
        self.connection.send(&refusal.to_element().to_xml());
        self.count_failure()
    }

    /// Whether the features say that accounts can be registered here.
    pub fn offers_registration(&self, host: &Host) -> bool {
        let hook = self.parts.before_login.as_ref();
        hook.is_some_and(|hook| hook.is_offered(&host.name, self.peer))
    }

    /// Stanzas before login: registration, nothing else (RFC 6120 §4.9.3.12).
    async fn answer_before_login(
        &mut self,
        host: &Host,
        stanza: &eider_xmpp::stanza::Stanza,
    ) -> Result<(), End> {
        let answer = match self.parts.before_login.clone() {
            Some(hook) => hook.answer(&host.name, self.peer, stanza).await,
            None => None,
        };
        let answer = answer.ok_or_else(|| stream_error(StreamCondition::NotAuthorized))?;
        let text = String::from_utf8_lossy(answer.as_bytes()).into_owned();
        self.connection.send(&text);
        Ok(())
    }
}
