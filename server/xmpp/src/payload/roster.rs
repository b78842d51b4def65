//! RFC 6121 §2: roster requests, results and pushes

use std::collections::HashSet;

use crate::element::Element;
use crate::error::{ErrorType, StanzaCondition, StanzaError};
use crate::jid::Jid;
use crate::ns;

/// What a roster item may be at most.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of the handle.
    pub max_name_bytes: usize,
    /// Bytes of a group's name.
    pub max_group_bytes: usize,
    /// Groups of one item.
    pub max_groups: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_name_bytes: 1023,
            max_group_bytes: 1023,
            max_groups: 64,
        }
    }
}

/// What a roster set asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Add or update an item.
    Put {
        /// The contact.
        jid: Jid,
        /// Its handle; an empty one is none.
        name: Option<String>,
        /// Its groups, without doubles.
        groups: Vec<String>,
    },
    /// Remove an item.
    Remove {
        /// The contact.
        jid: Jid,
    },
}

/// Why a roster request is refused (RFC 6121 §2.3.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No item, several items, no address, several equal groups, or items in a get.
    #[error("not a roster request")]
    Malformed,
    /// The item's address is no JID.
    #[error("the item's jid is malformed")]
    Jid,
    /// The handle is too long, or a group is empty or too long, or there are too many.
    #[error("the name or a group is empty or too long")]
    NotAcceptable,
}

impl Error {
    /// The stanza error of RFC 6121 §2.3.3.
    pub fn to_error(self) -> StanzaError {
        let condition = match self {
            Error::Malformed => StanzaCondition::BadRequest,
            Error::Jid => StanzaCondition::JidMalformed,
            Error::NotAcceptable => StanzaCondition::NotAcceptable,
        };
        StanzaError::new(condition)
            .kind(ErrorType::Modify)
            .text(self.to_string())
    }
}

/// Reads a roster get; the version that the client has, where it says so.
pub fn parse_get(query: &Element) -> Result<Option<String>, Error> {
    match query.first_child() {
        Some(_) => Err(Error::Malformed),
        None => Ok(query.attr("ver").map(str::to_owned)),
    }
}

/// Reads a roster set.
pub fn parse_set(query: &Element, limits: &Limits) -> Result<Change, Error> {
    let mut items = query
        .children()
        .filter(|child| child.is("item", ns::ROSTER));
    let (Some(item), None) = (items.next(), items.next()) else {
        return Err(Error::Malformed);
    };
    let jid = item.attr("jid").ok_or(Error::Malformed)?;
    let jid = Jid::parse(jid).map_err(|_| Error::Jid)?;
    if item.attr("subscription") == Some("remove") {
        return Ok(Change::Remove { jid });
    }
    let name = item.attr("name").filter(|name| !name.is_empty());
    if name.is_some_and(|name| name.len() > limits.max_name_bytes) {
        return Err(Error::NotAcceptable);
    }
    let groups = parse_groups(item, limits)?;
    Ok(Change::Put {
        jid,
        name: name.map(str::to_owned),
        groups,
    })
}

fn parse_groups(item: &Element, limits: &Limits) -> Result<Vec<String>, Error> {
    let (mut groups, mut seen) = (Vec::new(), HashSet::new());
    for group in item
        .children()
        .filter(|child| child.is("group", ns::ROSTER))
    {
        let group = group.text();
        if group.is_empty() || group.len() > limits.max_group_bytes {
            return Err(Error::NotAcceptable);
        }
        if !seen.insert(group.clone()) {
            return Err(Error::Malformed);
        }
        if groups.len() == limits.max_groups {
            return Err(Error::NotAcceptable);
        }
        groups.push(group);
    }
    Ok(groups)
}

/// An item as shown to a client.
#[derive(Debug, Clone, Copy)]
pub struct Shown<'a> {
    /// The contact.
    pub jid: &'a str,
    /// Its handle.
    pub name: Option<&'a str>,
    /// `none`, `to`, `from`, `both` or, in a push, `remove`.
    pub subscription: &'a str,
    /// A request of the user waits for its answer.
    pub ask: bool,
    /// The user has approved the contact's request beforehand.
    pub approved: bool,
    /// Its groups.
    pub groups: &'a [String],
}

impl Shown<'_> {
    /// `<item/>`.
    pub fn to_element(&self) -> Element {
        let mut item = Element::new("item", ns::ROSTER).with_attr("jid", self.jid);
        if let Some(name) = self.name.filter(|name| !name.is_empty()) {
            item.set_attr("name", name);
        }
        item.set_attr("subscription", self.subscription);
        if self.ask {
            item.set_attr("ask", "subscribe");
        }
        if self.approved {
            item.set_attr("approved", "true");
        }
        let groups = self.groups.iter();
        item.with_children(groups.map(|group| Element::new("group", ns::ROSTER).with_text(group)))
    }
}

/// `<query/>` of a result or push.
pub fn query(version: Option<&str>, items: impl IntoIterator<Item = Element>) -> Element {
    Element::new("query", ns::ROSTER)
        .with_attr_opt("ver", version)
        .with_children(items)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(items: &str) -> Result<Change, Error> {
        let xml = format!("<query xmlns='jabber:iq:roster'>{items}</query>");
        let limits = Limits {
            max_name_bytes: 10,
            max_group_bytes: 10,
            max_groups: 2,
        };
        parse_set(&Element::parse(xml).expect("test input"), &limits)
    }

    #[test]
    fn an_item_is_put_or_removed() {
        let Ok(Change::Put { jid, name, groups }) = set(
            "<item jid='Nurse@example.com' name='Nurse' subscription='both' ask='subscribe'>\
                 <group>Servants</group></item>",
        ) else {
            panic!("not put");
        };
        assert_eq!(jid.as_str(), "nurse@example.com");
        assert_eq!(
            (name.as_deref(), groups.as_slice()),
            (Some("Nurse"), &["Servants".into()][..])
        );
        assert_eq!(
            set("<item jid='a@b' subscription='remove'/>"),
            Ok(Change::Remove {
                jid: Jid::parse("a@b").expect("valid")
            })
        );
        assert!(matches!(
            set("<item jid='a@b' name=''/>"),
            Ok(Change::Put { name: None, .. })
        ));
    }

    #[test]
    fn each_violation_has_its_error() {
        let cases = [
            ("", Error::Malformed),
            ("<item jid='a@b'/><item jid='c@d'/>", Error::Malformed),
            ("<item/>", Error::Malformed),
            ("<item jid='a@b@c'/>", Error::Jid),
            (
                "<item jid='a@b'><group>x</group><group>x</group></item>",
                Error::Malformed,
            ),
            (
                "<item jid='a@b' name='more than ten'/>",
                Error::NotAcceptable,
            ),
            ("<item jid='a@b'><group/></item>", Error::NotAcceptable),
            (
                "<item jid='a@b'><group>more than ten</group></item>",
                Error::NotAcceptable,
            ),
            (
                "<item jid='a@b'><group>x</group><group>y</group><group>z</group></item>",
                Error::NotAcceptable,
            ),
        ];
        for (items, error) in cases {
            assert_eq!(set(items), Err(error), "{items}");
        }
    }

    #[test]
    fn a_get_holds_nothing_but_a_version() {
        let get = |xml: &str| parse_get(&Element::parse(xml).expect("test input"));
        assert_eq!(get("<query xmlns='jabber:iq:roster'/>"), Ok(None));
        assert_eq!(
            get("<query xmlns='jabber:iq:roster' ver=''/>"),
            Ok(Some(String::new()))
        );
        let item = "<query xmlns='jabber:iq:roster'><item jid='a@b'/></query>";
        assert_eq!(get(item), Err(Error::Malformed));
    }

    #[test]
    fn shown_items_say_what_holds() {
        let item = Shown {
            jid: "a@b",
            name: Some("A"),
            subscription: "from",
            ask: true,
            approved: true,
            groups: &["G".into()],
        };
        assert_eq!(
            query(Some("7"), [item.to_element()]).to_xml(),
            "<query xmlns='jabber:iq:roster' ver='7'><item jid='a@b' name='A' \
             subscription='from' ask='subscribe' approved='true'><group>G</group></item></query>"
        );
    }
}
