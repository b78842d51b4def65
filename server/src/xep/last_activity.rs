//! XEP-0012: Last Activity

use std::sync::{Arc, Weak};
use std::time::Instant;

use eider_xmpp::error::{StanzaCondition, StanzaError};
use eider_xmpp::ns;
use eider_xmpp::payload::last_activity;

use crate::account::presence::Presence;
use crate::cluster::sessions::Sessions;
use crate::config::Feature;
use crate::pubsub::Audience;
use crate::xep::pep::audience::Accounts;
use crate::xep::{Access, Answer, Request, Route, Spec, Status, Target, handler, storage_error};

/// See [`Spec`].
pub const SPEC: Spec = Spec {
    number: 12,
    name: "Last Activity",
    version: "2.0",
    status: Status::Complete,
    note: "",
    features: &[(Target::Server, ns::LAST), (Target::Account, ns::LAST)],
    switch: Some(Feature::LastActivity),
};

/// Answers about the server and its accounts.
pub struct LastActivities {
    /// When accounts were last seen.
    pub presence: Weak<Presence>,
    /// Who is here now.
    pub sessions: Arc<Sessions>,
    /// Who may ask.
    pub accounts: Arc<Accounts>,
    /// When the server was started.
    pub started: Instant,
}

impl LastActivities {
    /// Both targets.
    pub fn routes(self: &Arc<Self>) -> Vec<Route> {
        [Target::Server, Target::Account]
            .map(|target| Route {
                target,
                ns: ns::LAST,
                name: "query",
                access: Access::Anyone,
                switch: Some(Feature::LastActivity),
                handler: handler(self, move |this, request| async move {
                    this.answer(target, &request).await
                }),
            })
            .into()
    }

    async fn answer(&self, target: Target, request: &Request) -> Answer {
        if request.set {
            return Err(StanzaError::new(StanzaCondition::NotAllowed));
        }
        match target {
            Target::Server => Ok(Some(last_activity::result(
                self.started.elapsed().as_secs(),
                "",
            ))),
            Target::Account => self.account(request).await,
        }
    }

    /// §3: only for who may see the account's presence; nobody else learns even whether it exists.
    async fn account(&self, request: &Request) -> Answer {
        let asker = request.from.bare();
        if asker != request.to {
            let contact = self.accounts.contact(&request.to, &asker).await;
            let contact = contact.map_err(|error| storage_error(&error))?;
            if !contact.sees_presence || contact.blocked {
                return Err(StanzaError::new(StanzaCondition::Forbidden));
            }
        }
        if !self.sessions.of(request.to.as_str()).is_empty() {
            return Ok(Some(last_activity::result(0, "")));
        }
        let facts = self.accounts.facts.load(&request.to).await;
        let facts = facts.map_err(|error| storage_error(&error))?;
        let last = match (facts, self.presence.upgrade()) {
            (Some(facts), Some(presence)) => presence.last_activity(facts.id).await,
            _ => Ok(None),
        };
        let last = last.map_err(|error| storage_error(&error))?;
        // Never here at all: nothing is known, not even since when.
        let last = last.ok_or_else(|| StanzaError::new(StanzaCondition::ItemNotFound))?;
        let now = crate::clock::timestamp();
        let seconds = u64::try_from((now.0 - last.at.0) / 1_000_000).unwrap_or(0);
        Ok(Some(last_activity::result(seconds, &last.status)))
    }
}
