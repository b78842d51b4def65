//! XEP-0060 §5.7 and §8.9: affiliations.

use std::collections::HashSet;

use eider_xmpp::element::Element;
use eider_xmpp::ns;
use eider_xmpp::payload::pubsub::Change;

use super::access::Affiliation;
use super::service::{relation, wanted};
use super::{Answer, Call, Engine, Problem};

fn entry(namespace: &'static str, jid: Option<&str>, affiliation: &str) -> Element {
    Element::new("affiliation", namespace)
        .with_attr_opt("jid", jid)
        .with_attr("affiliation", affiliation)
}

impl Engine {
    /// §5.7: the asker's own.
    pub(super) async fn affiliations(
        &self,
        call: &Call<'_>,
        name: Option<&str>,
    ) -> Result<Answer, Problem> {
        if let Some(name) = name {
            self.existing(call.service, name).await?;
        }
        let service = call.service.as_str();
        let mut list = Element::new("affiliations", ns::PUBSUB).with_attr_opt("node", name);
        if call.is_owner() {
            let names: Vec<String> = match name {
                Some(name) => vec![name.to_owned()],
                None => self.names(call.service).await?,
            };
            for name in names {
                list.push(entry(ns::PUBSUB, None, "owner").with_attr("node", name));
            }
        } else {
            let bare = call.from.bare();
            for found in self
                .storage
                .pubsub_affiliations(service, name, Some(bare.as_str()))
                .await?
            {
                list.push(entry(ns::PUBSUB, None, &found.state).with_attr("node", found.node));
            }
        }
        Ok(Answer::showing(ns::PUBSUB, [list]))
    }

    /// §8.9.1: all of a node, for its owners.
    pub(super) async fn node_affiliations(
        &self,
        call: &Call<'_>,
        name: &str,
    ) -> Result<Answer, Problem> {
        self.owned(call, name).await?;
        let service = call.service.as_str();
        let found = self
            .storage
            .pubsub_affiliations(service, Some(name), None)
            .await?;
        let list = Element::new("affiliations", ns::PUBSUB_OWNER)
            .with_attr("node", name)
            .with_child(entry(ns::PUBSUB_OWNER, Some(service), "owner"))
            .with_children(
                found
                    .iter()
                    .map(|a| entry(ns::PUBSUB_OWNER, Some(&a.jid), &a.state)),
            );
        Ok(Answer::showing(ns::PUBSUB_OWNER, [list]))
    }

    /// §8.9.2: all changes or none.
    pub(super) async fn change_affiliations(
        &self,
        call: &Call<'_>,
        name: &str,
        changes: &[Change],
    ) -> Result<Answer, Problem> {
        let node = self.owned(call, name).await?;
        let service = call.service.as_str();
        let before = self
            .storage
            .pubsub_affiliations(service, Some(name), None)
            .await?;
        let mut seen = HashSet::new();
        let mut wanted = wanted(changes, Affiliation::from_word)?;
        for (jid, affiliation) in &wanted {
            if !seen.insert(jid.bare()) {
                return Err(Problem::Malformed("one entity twice"));
            }
            // The account owns its nodes, always and alone (XEP-0163 §2.2).
            if (jid.bare() == *call.service) != (*affiliation == Affiliation::Owner) {
                return Err(Problem::NotAcceptable);
            }
        }
        wanted.retain(|(jid, _)| jid.bare() != *call.service);
        if before.len() + wanted.len() > self.limits().max_entities as usize {
            return Err(Problem::NotAcceptable);
        }
        for (jid, affiliation) in &wanted {
            let relation = relation(name, jid.bare_str(), affiliation.as_str());
            self.storage
                .pubsub_set_affiliation(self.fence, service, &relation)
                .await?;
        }
        let mut answer = Answer::default();
        self.cancel_refused(call, &node, &mut answer).await?;
        Ok(answer)
    }
}
