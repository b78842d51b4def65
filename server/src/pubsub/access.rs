//! XEP-0060 §4.1 and §4.5: affiliations, access models and what they let an entity do.

use super::config::{AccessModel, NodeConfig, PublishModel, words};
use super::problem::Problem;
use serde::{Deserialize, Serialize};

words! {
    /// XEP-0060 §4.1: a lasting relation of a bare JID to a node.
    Affiliation {
        /// Everything.
        Owner = "owner",
        /// Publishes, subscribes and retrieves.
        Publisher = "publisher",
        /// Publishes, and removes what it published.
        PublishOnly = "publish-only",
        /// Subscribes and retrieves, whatever the access model.
        Member = "member",
        /// As the access model says.
        None = "none",
        /// Nothing.
        Outcast = "outcast",
    }
}

words! {
    /// XEP-0060 §4.2: the state of a subscription.
    SubscriptionState {
        /// None at all.
        None = "none",
        /// Waits for an owner's approval.
        Pending = "pending",
        /// Waits for its options; this service makes none, but owners may set it.
        Unconfigured = "unconfigured",
        /// Gets notifications.
        Subscribed = "subscribed",
    }
}

/// What an entity is to one node.
#[derive(Debug, Clone)]
pub struct Standing {
    /// Its affiliation; the service's own account is the owner.
    pub affiliation: Affiliation,
    /// It has a subscription to the account's presence (RFC 6121: `from` or `both`).
    pub sees_presence: bool,
    /// The account's roster groups that it is in.
    pub groups: Vec<String>,
    /// Its explicit subscription to the node.
    pub subscription: SubscriptionState,
    /// The account blocks it (XEP-0191).
    pub blocked: bool,
}

impl Standing {
    /// What somebody is whom nobody knows.
    pub fn stranger() -> Standing {
        Standing {
            affiliation: Affiliation::None,
            sees_presence: false,
            groups: Vec::new(),
            subscription: SubscriptionState::None,
            blocked: false,
        }
    }

    /// What the account is to its own nodes.
    pub fn owner() -> Standing {
        Standing {
            affiliation: Affiliation::Owner,
            sees_presence: true,
            ..Standing::stranger()
        }
    }

    /// The access model's own condition, affiliations aside.
    fn admitted(&self, config: &NodeConfig) -> Result<(), Problem> {
        match config.access_model {
            AccessModel::Open | AccessModel::Authorize => Ok(()),
            AccessModel::Presence if self.sees_presence => Ok(()),
            AccessModel::Presence => Err(Problem::PresenceRequired),
            AccessModel::Roster => {
                let allowed = &config.roster_groups_allowed;
                if self.groups.iter().any(|group| allowed.contains(group)) {
                    Ok(())
                } else {
                    Err(Problem::NotInRosterGroup)
                }
            }
            AccessModel::Whitelist => Err(Problem::Closed),
        }
    }

    fn is_listed(&self) -> bool {
        matches!(
            self.affiliation,
            Affiliation::Owner | Affiliation::Publisher | Affiliation::Member
        )
    }

    fn is_shut_out(&self) -> bool {
        self.affiliation == Affiliation::Outcast
            || (self.blocked && self.affiliation != Affiliation::Owner)
    }

    /// XEP-0060 §6.1: the state that a new subscription gets.
    pub fn may_subscribe(&self, config: &NodeConfig) -> Result<SubscriptionState, Problem> {
        if self.is_shut_out() || self.affiliation == Affiliation::PublishOnly {
            return Err(Problem::Forbidden);
        }
        if !config.subscribe {
            return Err(Problem::Unsupported("subscribe"));
        }
        if self.is_listed() {
            return Ok(SubscriptionState::Subscribed);
        }
        self.admitted(config)?;
        match (config.access_model, self.subscription) {
            (_, SubscriptionState::Pending) => Err(Problem::PendingSubscription),
            (AccessModel::Authorize, SubscriptionState::None) => Ok(SubscriptionState::Pending),
            _ => Ok(SubscriptionState::Subscribed),
        }
    }

    /// XEP-0060 §6.5.1: retrieving items.
    pub fn may_retrieve(&self, config: &NodeConfig) -> Result<(), Problem> {
        if self.is_shut_out() || self.affiliation == Affiliation::PublishOnly {
            return Err(Problem::Forbidden);
        }
        if self.is_listed() {
            return Ok(());
        }
        self.admitted(config)?;
        let subscribed = self.subscription == SubscriptionState::Subscribed;
        if config.access_model == AccessModel::Authorize && !subscribed {
            return Err(Problem::NotSubscribedToRetrieve);
        }
        Ok(())
    }

    /// XEP-0060 §9.1: notified unasked, where the entity's capabilities say so.
    pub fn is_auto_subscribed(&self, config: &NodeConfig) -> bool {
        match self.affiliation {
            Affiliation::Owner => true,
            _ => self.sees_presence && self.may_retrieve(config).is_ok(),
        }
    }

    /// XEP-0060 §7.1: publishing.
    pub fn may_publish(&self, config: &NodeConfig) -> Result<(), Problem> {
        if self.is_shut_out() {
            return Err(Problem::Forbidden);
        }
        let named = matches!(
            self.affiliation,
            Affiliation::Owner | Affiliation::Publisher | Affiliation::PublishOnly
        );
        let subscribed = self.subscription == SubscriptionState::Subscribed;
        let allowed = match config.publish_model {
            PublishModel::Publishers => named,
            PublishModel::Subscribers => named || subscribed,
            PublishModel::Open => true,
        };
        if allowed {
            Ok(())
        } else {
            Err(Problem::Forbidden)
        }
    }

    /// XEP-0060 §7.2: removing an item; `own` where the entity published it.
    pub fn may_retract(&self, config: &NodeConfig, own: bool) -> Result<(), Problem> {
        let any = matches!(
            self.affiliation,
            Affiliation::Owner | Affiliation::Publisher
        );
        if any || (own && self.may_publish(config).is_ok()) {
            Ok(())
        } else {
            Err(Problem::Forbidden)
        }
    }

    /// XEP-0060 §8: configuring, deleting, purging, managing.
    pub fn may_own(&self) -> Result<(), Problem> {
        if self.affiliation == Affiliation::Owner {
            Ok(())
        } else {
            Err(Problem::Forbidden)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(access_model: AccessModel) -> NodeConfig {
        NodeConfig {
            access_model,
            roster_groups_allowed: vec!["Friends".into()],
            ..NodeConfig::default()
        }
    }

    fn with(affiliation: Affiliation) -> Standing {
        Standing {
            affiliation,
            ..Standing::stranger()
        }
    }

    const MODELS: [AccessModel; 5] = [
        AccessModel::Open,
        AccessModel::Presence,
        AccessModel::Roster,
        AccessModel::Authorize,
        AccessModel::Whitelist,
    ];

    #[test]
    fn a_stranger_is_told_what_is_missing() {
        let stranger = Standing::stranger();
        let refused = |model| stranger.may_subscribe(&node(model)).err();
        assert_eq!(refused(AccessModel::Open), None);
        assert_eq!(
            refused(AccessModel::Presence),
            Some(Problem::PresenceRequired)
        );
        assert_eq!(
            refused(AccessModel::Roster),
            Some(Problem::NotInRosterGroup)
        );
        assert_eq!(refused(AccessModel::Whitelist), Some(Problem::Closed));
        assert_eq!(
            stranger.may_subscribe(&node(AccessModel::Authorize)),
            Ok(SubscriptionState::Pending)
        );
        assert_eq!(
            stranger.may_retrieve(&node(AccessModel::Authorize)),
            Err(Problem::NotSubscribedToRetrieve)
        );
    }

    #[test]
    fn contacts_get_in_by_presence_or_group() {
        let contact = Standing {
            sees_presence: true,
            ..Standing::stranger()
        };
        assert!(contact.is_auto_subscribed(&node(AccessModel::Presence)));
        assert!(contact.is_auto_subscribed(&node(AccessModel::Open)));
        assert!(!contact.is_auto_subscribed(&node(AccessModel::Roster)));
        assert!(!contact.is_auto_subscribed(&node(AccessModel::Whitelist)));
        let friend = Standing {
            groups: vec!["Friends".into()],
            ..contact
        };
        assert!(friend.is_auto_subscribed(&node(AccessModel::Roster)));
        assert!(!Standing::stranger().is_auto_subscribed(&node(AccessModel::Open)));
    }

    #[test]
    fn affiliations_follow_their_table() {
        for model in MODELS {
            let config = node(model);
            for (affiliation, subscribe, retrieve, publish, configure) in [
                (Affiliation::Owner, true, true, true, true),
                (Affiliation::Publisher, true, true, true, false),
                (Affiliation::PublishOnly, false, false, true, false),
                (Affiliation::Member, true, true, false, false),
                (Affiliation::Outcast, false, false, false, false),
            ] {
                let standing = with(affiliation);
                assert_eq!(
                    standing.may_subscribe(&config).is_ok(),
                    subscribe,
                    "{affiliation:?}"
                );
                assert_eq!(
                    standing.may_retrieve(&config).is_ok(),
                    retrieve,
                    "{affiliation:?}"
                );
                assert_eq!(
                    standing.may_publish(&config).is_ok(),
                    publish,
                    "{affiliation:?}"
                );
                assert_eq!(standing.may_own().is_ok(), configure, "{affiliation:?}");
            }
            assert!(with(Affiliation::None).may_publish(&config).is_err());
        }
    }

    #[test]
    fn whom_the_account_blocks_gets_nothing() {
        let blocked = Standing {
            blocked: true,
            sees_presence: true,
            ..Standing::stranger()
        };
        for model in MODELS {
            assert_eq!(blocked.may_subscribe(&node(model)), Err(Problem::Forbidden));
            assert!(blocked.may_retrieve(&node(model)).is_err());
            assert!(!blocked.is_auto_subscribed(&node(model)));
        }
    }

    #[test]
    fn approval_opens_a_node_to_its_subscriber() {
        let config = node(AccessModel::Authorize);
        let pending = Standing {
            subscription: SubscriptionState::Pending,
            ..Standing::stranger()
        };
        assert_eq!(
            pending.may_subscribe(&config),
            Err(Problem::PendingSubscription)
        );
        assert!(pending.may_retrieve(&config).is_err());
        let approved = Standing {
            subscription: SubscriptionState::Subscribed,
            ..Standing::stranger()
        };
        assert_eq!(
            approved.may_subscribe(&config),
            Ok(SubscriptionState::Subscribed)
        );
        assert!(approved.may_retrieve(&config).is_ok());
    }

    #[test]
    fn publish_models_widen_who_publishes() {
        let subscriber = Standing {
            subscription: SubscriptionState::Subscribed,
            ..Standing::stranger()
        };
        let model = |publish_model| NodeConfig {
            publish_model,
            ..NodeConfig::default()
        };
        assert!(
            subscriber
                .may_publish(&model(PublishModel::Publishers))
                .is_err()
        );
        assert!(
            subscriber
                .may_publish(&model(PublishModel::Subscribers))
                .is_ok()
        );
        assert!(
            Standing::stranger()
                .may_publish(&model(PublishModel::Subscribers))
                .is_err()
        );
        let open = model(PublishModel::Open);
        assert!(Standing::stranger().may_publish(&open).is_ok());
        assert!(Standing::stranger().may_retract(&open, true).is_ok());
        assert!(Standing::stranger().may_retract(&open, false).is_err());
        assert!(
            with(Affiliation::Publisher)
                .may_retract(&open, false)
                .is_ok()
        );
    }

    #[test]
    fn a_node_without_subscriptions_says_so() {
        let config = NodeConfig {
            subscribe: false,
            ..node(AccessModel::Open)
        };
        assert_eq!(
            Standing::stranger().may_subscribe(&config),
            Err(Problem::Unsupported("subscribe"))
        );
    }
}
