//! XEP-0060 §8.1 to §8.4: creating, configuring and deleting nodes.

use eider_xmpp::element::Element;
use eider_xmpp::ns;

use super::config::{AccessModel, NodeConfig, SendLast};
use super::form;
use super::notify::{last_item_message, message, push};
use super::service::{Node, checked_name, stored};
use super::{Answer, Call, Engine, Problem};

impl Engine {
    /// §8.1
    pub(super) async fn create(
        &self,
        call: &Call<'_>,
        name: Option<String>,
        form: Option<&Element>,
    ) -> Result<Answer, Problem> {
        if !call.is_owner() {
            return Err(Problem::Forbidden);
        }
        let fields = match form {
            Some(form) => form::submission(form, ns::PUBSUB_NODE_CONFIG)?.unwrap_or_default(),
            None => Vec::new(),
        };
        let config = NodeConfig::default().submit(&form::submitted(&fields))?;
        let (name, instant) = match name {
            Some(name) => (name, false),
            None => ((call.token)(), true),
        };
        checked_name(&name)?;
        self.make(call, &name, &config).await?;
        let created = Element::new("create", ns::PUBSUB).with_attr("node", name);
        Ok(match instant {
            true => Answer::showing(ns::PUBSUB, [created]),
            false => Answer::default(),
        })
    }

    /// §8.2.2
    pub(super) async fn configuration(
        &self,
        call: &Call<'_>,
        name: &str,
    ) -> Result<Answer, Problem> {
        let node = self.owned(call, name).await?;
        let configure = Element::new("configure", ns::PUBSUB_OWNER)
            .with_attr("node", name)
            .with_child(form::configuration(&node.config));
        Ok(Answer::showing(ns::PUBSUB_OWNER, [configure]))
    }

    /// §8.3
    pub(super) fn default_configuration(&self, call: &Call<'_>) -> Result<Answer, Problem> {
        if !call.is_owner() {
            return Err(Problem::Forbidden);
        }
        let form = form::configuration(&NodeConfig::default());
        let default = Element::new("default", ns::PUBSUB_OWNER).with_child(form);
        Ok(Answer::showing(ns::PUBSUB_OWNER, [default]))
    }

    /// §8.2.4
    pub(super) async fn configure(
        &self,
        call: &Call<'_>,
        name: &str,
        form: &Element,
    ) -> Result<Answer, Problem> {
        let before = self.owned(call, name).await?;
        let Some(fields) = form::submission(form, ns::PUBSUB_NODE_CONFIG)? else {
            return Ok(Answer::default());
        };
        let config = before.config.submit(&form::submitted(&fields))?;
        if config == before.config {
            return Ok(Answer::default());
        }
        let bytes = stored(&config);
        let written = self.storage.pubsub_configure(
            self.fence,
            call.service.as_str(),
            name,
            &bytes,
            before.version,
            self.items_max(&config),
        );
        match written.await {
            Ok(_) => {}
            // Somebody else configured the node between reading and writing.
            Err(eider_storage::Error::Conflict(_)) => return Err(Problem::NotAcceptable),
            Err(error) => return Err(error.into()),
        }
        let access_changed = config.access_model != before.config.access_model
            || config.roster_groups_allowed != before.config.roster_groups_allowed;
        let node = Node { config, ..before };
        let mut answer = Answer::default();
        if access_changed {
            self.cancel_refused(call, &node, &mut answer).await?;
        }
        if node.config.notify_config {
            let to = self
                .recipients(call.service, name, &node.config)
                .await?
                .all();
            let mut changed =
                Element::new("configuration", ns::PUBSUB_EVENT).with_attr("node", name);
            if node.config.deliver_payloads {
                changed.push(form::result(&node.config));
            }
            push(&mut answer, to, message(call, &node.config, changed));
        }
        if access_changed {
            self.show_to_new(call, &node, &mut answer).await?;
        }
        Ok(answer)
    }

    /// §12.2, fifth case: the node was opened; who sees it now gets its last item.
    async fn show_to_new(
        &self,
        call: &Call<'_>,
        node: &Node,
        answer: &mut Answer,
    ) -> Result<(), Problem> {
        let opened = matches!(
            node.config.access_model,
            AccessModel::Open | AccessModel::Presence | AccessModel::Roster
        );
        if !opened || node.config.send_last_published_item != SendLast::OnSubAndPresence {
            return Ok(());
        }
        let newest = self
            .storage
            .pubsub_items(call.service.as_str(), &node.name, 1)
            .await?;
        let Some(item) = newest.first() else {
            return Ok(());
        };
        let mut to = self
            .recipients(call.service, &node.name, &node.config)
            .await?
            .all();
        to.retain(|jid| jid.bare() != *call.service);
        let told = last_item_message(call.service, &(call.token)(), node, item);
        push(answer, to, told);
        Ok(())
    }

    /// §8.4
    pub(super) async fn delete(
        &self,
        call: &Call<'_>,
        name: &str,
        redirect: Option<String>,
    ) -> Result<Answer, Problem> {
        let node = self.owned(call, name).await?;
        let to = self
            .recipients(call.service, name, &node.config)
            .await?
            .all();
        if !self
            .storage
            .pubsub_delete(self.fence, call.service.as_str(), name)
            .await?
        {
            return Err(Problem::NotFound);
        }
        let mut answer = Answer::default();
        if node.config.notify_delete {
            let redirect = redirect
                .map(|uri| Element::new("redirect", ns::PUBSUB_EVENT).with_attr("uri", uri));
            let deleted = Element::new("delete", ns::PUBSUB_EVENT)
                .with_attr("node", name)
                .with_children(redirect);
            push(&mut answer, to, message(call, &node.config, deleted));
        }
        Ok(answer)
    }
}
