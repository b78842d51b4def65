//! XEP-0060 §6.5: retrieving items.

use std::collections::HashMap;

use eider_storage::{PubsubItemHead, Timestamp};
use eider_xmpp::element::Element;
use eider_xmpp::ns;
use eider_xmpp::payload::pubsub::Items;
use eider_xmpp::payload::rsm::Request;

use super::config::Amount;
use super::notify::item_element;
use super::paging;
use super::service::Node;
use super::{Answer, Call, Engine, Problem};

/// The payloads of one answer, in bytes; one item is always sent.
const MAX_ANSWER_BYTES: u64 = 256 * 1024;
/// The most item ids of one request.
const MAX_IDS: usize = 1024;

impl Engine {
    /// §6.5
    pub(super) async fn items(&self, call: &Call<'_>, request: &Items) -> Result<Answer, Problem> {
        let (node, standing) = self.node(call, &request.node).await?;
        standing.may_retrieve(&node.config)?;
        if request.subid.is_some() {
            return Err(Problem::InvalidSubid);
        }
        if !node.config.persist_items {
            return Err(Problem::Unsupported("persistent-items"));
        }
        let service = call.service.as_str();
        // Payloads are read only of what is shown.
        let most = request.max_items.filter(|_| request.ids.is_empty());
        let most = most.unwrap_or(u32::MAX).min(self.limits().max_items);
        let heads = self
            .storage
            .pubsub_item_heads(service, &node.name, most)
            .await?;
        let mut found = if request.ids.is_empty() {
            heads
        } else {
            let mut by_id: HashMap<String, PubsubItemHead> = heads
                .into_iter()
                .map(|head| (head.id.clone(), head))
                .collect();
            let ids = request.ids.iter().take(MAX_IDS);
            ids.filter_map(|id| by_id.remove(id)).collect()
        };
        found.retain(|item| !has_expired(&node, item.at, call.now));
        let asked = request.set.as_ref().map(paging::read).transpose()?;
        let (shown, set) = fitting(&found, asked.as_ref())?;
        let ids: Vec<String> = shown.iter().map(|head| head.id.clone()).collect();
        let shown = self
            .storage
            .pubsub_items_by_id(service, &node.name, &ids)
            .await?;
        let content = shown
            .iter()
            .map(|item| item_element(item, &node.config, ns::PUBSUB));
        let items = Element::new("items", ns::PUBSUB)
            .with_attr("node", node.name.as_str())
            .with_children(content);
        let shown = [items].into_iter().chain(set);
        Ok(Answer::showing(ns::PUBSUB, shown))
    }
}

/// Whether the node keeps the item no longer.
pub(super) fn has_expired(node: &Node, at: Timestamp, now: Timestamp) -> bool {
    match node.config.item_expire {
        Amount::Max => false,
        Amount::Of(seconds) => at < now.minus_seconds(u64::from(seconds)),
    }
}

/// The page asked for, cut where its payloads exceed an answer; with the notation of
/// XEP-0059 where a page was asked for or something was cut.
fn fitting<'a>(
    found: &'a [PubsubItemHead],
    asked: Option<&Request>,
) -> Result<(&'a [PubsubItemHead], Option<Element>), Problem> {
    let whole = Request::default();
    let range = paging::range(found, |item| &item.id, asked.unwrap_or(&whole))?;
    let mut shown = &found[range.clone()];
    let backwards = asked.is_some_and(Request::is_backwards);
    let sizes: Vec<u64> = shown.iter().map(|item| item.bytes).collect();
    let count = if backwards {
        count_within(sizes.iter().rev(), MAX_ANSWER_BYTES)
    } else {
        count_within(sizes.iter(), MAX_ANSWER_BYTES)
    };
    let count = count.max(1).min(shown.len());
    let cut = count < shown.len();
    shown = if backwards {
        &shown[shown.len() - count..]
    } else {
        &shown[..count]
    };
    let start = if backwards {
        range.end - count
    } else {
        range.start
    };
    let set = (asked.is_some() || cut)
        .then(|| paging::notation(shown, |item| &item.id, start, found.len()));
    Ok((shown, set))
}

/// How many of these sizes, from the first on, stay within the sum.
fn count_within<'a>(sizes: impl Iterator<Item = &'a u64>, most: u64) -> usize {
    let sums = sizes.scan(0u64, |sum, size| {
        *sum = sum.saturating_add(*size);
        Some(*sum)
    });
    sums.take_while(|sum| *sum <= most).count()
}
