//! Destination of a stanza: the server itself, a local account, or elsewhere (DESIGN §3, stop 3).
//! Nothing else decides this.

use std::sync::Arc;

use eider_storage::AccountId;
use eider_xmpp::error::{StanzaCondition, StanzaError};
use eider_xmpp::jid::{BareJid, FullJid, Jid};
use eider_xmpp::ns;
use eider_xmpp::payload::data_forms::Form;
use eider_xmpp::stanza::{IqType, Kind, Stanza, error_reply, iq_result};
use futures_util::future::BoxFuture;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::access::{Policy, Subject};
use crate::account::delivery::{Incoming, LocalDelivery, Stored};
use crate::account::facts::{AccountFacts, Facts};
use crate::account::ledger::Acknowledged;
use crate::account::message::Message;
use crate::account::presence::Presence;
use crate::account::resends::{Resends, Suspicion, Watch};
use crate::account::roster::Rosters;
use crate::account::writer::{Deliver, NotStored, Writer};
use crate::admin::metrics::Metrics;
use crate::c2s::inbox::Turn;
use crate::c2s::mailbox::Delivery;
use crate::cluster::sessions::{SessionHandle, Sessions};
use crate::config::{Action, Config, ConfigWatch, Feature, Host};
use crate::pipeline::{Next, Pipeline, addressed};
use crate::xep::pep::Pep;
use crate::xep::{Afterwards, Request, Routes, Target, blocking, request_kind, storage_error};

/// How far a stanza has come when the router hands back control.
pub enum Step {
    /// Handled.
    Done,
    /// Handled once the writer answers.
    Committing(oneshot::Receiver<Result<(), NotStored>>),
    /// Handled once this has run.
    Run(BoxFuture<'static, After>),
}

/// What follows a [`Step::Run`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// Handled.
    Done,
    /// What was missing is in memory now: route the stanza again.
    Again,
}

/// See the module's documentation.
pub struct Router {
    config: ConfigWatch,
    facts: Arc<AccountFacts>,
    pipeline: Pipeline,
    delivery: Arc<LocalDelivery>,
    presence: Arc<Presence>,
    writer: Writer,
    routes: Arc<Routes>,
    pep: Arc<Pep>,
    resends: Arc<Resends>,
    metrics: Arc<Metrics>,
    policy: Arc<Policy>,
}

/// The parts a router sends to.
pub struct RouterParts {
    /// The configuration valid now.
    pub config: ConfigWatch,
    /// Bound sessions.
    pub sessions: Arc<Sessions>,
    /// Account facts.
    pub facts: Arc<AccountFacts>,
    /// Rosters.
    pub rosters: Arc<Rosters>,
    /// Delivery to local accounts.
    pub delivery: Arc<LocalDelivery>,
    /// Presence and subscriptions.
    pub presence: Arc<Presence>,
    /// The archive writer.
    pub writer: Writer,
    /// Routes of iq requests.
    pub routes: Arc<Routes>,
    /// What clients answer about their capabilities, and owners about subscriptions.
    pub pep: Arc<Pep>,
    /// Messages sent again.
    pub resends: Arc<Resends>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Access rules.
    pub policy: Arc<Policy>,
}

impl Router {
    /// A router over its parts.
    pub fn new(parts: RouterParts) -> Router {
        let pipeline = Pipeline::new(parts.sessions.clone(), parts.facts.clone(), parts.rosters);
        Router {
            config: parts.config,
            facts: parts.facts,
            pipeline,
            delivery: parts.delivery,
            presence: parts.presence,
            writer: parts.writer,
            routes: parts.routes,
            pep: parts.pep,
            resends: parts.resends,
            metrics: parts.metrics,
            policy: parts.policy,
        }
    }

    /// The routes of iq requests.
    pub fn routes(&self) -> &Routes {
        &self.routes
    }

    /// Routes a stanza that a session of ours sent.
    pub fn route(&self, from: &Arc<SessionHandle>, stanza: &Stanza, turn: Turn) -> Step {
        let config = self.config.borrow().clone();
        if !self.may_send(&config, from, stanza) {
            refuse(from, stanza, &StanzaError::new(StanzaCondition::NotAllowed));
            return Step::Done;
        }
        match stanza.kind() {
            Kind::Message if decides_on_subscription(from, stanza) => self.decision(from, stanza),
            Kind::Message => self.message(&config, from, stanza, turn),
            Kind::Iq => self.iq(&config, from, stanza),
            Kind::Presence => self.presence.routed(&config, from, stanza),
        }
    }

    /// Whether the access rules let the session send there: here to everyone.
    fn may_send(&self, config: &Config, from: &SessionHandle, stanza: &Stanza) -> bool {
        let Some(to) = stanza.to() else { return true };
        let subject = || Subject {
            account: from.account.map(|_| from.bare.as_str()),
            host: Some(from.bare.domain()),
            address: from.peer(),
        };
        config.host(to.domain()).is_some() || self.policy.allows(Action::SendOutside, &subject())
    }

    /// XEP-0060 §8.6: an account's word on who may subscribe to its pubsub nodes.
    fn decision(&self, from: &Arc<SessionHandle>, stanza: &Stanza) -> Step {
        let (pep, from, stanza) = (self.pep.clone(), from.clone(), stanza.clone());
        Step::Run(Box::pin(async move {
            pep.authorization(&from, &stanza).await;
            After::Done
        }))
    }

    fn message(
        &self,
        config: &Config,
        from: &Arc<SessionHandle>,
        stanza: &Stanza,
        turn: Turn,
    ) -> Step {
        match self.pipeline.message(config, &from.full, stanza) {
            Next::Load(accounts) => self.load(from, stanza, accounts.into_vec()),
            Next::LoadOwed(account) => self.load_owed(from, stanza, account),
            Next::LoadContacts(account) => self.load_contacts(from, stanza, account),
            Next::Deliver(message) if turn == Turn::Now => {
                deliver(&self.delivery, &message, &[]);
                Step::Done
            }
            // Nothing to write, but the writer delivers what stands before it.
            Next::Deliver(message) => Step::Committing(self.writer.submit(message, from.weight())),
            Next::Commit(message) => self.commit(from, stanza, message),
            Next::End(reply) => {
                answer(from, reply);
                Step::Done
            }
        }
    }

    /// Submits a message, unless the account has sent it before.
    fn commit(&self, from: &Arc<SessionHandle>, stanza: &Stanza, message: Message) -> Step {
        let mut watch = from.resends.lock();
        watch.forget_if_over(Instant::now());
        match &mut *watch {
            Watch::No => {}
            Watch::Suspect(suspicion) => {
                let suspicion = suspicion.as_ref().clone();
                drop(watch);
                return self.load_resends(from, stanza, suspicion);
            }
            Watch::Window(window) => {
                if window.recognises(&message.stanza) {
                    self.metrics.resends_recognised.inc();
                    return Step::Done;
                }
            }
        }
        drop(watch);
        if message.over_bound {
            let error = StanzaError::new(StanzaCondition::ServiceUnavailable);
            let archived = message.rows.iter().any(|row| row.debt && row.archived);
            self.metrics.refused(match archived {
                true => "offline_archived_messages",
                false => "offline_messages",
            });
            refuse(from, &message.stanza, &error);
            return Step::Done;
        }
        Step::Committing(self.writer.submit(message, from.weight()))
    }

    fn load_resends(&self, from: &Arc<SessionHandle>, stanza: &Stanza, why: Suspicion) -> Step {
        let (resends, writer) = (self.resends.clone(), self.writer.clone());
        let (from, stanza) = (from.clone(), stanza.clone());
        Step::Run(Box::pin(async move {
            let Some(account) = from.account else {
                *from.resends.lock() = Watch::No;
                return After::Again;
            };
            // What the lost session sent last may still be on its way into storage.
            let read = match writer.settled().await {
                true => resends.load(account, why).await,
                false => Err(eider_storage::Error::Unavailable("commits are late".into())),
            };
            match read {
                Ok(window) => {
                    *from.resends.lock() = window;
                    After::Again
                }
                Err(error) => {
                    refuse(&from, &stanza, &storage_error(&error));
                    After::Done
                }
            }
        }))
    }

    /// Reads facts into memory and has the stanza routed again; refuses it where storage fails.
    fn load(&self, from: &Arc<SessionHandle>, stanza: &Stanza, accounts: Vec<BareJid>) -> Step {
        let (facts, from, stanza) = (self.facts.clone(), from.clone(), stanza.clone());
        Step::Run(Box::pin(async move {
            for account in accounts {
                if let Err(error) = facts.load(&account).await {
                    refuse(&from, &stanza, &storage_error(&error));
                    return After::Done;
                }
            }
            After::Again
        }))
    }

    /// The same for the contacts of an account.
    fn load_contacts(&self, from: &Arc<SessionHandle>, stanza: &Stanza, account: BareJid) -> Step {
        let (presence, from, stanza) = (self.presence.clone(), from.clone(), stanza.clone());
        Step::Run(Box::pin(async move {
            match presence.contacts(&account).await {
                Ok(_) => After::Again,
                Err(error) => {
                    refuse(&from, &stanza, &storage_error(&error));
                    After::Done
                }
            }
        }))
    }

    /// Reads how much waits for an account, and has the stanza routed again.
    fn load_owed(&self, from: &Arc<SessionHandle>, stanza: &Stanza, account: BareJid) -> Step {
        let (facts, from, stanza) = (self.facts.clone(), from.clone(), stanza.clone());
        Step::Run(Box::pin(async move {
            match facts.load_owed(&account).await {
                Ok(()) => After::Again,
                Err(error) => {
                    refuse(&from, &stanza, &storage_error(&error));
                    After::Done
                }
            }
        }))
    }

    fn iq(&self, config: &Arc<Config>, from: &Arc<SessionHandle>, stanza: &Stanza) -> Step {
        if let Err(error) = well_formed_iq(stanza) {
            refuse(from, stanza, &error);
            return Step::Done;
        }
        let to = stanza
            .to()
            .cloned()
            .unwrap_or_else(|| Jid::from(from.bare.clone()));
        let Some(host) = config.host(to.domain()) else {
            refuse(
                from,
                stanza,
                &StanzaError::new(StanzaCondition::RemoteServerNotFound),
            );
            return Step::Done;
        };
        if to.localpart().is_none() {
            return self.request(Target::Server, config, host, from, &to, stanza);
        }
        if host.has(Feature::Blocking)
            && let Some(step) = self.blocked(from, &to, stanza)
        {
            return step;
        }
        match to.to_full() {
            Some(full) => self.iq_to_resource(config, from, &full, stanza),
            None => self.request(Target::Account, config, host, from, &to, stanza),
        }
    }

    /// XEP-0191 §3.3 and §3.5: an iq between accounts one of which blocks the other ends here.
    fn blocked(&self, from: &Arc<SessionHandle>, to: &Jid, stanza: &Stanza) -> Option<Step> {
        if to.bare_str() == from.bare.as_str() {
            return None;
        }
        let (Some(sender), Some(recipient)) = (
            self.facts.cached(from.bare.as_str()),
            self.facts.cached(to.bare_str()),
        ) else {
            return Some(self.load(from, stanza, vec![from.bare.clone(), to.bare()]));
        };
        let error = if blocks(sender.as_deref(), to) {
            blocking::blocked_error()
        } else if blocks(recipient.as_deref(), &Jid::from(from.full.clone())) {
            StanzaError::new(StanzaCondition::ServiceUnavailable)
        } else {
            return None;
        };
        refuse(from, stanza, &error);
        Some(Step::Done)
    }

    /// RFC 6121 §8.5.3: delivered as it is, or `service-unavailable`.
    fn iq_to_resource(
        &self,
        config: &Config,
        from: &Arc<SessionHandle>,
        to: &FullJid,
        stanza: &Stanza,
    ) -> Step {
        let stamped = addressed(stanza, &from.full, &Jid::from(to.clone()));
        let strict = config.compatibility.strict_iq_privacy && request_kind(stanza).is_some();
        let private = strict
            && match self.presence.may_see(&to.bare(), &from.bare) {
                Some(may_see) => !may_see,
                None => return self.load_contacts(from, stanza, to.bare()),
            };
        if private || !self.delivery.iq(to, stamped) {
            refuse(
                from,
                stanza,
                &StanzaError::new(StanzaCondition::ServiceUnavailable),
            );
        }
        Step::Done
    }

    /// A request to the server or an account; results and errors end here.
    fn request(
        &self,
        target: Target,
        config: &Arc<Config>,
        host: &Host,
        from: &Arc<SessionHandle>,
        to: &Jid,
        stanza: &Stanza,
    ) -> Step {
        let Some(set) = request_kind(stanza) else {
            self.pep.answered(from, stanza);
            return Step::Done;
        };
        let Some(payload) = stanza.children().next() else {
            return Step::Done;
        };
        let is_own = to.bare_str() == from.bare.as_str();
        if self.routes.answers_empty(target, &payload, host, is_own) {
            answer(from, Some(iq_result(stanza, None)));
            return Step::Done;
        }
        let (payload, to) = (payload.element(), to.bare());
        let stamped = addressed(stanza, &from.full, &Jid::from(to.clone()));
        let request = Request {
            stanza: stamped,
            payload,
            set,
            from: Jid::from(from.full.clone()),
            to,
            session: Some(from.clone()),
            config: config.clone(),
            afterwards: Afterwards::default(),
        };
        let afterwards = request.afterwards.clone();
        let answered = self.routes.answer(target, request);
        let (from, stanza, metrics) = (from.clone(), stanza.clone(), self.metrics.clone());
        Step::Run(Box::pin(async move {
            let reply = match answered.await {
                Ok(payload) => Some(iq_result(&stanza, payload)),
                Err(error) => {
                    metrics.stanza_error(&error);
                    error_reply(&stanza, &error)
                }
            };
            answer(&from, reply);
            afterwards.run().await;
            After::Done
        }))
    }

    /// Answers a stanza that could not be stored: `resource-constraint`, try again (DESIGN §6).
    pub fn not_stored(&self, from: &Arc<SessionHandle>, stanza: &Stanza) {
        let error = StanzaError::new(StanzaCondition::ResourceConstraint)
            .kind(eider_xmpp::error::ErrorType::Wait);
        refuse(from, stanza, &error);
    }

    /// What happens to a stanza that its session could not take any more (DESIGN §3).
    pub fn undelivered(&self, delivery: &Delivery) {
        if delivery.debt.is_some() || delivery.origin != crate::c2s::mailbox::Origin::Direct {
            return;
        }
        let unavailable = StanzaError::new(StanzaCondition::ServiceUnavailable);
        self.delivery.bounce(&delivery.stanza, &unavailable);
    }
}

/// The writer's way to deliver, without a circle between it and the router.
pub struct CommittedDelivery {
    /// Bound sessions.
    pub sessions: Arc<Sessions>,
    /// Delivery to local accounts.
    pub delivery: Arc<LocalDelivery>,
}

impl Deliver for CommittedDelivery {
    fn committed(&self, message: &Message, positions: &[i64]) {
        if let Some(owed) = &message.owed {
            owed.stored();
        }
        deliver(&self.delivery, message, positions);
    }

    fn failed(&self, message: &Message, positions: &[i64]) {
        let rows = message.rows.iter().zip(positions);
        // Of an owner who is gone there is no row.
        for (_, position) in rows.filter(|(row, position)| row.debt && **position > 0) {
            self.delivery.owe(message.to.bare_str(), *position);
        }
    }

    fn paid(&self) -> Vec<(AccountId, Acknowledged)> {
        self.sessions.take_dirty_ledgers()
    }
}

/// Delivers to the recipient's resources, then copies for the sender's others.
fn deliver(delivery: &LocalDelivery, message: &Message, positions: &[i64]) {
    let stored = |outgoing: bool| {
        let rows = message.rows.iter().zip(positions);
        rows.into_iter()
            .find(|(row, _)| row.outgoing == outgoing)
            .map(|(row, position)| Stored {
                owner: row.owner,
                position: *position,
                archived: row.archived,
                debt: row.debt,
            })
    };
    let mut bounced = false;
    if let Some(destination) = message.destination {
        let stored = stored(false);
        let taken = delivery.message(&Incoming {
            stanza: &message.stanza,
            to: &message.to,
            destination,
            carbons: message.carbons.received,
            stored,
        });
        // The resource went away since the verdict, and nothing will deliver it later.
        bounced = !taken && !stored.is_some_and(|stored| stored.debt);
    }
    // To oneself: every resource has it already, as recipient or by a received copy.
    if message.carbons.sent && message.from.bare_str() != message.to.bare_str() {
        delivery.sent_carbons(&message.from, &message.stanza, stored(true));
    }
    if bounced {
        let unavailable = StanzaError::new(StanzaCondition::ServiceUnavailable);
        delivery.bounce(&message.stanza, &unavailable);
    }
}

fn blocks(facts: Option<&Facts>, jid: &Jid) -> bool {
    facts.is_some_and(|facts| facts.blocks(jid))
}

/// Whether a message is for pubsub alone: from an account to itself, with the form that
/// decides on a subscription request.
fn decides_on_subscription(from: &SessionHandle, stanza: &Stanza) -> bool {
    let to_self = stanza
        .to()
        .is_none_or(|to| to.as_str() == from.bare.as_str());
    to_self
        && !stanza.is_error()
        && stanza.child("x", ns::DATA_FORMS).is_some_and(|form| {
            Form::parse(&form)
                .is_ok_and(|form| form.form_type() == Some(ns::PUBSUB_SUBSCRIBE_AUTHORIZATION))
        })
}

/// RFC 6120 §8.2.3: an id, a known type, one payload in a request, none or one in a result.
fn well_formed_iq(stanza: &Stanza) -> Result<(), StanzaError> {
    let bad = || StanzaError::new(StanzaCondition::BadRequest);
    if stanza.bad_to() || stanza.bad_from() {
        return Err(StanzaError::new(StanzaCondition::JidMalformed));
    }
    if stanza.id().is_none() {
        return Err(bad());
    }
    let payloads = stanza.children().len();
    match stanza.iq_type() {
        Ok(IqType::Get | IqType::Set) if payloads == 1 => Ok(()),
        Ok(IqType::Result) if payloads <= 1 => Ok(()),
        Ok(IqType::Error) => Ok(()),
        _ => Err(bad()),
    }
}

/// Sends an answer to the session that asked.
fn answer(to: &SessionHandle, reply: Option<Stanza>) {
    if let Some(reply) = reply {
        let _ = to.mailbox.push(Delivery::answer(reply));
    }
}

/// Sends an error to the session that asked, where one may be sent.
fn refuse(to: &SessionHandle, stanza: &Stanza, error: &StanzaError) {
    answer(to, error_reply(stanza, error));
}
