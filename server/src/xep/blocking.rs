//! XEP-0191: Blocking Command

use std::sync::Arc;

use eider_storage::{AccountId, Fence, Storage};
use eider_xmpp::element::Element;
use eider_xmpp::error::{ErrorType, StanzaCondition, StanzaError};
use eider_xmpp::jid::{BareJid, FullJid, Jid};
use eider_xmpp::ns;
use eider_xmpp::payload::blocking::{Change, Error, block_list};
use eider_xmpp::stanza::Stanza;

use crate::account::facts::{AccountFacts, Facts};
use crate::account::presence::Presence;
use crate::c2s::mailbox::Delivery;
use crate::cluster::sessions::{SessionHandle, Sessions};
use crate::config::Feature;
use crate::xep::{Access, Answer, Request, Route, Spec, Status, Target, handler, storage_error};

/// See [`Spec`].
pub const SPEC: Spec = Spec {
    number: 191,
    name: "Blocking Command",
    version: "1.3",
    status: Status::Complete,
    note: "",
    features: &[(Target::Server, ns::BLOCKING)],
    switch: Some(Feature::Blocking),
};

/// Whether an account refuses what `from` sends. An account never blocks itself.
pub fn refuses(facts: &Facts, from: &FullJid) -> bool {
    facts.blocks(&Jid::from(from.clone()))
}

/// The answer to one's own stanza for a blocked JID (XEP-0191 §3.5).
pub fn blocked_error() -> StanzaError {
    StanzaError::new(StanzaCondition::NotAcceptable)
        .kind(ErrorType::Cancel)
        .application(Element::new("blocked", ns::BLOCKING_ERRORS))
}

/// What changes of block lists reach.
pub struct Blocking {
    /// The lists.
    pub storage: Arc<dyn Storage>,
    /// The copies that every stanza is held against.
    pub facts: Arc<AccountFacts>,
    /// Who sees whom.
    pub presence: Arc<Presence>,
    /// Who is told of changes.
    pub sessions: Arc<Sessions>,
    /// On whose behalf is written.
    pub fence: Fence,
}

fn refusal(error: Error) -> StanzaError {
    let condition = match error {
        Error::Malformed => StanzaCondition::BadRequest,
        Error::Jid => StanzaCondition::JidMalformed,
    };
    StanzaError::new(condition).text(error.to_string())
}

impl Blocking {
    /// The list and both ways to change it.
    pub fn routes(self: &Arc<Self>) -> Vec<Route> {
        ["blocklist", "block", "unblock"]
            .map(|name| Route {
                target: Target::Account,
                ns: ns::BLOCKING,
                name,
                access: Access::Own,
                switch: Some(Feature::Blocking),
                handler: handler(
                    self,
                    |this, request| async move { this.answer(&request).await },
                ),
            })
            .into()
    }

    async fn answer(&self, request: &Request) -> Answer {
        let session = request.own_session()?;
        let account = session
            .account
            .ok_or_else(|| StanzaError::new(StanzaCondition::ServiceUnavailable))?;
        match (request.payload.name(), request.set) {
            ("blocklist", false) => self.list(session, account).await,
            ("block" | "unblock", true) => {
                let change = Change::parse(&request.payload).map_err(refusal)?;
                self.change(request, session, account, change).await
            }
            _ => Err(StanzaError::new(StanzaCondition::BadRequest)),
        }
    }

    /// §3.2. Who has asked is told of changes from then on.
    async fn list(&self, session: &SessionHandle, account: AccountId) -> Answer {
        session.set_blocking_interest();
        let list = self.storage.blocking_list(account).await;
        let list = list.map_err(|error| storage_error(&error))?;
        Ok(Some(block_list(list.jids.iter().map(String::as_str))))
    }

    /// §3.3 to §3.5: the list is in force before the result leaves.
    async fn change(
        &self,
        request: &Request,
        session: &SessionHandle,
        account: AccountId,
        change: Change,
    ) -> Answer {
        let texts = |jids: &[Jid]| jids.iter().map(|jid| jid.as_str().to_owned()).collect();
        let changed = match &change {
            Change::Block(jids) => {
                if jids
                    .iter()
                    .any(|jid| jid.bare_str() == session.bare.as_str())
                {
                    return Err(StanzaError::new(StanzaCondition::NotAllowed));
                }
                let most = request.config.limits.blocked_jids;
                let jids: Vec<String> = texts(jids);
                let added = self
                    .storage
                    .blocking_add(self.fence, account, &jids, most)
                    .await;
                added.map(|_| Vec::new())
            }
            Change::Unblock(jids) => {
                let removed: Vec<String> = texts(jids);
                let removed = self
                    .storage
                    .blocking_remove(self.fence, account, Some(&removed));
                removed.await.map(|_| jids.clone())
            }
            Change::UnblockAll => self.unblock_all(account).await,
        };
        // Also where the outcome is not known: storage has the word.
        self.facts.forget(session.bare.as_str());
        let unblocked = changed.map_err(|error| match error {
            eider_storage::Error::Conflict(_) => StanzaError::over("blocked_jids"),
            other => storage_error(&other),
        })?;
        if let Change::Block(jids) = &change {
            let shown = self.presence.blocked(&session.bare, jids).await;
            log_presence(&session.bare, shown);
        }
        let (sessions, presence) = (self.sessions.clone(), self.presence.clone());
        let account = session.bare.clone();
        request.afterwards.set(async move {
            for session in sessions.of(account.as_str()) {
                if session.blocking_interest() {
                    push(&session, &change);
                }
            }
            log_presence(&account, presence.unblocked(&account, &unblocked).await);
        });
        Ok(None)
    }

    /// Who was on the list.
    async fn unblock_all(&self, account: AccountId) -> Result<Vec<Jid>, eider_storage::Error> {
        let before = self.storage.blocking_list(account).await?;
        self.storage
            .blocking_remove(self.fence, account, None)
            .await?;
        Ok(before
            .jids
            .iter()
            .filter_map(|jid| Jid::parse(jid).ok())
            .collect())
    }
}

fn log_presence(account: &BareJid, shown: Result<(), eider_storage::Error>) {
    if let Err(error) = shown {
        tracing::warn!(%account, %error, "presence does not follow the block list");
    }
}

/// §3.3: a change as other resources hear of it.
fn push(session: &SessionHandle, change: &Change) {
    let push = Element::new("iq", ns::CLIENT)
        .with_attr("type", "set")
        .with_attr("id", crate::xep::pep::token())
        .with_attr("to", session.full.as_str())
        .with_child(change.to_element());
    let _ = session
        .mailbox
        .push(Delivery::push(Stanza::from_element(&push)));
}
