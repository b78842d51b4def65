//! XEP-0060 §7.1.2 and XEP-0163 §4.3: notifications, and who gets them.

use std::collections::HashSet;

use eider_storage::{PubsubItem, PubsubRelation};
use eider_xmpp::datetime;
use eider_xmpp::element::Element;
use eider_xmpp::jid::{BareJid, FullJid, Jid};
use eider_xmpp::ns;

use super::access::{Affiliation, Standing, SubscriptionState};
use super::config::{ItemReply, NodeConfig, SendLast};
use super::service::Node;
use super::subscriptions::Options;
use super::{Answer, Call, Contact, Engine, Notice, Problem};

/// The most nodes of one `+notify` list that are looked at.
const MAX_WANTED_NODES: usize = 256;

/// Who gets a notification.
#[derive(Debug, Default)]
pub(super) struct Recipients {
    /// Resources of the account and of who sees its presence: they may know which
    /// of the account's resources published (XEP-0163 §4.3.1).
    pub close: Vec<Jid>,
    /// Everybody else.
    pub others: Vec<Jid>,
}

impl Recipients {
    pub(super) fn all(self) -> Vec<Jid> {
        let mut all = self.close;
        all.extend(self.others);
        all
    }
}

/// The children of `<items/>` for a stored item: payload and publisher as the node says.
pub(super) fn item_element(
    item: &PubsubItem,
    config: &NodeConfig,
    namespace: &'static str,
) -> Element {
    let mut element = Element::new("item", namespace).with_attr("id", item.id.as_str());
    if config.item_reply == ItemReply::Publisher {
        element.set_attr("publisher", item.publisher.as_str());
    }
    match Element::parse_stored(&item.payload[..]) {
        Ok(payload) if !item.payload.is_empty() => element.with_child(payload),
        _ => element,
    }
}

/// The message around an event.
pub(super) fn message(call: &Call<'_>, config: &NodeConfig, event: Element) -> Element {
    event_message(
        call.service,
        &(call.token)(),
        config.notification_type.as_str(),
        event,
    )
}

/// A message of this type with an `<event/>` in it.
pub(super) fn event_message(service: &BareJid, id: &str, kind: &str, event: Element) -> Element {
    let mut message = Element::new("message", ns::CLIENT)
        .with_attr("from", service.as_str())
        .with_attr("id", id);
    if kind != "normal" {
        message.set_attr("type", kind);
    }
    message.with_child(Element::new("event", ns::PUBSUB_EVENT).with_child(event))
}

/// `<items/>` of an event.
pub(super) fn items_event(node: &str, content: impl IntoIterator<Item = Element>) -> Element {
    Element::new("items", ns::PUBSUB_EVENT)
        .with_attr("node", node)
        .with_children(content)
}

/// XEP-0033: replies to what a contact is told go to the publishing resource.
fn reply_to(publisher: &Jid) -> Element {
    let address = Element::new("address", ns::ADDRESS)
        .with_attr("type", "replyto")
        .with_attr("jid", publisher.as_str());
    Element::new("addresses", ns::ADDRESS).with_child(address)
}

/// Adds a notice for a new item.
pub(super) fn push_published(
    answer: &mut Answer,
    recipients: Recipients,
    publisher: &Jid,
    message: Element,
) {
    if !recipients.close.is_empty() {
        let message = message.clone().with_child(reply_to(publisher));
        answer.notices.push(Notice {
            to: recipients.close,
            message,
        });
    }
    push(answer, recipients.others, message);
}

/// Adds a notice unless nobody gets it.
pub(super) fn push(answer: &mut Answer, to: Vec<Jid>, message: Element) {
    if !to.is_empty() {
        answer.notices.push(Notice { to, message });
    }
}

impl Engine {
    /// Everybody who is to be notified of what happens at the node now.
    pub(super) async fn recipients(
        &self,
        service: &BareJid,
        name: &str,
        config: &NodeConfig,
    ) -> Result<Recipients, Problem> {
        let mut found = Recipients::default();
        if !config.deliver_notifications {
            return Ok(found);
        }
        let affiliations = self
            .storage
            .pubsub_affiliations(service.as_str(), Some(name), None)
            .await?;
        let subscriptions = self
            .storage
            .pubsub_subscriptions(service.as_str(), Some(name), None)
            .await?;
        let mut seen = HashSet::new();
        let mut reached = HashSet::new();
        for resource in self.audience.interested(service, service, name) {
            seen.insert(Jid::from(resource.clone()));
            found.close.push(resource.into());
        }
        for contact in self.audience.contacts(service).await? {
            let standing = standing_of(&contact, &affiliations, &subscriptions);
            if !standing.is_auto_subscribed(config) {
                continue;
            }
            let resources = self.audience.interested(service, &contact.jid, name);
            if !resources.is_empty() {
                reached.insert(contact.jid);
            }
            for resource in resources.into_iter().map(Jid::from) {
                if seen.insert(resource.clone()) {
                    found.close.push(resource);
                }
            }
        }
        for subscription in &subscriptions {
            let Ok(jid) = Jid::parse(&subscription.jid) else {
                continue;
            };
            if jid.is_bare() && reached.contains(&jid.bare()) {
                continue;
            }
            if !self
                .is_entitled(service, config, subscription, &affiliations)
                .await?
            {
                continue;
            }
            for jid in self.addresses(service, name, config, jid) {
                if seen.insert(jid.clone()) {
                    found.others.push(jid);
                }
            }
        }
        Ok(found)
    }

    /// An explicit subscription that is active, wanted and still allowed.
    async fn is_entitled(
        &self,
        service: &BareJid,
        config: &NodeConfig,
        subscription: &PubsubRelation,
        affiliations: &[PubsubRelation],
    ) -> Result<bool, Problem> {
        let state = SubscriptionState::from_word(&subscription.state);
        if state != Some(SubscriptionState::Subscribed)
            || !Options::read(&subscription.options).deliver
        {
            return Ok(false);
        }
        let Ok(jid) = Jid::parse(&subscription.jid) else {
            return Ok(false);
        };
        if jid.bare() == *service {
            return Ok(true);
        }
        let contact = self.audience.contact(service, &jid.bare()).await?;
        let own = std::slice::from_ref(subscription);
        Ok(standing_of(&contact, affiliations, own)
            .may_retrieve(config)
            .is_ok())
    }

    /// XEP-0163 §4.3.2: where notifications for a subscribed JID go.
    fn addresses(&self, service: &BareJid, name: &str, config: &NodeConfig, jid: Jid) -> Vec<Jid> {
        let bare = jid.bare();
        let available = self.audience.available(service, &bare);
        if !jid.is_bare() {
            let online = available.iter().any(|full| full.as_str() == jid.as_str());
            return if config.presence_based_delivery && !online {
                Vec::new()
            } else {
                vec![jid]
            };
        }
        let interested = self.audience.interested(service, &bare, name);
        if !interested.is_empty() {
            return interested.into_iter().map(Jid::from).collect();
        }
        if config.presence_based_delivery && available.is_empty() {
            Vec::new()
        } else {
            vec![jid]
        }
    }

    /// XEP-0163 §4.3.4: the last items of the nodes that a resource wants to hear of,
    /// when it comes online, or may see them from now on. `wanted` are the names of
    /// its capabilities' `+notify` features without that ending.
    pub async fn last_items(
        &self,
        service: &BareJid,
        to: &FullJid,
        wanted: &[String],
        id: &(dyn Fn() -> String + Send + Sync),
    ) -> Result<Vec<Notice>, Problem> {
        let wanted = &wanted[..wanted.len().min(MAX_WANTED_NODES)];
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let entity = Jid::from(to.clone());
        let mut notices = Vec::new();
        for (name, item) in self
            .storage
            .pubsub_last_items(service.as_str(), wanted)
            .await?
        {
            let Some(node) = self.find(service, &name).await? else {
                continue;
            };
            let config = &node.config;
            if config.send_last_published_item != SendLast::OnSubAndPresence
                || !config.deliver_notifications
                || !config.persist_items
            {
                continue;
            }
            let standing = self.standing(service, &name, &entity).await?;
            let explicit = standing.subscription == SubscriptionState::Subscribed;
            if !(standing.is_auto_subscribed(config)
                || (explicit && standing.may_retrieve(config).is_ok()))
            {
                continue;
            }
            let message = last_item_message(service, &id(), &node, &item);
            notices.push(Notice {
                to: vec![entity.clone()],
                message,
            });
        }
        Ok(notices)
    }
}

/// The message that carries an item published earlier.
pub(super) fn last_item_message(
    service: &BareJid,
    id: &str,
    node: &Node,
    item: &PubsubItem,
) -> Element {
    let mut bare = item.clone();
    if !node.config.deliver_payloads {
        bare.payload.clear();
    }
    let content = item_element(&bare, &node.config, ns::PUBSUB_EVENT);
    let event = items_event(&node.name, [content]);
    let kind = node.config.notification_type.as_str();
    let delay =
        Element::new("delay", ns::DELAY).with_attr("stamp", datetime::format_millis(item.at.0));
    event_message(service, id, kind, event).with_child(delay)
}

/// What a contact is to a node whose affiliations and subscriptions are at hand.
fn standing_of(
    contact: &Contact,
    affiliations: &[PubsubRelation],
    subscriptions: &[PubsubRelation],
) -> Standing {
    let affiliation = affiliations.iter().find(|a| a.jid == contact.jid.as_str());
    let affiliation = affiliation.and_then(|found| Affiliation::from_word(&found.state));
    let subscribed = subscriptions.iter().any(|s| {
        s.state == SubscriptionState::Subscribed.as_str()
            && Jid::parse(&s.jid).is_ok_and(|jid| jid.bare() == contact.jid)
    });
    Standing {
        affiliation: affiliation.unwrap_or(Affiliation::None),
        sees_presence: contact.sees_presence,
        groups: contact.groups.clone(),
        subscription: if subscribed {
            SubscriptionState::Subscribed
        } else {
            SubscriptionState::None
        },
        blocked: contact.blocked,
    }
}
