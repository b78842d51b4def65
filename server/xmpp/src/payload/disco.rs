//! XEP-0030: Service Discovery, with the forms of XEP-0128

use std::borrow::Cow;

use crate::element::Element;
use crate::error::{StanzaCondition, StanzaError};
use crate::jid::Jid;
use crate::ns;
use crate::payload::data_forms::Form;

/// What an entity is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    /// As registered: `server`, `client`, `pubsub` …
    pub category: Cow<'static, str>,
    /// Within the category.
    pub kind: Cow<'static, str>,
    /// `xml:lang` of the name.
    pub lang: Option<String>,
    /// Human-readable.
    pub name: Option<String>,
}

impl Identity {
    /// An identity without name.
    pub fn new(
        category: impl Into<Cow<'static, str>>,
        kind: impl Into<Cow<'static, str>>,
    ) -> Identity {
        Identity {
            category: category.into(),
            kind: kind.into(),
            lang: None,
            name: None,
        }
    }

    /// Sets the name.
    pub fn named(mut self, name: impl Into<String>) -> Identity {
        self.name = Some(name.into());
        self
    }
}

/// A `disco#info` answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Info {
    /// The node asked for.
    pub node: Option<String>,
    /// At least one (XEP-0030 §3.1).
    pub identities: Vec<Identity>,
    /// Namespaces and other features.
    pub features: Vec<Cow<'static, str>>,
    /// XEP-0128: further information.
    pub forms: Vec<Form>,
}

impl Info {
    /// Reads `<query/>`; `bad-request` where it is something else or lacks what it must have.
    /// What a form of it lacks is left to whoever needs the form.
    pub fn parse(query: &Element) -> Result<Info, StanzaError> {
        let bad = || StanzaError::new(StanzaCondition::BadRequest);
        if !query.is("query", ns::DISCO_INFO) {
            return Err(bad());
        }
        let mut info = Info {
            node: query.attr("node").map(str::to_owned),
            ..Info::default()
        };
        for child in query.children() {
            if child.is("identity", ns::DISCO_INFO) {
                let required = |name| child.attr(name).map(str::to_owned).ok_or_else(bad);
                info.identities.push(Identity {
                    category: required("category")?.into(),
                    kind: required("type")?.into(),
                    lang: child.attr("xml:lang").map(str::to_owned),
                    name: child.attr("name").map(str::to_owned),
                });
            } else if child.is("feature", ns::DISCO_INFO) {
                let var = child.attr("var").ok_or_else(bad)?;
                info.features.push(var.to_owned().into());
            } else if child.is("x", ns::DATA_FORMS) {
                info.forms.push(Form::parse(child).map_err(|_| bad())?);
            }
        }
        Ok(info)
    }

    /// As a tree; features in order and each once.
    pub fn to_element(&self) -> Element {
        let mut query =
            Element::new("query", ns::DISCO_INFO).with_attr_opt("node", self.node.as_deref());
        for identity in &self.identities {
            let element = Element::new("identity", ns::DISCO_INFO)
                .with_attr("category", identity.category.as_ref())
                .with_attr("type", identity.kind.as_ref())
                .with_attr_opt("xml:lang", identity.lang.as_deref())
                .with_attr_opt("name", identity.name.as_deref());
            query.push(element);
        }
        let mut features: Vec<&Cow<'static, str>> = self.features.iter().collect();
        features.sort_unstable();
        features.dedup();
        for feature in features {
            query.push(Element::new("feature", ns::DISCO_INFO).with_attr("var", feature.as_ref()));
        }
        query.with_children(self.forms.iter().map(Form::to_element))
    }

    /// Whether the feature is there.
    pub fn has(&self, feature: &str) -> bool {
        self.features.iter().any(|known| known == feature)
    }
}

/// An item of a `disco#items` answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Whom to ask.
    pub jid: Jid,
    /// For which node.
    pub node: Option<String>,
    /// Human-readable.
    pub name: Option<String>,
}

impl Item {
    /// An item that is an address of its own.
    pub fn new(jid: impl Into<Jid>) -> Item {
        Item {
            jid: jid.into(),
            node: None,
            name: None,
        }
    }

    /// As a tree.
    pub fn to_element(&self) -> Element {
        Element::new("item", ns::DISCO_ITEMS)
            .with_attr("jid", self.jid.as_str())
            .with_attr_opt("node", self.node.as_deref())
            .with_attr_opt("name", self.name.as_deref())
    }
}

/// A `disco#items` answer.
pub fn items(node: Option<&str>, items: impl IntoIterator<Item = Item>) -> Element {
    Element::new("query", ns::DISCO_ITEMS)
        .with_attr_opt("node", node)
        .with_children(items.into_iter().map(|item| item.to_element()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::data_forms::FormKind;

    #[test]
    fn info() {
        let info = Info {
            node: Some("n".into()),
            identities: vec![Identity::new("server", "im").named("Eider")],
            features: vec![ns::PING.into(), ns::DISCO_INFO.into(), ns::PING.into()],
            forms: vec![Form::typed(FormKind::Result, ns::SERVER_INFO)],
        };
        let element = info.to_element();
        assert!(element.to_xml().starts_with(
            "<query xmlns='http://jabber.org/protocol/disco#info' node='n'>\
             <identity category='server' type='im' name='Eider'/>\
             <feature var='http://jabber.org/protocol/disco#info'/>\
             <feature var='urn:xmpp:ping'/><x xmlns='jabber:x:data' type='result'>"
        ));
        let read = Info::parse(&element).unwrap();
        assert!(read.has(ns::PING) && !read.has(ns::LAST));
        assert_eq!(read.to_element(), element);
        for bad in [
            "<query xmlns='urn:x'/>",
            "<query xmlns='http://jabber.org/protocol/disco#info'><feature/></query>",
            "<query xmlns='http://jabber.org/protocol/disco#info'><identity type='a'/></query>",
        ] {
            assert!(Info::parse(&Element::parse(bad).unwrap()).is_err());
        }
    }

    #[test]
    fn items_of_a_node() {
        let mut item = Item::new(Jid::parse("room@example.com").unwrap());
        item.name = Some("A".into());
        assert_eq!(
            items(Some("n"), [item]).to_xml(),
            "<query xmlns='http://jabber.org/protocol/disco#items' node='n'>\
             <item jid='room@example.com' name='A'/></query>"
        );
    }
}
