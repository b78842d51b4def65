//! XEP-0059: Result Set Management, of lists that are in memory

use eider_xmpp::element::Element;
use eider_xmpp::error::{StanzaCondition, StanzaError};
use eider_xmpp::ns;
use eider_xmpp::payload::rsm;

use crate::xep::{Answer, Request, Spec, Status, Target};

/// See [`Spec`].
pub const SPEC: Spec = Spec {
    number: 59,
    name: "Result Set Management",
    version: "1.0",
    status: Status::Complete,
    note: "",
    features: &[(Target::Server, ns::RSM), (Target::Account, ns::RSM)],
    switch: None,
};

fn id(item: &Element) -> &str {
    item.attr("node").or(item.attr("jid")).unwrap_or_default()
}

/// The page of a list of service discovery that is asked for: of `<item/>`s in `query`, told apart by their
/// node, else by their JID.
///
/// # Errors
/// `bad-request` for what is no request for a page, `item-not-found` where the item it names is gone.
pub fn page(query: Element, request: &Request) -> Answer {
    let Some(set) = request.payload.child("set", ns::RSM) else {
        return Ok(Some(query));
    };
    let asked = rsm::Request::parse(set);
    let asked = asked.map_err(|_| StanzaError::new(StanzaCondition::BadRequest))?;
    let items: Vec<&Element> = query.children().collect();
    let (range, set) = asked
        .page_of(&items, usize::MAX, |item| id(item))
        .ok_or_else(|| StanzaError::new(StanzaCondition::ItemNotFound))?;
    let shown = items[range].iter().map(|item| (*item).clone());
    let page = Element::new("query", ns::DISCO_ITEMS)
        .with_attr_opt("node", query.attr("node"))
        .with_children(shown)
        .with_child(set.to_element());
    Ok(Some(page))
}
