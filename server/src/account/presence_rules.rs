//! RFC 6121 §4: presence: who is told, who is asked, what a probe gets.

use std::collections::HashSet;

use eider_xmpp::jid::{BareJid, Jid};

use super::subscription::State;

/// Contacts concerned when a resource comes online (RFC 6121 §4.2.2, §4.3.1).
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Announcement {
    /// Who gets the presence: subscribed to the account.
    pub broadcast: Vec<BareJid>,
    /// Who is asked for theirs: the account is subscribed to them.
    pub probe: Vec<BareJid>,
    /// Whose pending approval is asked for once more (RFC 6121 §3.1.2).
    pub ask_again: Vec<BareJid>,
}

/// Sorts a roster's contacts by what an initial presence means for them.
pub fn announce(contacts: impl IntoIterator<Item = (BareJid, State)>) -> Announcement {
    let mut announcement = Announcement::default();
    for (jid, state) in contacts {
        if state.pending_out() {
            announcement.ask_again.push(jid.clone());
        }
        if state.to() {
            announcement.probe.push(jid.clone());
        }
        if state.from() {
            announcement.broadcast.push(jid);
        }
    }
    announcement
}

/// What a presence probe gets (RFC 6121 §4.3.2 and §4.6.6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeAnswer {
    /// `unsubscribed` from the bare JID; a pre-approval stays.
    Unsubscribed,
    /// `unavailable` from the bare JID, with the time of the last one where it is known.
    Offline,
    /// The last broadcast presence of each available resource, whole.
    All,
    /// Presence of this resource without any content, `unavailable` where it has gone.
    Mere {
        /// The resource asked about.
        resource: String,
        /// Whether it is there.
        available: bool,
    },
}

/// What the prober and the account are to each other.
#[derive(Debug, Clone, Copy)]
pub struct Probe<'a> {
    /// The account's state towards the prober; `None` where there is no such account.
    pub state: Option<State>,
    /// The prober is the account itself.
    pub own: bool,
    /// The resource the probe is addressed to.
    pub resource: Option<&'a str>,
    /// The account's available resources.
    pub available: &'a [&'a str],
    /// The resource addressed has sent the prober directed presence.
    pub directed: bool,
}

impl Probe<'_> {
    /// The answer.
    pub fn answer(&self) -> ProbeAnswer {
        let Some(state) = self.state else {
            return ProbeAnswer::Unsubscribed;
        };
        let there = |resource: &str| self.available.contains(&resource);
        let mere = |resource: &str, available: bool| ProbeAnswer::Mere {
            resource: resource.to_owned(),
            available,
        };
        match (state.from() || self.own, self.resource) {
            (true, None) if self.available.is_empty() => ProbeAnswer::Offline,
            (true, None) => ProbeAnswer::All,
            (true, Some(resource)) => mere(resource, there(resource)),
            // A resource that shows itself to the prober need not be available to others.
            (false, Some(resource)) if self.directed => mere(resource, true),
            (false, _) => ProbeAnswer::Unsubscribed,
        }
    }
}

/// Directed presence goes to more entities than one session may keep in mind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("directed presence to too many entities")]
pub struct TooMany;

/// Whom a resource has sent directed presence, RFC 6121 §4.6.1.
#[derive(Debug, Default)]
pub struct Directed {
    entities: HashSet<Jid>,
}

impl Directed {
    /// Notes directed presence, available or not.
    ///
    /// # Errors
    /// Where it would be the one after `max_entities`: it must not be sent then, since
    /// nobody would tell the entity of the end.
    pub fn sent(&mut self, to: &Jid, available: bool, max_entities: usize) -> Result<(), TooMany> {
        if !available {
            self.entities.remove(to);
        } else if !self.entities.contains(to) {
            if self.entities.len() >= max_entities {
                return Err(TooMany);
            }
            self.entities.insert(to.clone());
        }
        Ok(())
    }

    /// The entity said that it is unavailable itself.
    pub fn entity_left(&mut self, entity: &Jid) {
        self.entities.remove(entity);
    }

    /// Whether this very JID, or its bare one, was sent directed presence.
    pub fn includes(&self, entity: &Jid) -> bool {
        self.entities.contains(entity)
            || (!entity.is_bare() && self.entities.contains(&Jid::from(entity.bare())))
    }

    /// The entities to be told that the resource is gone, those aside whom the broadcast
    /// tells; the list is empty afterwards.
    pub fn take(&mut self, is_told_anyway: impl Fn(&Jid) -> bool) -> Vec<Jid> {
        let entities = std::mem::take(&mut self.entities).into_iter();
        entities.filter(|entity| !is_told_anyway(entity)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jid(text: &str) -> Jid {
        Jid::parse(text).expect("test input")
    }

    #[test]
    fn an_initial_presence_concerns_contacts_by_state() {
        let contact = |name: &str| BareJid::parse(name).expect("test input");
        let announced = announce([
            (contact("none@x"), State::None),
            (contact("to@x"), State::ToPendingIn),
            (contact("from@x"), State::FromPendingOut),
            (contact("both@x"), State::Both),
            (contact("asked@x"), State::NonePendingOutIn),
        ]);
        assert_eq!(announced.broadcast, [contact("from@x"), contact("both@x")]);
        assert_eq!(announced.probe, [contact("to@x"), contact("both@x")]);
        assert_eq!(announced.ask_again, [contact("from@x"), contact("asked@x")]);
    }

    const PROBE: Probe<'static> = Probe {
        state: Some(State::None),
        own: false,
        resource: None,
        available: &["a", "b"],
        directed: false,
    };

    #[test]
    fn strangers_learn_nothing() {
        assert_eq!(
            Probe {
                state: None,
                ..PROBE
            }
            .answer(),
            ProbeAnswer::Unsubscribed
        );
        for state in [
            State::None,
            State::To,
            State::NonePendingIn,
            State::ToPendingIn,
        ] {
            let probe = Probe {
                state: Some(state),
                ..PROBE
            };
            assert_eq!(probe.answer(), ProbeAnswer::Unsubscribed);
            let full = Probe {
                resource: Some("a"),
                ..probe
            };
            assert_eq!(full.answer(), ProbeAnswer::Unsubscribed);
        }
    }

    #[test]
    fn subscribers_learn_what_they_ask() {
        for state in [State::From, State::FromPendingOut, State::Both] {
            let probe = Probe {
                state: Some(state),
                ..PROBE
            };
            assert_eq!(probe.answer(), ProbeAnswer::All);
            assert_eq!(
                Probe {
                    available: &[],
                    ..probe
                }
                .answer(),
                ProbeAnswer::Offline
            );
            let one = |resource| {
                Probe {
                    resource: Some(resource),
                    ..probe
                }
                .answer()
            };
            let mere = |resource: &str, available| ProbeAnswer::Mere {
                resource: resource.to_owned(),
                available,
            };
            assert_eq!(one("a"), mere("a", true));
            assert_eq!(one("c"), mere("c", false));
        }
        assert_eq!(Probe { own: true, ..PROBE }.answer(), ProbeAnswer::All);
    }

    #[test]
    fn directed_presence_answers_for_its_resource_only() {
        let full = Probe {
            resource: Some("hidden"),
            directed: true,
            ..PROBE
        };
        assert_eq!(
            full.answer(),
            ProbeAnswer::Mere {
                resource: "hidden".into(),
                available: true
            }
        );
        assert_eq!(
            Probe {
                resource: None,
                ..full
            }
            .answer(),
            ProbeAnswer::Unsubscribed
        );
    }

    #[test]
    fn whom_it_was_directed_to_is_told_of_the_end_once() {
        let mut directed = Directed::default();
        directed
            .sent(&jid("room@muc/nick"), true, 2)
            .expect("within");
        directed.sent(&jid("friend@x"), true, 2).expect("within");
        assert_eq!(directed.sent(&jid("third@x"), true, 2), Err(TooMany));
        directed.sent(&jid("friend@x"), true, 2).expect("known");
        assert!(directed.includes(&jid("friend@x/phone")));
        assert!(!directed.includes(&jid("room@muc")));
        assert_eq!(
            directed.take(|to| to.domain() == "x"),
            [jid("room@muc/nick")]
        );
        assert!(directed.take(|_| false).is_empty());
        directed.sent(&jid("a@x"), true, 2).expect("within");
        directed.sent(&jid("a@x"), false, 2).expect("leaving");
        assert!(directed.take(|_| false).is_empty());
    }
}
