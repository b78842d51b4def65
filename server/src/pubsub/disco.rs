//! XEP-0030 in XEP-0060 §5.1 to §5.5: what an account and its nodes say of themselves.

use eider_xmpp::element::Element;
use eider_xmpp::jid::BareJid;
use eider_xmpp::ns;

use super::config::NodeConfig;
use super::paging;
use super::{Call, Engine, Problem, form};

/// Category and type of an account's identity (XEP-0163 §6.1).
pub const ACCOUNT_IDENTITY: (&str, &str) = ("pubsub", "pep");

/// XEP-0060 §10: the features of an account as a pubsub service.
pub const ACCOUNT_FEATURES: [&str; 44] = [
    "http://jabber.org/protocol/pubsub",
    "http://jabber.org/protocol/pubsub#access-authorize",
    "http://jabber.org/protocol/pubsub#access-open",
    "http://jabber.org/protocol/pubsub#access-presence",
    "http://jabber.org/protocol/pubsub#access-roster",
    "http://jabber.org/protocol/pubsub#access-whitelist",
    "http://jabber.org/protocol/pubsub#auto-create",
    "http://jabber.org/protocol/pubsub#auto-subscribe",
    "http://jabber.org/protocol/pubsub#config-node",
    "http://jabber.org/protocol/pubsub#config-node-max",
    "http://jabber.org/protocol/pubsub#create-and-configure",
    "http://jabber.org/protocol/pubsub#create-nodes",
    "http://jabber.org/protocol/pubsub#delete-items",
    "http://jabber.org/protocol/pubsub#delete-nodes",
    "http://jabber.org/protocol/pubsub#filtered-notifications",
    "http://jabber.org/protocol/pubsub#instant-nodes",
    "http://jabber.org/protocol/pubsub#item-ids",
    "http://jabber.org/protocol/pubsub#last-published",
    "http://jabber.org/protocol/pubsub#manage-subscriptions",
    "http://jabber.org/protocol/pubsub#member-affiliation",
    "http://jabber.org/protocol/pubsub#meta-data",
    "http://jabber.org/protocol/pubsub#modify-affiliations",
    "http://jabber.org/protocol/pubsub#multi-items",
    "http://jabber.org/protocol/pubsub#outcast-affiliation",
    "http://jabber.org/protocol/pubsub#persistent-items",
    "http://jabber.org/protocol/pubsub#presence-notifications",
    "http://jabber.org/protocol/pubsub#presence-subscribe",
    "http://jabber.org/protocol/pubsub#publish",
    "http://jabber.org/protocol/pubsub#publish-node-full",
    "http://jabber.org/protocol/pubsub#publish-only-affiliation",
    "http://jabber.org/protocol/pubsub#publish-options",
    "http://jabber.org/protocol/pubsub#publisher-affiliation",
    "http://jabber.org/protocol/pubsub#pubsub-on-a-jid",
    "http://jabber.org/protocol/pubsub#purge-nodes",
    "http://jabber.org/protocol/pubsub#retract-items",
    "http://jabber.org/protocol/pubsub#retrieve-affiliations",
    "http://jabber.org/protocol/pubsub#retrieve-default",
    "http://jabber.org/protocol/pubsub#retrieve-default-sub",
    "http://jabber.org/protocol/pubsub#retrieve-items",
    "http://jabber.org/protocol/pubsub#retrieve-subscriptions",
    "http://jabber.org/protocol/pubsub#rsm",
    "http://jabber.org/protocol/pubsub#subscribe",
    "http://jabber.org/protocol/pubsub#subscription-notifications",
    "http://jabber.org/protocol/pubsub#subscription-options",
];

impl Engine {
    /// Names of all nodes of a service.
    pub(super) async fn names(&self, service: &BareJid) -> Result<Vec<String>, Problem> {
        let nodes = self
            .storage
            .pubsub_nodes(service.as_str(), None, self.limits().max_nodes)
            .await?;
        Ok(nodes.into_iter().map(|node| node.node).collect())
    }

    /// §5.3 and §5.4: `<query/>` of disco#info on a node.
    pub async fn node_info(&self, call: &Call<'_>, name: &str) -> Result<Element, Problem> {
        let (node, standing) = self.node(call, name).await?;
        if standing.may_retrieve(&node.config).is_err() {
            standing.may_subscribe(&node.config)?;
        }
        let title = Some(node.config.title.as_str()).filter(|title| !title.is_empty());
        let identity = Element::new("identity", ns::DISCO_INFO)
            .with_attr("category", "pubsub")
            .with_attr("type", "leaf")
            .with_attr_opt("name", title);
        let feature = Element::new("feature", ns::DISCO_INFO).with_attr("var", ns::PUBSUB);
        let metadata = form::metadata(&node.config, call.service.as_str(), node.created_at);
        Ok(Element::new("query", ns::DISCO_INFO)
            .with_attr("node", name)
            .with_child(identity)
            .with_child(feature)
            .with_child(metadata))
    }

    /// §5.2: `<query/>` of disco#items on the service: the nodes that the asker may see. All of them: whoever
    /// answers adds what else there is, and cuts the page.
    pub async fn node_list(&self, call: &Call<'_>) -> Result<Element, Problem> {
        let service = call.service.as_str();
        let mut visible = Vec::new();
        for stored in self
            .storage
            .pubsub_nodes(service, None, self.limits().max_nodes)
            .await?
        {
            let node = super::service::Node::read(stored)?;
            if call.is_owner() || self.sees(call, &node.name, &node.config).await? {
                visible.push((node.name, node.config.title));
            }
        }
        let items = visible.iter().map(|(name, title)| {
            Element::new("item", ns::DISCO_ITEMS)
                .with_attr("jid", service)
                .with_attr("node", name.as_str())
                .with_attr_opt("name", Some(title.as_str()).filter(|t| !t.is_empty()))
        });
        Ok(Element::new("query", ns::DISCO_ITEMS).with_children(items))
    }

    async fn sees(
        &self,
        call: &Call<'_>,
        name: &str,
        config: &NodeConfig,
    ) -> Result<bool, Problem> {
        let standing = self.standing(call.service, name, call.from).await?;
        Ok(standing.may_retrieve(config).is_ok() || standing.may_subscribe(config).is_ok())
    }

    /// §5.5: `<query/>` of disco#items on a node: its items.
    pub async fn item_list(
        &self,
        call: &Call<'_>,
        name: &str,
        set: Option<&Element>,
    ) -> Result<Element, Problem> {
        let (node, standing) = self.node(call, name).await?;
        standing.may_retrieve(&node.config)?;
        let service = call.service.as_str();
        let mut found = self
            .storage
            .pubsub_item_heads(service, name, self.limits().max_items)
            .await?;
        found.retain(|item| !super::items::has_expired(&node, item.at, call.now));
        let asked = set.map(paging::read).transpose()?;
        let range = paging::range(&found, |item| &item.id, &asked.clone().unwrap_or_default())?;
        let shown = &found[range.clone()];
        let items = shown.iter().map(|item| {
            Element::new("item", ns::DISCO_ITEMS)
                .with_attr("jid", service)
                .with_attr("name", item.id.as_str())
        });
        let set = asked.map(|_| paging::notation(shown, |item| &item.id, range.start, found.len()));
        Ok(Element::new("query", ns::DISCO_ITEMS)
            .with_attr("node", name)
            .with_children(items)
            .with_children(set))
    }
}
