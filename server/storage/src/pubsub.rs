//! XEP-0060 and XEP-0163: pubsub nodes, their items, subscriptions and affiliations.

use async_trait::async_trait;
use bytes::Bytes;

use crate::{Error, Fence, Timestamp};

/// A pubsub node and its configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PubsubNode {
    pub node: String,
    /// The engine's configuration, its own versioned JSON.
    pub config: Bytes,
    /// Raised by each change of the configuration.
    pub version: i64,
    pub created_at: Timestamp,
}

/// One item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PubsubItem {
    pub id: String,
    /// JID of the publisher.
    pub publisher: String,
    /// The payload element; empty: none.
    pub payload: Bytes,
    pub at: Timestamp,
}

/// What there is of an item without its payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PubsubItemHead {
    pub id: String,
    /// Bytes of the payload.
    pub bytes: u64,
    pub at: Timestamp,
}

/// A JID's relation to a node: a subscription or an affiliation, with the engine's own data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PubsubRelation {
    pub node: String,
    pub jid: String,
    /// Subscription id; empty for affiliations and where there is only one.
    pub subid: String,
    /// State or affiliation as XEP-0060 spells it (`subscribed`, `pending`, `owner`, `publisher` …).
    pub state: String,
    /// Options, the engine's own versioned JSON; empty: none.
    pub options: Bytes,
}

/// What a publication did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishOutcome {
    /// An item of the same id was replaced.
    pub replaced: bool,
    /// Ids of the items that `items_max` pushed out, oldest first.
    pub trimmed: Vec<String>,
}

/// Nodes are keyed by (service, node): `service` is a bare JID (PEP: the account's; later a component's domain).
#[async_trait]
pub trait Pubsub {
    /// Makes a node; `Conflict` where it exists or the service has `nodes_max` already.
    async fn pubsub_create(
        &self,
        fence: Fence,
        service: &str,
        node: &str,
        config: &[u8],
        nodes_max: u32,
        now: Timestamp,
    ) -> Result<(), Error>;

    /// A node.
    async fn pubsub_node(&self, service: &str, node: &str) -> Result<Option<PubsubNode>, Error>;

    /// Nodes of a service in name order after `after`, at most `limit`.
    async fn pubsub_nodes(
        &self,
        service: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<PubsubNode>, Error>;

    /// Replaces the configuration where its version is still `version`, else `Conflict`; trims to `items_max` at once.
    /// Answers the ids trimmed.
    async fn pubsub_configure(
        &self,
        fence: Fence,
        service: &str,
        node: &str,
        config: &[u8],
        version: i64,
        items_max: u32,
    ) -> Result<Vec<String>, Error>;

    /// Deletes a node with all that hangs on it; false where there was none.
    async fn pubsub_delete(&self, fence: Fence, service: &str, node: &str) -> Result<bool, Error>;

    /// Stores an item (an equal id is replaced and becomes the newest) and trims to the newest `items_max` in the same
    /// transaction. `None`: no such node. `Full` where the service's items would come to more than `bytes_max` bytes
    /// and more than before.
    async fn pubsub_publish(
        &self,
        fence: Fence,
        service: &str,
        node: &str,
        item: &PubsubItem,
        items_max: u32,
        bytes_max: u64,
    ) -> Result<Option<PublishOutcome>, Error>;

    /// The newest `limit` items, oldest of them first.
    async fn pubsub_items(
        &self,
        service: &str,
        node: &str,
        limit: u32,
    ) -> Result<Vec<PubsubItem>, Error>;

    /// The newest `limit` items without their payloads, oldest of them first.
    async fn pubsub_item_heads(
        &self,
        service: &str,
        node: &str,
        limit: u32,
    ) -> Result<Vec<PubsubItemHead>, Error>;

    /// Items by id, in the order asked, missing ones left out.
    async fn pubsub_items_by_id(
        &self,
        service: &str,
        node: &str,
        ids: &[String],
    ) -> Result<Vec<PubsubItem>, Error>;

    /// The newest item of each of these nodes (for `+notify` on presence), in one statement: (node, item).
    async fn pubsub_last_items(
        &self,
        service: &str,
        nodes: &[String],
    ) -> Result<Vec<(String, PubsubItem)>, Error>;

    /// Retracts items; answers the ids that were there.
    async fn pubsub_retract(
        &self,
        fence: Fence,
        service: &str,
        node: &str,
        ids: &[String],
    ) -> Result<Vec<String>, Error>;

    /// Removes all items; answers how many.
    async fn pubsub_purge(&self, fence: Fence, service: &str, node: &str) -> Result<u64, Error>;

    /// Sets a subscription (keyed by node, jid, subid). `Conflict`: no such node or `subscriptions_max` reached.
    async fn pubsub_subscribe(
        &self,
        fence: Fence,
        service: &str,
        subscription: &PubsubRelation,
        subscriptions_max: u32,
    ) -> Result<(), Error>;

    /// Subscriptions of an account and its resources, as [`Pubsub::pubsub_subscriptions`].
    async fn pubsub_subscriptions_of(
        &self,
        service: &str,
        node: Option<&str>,
        bare: &str,
    ) -> Result<Vec<PubsubRelation>, Error>;

    /// Removes a subscription (all of the JID's where `subid` is `None`); false where there was none.
    async fn pubsub_unsubscribe(
        &self,
        fence: Fence,
        service: &str,
        node: &str,
        jid: &str,
        subid: Option<&str>,
    ) -> Result<bool, Error>;

    /// Subscriptions of a node (`None`: of all nodes), of a JID (`None`: of all).
    async fn pubsub_subscriptions(
        &self,
        service: &str,
        node: Option<&str>,
        jid: Option<&str>,
    ) -> Result<Vec<PubsubRelation>, Error>;

    /// Sets an affiliation; state `none` removes it. `Conflict`: no such node.
    async fn pubsub_set_affiliation(
        &self,
        fence: Fence,
        service: &str,
        affiliation: &PubsubRelation,
    ) -> Result<(), Error>;

    /// Affiliations of a node (`None`: of all nodes), of a JID (`None`: of all).
    async fn pubsub_affiliations(
        &self,
        service: &str,
        node: Option<&str>,
        jid: Option<&str>,
    ) -> Result<Vec<PubsubRelation>, Error>;
}
