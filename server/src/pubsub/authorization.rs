//! XEP-0060 §8.6: an owner decides on subscription requests, by message.

use eider_xmpp::element::Element;
use eider_xmpp::jid::Jid;
use eider_xmpp::ns;

use super::access::SubscriptionState;
use super::form::{self, Reply};
use super::{Answer, Call, Engine, Notice, Problem};

/// The message that asks the account.
pub(super) fn request(call: &Call<'_>, node: &str, subscriber: &Jid) -> Notice {
    let message = Element::new("message", ns::CLIENT)
        .with_attr("from", call.service.as_str())
        .with_attr("id", (call.token)())
        .with_child(form::authorization(node, subscriber.as_str()));
    Notice {
        to: vec![call.service.to_jid()],
        message,
    }
}

impl Engine {
    /// A message from the account to itself: where it answers a subscription request,
    /// what follows; otherwise `None`, and the message is like any other.
    pub async fn authorization(
        &self,
        call: &Call<'_>,
        form: &Element,
    ) -> Result<Option<Answer>, Problem> {
        if !call.is_owner() {
            return Ok(None);
        }
        let (node, subscriber, allow) = match form::authorization_reply(form) {
            None => return Ok(None),
            Some(Reply::Later) => return Ok(Some(Answer::default())),
            Some(Reply::Decided {
                node,
                subscriber,
                allow,
            }) => (node, subscriber, allow),
        };
        let node = self.owned(call, &node).await?;
        let jid = Jid::parse(&subscriber).map_err(|_| Problem::InvalidJid)?;
        let service = call.service.as_str();
        let found =
            self.storage
                .pubsub_subscriptions(service, Some(&node.name), Some(jid.as_str()));
        let pending = found
            .await?
            .iter()
            .any(|s| s.state == SubscriptionState::Pending.as_str());
        let mut answer = Answer::default();
        if !pending {
            return Ok(Some(answer));
        }
        let state = if allow {
            SubscriptionState::Subscribed
        } else {
            SubscriptionState::None
        };
        self.set_state(call, &node, &jid, state, &mut answer)
            .await?;
        if allow {
            self.tell_subscribed(call, &node, &jid, state, &mut answer)
                .await?;
        }
        Ok(Some(answer))
    }
}
