//! XEP-0060 §7 and §8.5: publishing, retracting and purging items.

use bytes::Bytes;
use eider_storage::PubsubItem;
use eider_xmpp::element::Element;
use eider_xmpp::jid::Jid;
use eider_xmpp::ns;
use eider_xmpp::payload::pubsub::NewItem;

use super::access::Standing;
use super::config::{Amount, NodeConfig, NodeFull};
use super::form;
use super::notify::{item_element, items_event, message, push, push_published};
use super::service::{Node, checked_name, stored};
use super::{Answer, Call, Engine, Problem};

/// How often creation is tried where another session creates the node meanwhile.
const CREATE_TRIES: usize = 2;

impl Engine {
    /// §7.1
    pub(super) async fn publish(
        &self,
        call: &Call<'_>,
        name: &str,
        item: Option<NewItem>,
        options: Option<&Element>,
    ) -> Result<Answer, Problem> {
        checked_name(name)?;
        let preconditions = form::preconditions(options)?;
        let (node, standing) = self.publishable(call, name, &preconditions).await?;
        standing.may_publish(&node.config)?;
        let config = &node.config;
        let payload = self.checked_payload(config, item.as_ref())?;
        let given_id = item.as_ref().and_then(|item| item.id.clone());
        if let Some(id) = &given_id {
            checked_name(id)?;
        }
        let mut answer = Answer::default();
        let mut result = Element::new("publish", ns::PUBSUB).with_attr("node", name);
        let mut content = None;
        let mut trimmed = Vec::new();
        if item.is_some() {
            let id = given_id.unwrap_or_else(|| (call.token)());
            result =
                result.with_child(Element::new("item", ns::PUBSUB).with_attr("id", id.as_str()));
            let item = PubsubItem {
                id,
                publisher: call.from.as_str().to_owned(),
                payload,
                at: call.now,
            };
            trimmed = self.keep(call, &node, &item).await?;
            let mut shown = item;
            if !config.deliver_payloads {
                shown.payload.clear();
            }
            content = Some(item_element(&shown, config, ns::PUBSUB_EVENT));
        }
        answer.payload = Some(Element::new("pubsub", ns::PUBSUB).with_child(result));
        let recipients = self.recipients(call.service, name, config).await?;
        let told = items_event(name, content);
        let retracted = retracted_message(call, &node, &trimmed);
        let everybody: Vec<Jid> = match retracted {
            Some(_) => recipients
                .close
                .iter()
                .chain(&recipients.others)
                .cloned()
                .collect(),
            None => Vec::new(),
        };
        push_published(
            &mut answer,
            recipients,
            call.from,
            message(call, config, told),
        );
        if let Some(retracted) = retracted {
            push(&mut answer, everybody, retracted);
        }
        Ok(answer)
    }

    /// The node to publish to, made first where it may be (§7.1.4, §7.1.5).
    async fn publishable(
        &self,
        call: &Call<'_>,
        name: &str,
        preconditions: &form::Fields,
    ) -> Result<(Node, Standing), Problem> {
        let fields = form::submitted(preconditions);
        for _ in 0..CREATE_TRIES {
            if let Some(node) = self.find(call.service, name).await? {
                let standing = self.standing(call.service, name, call.from).await?;
                standing.may_publish(&node.config)?;
                node.config.check(&fields).map_err(precondition)?;
                return Ok((node, standing));
            }
            if !call.is_owner() {
                return Err(Problem::NotFound);
            }
            let config = NodeConfig::default()
                .created_with(&fields)
                .map_err(precondition)?;
            match self.make(call, name, &config).await {
                Ok(()) | Err(Problem::Exists) => {}
                Err(other) => return Err(other),
            }
        }
        Err(Problem::NotFound)
    }

    /// Creates a node with this configuration.
    pub(super) async fn make(
        &self,
        call: &Call<'_>,
        name: &str,
        config: &NodeConfig,
    ) -> Result<(), Problem> {
        let bytes = stored(config);
        let created = self.storage.pubsub_create(
            self.fence,
            call.service.as_str(),
            name,
            &bytes,
            self.limits().max_nodes,
            call.now,
        );
        match created.await {
            Ok(()) => Ok(()),
            // Storage tells "exists" and "too many" apart by nothing but this look.
            Err(eider_storage::Error::Conflict(_)) => match self.find(call.service, name).await? {
                Some(_) => Err(Problem::Exists),
                None => Err(Problem::TooManyNodes),
            },
            Err(error) => Err(error.into()),
        }
    }

    /// §7.1.3: the item against the node's kind; the payload as it is stored.
    fn checked_payload(
        &self,
        config: &NodeConfig,
        item: Option<&NewItem>,
    ) -> Result<Bytes, Problem> {
        let Some(item) = item else {
            return match (config.persist_items, config.deliver_payloads) {
                (true, _) => Err(Problem::ItemRequired),
                (false, true) => Err(Problem::PayloadRequired),
                (false, false) => Ok(Bytes::new()),
            };
        };
        if !config.persist_items && !config.deliver_payloads {
            return Err(Problem::ItemForbidden);
        }
        let payload = match item.payloads.as_slice() {
            [] if config.deliver_payloads => return Err(Problem::PayloadRequired),
            [] => return Ok(Bytes::new()),
            [payload] => payload.to_xml(),
            _ => return Err(Problem::InvalidPayload),
        };
        let most = config
            .max_payload_size
            .or_max(self.limits().max_payload_bytes);
        if payload.len() > most as usize {
            return Err(Problem::PayloadTooBig);
        }
        Ok(Bytes::from(payload))
    }

    /// Stores the item as the node says; answers the ids that gave way to it.
    async fn keep(
        &self,
        call: &Call<'_>,
        node: &Node,
        item: &PubsubItem,
    ) -> Result<Vec<String>, Problem> {
        let most = self.items_max(&node.config);
        if most == 0 {
            return Ok(Vec::new());
        }
        let service = call.service.as_str();
        if node.config.publish_node_full == NodeFull::Reject {
            let heads = self.storage.pubsub_item_heads(service, &node.name, most);
            let kept = heads.await?;
            if kept.len() >= most as usize && !kept.iter().any(|head| head.id == item.id) {
                return Err(Problem::NodeFull);
            }
        }
        let bytes_max = self.limits().max_bytes;
        let written = self
            .storage
            .pubsub_publish(self.fence, service, &node.name, item, most, bytes_max);
        match written.await {
            Ok(written) => Ok(written.ok_or(Problem::NotFound)?.trimmed),
            Err(eider_storage::Error::Full(_)) => Err(Problem::TooManyBytes),
            Err(error) => Err(error.into()),
        }
    }

    /// How many items the node keeps.
    pub(super) fn items_max(&self, config: &NodeConfig) -> u32 {
        if config.persist_items {
            config.max_items.or_max(self.limits().max_items)
        } else {
            0
        }
    }

    /// §7.2
    pub(super) async fn retract(
        &self,
        call: &Call<'_>,
        name: &str,
        ids: &[String],
        notify: bool,
    ) -> Result<Answer, Problem> {
        let (node, standing) = self.node(call, name).await?;
        if !node.config.persist_items {
            return Err(Problem::Unsupported("persistent-items"));
        }
        let service = call.service.as_str();
        let items = self.storage.pubsub_items_by_id(service, name, ids).await?;
        // Who may remove nothing learns nothing of what is there.
        standing.may_retract(&node.config, true)?;
        for item in &items {
            let publisher = Jid::parse(&item.publisher).map(|jid| jid.bare());
            let own = publisher.is_ok_and(|publisher| publisher == call.from.bare());
            standing.may_retract(&node.config, own)?;
        }
        let gone = self
            .storage
            .pubsub_retract(self.fence, service, name, ids)
            .await?;
        if gone.is_empty() {
            return Err(Problem::NotFound);
        }
        let mut answer = Answer::default();
        if notify || node.config.notify_retract {
            let to = self
                .recipients(call.service, name, &node.config)
                .await?
                .all();
            push(&mut answer, to, retraction(call, &node, &gone));
        }
        Ok(answer)
    }

    /// §8.5
    pub(super) async fn purge(&self, call: &Call<'_>, name: &str) -> Result<Answer, Problem> {
        let node = self.owned(call, name).await?;
        if !node.config.persist_items {
            return Err(Problem::Unsupported("persistent-items"));
        }
        self.storage
            .pubsub_purge(self.fence, call.service.as_str(), name)
            .await?;
        let mut answer = Answer::default();
        if node.config.notify_retract {
            let to = self
                .recipients(call.service, name, &node.config)
                .await?
                .all();
            let purged = Element::new("purge", ns::PUBSUB_EVENT).with_attr("node", name);
            push(&mut answer, to, message(call, &node.config, purged));
        }
        Ok(answer)
    }
}

/// A field that cannot be taken is a precondition that cannot be met.
fn precondition(error: super::config::Error) -> Problem {
    use super::config::Error;
    match error {
        Error::Unknown(var) | Error::Value(var) | Error::Precondition(var) => {
            Problem::Precondition(var)
        }
        Error::AccessModel => Problem::AccessModel,
    }
}

fn retraction(call: &Call<'_>, node: &Node, ids: &[String]) -> Element {
    let content = ids
        .iter()
        .map(|id| Element::new("retract", ns::PUBSUB_EVENT).with_attr("id", id.as_str()));
    message(call, &node.config, items_event(&node.name, content))
}

/// §7.1.2.5: what gave way to the new item. A node of one item is replaced, not trimmed.
fn retracted_message(call: &Call<'_>, node: &Node, trimmed: &[String]) -> Option<Element> {
    let config = &node.config;
    let tells = config.notify_retract
        && config.publish_node_full == NodeFull::RetractOldest
        && config.max_items != Amount::Of(1);
    (tells && !trimmed.is_empty()).then(|| retraction(call, node, trimmed))
}
