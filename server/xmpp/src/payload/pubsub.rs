//! XEP-0060: Publish-Subscribe, requests as they come.

use crate::element::Element;
use crate::ns;

/// A request to a pubsub service. Nodes and JIDs are as sent, nothing is checked but
/// the form of the request itself.
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    /// §5.6: subscriptions of the sender, of one node or all.
    Subscriptions { node: Option<String> },
    /// §5.7: affiliations of the sender, of one node or all.
    Affiliations { node: Option<String> },
    /// §6.1 and §6.3.7: subscribe, perhaps with options.
    Subscribe {
        node: String,
        jid: Option<String>,
        options: Option<Element>,
    },
    /// §6.2
    Unsubscribe {
        node: String,
        jid: Option<String>,
        subid: Option<String>,
    },
    /// §6.3: read (`form` is none) or write options.
    Options {
        node: String,
        jid: Option<String>,
        subid: Option<String>,
        form: Option<Element>,
    },
    /// §6.4: default subscription options.
    DefaultOptions,
    /// §6.5
    Items(Items),
    /// §7.1
    Publish {
        node: String,
        item: Option<NewItem>,
        options: Option<Element>,
    },
    /// §7.2
    Retract {
        node: String,
        ids: Vec<String>,
        notify: bool,
    },
    /// §8.1: no node asks for an instant node.
    Create {
        node: Option<String>,
        form: Option<Element>,
    },
    /// §8.2: read (`form` is none) or write a node's configuration.
    Configure { node: String, form: Option<Element> },
    /// §8.3: default configuration.
    DefaultConfiguration,
    /// §8.4
    Delete {
        node: String,
        redirect: Option<String>,
    },
    /// §8.5
    Purge { node: String },
    /// §8.8: read (`None`) or change the subscriptions of a node.
    NodeSubscriptions {
        node: String,
        changes: Option<Vec<Change>>,
    },
    /// §8.9: read (`None`) or change the affiliations of a node.
    NodeAffiliations {
        node: String,
        changes: Option<Vec<Change>>,
    },
}

/// §6.5: which items.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Items {
    /// The node.
    pub node: String,
    /// The newest so many.
    pub max_items: Option<u32>,
    /// These ones.
    pub ids: Vec<String>,
    /// The subscription on whose behalf.
    pub subid: Option<String>,
    /// XEP-0059's `<set/>`.
    pub set: Option<Element>,
}

/// An item as published.
#[derive(Debug, Clone, PartialEq)]
pub struct NewItem {
    /// As the publisher wishes, else the service gives one.
    pub id: Option<String>,
    /// Child elements; one is right.
    pub payloads: Vec<Element>,
}

/// One entity's new state or affiliation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Whose.
    pub jid: String,
    /// The subscription state or affiliation, as sent.
    pub value: String,
    /// The subscription meant, where the owner says.
    pub subid: Option<String>,
}

/// Why a request cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not a request of XEP-0060.
    #[error("not a pubsub request")]
    Malformed,
    /// A node is required.
    #[error("no node given")]
    NodeRequired,
    /// An item, or an item's id, is required.
    #[error("no item given")]
    ItemRequired,
    /// A form is required.
    #[error("no form given")]
    FormRequired,
}

impl Request {
    /// Reads the payload of an iq: `<pubsub/>` in either namespace. `set` says whether the iq was one.
    pub fn parse(pubsub: &Element, set: bool) -> Result<Request, Error> {
        let verb = pubsub
            .children()
            .find(|e| e.ns() == pubsub.ns())
            .ok_or(Error::Malformed)?;
        match (pubsub.ns(), set) {
            (ns::PUBSUB, false) => parse_get(verb, pubsub),
            (ns::PUBSUB, true) => parse_set(verb, pubsub),
            (ns::PUBSUB_OWNER, false) => parse_owner_get(verb),
            (ns::PUBSUB_OWNER, true) => parse_owner_set(verb),
            _ => Err(Error::Malformed),
        }
    }
}

fn text(element: &Element, attribute: &str) -> Option<String> {
    element
        .attr(attribute)
        .filter(|v| !v.is_empty())
        .map(str::to_owned)
}

fn node(element: &Element) -> Result<String, Error> {
    text(element, "node").ok_or(Error::NodeRequired)
}

fn form(element: &Element) -> Option<Element> {
    element.child("x", ns::DATA_FORMS).cloned()
}

/// xs:boolean, anything else being false.
fn is_true(value: Option<&str>) -> bool {
    matches!(value, Some("1" | "true"))
}

fn ids(element: &Element) -> Result<Vec<String>, Error> {
    let items = element.children().filter(|e| e.is("item", element.ns()));
    items
        .map(|item| text(item, "id").ok_or(Error::ItemRequired))
        .collect()
}

fn parse_get(verb: &Element, pubsub: &Element) -> Result<Request, Error> {
    Ok(match verb.name() {
        "subscriptions" => Request::Subscriptions {
            node: text(verb, "node"),
        },
        "affiliations" => Request::Affiliations {
            node: text(verb, "node"),
        },
        "options" => parse_options(verb, None)?,
        "default" => Request::DefaultOptions,
        "items" => Request::Items(Items {
            node: node(verb)?,
            max_items: match verb.attr("max_items") {
                Some(number) => Some(number.parse().map_err(|_| Error::Malformed)?),
                None => None,
            },
            ids: ids(verb)?,
            subid: text(verb, "subid"),
            set: pubsub.child("set", ns::RSM).cloned(),
        }),
        _ => return Err(Error::Malformed),
    })
}

fn parse_set(verb: &Element, pubsub: &Element) -> Result<Request, Error> {
    let sibling = |name: &str| pubsub.child(name, ns::PUBSUB);
    Ok(match verb.name() {
        "subscribe" => Request::Subscribe {
            node: node(verb)?,
            jid: text(verb, "jid"),
            options: match sibling("options") {
                Some(options) => Some(form(options).ok_or(Error::FormRequired)?),
                None => None,
            },
        },
        "unsubscribe" => Request::Unsubscribe {
            node: node(verb)?,
            jid: text(verb, "jid"),
            subid: text(verb, "subid"),
        },
        "options" => parse_options(verb, Some(form(verb).ok_or(Error::FormRequired)?))?,
        "create" => {
            let configure = sibling("configure");
            if configure.is_some_and(|c| c.attr("node").is_some()) {
                return Err(Error::Malformed);
            }
            Request::Create {
                node: text(verb, "node"),
                form: configure.and_then(form),
            }
        }
        "publish" => parse_publish(verb, sibling("publish-options"))?,
        "retract" => {
            let ids = ids(verb)?;
            let node = node(verb)?;
            if ids.is_empty() {
                return Err(Error::ItemRequired);
            }
            Request::Retract {
                node,
                ids,
                notify: is_true(verb.attr("notify")),
            }
        }
        _ => return Err(Error::Malformed),
    })
}

fn parse_options(verb: &Element, form: Option<Element>) -> Result<Request, Error> {
    Ok(Request::Options {
        node: node(verb)?,
        jid: text(verb, "jid"),
        subid: text(verb, "subid"),
        form,
    })
}

fn parse_publish(verb: &Element, options: Option<&Element>) -> Result<Request, Error> {
    let node = node(verb)?;
    let mut items = verb.children().filter(|e| e.is("item", ns::PUBSUB));
    let item = items.next().map(|item| NewItem {
        id: text(item, "id"),
        payloads: item.children().cloned().collect(),
    });
    if items.next().is_some() {
        return Err(Error::Malformed);
    }
    let options = match options {
        Some(options) => Some(form(options).ok_or(Error::FormRequired)?),
        None => None,
    };
    Ok(Request::Publish {
        node,
        item,
        options,
    })
}

fn parse_owner_get(verb: &Element) -> Result<Request, Error> {
    Ok(match verb.name() {
        "configure" => Request::Configure {
            node: node(verb)?,
            form: None,
        },
        "default" => Request::DefaultConfiguration,
        "subscriptions" => Request::NodeSubscriptions {
            node: node(verb)?,
            changes: None,
        },
        "affiliations" => Request::NodeAffiliations {
            node: node(verb)?,
            changes: None,
        },
        _ => return Err(Error::Malformed),
    })
}

fn parse_owner_set(verb: &Element) -> Result<Request, Error> {
    let node = node(verb)?;
    Ok(match verb.name() {
        "configure" => Request::Configure {
            node,
            form: Some(form(verb).ok_or(Error::FormRequired)?),
        },
        "delete" => {
            let redirect = verb.child("redirect", ns::PUBSUB_OWNER);
            Request::Delete {
                node,
                redirect: redirect.and_then(|r| text(r, "uri")),
            }
        }
        "purge" => Request::Purge { node },
        "subscriptions" => {
            let changes = Some(changes(verb, "subscription")?);
            Request::NodeSubscriptions { node, changes }
        }
        "affiliations" => {
            let changes = Some(changes(verb, "affiliation")?);
            Request::NodeAffiliations { node, changes }
        }
        _ => return Err(Error::Malformed),
    })
}

fn changes(verb: &Element, name: &str) -> Result<Vec<Change>, Error> {
    let entries = verb.children().filter(|e| e.is(name, ns::PUBSUB_OWNER));
    entries
        .map(|entry| {
            Ok(Change {
                jid: text(entry, "jid").ok_or(Error::Malformed)?,
                value: text(entry, name).ok_or(Error::Malformed)?,
                subid: text(entry, "subid"),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(xml: &str, set: bool) -> Result<Request, Error> {
        Request::parse(&Element::parse(xml).expect("test input"), set)
    }

    fn pubsub(inner: &str) -> String {
        format!("<pubsub xmlns='{}'>{inner}</pubsub>", ns::PUBSUB)
    }

    fn owner(inner: &str) -> String {
        format!("<pubsub xmlns='{}'>{inner}</pubsub>", ns::PUBSUB_OWNER)
    }

    #[test]
    fn publications_carry_at_most_one_item() {
        let request = parse(
            &pubsub(
                "<publish node='n'><item id='i'><a xmlns='urn:a'/></item></publish>\
                 <publish-options><x xmlns='jabber:x:data' type='submit'/></publish-options>",
            ),
            true,
        );
        let Ok(Request::Publish {
            node,
            item: Some(item),
            options: Some(_),
        }) = request
        else {
            panic!("{request:?}");
        };
        assert_eq!(
            (node.as_str(), item.id.as_deref(), item.payloads.len()),
            ("n", Some("i"), 1)
        );
        let two = pubsub("<publish node='n'><item/><item/></publish>");
        assert_eq!(parse(&two, true), Err(Error::Malformed));
        let none = pubsub("<publish node='n'/>");
        assert!(matches!(
            parse(&none, true),
            Ok(Request::Publish { item: None, .. })
        ));
        assert_eq!(parse(&pubsub("<publish/>"), true), Err(Error::NodeRequired));
        let formless = pubsub("<publish node='n'/><publish-options/>");
        assert_eq!(parse(&formless, true), Err(Error::FormRequired));
    }

    #[test]
    fn retractions_name_their_items() {
        let yes = pubsub("<retract node='n' notify='1'><item id='i'/></retract>");
        assert_eq!(
            parse(&yes, true),
            Ok(Request::Retract {
                node: "n".into(),
                ids: vec!["i".into()],
                notify: true
            })
        );
        let anonymous = pubsub("<retract node='n'><item/></retract>");
        assert_eq!(parse(&anonymous, true), Err(Error::ItemRequired));
        assert_eq!(
            parse(&pubsub("<retract node='n'/>"), true),
            Err(Error::ItemRequired)
        );
        let nodeless = pubsub("<retract><item id='i'/></retract>");
        assert_eq!(parse(&nodeless, true), Err(Error::NodeRequired));
    }

    #[test]
    fn items_are_asked_for_by_number_or_id() {
        let Ok(Request::Items(items)) = parse(
            &pubsub(
                "<items node='n' max_items='2'><item id='a'/><item id='b'/></items>\
                 <set xmlns='http://jabber.org/protocol/rsm'><max>1</max></set>",
            ),
            false,
        ) else {
            panic!("no items request");
        };
        assert_eq!(
            (items.max_items, items.ids.len(), items.set.is_some()),
            (Some(2), 2, true)
        );
        let bad = pubsub("<items node='n' max_items='-1'/>");
        assert_eq!(parse(&bad, false), Err(Error::Malformed));
    }

    #[test]
    fn a_configuration_with_its_own_node_is_refused() {
        let bad = pubsub("<create node='n'/><configure node='n'/>");
        assert_eq!(parse(&bad, true), Err(Error::Malformed));
        let instant = pubsub("<create/>");
        assert_eq!(
            parse(&instant, true),
            Ok(Request::Create {
                node: None,
                form: None
            })
        );
    }

    #[test]
    fn owners_read_and_change() {
        let read = owner("<affiliations node='n'/>");
        assert_eq!(
            parse(&read, false),
            Ok(Request::NodeAffiliations {
                node: "n".into(),
                changes: None
            })
        );
        let change = owner(
            "<subscriptions node='n'><subscription jid='a@b' subscription='none'/></subscriptions>",
        );
        let Ok(Request::NodeSubscriptions {
            changes: Some(changes),
            ..
        }) = parse(&change, true)
        else {
            panic!("no change");
        };
        assert_eq!(
            (changes[0].jid.as_str(), changes[0].value.as_str()),
            ("a@b", "none")
        );
        assert_eq!(
            parse(&owner("<configure/>"), false),
            Err(Error::NodeRequired)
        );
        assert_eq!(
            parse(&owner("<configure node='n'/>"), true),
            Err(Error::FormRequired)
        );
        assert_eq!(parse(&owner("<purge/>"), true), Err(Error::NodeRequired));
    }

    #[test]
    fn verbs_belong_to_their_kind_of_iq() {
        assert_eq!(
            parse(&pubsub("<publish node='n'/>"), false),
            Err(Error::Malformed)
        );
        assert_eq!(
            parse(&pubsub("<items node='n'/>"), true),
            Err(Error::Malformed)
        );
        assert_eq!(parse(&pubsub(""), true), Err(Error::Malformed));
        assert_eq!(
            parse(&owner("<delete node='n'/>"), false),
            Err(Error::Malformed)
        );
    }
}
