//! XEP-0191: Blocking Command, requests, results and pushes

use std::collections::BTreeSet;

use crate::element::Element;
use crate::jid::Jid;
use crate::ns;

/// What is to be blocked or unblocked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// §3.3: at least one.
    Block(Vec<Jid>),
    /// §3.4: at least one.
    Unblock(Vec<Jid>),
    /// §3.5
    UnblockAll,
}

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Nothing to block, or an item without address: `bad-request`.
    #[error("nobody to block")]
    Malformed,
    /// An address is no JID: `jid-malformed`.
    #[error("a malformed address")]
    Jid,
}

impl Change {
    /// Reads `<block/>` or `<unblock/>`.
    pub fn parse(element: &Element) -> Result<Change, Error> {
        let mut jids = BTreeSet::new();
        for item in element
            .children()
            .filter(|child| child.is("item", ns::BLOCKING))
        {
            let jid = item.attr("jid").ok_or(Error::Malformed)?;
            jids.insert(Jid::parse(jid).map_err(|_| Error::Jid)?);
        }
        let jids: Vec<Jid> = jids.into_iter().collect();
        match (element.name(), jids.is_empty()) {
            ("block", false) => Ok(Change::Block(jids)),
            ("unblock", true) => Ok(Change::UnblockAll),
            ("unblock", false) => Ok(Change::Unblock(jids)),
            _ => Err(Error::Malformed),
        }
    }

    /// The payload of the push that tells other resources.
    pub fn to_element(&self) -> Element {
        match self {
            Change::Block(jids) => list("block", jids.iter().map(Jid::as_str)),
            Change::Unblock(jids) => list("unblock", jids.iter().map(Jid::as_str)),
            Change::UnblockAll => list("unblock", []),
        }
    }
}

fn list<'a>(name: &'static str, jids: impl IntoIterator<Item = &'a str>) -> Element {
    let items = jids
        .into_iter()
        .map(|jid| Element::new("item", ns::BLOCKING).with_attr("jid", jid));
    Element::new(name, ns::BLOCKING).with_children(items)
}

/// §3.2: the list itself.
pub fn block_list<'a>(jids: impl IntoIterator<Item = &'a str>) -> Element {
    list("blocklist", jids)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(xml: &str) -> Result<Change, Error> {
        Change::parse(&Element::parse(xml).expect("test input"))
    }

    #[test]
    fn reads_and_repeats() {
        let xml = "<block xmlns='urn:xmpp:blocking'><item jid='a@b'/><item jid='b'/></block>";
        let change = parse(xml).expect("valid");
        assert_eq!(change.to_element().to_xml(), xml);
        let doubled =
            "<unblock xmlns='urn:xmpp:blocking'><item jid='A@b'/><item jid='a@b'/></unblock>";
        assert_eq!(
            parse(doubled),
            Ok(Change::Unblock(vec![Jid::parse("a@b").expect("valid")]))
        );
        let all = "<unblock xmlns='urn:xmpp:blocking'/>";
        assert_eq!(parse(all), Ok(Change::UnblockAll));
        assert_eq!(Change::UnblockAll.to_element().to_xml(), all);
    }

    #[test]
    fn refuses_what_names_nobody() {
        assert_eq!(
            parse("<block xmlns='urn:xmpp:blocking'/>"),
            Err(Error::Malformed)
        );
        let nameless = "<block xmlns='urn:xmpp:blocking'><item/></block>";
        assert_eq!(parse(nameless), Err(Error::Malformed));
        let bad = "<block xmlns='urn:xmpp:blocking'><item jid='@'/></block>";
        assert_eq!(parse(bad), Err(Error::Jid));
    }
}
