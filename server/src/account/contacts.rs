//! RFC 6121 §2.1: the part of a roster that presence and pubsub need, held in memory.

use std::collections::HashSet;
use std::sync::Arc;

use eider_storage::{RosterItem, Subscription};
use eider_xmpp::jid::BareJid;

use super::subscription::State;

/// One contact with a bare JID.
#[derive(Debug, Clone)]
pub struct Contact {
    /// Who.
    pub jid: BareJid,
    /// Subscriptions; requests of the contact, which live elsewhere, are left out.
    pub state: State,
    /// Its groups.
    pub groups: Arc<[Arc<str>]>,
}

/// The contacts of one account, in the order of their JIDs. A clone shares them.
#[derive(Debug, Clone, Default)]
pub struct Contacts(Arc<[Contact]>);

impl Contacts {
    /// Of a roster as stored. Items of full JIDs have no presence and are left out.
    pub fn new(items: impl IntoIterator<Item = RosterItem>) -> Contacts {
        let mut names = HashSet::new();
        let mut contacts: Vec<Contact> = items
            .into_iter()
            .filter_map(|item| contact(&item, &mut names))
            .collect();
        contacts.sort_unstable_by(|a, b| a.jid.as_str().cmp(b.jid.as_str()));
        Contacts(contacts.into())
    }

    /// The contact of that bare JID.
    pub fn find(&self, jid: &str) -> Option<&Contact> {
        let found = self.0.binary_search_by(|c| c.jid.as_str().cmp(jid)).ok()?;
        self.0.get(found)
    }

    /// What is between the account and `jid`.
    pub fn state(&self, jid: &str) -> State {
        self.find(jid).map_or(State::None, |contact| contact.state)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Contact> {
        self.0.iter()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The same with this item added or changed.
    pub fn with(&self, item: &RosterItem) -> Contacts {
        let Some(contact) = contact(item, &mut HashSet::new()) else {
            return self.clone();
        };
        let mut contacts = self.0.to_vec();
        match contacts.binary_search_by(|c| c.jid.as_str().cmp(contact.jid.as_str())) {
            Ok(at) => contacts[at] = contact,
            Err(at) => contacts.insert(at, contact),
        }
        Contacts(contacts.into())
    }

    /// The same without the contact of that JID.
    pub fn without(&self, jid: &str) -> Contacts {
        let others = self.0.iter().filter(|contact| contact.jid.as_str() != jid);
        Contacts(others.cloned().collect())
    }
}

fn contact(item: &RosterItem, names: &mut HashSet<Arc<str>>) -> Option<Contact> {
    let jid = BareJid::parse(&item.jid).ok()?;
    if jid.as_str() != item.jid {
        return None;
    }
    let mut shared = |name: &String| {
        if let Some(known) = names.get(name.as_str()) {
            return known.clone();
        }
        let name: Arc<str> = name.as_str().into();
        names.insert(name.clone());
        name
    };
    Some(Contact {
        jid,
        state: state_of(item, false),
        groups: item.groups.iter().map(&mut shared).collect(),
    })
}

/// The state that a stored item and a kept request make.
pub fn state_of(item: &RosterItem, pending_in: bool) -> State {
    let (to, from) = match item.subscription {
        Subscription::None => (false, false),
        Subscription::To => (true, false),
        Subscription::From => (false, true),
        Subscription::Both => (true, true),
    };
    State::new(to, from, item.ask, pending_in)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(jid: &str, subscription: Subscription) -> RosterItem {
        RosterItem {
            jid: jid.into(),
            subscription,
            groups: vec!["G".into()],
            ..RosterItem::default()
        }
    }

    #[test]
    fn changes_keep_the_rest() {
        let contacts = Contacts::new([
            item("c@x", Subscription::From),
            item("a@x", Subscription::To),
            item("a@x/full", Subscription::None),
        ]);
        assert_eq!(contacts.len(), 2);
        assert!(contacts.state("a@x").to() && contacts.state("c@x").from());
        assert!(!contacts.state("b@x").to());
        let more = contacts.with(&item("b@x", Subscription::Both));
        let more = more.with(&item("a@x", Subscription::None));
        let jids: Vec<&str> = more.iter().map(|c| c.jid.as_str()).collect();
        assert_eq!(jids, ["a@x", "b@x", "c@x"]);
        assert!(more.state("b@x").from() && !more.state("a@x").to());
        let fewer = more.without("b@x");
        assert!(fewer.find("b@x").is_none() && fewer.find("c@x").is_some());
        let a = &contacts.find("a@x").expect("there").groups[0];
        let c = &contacts.find("c@x").expect("there").groups[0];
        assert!(Arc::ptr_eq(a, c), "group names are shared");
    }
}
