//! XEP-0060 §5.6, §6.1 to §6.4 and §8.8: subscriptions and their options.

use bytes::Bytes;
use eider_storage::PubsubRelation;
use eider_xmpp::element::Element;
use eider_xmpp::jid::{BareJid, Jid};
use eider_xmpp::ns;
use eider_xmpp::payload::pubsub::Change;
use serde::{Deserialize, Serialize};

use super::access::SubscriptionState;
use super::config::SendLast;
use super::form;
use super::notify::{event_message, last_item_message, push};
use super::service::{Node, relation, wanted};
use super::{Answer, Call, Engine, Notice, Problem};

/// Options of one subscription, stored as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Options {
    /// Notifications are wanted.
    pub deliver: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options { deliver: true }
    }
}

impl Options {
    /// As stored; what cannot be read is the default.
    pub(super) fn read(stored: &[u8]) -> Options {
        serde_json::from_slice(stored).unwrap_or_default()
    }

    fn write(&self) -> Bytes {
        if *self == Options::default() {
            return Bytes::new();
        }
        Bytes::from(serde_json::to_vec(self).expect("options have only plain fields"))
    }

    /// With a submitted form applied; `None` for a cancelled one.
    fn submit(&self, form: &Element) -> Result<Option<Options>, Problem> {
        let submission = form::submission(form, ns::PUBSUB_SUBSCRIBE_OPTIONS);
        let Some(fields) = submission.map_err(|_| Problem::InvalidOptions)? else {
            return Ok(None);
        };
        let mut next = self.clone();
        for (var, values) in &fields {
            if var == "pubsub#deliver" {
                next.deliver = match values.first().map(String::as_str) {
                    Some("1" | "true") => true,
                    Some("0" | "false") => false,
                    _ => return Err(Problem::InvalidOptions),
                };
            }
        }
        Ok(Some(next))
    }
}

/// `<subscription/>` in either namespace.
fn entry(namespace: &'static str, node: Option<&str>, jid: &str, state: &str) -> Element {
    Element::new("subscription", namespace)
        .with_attr_opt("node", node)
        .with_attr("jid", jid)
        .with_attr("subscription", state)
}

/// §12.14: tells an entity the state of its subscription.
pub(super) fn state_notice(call: &Call<'_>, node: &str, jid: &str, state: &str) -> Option<Notice> {
    let to = Jid::parse(jid).ok()?;
    let event = entry(ns::PUBSUB_EVENT, Some(node), jid, state);
    let message = event_message(call.service, &(call.token)(), "headline", event);
    Some(Notice {
        to: vec![to],
        message,
    })
}

/// The subscriber's JID, which must be the asker's own.
fn own_jid(call: &Call<'_>, jid: Option<&str>, wrong: Problem) -> Result<Jid, Problem> {
    let jid = Jid::parse(jid.ok_or(Problem::JidRequired)?).map_err(|_| Problem::InvalidJid)?;
    if jid.bare() != call.from.bare() {
        return Err(wrong);
    }
    Ok(jid)
}

impl Engine {
    /// The explicit subscription of exactly this JID.
    async fn subscription(
        &self,
        service: &BareJid,
        node: &str,
        jid: &Jid,
    ) -> Result<Option<PubsubRelation>, Problem> {
        let found =
            self.storage
                .pubsub_subscriptions(service.as_str(), Some(node), Some(jid.as_str()));
        Ok(found.await?.into_iter().next())
    }

    pub(super) async fn put_subscription(
        &self,
        service: &BareJid,
        subscription: &PubsubRelation,
    ) -> Result<(), Problem> {
        let put = self.storage.pubsub_subscribe(
            self.fence,
            service.as_str(),
            subscription,
            self.limits().max_entities,
        );
        put.await.map_err(|error| match error {
            eider_storage::Error::Conflict(_) => Problem::TooManySubscriptions,
            other => other.into(),
        })
    }

    /// §6.1
    pub(super) async fn subscribe(
        &self,
        call: &Call<'_>,
        name: &str,
        jid: Option<&str>,
        options: Option<&Element>,
    ) -> Result<Answer, Problem> {
        let jid = own_jid(call, jid, Problem::InvalidJid)?;
        let (node, standing) = self.node(call, name).await?;
        let state = standing.may_subscribe(&node.config)?;
        let before = self.subscription(call.service, name, &jid).await?;
        let mut wanted = before
            .as_ref()
            .map_or(Options::default(), |s| Options::read(&s.options));
        if let Some(form) = options {
            wanted = wanted.submit(form)?.unwrap_or(wanted);
        }
        let subscription = PubsubRelation {
            options: wanted.write(),
            ..relation(name, jid.as_str(), state.as_str())
        };
        let is_new = before
            .as_ref()
            .is_none_or(|before| before.state != subscription.state);
        if before.is_none() {
            let own = self.storage.pubsub_subscriptions_of(
                call.service.as_str(),
                Some(name),
                jid.bare_str(),
            );
            if own.await?.len() >= self.limits().max_per_account as usize {
                return Err(Problem::TooManySubscriptions);
            }
        }
        if before.as_ref() != Some(&subscription) {
            self.put_subscription(call.service, &subscription).await?;
        }
        let shown = entry(ns::PUBSUB, Some(name), jid.as_str(), state.as_str());
        let mut answer = Answer::showing(ns::PUBSUB, [shown]);
        if is_new {
            self.tell_subscribed(call, &node, &jid, state, &mut answer)
                .await?;
        }
        Ok(answer)
    }

    /// What follows a new subscription: an owner is asked or told, the subscriber gets
    /// the last item.
    pub(super) async fn tell_subscribed(
        &self,
        call: &Call<'_>,
        node: &Node,
        jid: &Jid,
        state: SubscriptionState,
        answer: &mut Answer,
    ) -> Result<(), Problem> {
        if state == SubscriptionState::Pending {
            answer
                .notices
                .push(super::authorization::request(call, &node.name, jid));
            return Ok(());
        }
        if node.config.notify_sub {
            let event = entry(
                ns::PUBSUB_EVENT,
                Some(&node.name),
                jid.as_str(),
                state.as_str(),
            );
            let told = event_message(call.service, &(call.token)(), "headline", event);
            push(answer, vec![call.service.to_jid()], told);
        }
        if node.config.send_last_published_item == SendLast::Never || !node.config.persist_items {
            return Ok(());
        }
        let newest = self
            .storage
            .pubsub_items(call.service.as_str(), &node.name, 1)
            .await?;
        if let Some(item) = newest.first() {
            let told = last_item_message(call.service, &(call.token)(), node, item);
            push(answer, vec![jid.clone()], told);
        }
        Ok(())
    }

    /// §6.2
    pub(super) async fn unsubscribe(
        &self,
        call: &Call<'_>,
        name: &str,
        jid: Option<&str>,
        subid: Option<&str>,
    ) -> Result<Answer, Problem> {
        let jid = own_jid(call, jid, Problem::Forbidden)?;
        let node = self.existing(call.service, name).await?;
        let before = self.subscription(call.service, name, &jid).await?;
        let before = before.ok_or(Problem::NotSubscribed)?;
        if subid.is_some() {
            return Err(Problem::InvalidSubid);
        }
        let service = call.service.as_str();
        let removed = self
            .storage
            .pubsub_unsubscribe(self.fence, service, name, &before.jid, None);
        removed.await?;
        let mut answer = Answer::default();
        if node.config.notify_sub {
            let event = entry(ns::PUBSUB_EVENT, Some(name), jid.as_str(), "none");
            let told = event_message(call.service, &(call.token)(), "headline", event);
            push(&mut answer, vec![call.service.to_jid()], told);
        }
        Ok(answer)
    }

    /// §6.3: read or write.
    pub(super) async fn options(
        &self,
        call: &Call<'_>,
        name: &str,
        (jid, subid): (Option<&str>, Option<&str>),
        form: Option<&Element>,
    ) -> Result<Answer, Problem> {
        let jid = own_jid(call, jid, Problem::Forbidden)?;
        self.existing(call.service, name).await?;
        let before = self.subscription(call.service, name, &jid).await?;
        let mut subscription = before.ok_or(Problem::NotSubscribed)?;
        if subid.is_some() {
            return Err(Problem::InvalidSubid);
        }
        let options = Options::read(&subscription.options);
        let Some(form) = form else {
            let shown = Element::new("options", ns::PUBSUB)
                .with_attr("node", name)
                .with_attr("jid", jid.as_str())
                .with_child(form::subscription_options(options.deliver));
            return Ok(Answer::showing(ns::PUBSUB, [shown]));
        };
        if let Some(next) = options.submit(form)? {
            subscription.options = next.write();
            self.put_subscription(call.service, &subscription).await?;
        }
        Ok(Answer::default())
    }

    /// §6.4
    pub(super) fn default_options(&self) -> Answer {
        let form = form::subscription_options(Options::default().deliver);
        let default = Element::new("default", ns::PUBSUB).with_child(form);
        Answer::showing(ns::PUBSUB, [default])
    }

    /// §5.6: the asker's own, whichever of its resources subscribed.
    pub(super) async fn subscriptions(
        &self,
        call: &Call<'_>,
        name: Option<&str>,
    ) -> Result<Answer, Problem> {
        if let Some(name) = name {
            self.existing(call.service, name).await?;
        }
        let service = call.service.as_str();
        let mut list = Element::new("subscriptions", ns::PUBSUB).with_attr_opt("node", name);
        let bare = call.from.bare();
        let mut jids = vec![bare.as_str()];
        if call.from.as_str() != bare.as_str() {
            jids.push(call.from.as_str());
        }
        for jid in jids {
            for found in self
                .storage
                .pubsub_subscriptions(service, name, Some(jid))
                .await?
            {
                list.push(entry(
                    ns::PUBSUB,
                    Some(&found.node),
                    &found.jid,
                    &found.state,
                ));
            }
        }
        Ok(Answer::showing(ns::PUBSUB, [list]))
    }

    /// §8.8.1: all of a node, for its owners.
    pub(super) async fn node_subscriptions(
        &self,
        call: &Call<'_>,
        name: &str,
    ) -> Result<Answer, Problem> {
        self.owned(call, name).await?;
        let service = call.service.as_str();
        let found = self
            .storage
            .pubsub_subscriptions(service, Some(name), None)
            .await?;
        let entries = found
            .iter()
            .map(|s| entry(ns::PUBSUB_OWNER, None, &s.jid, &s.state));
        let list = Element::new("subscriptions", ns::PUBSUB_OWNER)
            .with_attr("node", name)
            .with_children(entries);
        Ok(Answer::showing(ns::PUBSUB_OWNER, [list]))
    }

    /// §8.8.2: all changes or none.
    pub(super) async fn change_subscriptions(
        &self,
        call: &Call<'_>,
        name: &str,
        changes: &[Change],
    ) -> Result<Answer, Problem> {
        let node = self.owned(call, name).await?;
        // Nobody has more than one subscription here, so none has an id.
        if changes.iter().any(|change| change.subid.is_some()) {
            return Err(Problem::NotAcceptable);
        }
        let wanted = wanted(changes, SubscriptionState::from_word)?;
        let mut answer = Answer::default();
        for (jid, state) in wanted {
            self.set_state(call, &node, &jid, state, &mut answer)
                .await?;
        }
        Ok(answer)
    }

    /// An owner's word on one subscription; the subscriber is told (§8.8.4).
    pub(super) async fn set_state(
        &self,
        call: &Call<'_>,
        node: &Node,
        jid: &Jid,
        state: SubscriptionState,
        answer: &mut Answer,
    ) -> Result<(), Problem> {
        let before = self.subscription(call.service, &node.name, jid).await?;
        let was = before
            .as_ref()
            .and_then(|s| SubscriptionState::from_word(&s.state));
        if was.unwrap_or(SubscriptionState::None) == state {
            return Ok(());
        }
        let service = call.service.as_str();
        if state == SubscriptionState::None {
            let removed = self.storage.pubsub_unsubscribe(
                self.fence,
                service,
                &node.name,
                jid.as_str(),
                None,
            );
            removed.await?;
        } else {
            let subscription = PubsubRelation {
                options: before.map(|s| s.options).unwrap_or_default(),
                ..relation(&node.name, jid.as_str(), state.as_str())
            };
            self.put_subscription(call.service, &subscription).await?;
        }
        answer
            .notices
            .extend(state_notice(call, &node.name, jid.as_str(), state.as_str()));
        Ok(())
    }

    /// XEP-0163 §7.1: ends the subscriptions of those who may see the node no more.
    pub(super) async fn cancel_refused(
        &self,
        call: &Call<'_>,
        node: &Node,
        answer: &mut Answer,
    ) -> Result<(), Problem> {
        let service = call.service.as_str();
        for found in self
            .storage
            .pubsub_subscriptions(service, Some(&node.name), None)
            .await?
        {
            if let Ok(jid) = Jid::parse(&found.jid) {
                self.cancel_if_refused(call, node, &jid, answer).await?;
            }
        }
        Ok(())
    }

    async fn cancel_if_refused(
        &self,
        call: &Call<'_>,
        node: &Node,
        jid: &Jid,
        answer: &mut Answer,
    ) -> Result<(), Problem> {
        let standing = self.standing(call.service, &node.name, jid).await?;
        if standing.subscription != SubscriptionState::Subscribed
            || standing.may_retrieve(&node.config).is_ok()
        {
            return Ok(());
        }
        self.set_state(call, node, jid, SubscriptionState::None, answer)
            .await
    }

    /// XEP-0163 §7.1: a contact's presence subscription or roster groups have changed,
    /// or it was blocked: explicit subscriptions that it may hold no more end.
    pub async fn contact_changed(
        &self,
        call: &Call<'_>,
        contact: &BareJid,
    ) -> Result<Answer, Problem> {
        let service = call.service.as_str();
        let mut answer = Answer::default();
        for found in self
            .storage
            .pubsub_subscriptions_of(service, None, contact.as_str())
            .await?
        {
            let Ok(subscriber) = Jid::parse(&found.jid) else {
                continue;
            };
            let Some(node) = self.find(call.service, &found.node).await? else {
                continue;
            };
            self.cancel_if_refused(call, &node, &subscriber, &mut answer)
                .await?;
        }
        Ok(answer)
    }
}
