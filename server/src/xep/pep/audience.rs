//! XEP-0163 §4: who an account's notifications may reach, from rosters and sessions

use std::sync::Arc;

use async_trait::async_trait;
use eider_storage::AccountId;
use eider_xmpp::jid::{BareJid, FullJid};

use crate::account::contacts::{self, Contacts};
use crate::account::facts::{AccountFacts, Facts};
use crate::account::roster::Rosters;
use crate::cluster::sessions::{SessionHandle, Sessions};
use crate::pubsub::{Audience, Contact};

/// Contacts and sessions of this host's accounts.
pub struct Accounts {
    /// Block lists.
    pub facts: Arc<AccountFacts>,
    /// Rosters.
    pub rosters: Arc<Rosters>,
    /// Bound sessions.
    pub sessions: Arc<Sessions>,
}

impl Accounts {
    async fn facts(&self, account: &BareJid) -> Result<Option<Arc<Facts>>, eider_storage::Error> {
        self.facts.load(account).await
    }

    async fn roster(&self, account: AccountId) -> Result<Contacts, eider_storage::Error> {
        self.rosters.contacts(account).await
    }

    /// Available resources of an account for which `wanted` holds.
    fn resources(&self, entity: &BareJid, wanted: impl Fn(&SessionHandle) -> bool) -> Vec<FullJid> {
        let sessions = self.sessions.of(entity.as_str());
        let available = sessions
            .iter()
            .filter(|session| session.priority().is_some());
        available
            .filter(|session| wanted(session))
            .map(|session| session.full.clone())
            .collect()
    }
}

fn contact(found: &contacts::Contact, facts: &Facts) -> Contact {
    Contact {
        jid: found.jid.clone(),
        sees_presence: found.state.from(),
        groups: found.groups.iter().map(|group| group.to_string()).collect(),
        blocked: facts.blocks(&found.jid.to_jid()),
    }
}

#[async_trait]
impl Audience for Accounts {
    async fn contact(
        &self,
        account: &BareJid,
        other: &BareJid,
    ) -> Result<Contact, eider_storage::Error> {
        let stranger = Contact {
            jid: other.clone(),
            sees_presence: false,
            groups: Vec::new(),
            blocked: false,
        };
        let Some(facts) = self.facts(account).await? else {
            return Ok(stranger);
        };
        let blocked = facts.blocks(&other.to_jid());
        let roster = self.roster(facts.id).await?;
        let found = roster.find(other.as_str());
        Ok(found.map_or(
            Contact {
                blocked,
                ..stranger
            },
            |found| contact(found, &facts),
        ))
    }

    async fn contacts(&self, account: &BareJid) -> Result<Vec<Contact>, eider_storage::Error> {
        let Some(facts) = self.facts(account).await? else {
            return Ok(Vec::new());
        };
        let roster = self.roster(facts.id).await?;
        let seeing = roster.iter().filter(|contact| contact.state.from());
        Ok(seeing
            .map(|found| contact(found, &facts))
            .filter(|c| !c.blocked)
            .collect())
    }

    fn interested(&self, _: &BareJid, entity: &BareJid, node: &str) -> Vec<FullJid> {
        self.resources(entity, |session| {
            session
                .interests()
                .is_some_and(|interests| interests.include(node))
        })
    }

    fn available(&self, _: &BareJid, entity: &BareJid) -> Vec<FullJid> {
        self.resources(entity, |_| true)
    }
}
