//! RFC 6121 §4.3: what a presence probe gets.

use super::subscription::State;

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

#[cfg(test)]
mod tests {
    use super::*;

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
}
