//! XEP-0060 and XEP-0163: pubsub nodes, on accounts now, for components later.
//!
//! [`Engine`] answers the requests of a service (an account's bare JID) from
//! storage and says what is to be sent to whom; it sends nothing itself and
//! never knows sessions or members: [`Audience`] tells it who is there.

mod access;
mod affiliations;
mod authorization;
mod config;
mod disco;
mod form;
mod items;
mod nodes;
mod notify;
mod paging;
mod problem;
mod publish;
mod service;
mod subscriptions;

use std::sync::Arc;

use async_trait::async_trait;
use eider_storage::{Fence, Storage, Timestamp};
use eider_xmpp::element::Element;
use eider_xmpp::jid::{BareJid, FullJid, Jid};

pub use access::{Affiliation, Standing, SubscriptionState};
pub use config::{AccessModel, Amount, Limits, NodeConfig};
pub use disco::{ACCOUNT_FEATURES, ACCOUNT_IDENTITY};
pub use problem::Problem;

/// A roster contact of an account, as far as pubsub asks.
#[derive(Debug, Clone)]
pub struct Contact {
    /// Who.
    pub jid: BareJid,
    /// Sees the account's presence (`from` or `both`).
    pub sees_presence: bool,
    /// The account's roster groups that it is in.
    pub groups: Vec<String>,
    /// The account blocks it (XEP-0191).
    pub blocked: bool,
}

/// Who is there to be notified: rosters, presence, capabilities. A service that is
/// no account has no contacts.
#[async_trait]
pub trait Audience: Send + Sync {
    /// What `other` is to the account; one that is not in the roster has no groups
    /// and sees nothing.
    async fn contact(
        &self,
        account: &BareJid,
        other: &BareJid,
    ) -> Result<Contact, eider_storage::Error>;

    /// All contacts who see the account's presence and are not blocked.
    async fn contacts(&self, account: &BareJid) -> Result<Vec<Contact>, eider_storage::Error>;

    /// Available resources of `entity` that the service may know of and whose
    /// capabilities name the node with `+notify`.
    fn interested(&self, service: &BareJid, entity: &BareJid, node: &str) -> Vec<FullJid>;

    /// Available resources of `entity` that the service may know of.
    fn available(&self, service: &BareJid, entity: &BareJid) -> Vec<FullJid>;
}

/// One request to a service.
pub struct Call<'a> {
    /// The service: the account's bare JID.
    pub service: &'a BareJid,
    /// Who asks, its address verified.
    pub from: &'a Jid,
    /// The iq is a set.
    pub set: bool,
    /// The time.
    pub now: Timestamp,
    /// Makes unpredictable names: item ids, instant nodes, message ids.
    pub token: &'a (dyn Fn() -> String + Send + Sync),
}

impl Call<'_> {
    /// The account itself asks.
    fn is_owner(&self) -> bool {
        self.from.bare() == *self.service
    }
}

/// A message for several entities: complete but for `to`.
#[derive(Debug, Clone)]
pub struct Notice {
    /// Who gets it, each once.
    pub to: Vec<Jid>,
    /// The message, `from` and `id` set.
    pub message: Element,
}

/// What a request comes to.
#[derive(Debug, Default)]
pub struct Answer {
    /// The result's payload, where it has one.
    pub payload: Option<Element>,
    /// What others are told, in order, after the result.
    pub notices: Vec<Notice>,
}

impl Answer {
    /// What is shown in `<pubsub/>` of this namespace.
    fn showing(namespace: &'static str, shown: impl IntoIterator<Item = Element>) -> Answer {
        Answer {
            payload: Some(Element::new("pubsub", namespace).with_children(shown)),
            ..Answer::default()
        }
    }
}

/// Answers pubsub requests.
pub struct Engine {
    storage: Arc<dyn Storage>,
    audience: Arc<dyn Audience>,
    fence: Fence,
    limits: Box<dyn Fn() -> Limits + Send + Sync>,
}

impl Engine {
    /// An engine on this storage, for any number of services, within the `limits` of each moment.
    pub fn new(
        storage: Arc<dyn Storage>,
        audience: Arc<dyn Audience>,
        fence: Fence,
        limits: impl Fn() -> Limits + Send + Sync + 'static,
    ) -> Engine {
        Engine {
            storage,
            audience,
            fence,
            limits: Box::new(limits),
        }
    }

    /// The limits that hold now.
    fn limits(&self) -> Limits {
        (self.limits)()
    }
}

#[cfg(test)]
mod tests;
