//! XEP-0163: Personal Eventing Protocol, XEP-0060 on accounts

pub mod audience;

use std::sync::Arc;

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use eider_storage::Timestamp;
use eider_xmpp::element::Element;
use eider_xmpp::error::{StanzaCondition, StanzaError};
use eider_xmpp::jid::{BareJid, Jid};
use eider_xmpp::ns;
use eider_xmpp::stanza::Stanza;
use futures_util::future::BoxFuture;
use tokio::sync::Semaphore;

use crate::account::facts::{AccountFacts, Facts};
use crate::account::presence::PresenceWatcher;
use crate::account::roster::Rosters;
use crate::c2s::mailbox::Delivery;
use crate::cluster::sessions::{SessionHandle, Sessions};
use crate::config::{ConfigWatch, Feature};
use crate::pubsub::{self, ACCOUNT_FEATURES, Call, Engine, Notice};
use crate::xep::avatar::Avatars;
use crate::xep::capabilities::{Capabilities, Learned};
use crate::xep::{Access, Answer, Request, Route, Spec, Status, Target, handler};

/// See [`Spec`].
pub const SPEC: Spec = Spec {
    number: 163,
    name: "Personal Eventing Protocol",
    version: "1.2.2",
    status: Status::Complete,
    note: "",
    features: &[],
    switch: Some(Feature::Pep),
};

/// What is published on accounts and asks no more of a server than XEP-0163 does.
const fn published(number: u16, name: &'static str, version: &'static str) -> Spec {
    Spec {
        number,
        name,
        version,
        status: Status::Complete,
        note: "by XEP-0163",
        features: &[],
        switch: Some(Feature::Pep),
    }
}

/// XEP-0172.
pub const NICK_SPEC: Spec = published(172, "User Nickname", "1.1");
/// XEP-0384.
pub const OMEMO_SPEC: Spec = published(384, "OMEMO Encryption", "0.9.1");
/// XEP-0402.
pub const BOOKMARKS_SPEC: Spec = published(402, "PEP Native Bookmarks", "1.2.0");
/// XEP-0490.
pub const DISPLAYED_SPEC: Spec = published(490, "Message Displayed Synchronization", "1.0.1");

/// Features as those of an account.
const fn of_account<const N: usize>(names: [&'static str; N]) -> [(Target, &'static str); N] {
    let mut features = [(Target::Account, ""); N];
    let mut at = 0;
    while at < N {
        features[at].1 = names[at];
        at += 1;
    }
    features
}

/// XEP-0060, as far as accounts need it.
pub const PUBSUB_SPEC: Spec = Spec {
    number: 60,
    name: "Publish-Subscribe",
    version: "1.30.0",
    status: Status::Partial,
    note: "on accounts; no service of its own, no collections",
    features: &of_account(ACCOUNT_FEATURES),
    switch: Some(Feature::Pep),
};

/// XEP-0115, for `+notify`.
pub const CAPABILITIES_SPEC: Spec = Spec {
    number: 115,
    name: "Entity Capabilities",
    version: "1.6.0",
    status: Status::Complete,
    note: "",
    features: &[(Target::Server, ns::CAPS)],
    switch: None,
};

/// Reads of last items at once, over all sessions; they come with presence, and others shall find
/// storage free.
const LAST_ITEMS_AT_ONCE: usize = 32;

/// Nodes whose last items are read at once: an item may be of 256 KiB.
const LAST_ITEMS_NODES: usize = 16;

/// What pubsub on accounts reaches.
pub struct PepParts {
    /// The configuration valid now.
    pub config: ConfigWatch,
    /// Answers requests.
    pub engine: Engine,
    /// Who wants what.
    pub capabilities: Arc<Capabilities>,
    /// Block lists.
    pub facts: Arc<AccountFacts>,
    /// Rosters.
    pub rosters: Arc<Rosters>,
    /// Bound sessions.
    pub sessions: Arc<Sessions>,
}

/// Pubsub on the accounts of our hosts.
pub struct Pep {
    parts: PepParts,
    /// Who reads last items now.
    turns: Semaphore,
}

/// A name nobody can guess: 128 random bits.
pub fn token() -> String {
    let mut bytes = [0u8; 16];
    SystemRandom::new()
        .fill(&mut bytes)
        .expect("the system has randomness");
    URL_SAFE_NO_PAD.encode(bytes)
}

fn now() -> Timestamp {
    crate::clock::timestamp()
}

impl Pep {
    /// Over its parts.
    pub fn new(parts: PepParts) -> Pep {
        Pep {
            parts,
            turns: Semaphore::new(LAST_ITEMS_AT_ONCE),
        }
    }

    /// Routes of both namespaces. What is published to the avatar's node, `avatars` look at.
    pub fn routes(self: &Arc<Self>, avatars: &Arc<Avatars>) -> Vec<Route> {
        let parts = (self.clone(), avatars.clone());
        let route = |ns: &'static str| Route {
            target: Target::Account,
            ns,
            name: "pubsub",
            access: Access::Anyone,
            switch: Some(Feature::Pep),
            handler: handler(&parts, |(pep, avatars), request| async move {
                let answer = pep.request(&request).await?;
                avatars.after(&request).await;
                Ok(answer)
            }),
        };
        vec![route(ns::PUBSUB), route(ns::PUBSUB_OWNER)]
    }

    async fn request(&self, request: &Request) -> Answer {
        self.may_know(request).await?;
        let answer = self
            .parts
            .engine
            .handle(
                &call(&request.to, &request.from, request.set),
                &request.payload,
            )
            .await?;
        self.send(answer.notices).await;
        Ok(answer.payload)
    }

    /// Nobody learns by asking which accounts exist (RFC 6121 §8.5.1): who does not see the
    /// account's presence finds the nodes that it has made, and besides them what a missing
    /// account answers.
    async fn may_know(&self, request: &Request) -> Result<(), StanzaError> {
        let account = &request.to;
        let failed = |error| crate::xep::storage_error(&error);
        let unavailable = || StanzaError::new(StanzaCondition::ServiceUnavailable);
        let known = self.parts.facts.load(account).await.map_err(failed)?;
        let facts = known.ok_or_else(unavailable)?;
        if request.is_own() {
            return Ok(());
        }
        let contacts = self.parts.rosters.contacts(facts.id).await;
        if contacts
            .map_err(failed)?
            .state(request.from.bare_str())
            .from()
        {
            return Ok(());
        }
        let mut parts = request.payload.children();
        let node = parts.find_map(|part| part.attr("node"));
        let found = self
            .parts
            .engine
            .has_node(account, node.unwrap_or_default());
        if found.await.map_err(failed)? {
            Ok(())
        } else {
            Err(unavailable())
        }
    }

    /// XEP-0060 §5.3 to §5.5: disco#info or disco#items of a node, disco#items of the account.
    ///
    /// # Errors
    /// As the node says.
    pub async fn disco(&self, request: &Request) -> Result<Element, StanzaError> {
        let call = call(&request.to, &request.from, false);
        let set = request.payload.child("set", ns::RSM);
        let engine = &self.parts.engine;
        let answer = match (request.payload.ns(), request.payload.attr("node")) {
            (ns::DISCO_INFO, Some(node)) => engine.node_info(&call, node).await,
            (_, Some(node)) => engine.item_list(&call, node, set).await,
            (_, None) => engine.node_list(&call).await,
        };
        answer.map_err(|problem| problem.to_error())
    }

    /// disco#items of an account: every node that the asker may see.
    ///
    /// # Errors
    /// Storage's.
    pub async fn nodes(&self, request: &Request) -> Result<Element, StanzaError> {
        let call = call(&request.to, &request.from, false);
        let list = self.parts.engine.node_list(&call).await;
        list.map_err(|problem| problem.to_error())
    }

    /// A client of ours has sent available presence: what it wants to hear of from now on.
    pub fn presence(
        self: &Arc<Self>,
        session: &Arc<SessionHandle>,
        presence: &Stanza,
        came_online: bool,
    ) {
        let host = session.bare.domain();
        if !self
            .parts
            .config
            .borrow()
            .host(host)
            .is_some_and(|host| host.has(Feature::Pep))
        {
            return;
        }
        self.learned(
            session,
            self.parts
                .capabilities
                .presence(session, presence, came_online),
        );
    }

    /// An iq result or error of a client of ours to its own account: it may tell what clients
    /// are capable of.
    pub fn answered(self: &Arc<Self>, session: &Arc<SessionHandle>, iq: &Stanza) {
        for (session, learned) in self.parts.capabilities.answered(session, iq) {
            self.learned(&session, learned);
        }
    }

    /// XEP-0163 §4.3.4: last items of what is newly of interest, in the background.
    fn learned(self: &Arc<Self>, session: &Arc<SessionHandle>, learned: Learned) {
        let Learned::New(mut nodes) = learned else {
            return;
        };
        // What was not sent yet comes with what is new.
        if session.last_items.is_under_way()
            && let Some(interests) = session.interests()
        {
            nodes = interests.nodes().to_vec();
        }
        self.start_last_items(session, nodes);
    }

    fn start_last_items(self: &Arc<Self>, session: &Arc<SessionHandle>, nodes: Vec<String>) {
        let (pep, to) = (self.clone(), session.clone());
        session.last_items.start(session.ended(), async move {
            let mut services = vec![to.bare.clone()];
            if let Some(account) = to.account
                && let Ok(contacts) = pep.parts.rosters.contacts(account).await
            {
                let seen = contacts.iter().filter(|contact| contact.state.to());
                services.extend(seen.map(|contact| contact.jid.clone()));
            }
            for service in services {
                pep.last_items(&service, &to, &nodes).await;
            }
        });
    }

    /// As the client takes them.
    async fn last_items(&self, service: &BareJid, to: &SessionHandle, nodes: &[String]) {
        if self.parts.config.borrow().host(service.domain()).is_none() {
            return;
        }
        for nodes in nodes.chunks(LAST_ITEMS_NODES) {
            let last_items = async {
                // The engine's time, not that of a client that takes its own.
                let _turn = self.turns.acquire().await;
                let engine = &self.parts.engine;
                engine.last_items(service, &to.full, nodes, &token).await
            };
            match last_items.await {
                Ok(notices) => {
                    if self.blocks(&to.bare, service).await {
                        return;
                    }
                    for notice in notices {
                        let stanza = Stanza::from_element(&notice.message);
                        let addressed = stanza.rewrite().to(to.full.clone()).build();
                        to.mailbox.half_empty().await;
                        to.mailbox.push_when_room(Delivery::copy(addressed)).await;
                    }
                }
                Err(error) => tracing::warn!(%service, %error, "last items not sent"),
            }
        }
    }

    /// What is between an account and a contact has changed: presence subscription, roster
    /// groups or blocking. Explicit subscriptions may end, before this returns; who sees more gets last items,
    /// in the background.
    pub async fn contact_changed(
        self: &Arc<Self>,
        account: &BareJid,
        contact: &BareJid,
        sees_more: bool,
    ) {
        let from = account.to_jid();
        let call = call(account, &from, true);
        match self.parts.engine.contact_changed(&call, contact).await {
            Ok(answer) => self.send(answer.notices).await,
            Err(error) => tracing::warn!(%account, %error, "subscriptions not looked at"),
        }
        if sees_more {
            let (pep, account) = (self.clone(), account.clone());
            let sessions = self.parts.sessions.of(contact.as_str());
            tokio::spawn(async move {
                for session in sessions {
                    if let Some(interests) = session.interests() {
                        pep.last_items(&account, &session, interests.nodes()).await;
                    }
                }
            });
        }
    }

    /// A message of an account to itself that answers a subscription request (XEP-0060
    /// §8.6): true where it was one, and has been obeyed.
    pub async fn authorization(&self, from: &SessionHandle, message: &Stanza) -> bool {
        let Some(form) = message.child("x", ns::DATA_FORMS) else {
            return false;
        };
        let sender = from.full.to_jid();
        match self
            .parts
            .engine
            .authorization(&call(&from.bare, &sender, true), &form)
            .await
        {
            Ok(Some(answer)) => {
                self.send(answer.notices).await;
                true
            }
            Ok(None) => false,
            Err(error) => {
                tracing::debug!(account = %from.bare, %error, "not a decision");
                true
            }
        }
    }

    /// Publishes for an account, as itself.
    ///
    /// # Errors
    /// As for a client of the account.
    pub async fn publish(&self, account: &BareJid, pubsub: &Element) -> Result<(), StanzaError> {
        let from = account.to_jid();
        let answer = self
            .parts
            .engine
            .handle(&call(account, &from, true), pubsub)
            .await?;
        self.send(answer.notices).await;
        Ok(())
    }

    /// Items of an account's node, as the account sees them: `<pubsub/>` of the result.
    ///
    /// # Errors
    /// As for a client of the account.
    pub async fn items(
        &self,
        account: &BareJid,
        pubsub: &Element,
    ) -> Result<Option<Element>, StanzaError> {
        let from = account.to_jid();
        let answer = self
            .parts
            .engine
            .handle(&call(account, &from, false), pubsub)
            .await?;
        Ok(answer.payload)
    }

    /// Delivers notices to sessions of ours. Nobody hears of whom it blocks.
    async fn send(&self, notices: Vec<Notice>) {
        for notice in notices {
            let stanza = Stanza::from_element(&notice.message);
            let Some(service) = stanza.from().map(Jid::bare) else {
                continue;
            };
            for to in notice.to {
                if !self.blocks(&to.bare(), &service).await {
                    self.deliver(&to, &stanza);
                }
            }
        }
    }

    /// Whether an account of ours must not hear of `service`, or is none.
    async fn blocks(&self, account: &BareJid, service: &BareJid) -> bool {
        let known = self.parts.facts.load(account).await;
        let is_free = |facts: &Facts| account == service || !facts.blocks(&service.to_jid());
        !known.is_ok_and(|facts| facts.is_some_and(|facts| is_free(&facts)))
    }

    fn deliver(&self, to: &Jid, stanza: &Stanza) {
        let addressed = stanza.rewrite().to(to.clone()).build();
        match to.to_full() {
            Some(full) => {
                if let Some(session) = self.parts.sessions.find(&full) {
                    let _ = session.mailbox.push(Delivery::copy(addressed));
                }
            }
            None => {
                for session in self.parts.sessions.of(to.as_str()) {
                    if session.takes_messages() {
                        let _ = session.mailbox.push(Delivery::copy(addressed.clone()));
                    }
                }
            }
        }
    }
}

fn call<'a>(service: &'a BareJid, from: &'a Jid, set: bool) -> Call<'a> {
    Call {
        service,
        from,
        set,
        now: now(),
        token: &token,
    }
}

/// What the configuration allows an account's nodes.
pub fn limits(config: &crate::config::Limits) -> pubsub::Limits {
    pubsub::Limits {
        max_items: config.pep_items,
        max_payload_bytes: config.pep_item_bytes,
        max_bytes: config.pep_bytes,
        max_nodes: config.pep_nodes,
        max_entities: config.pep_subscriptions,
        max_per_account: config.pep_subscriptions_per_account,
    }
}

/// Hears of presence for pubsub.
pub struct Watcher(pub Arc<Pep>);

impl PresenceWatcher for Watcher {
    fn available(&self, session: &Arc<SessionHandle>, presence: &Stanza, initial: bool) {
        self.0.presence(session, presence, initial);
    }

    fn unavailable(&self, session: &Arc<SessionHandle>) {
        session.set_interests(None);
    }

    fn missed_events(&self, session: &Arc<SessionHandle>) {
        if let Some(interests) = session.interests() {
            self.0.start_last_items(session, interests.nodes().to_vec());
        }
    }

    fn subscription_changed<'a>(
        &'a self,
        account: &'a BareJid,
        contact: &'a BareJid,
        sees_presence: bool,
    ) -> BoxFuture<'a, ()> {
        Box::pin(self.0.contact_changed(account, contact, sees_presence))
    }
}
