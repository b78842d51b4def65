//! XEP-0060: from a request to the function that answers it.

use bytes::Bytes;
use eider_storage::{PubsubNode, PubsubRelation};
use eider_xmpp::element::Element;
use eider_xmpp::error::StanzaError;
use eider_xmpp::jid::{BareJid, Jid};
use eider_xmpp::payload::pubsub::{Change, Error, Request};

use super::access::{Affiliation, Standing, SubscriptionState};
use super::config::NodeConfig;
use super::{Answer, Call, Engine, Problem};

/// Names of nodes and items, in bytes (as for resources, RFC 7622 §3.4).
const MAX_NAME_BYTES: usize = 1023;

/// A node as read from storage.
pub(super) struct Node {
    pub name: String,
    pub config: NodeConfig,
    /// What storage compares when the configuration is written.
    pub version: i64,
    pub created_at: eider_storage::Timestamp,
}

impl Node {
    pub(super) fn read(stored: PubsubNode) -> Result<Node, Problem> {
        let config = serde_json::from_slice(&stored.config).map_err(|error| {
            eider_storage::Error::Corrupt(format!("configuration of a pubsub node: {error}"))
        })?;
        Ok(Node {
            name: stored.node,
            config,
            version: stored.version,
            created_at: stored.created_at,
        })
    }
}

/// A configuration as storage keeps it.
pub(super) fn stored(config: &NodeConfig) -> Vec<u8> {
    serde_json::to_vec(config).expect("a configuration has only plain fields")
}

/// What an entity without options is to a node, as storage keeps it.
pub(super) fn relation(node: &str, jid: &str, state: &str) -> PubsubRelation {
    PubsubRelation {
        node: node.to_owned(),
        jid: jid.to_owned(),
        subid: String::new(),
        state: state.to_owned(),
        options: Bytes::new(),
    }
}

/// §8.8.2, §8.9.2: what an owner wants of whom, all of it read before anything is changed.
pub(super) fn wanted<T>(
    changes: &[Change],
    read: impl Fn(&str) -> Option<T>,
) -> Result<Vec<(Jid, T)>, Problem> {
    let wanted = changes.iter().map(|change| {
        let jid = Jid::parse(&change.jid).map_err(|_| Problem::NotAcceptable)?;
        let value = read(&change.value).ok_or(Problem::NotAcceptable)?;
        Ok((jid, value))
    });
    wanted.collect()
}

/// A name fit for a node or an item.
pub(super) fn checked_name(name: &str) -> Result<(), Problem> {
    if name.len() > MAX_NAME_BYTES {
        return Err(Problem::Malformed("name too long"));
    }
    Ok(())
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::Malformed => Problem::Malformed("not a pubsub request"),
            Error::FormRequired => Problem::Malformed("no form given"),
            Error::NodeRequired => Problem::NodeRequired,
            Error::ItemRequired => Problem::ItemRequired,
        }
    }
}

impl Engine {
    /// Answers an iq whose payload is `<pubsub/>` in either of its namespaces.
    pub async fn handle(&self, call: &Call<'_>, pubsub: &Element) -> Result<Answer, StanzaError> {
        let answer = match Request::parse(pubsub, call.set) {
            Ok(request) => self.dispatch(call, request).await,
            Err(error) => Err(error.into()),
        };
        answer.map_err(|problem| {
            if let Problem::Storage(error) = &problem {
                tracing::warn!(service = %call.service, %error, "pubsub request failed");
            }
            problem.to_error()
        })
    }

    async fn dispatch(&self, call: &Call<'_>, request: Request) -> Result<Answer, Problem> {
        match request {
            Request::Items(items) => self.items(call, &items).await,
            Request::Publish {
                node,
                item,
                options,
            } => self.publish(call, &node, item, options.as_ref()).await,
            Request::Retract { node, ids, notify } => self.retract(call, &node, &ids, notify).await,
            Request::Purge { node } => self.purge(call, &node).await,
            Request::Create { node, form } => self.create(call, node, form.as_ref()).await,
            Request::Configure { node, form: None } => self.configuration(call, &node).await,
            Request::Configure {
                node,
                form: Some(form),
            } => self.configure(call, &node, &form).await,
            Request::DefaultConfiguration => self.default_configuration(call),
            Request::Delete { node, redirect } => self.delete(call, &node, redirect).await,
            Request::Subscribe { node, jid, options } => {
                self.subscribe(call, &node, jid.as_deref(), options.as_ref())
                    .await
            }
            Request::Unsubscribe { node, jid, subid } => {
                self.unsubscribe(call, &node, jid.as_deref(), subid.as_deref())
                    .await
            }
            Request::Options {
                node,
                jid,
                subid,
                form,
            } => {
                let subscriber = (jid.as_deref(), subid.as_deref());
                self.options(call, &node, subscriber, form.as_ref()).await
            }
            Request::DefaultOptions => Ok(self.default_options()),
            Request::Subscriptions { node } => self.subscriptions(call, node.as_deref()).await,
            Request::Affiliations { node } => self.affiliations(call, node.as_deref()).await,
            Request::NodeSubscriptions {
                node,
                changes: None,
            } => self.node_subscriptions(call, &node).await,
            Request::NodeSubscriptions {
                node,
                changes: Some(changes),
            } => self.change_subscriptions(call, &node, &changes).await,
            Request::NodeAffiliations {
                node,
                changes: None,
            } => self.node_affiliations(call, &node).await,
            Request::NodeAffiliations {
                node,
                changes: Some(changes),
            } => self.change_affiliations(call, &node, &changes).await,
        }
    }

    /// The node, where it exists.
    pub(super) async fn find(
        &self,
        service: &BareJid,
        name: &str,
    ) -> Result<Option<Node>, Problem> {
        let found = self.storage.pubsub_node(service.as_str(), name).await?;
        found.map(Node::read).transpose()
    }

    /// Whether there is such a node.
    ///
    /// # Errors
    /// Storage's.
    pub async fn has_node(
        &self,
        service: &BareJid,
        name: &str,
    ) -> Result<bool, eider_storage::Error> {
        let found = self.storage.pubsub_node(service.as_str(), name).await?;
        Ok(found.is_some())
    }

    /// The node, which must exist.
    pub(super) async fn existing(&self, service: &BareJid, name: &str) -> Result<Node, Problem> {
        self.find(service, name).await?.ok_or(Problem::NotFound)
    }

    /// The node and what the asker is to it.
    pub(super) async fn node(
        &self,
        call: &Call<'_>,
        name: &str,
    ) -> Result<(Node, Standing), Problem> {
        let node = self.existing(call.service, name).await?;
        let standing = self.standing(call.service, name, call.from).await?;
        Ok((node, standing))
    }

    /// The node, for its owners.
    pub(super) async fn owned(&self, call: &Call<'_>, name: &str) -> Result<Node, Problem> {
        let (node, standing) = self.node(call, name).await?;
        standing.may_own()?;
        Ok(node)
    }

    /// What an entity is to a node.
    pub(super) async fn standing(
        &self,
        service: &BareJid,
        node: &str,
        entity: &Jid,
    ) -> Result<Standing, Problem> {
        let bare = entity.bare();
        if bare == *service {
            return Ok(Standing::owner());
        }
        let contact = self.audience.contact(service, &bare).await?;
        let affiliations =
            self.storage
                .pubsub_affiliations(service.as_str(), Some(node), Some(bare.as_str()));
        let affiliation = affiliations
            .await?
            .first()
            .map_or(Affiliation::None, |found| {
                Affiliation::from_word(&found.state).unwrap_or(Affiliation::None)
            });
        let mut subscription = SubscriptionState::None;
        for jid in [bare.as_str(), entity.as_str()] {
            let found = self
                .storage
                .pubsub_subscriptions(service.as_str(), Some(node), Some(jid))
                .await?;
            for state in found
                .iter()
                .filter_map(|s| SubscriptionState::from_word(&s.state))
            {
                if subscription != SubscriptionState::Subscribed {
                    subscription = state;
                }
            }
        }
        Ok(Standing {
            affiliation,
            sees_presence: contact.sees_presence,
            groups: contact.groups,
            subscription,
            blocked: contact.blocked,
        })
    }
}
