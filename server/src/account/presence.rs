//! RFC 6121 §4: presence of our sessions, who sees it, and how it ends.

use std::sync::Arc;

use eider_xmpp::element::Element;
use eider_xmpp::error::{StanzaCondition, StanzaError};
use eider_xmpp::jid::BareJid;
use eider_xmpp::ns;
use eider_xmpp::stanza::{PresenceType, Stanza, error_reply};

use crate::account::facts::AccountFacts;
use crate::c2s::mailbox::Delivery;
use crate::cluster::sessions::{SessionHandle, Sessions};
use crate::config::{Config, Feature};
use crate::router::{After, Step};

/// See the module's documentation.
pub struct Presence {
    sessions: Arc<Sessions>,
    facts: Arc<AccountFacts>,
}

impl Presence {
    /// Presence among `sessions`.
    pub fn new(sessions: Arc<Sessions>, facts: Arc<AccountFacts>) -> Presence {
        Presence { sessions, facts }
    }

    /// A presence stanza that a session of ours sent.
    pub fn routed(
        self: &Arc<Self>,
        config: &Config,
        from: &Arc<SessionHandle>,
        stanza: &Stanza,
    ) -> Step {
        let Ok(kind) = stanza.presence_type() else {
            return refuse(from, stanza, StanzaCondition::BadRequest);
        };
        if stanza.bad_to() {
            return refuse(from, stanza, StanzaCondition::JidMalformed);
        }
        let host = config.host(from.bare.domain());
        if !host.is_some_and(|host| host.has(Feature::Presence)) {
            return refuse(from, stanza, StanzaCondition::ServiceUnavailable);
        }
        let (this, from, stanza) = (self.clone(), from.clone(), stanza.clone());
        Step::Run(Box::pin(async move {
            this.handle(&from, &stanza, kind).await;
            After::Done
        }))
    }

    async fn handle(&self, from: &Arc<SessionHandle>, stanza: &Stanza, kind: PresenceType) {
        match (kind, stanza.to()) {
            (PresenceType::Available, None) => self.available(from, stanza).await,
            (PresenceType::Unavailable, None) => self.unavailable(from, stanza).await,
            _ => {}
        }
    }

    async fn available(&self, from: &Arc<SessionHandle>, stanza: &Stanza) {
        let priority = match priority(stanza) {
            Ok(priority) => priority,
            Err(error) => {
                answer(from, error_reply(stanza, &error));
                return;
            }
        };
        let stamped = stanza.rewrite().from(from.full.clone()).no_to().build();
        from.set_presence(Some((stamped.clone(), priority)));
        self.to_own(from, &stamped);
    }

    async fn unavailable(&self, from: &Arc<SessionHandle>, stanza: &Stanza) {
        from.set_presence(None);
        let stamped = stanza.rewrite().from(from.full.clone()).no_to().build();
        self.to_own(from, &stamped);
    }

    /// To every available resource of the account, the sender included (RFC 6121 §4.2.2).
    fn to_own(&self, from: &SessionHandle, stanza: &Stanza) {
        for handle in self.sessions.of(from.bare.as_str()) {
            if handle.priority().is_some() {
                let addressed = stanza.rewrite().to(handle.full.clone()).build();
                let _ = handle.mailbox.push(Delivery::copy(addressed));
            }
        }
    }

    /// A session has ended: unavailable to everyone who saw it (RFC 6121 §4.5.2).
    pub async fn ended(&self, handle: &Arc<SessionHandle>) {
        if handle.priority().is_some() {
            let gone = Element::new("presence", ns::CLIENT).with_attr("type", "unavailable");
            self.unavailable(handle, &Stanza::from_element(&gone)).await;
        }
    }

    /// Whether `viewer` may see the presence of `owner`: itself, or subscribed to it.
    pub fn may_see(&self, owner: &BareJid, viewer: &BareJid) -> bool {
        owner == viewer
    }
}

/// RFC 6121 §4.7.2.3: -128 to 127, 0 where absent.
fn priority(stanza: &Stanza) -> Result<i8, StanzaError> {
    match stanza.child("priority", ns::CLIENT) {
        None => Ok(0),
        Some(element) => element
            .text()
            .trim()
            .parse()
            .map_err(|_| StanzaError::new(StanzaCondition::BadRequest)),
    }
}

fn refuse(from: &SessionHandle, stanza: &Stanza, condition: StanzaCondition) -> Step {
    answer(from, error_reply(stanza, &StanzaError::new(condition)));
    Step::Done
}

fn answer(to: &SessionHandle, reply: Option<Stanza>) {
    if let Some(reply) = reply {
        let _ = to.mailbox.push(Delivery::copy(reply));
    }
}
