//! XEP-0060 §11: why a request fails, and the stanza error that says so.

use eider_xmpp::element::Element;
use eider_xmpp::error::{ErrorType, StanzaCondition, StanzaError};
use eider_xmpp::ns;

use crate::xep::UNKNOWN;

/// Why a pubsub request fails.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The request is not one of the protocol's.
    #[error("malformed request: {0}")]
    Malformed(&'static str),
    /// Blocked, banned or without the affiliation that it takes.
    #[error("insufficient privileges")]
    Forbidden,
    /// No such node, or no such item.
    #[error("no such node or item")]
    NotFound,
    /// The node exists already.
    #[error("the node exists")]
    Exists,
    /// XEP-0060 §6.1.3.1
    #[error("the JID is not the sender's")]
    InvalidJid,
    /// XEP-0060 §6.1.3.2
    #[error("presence subscription required")]
    PresenceRequired,
    /// XEP-0060 §6.1.3.3
    #[error("not in an allowed roster group")]
    NotInRosterGroup,
    /// XEP-0060 §6.1.3.4
    #[error("not on the whitelist")]
    Closed,
    /// XEP-0060 §6.1.3.7
    #[error("the subscription awaits approval")]
    PendingSubscription,
    /// XEP-0060 §6.1.3.9
    #[error("too many subscriptions")]
    TooManySubscriptions,
    /// XEP-0060 §6.2.3.2
    #[error("not subscribed")]
    NotSubscribed,
    /// XEP-0060 §6.5.9.3
    #[error("only subscribers may retrieve items")]
    NotSubscribedToRetrieve,
    /// XEP-0060 §6.2.3.5
    #[error("no such subscription id")]
    InvalidSubid,
    /// XEP-0060 §6.3.4.3
    #[error("no JID given")]
    JidRequired,
    /// XEP-0060 §6.3.6.2
    #[error("subscription options are not understood")]
    InvalidOptions,
    /// XEP-0060 §7.1.3.4
    #[error("the node is full")]
    NodeFull,
    /// XEP-0060 §7.1.3.5
    #[error("the payload is too big")]
    PayloadTooBig,
    /// XEP-0060 §7.1.3.6
    #[error("bad payload")]
    InvalidPayload,
    /// XEP-0060 §7.1.3.7
    #[error("an item is required")]
    ItemRequired,
    /// XEP-0060 §7.1.3.7
    #[error("a payload is required")]
    PayloadRequired,
    /// XEP-0060 §7.1.3.7
    #[error("the node takes no items")]
    ItemForbidden,
    /// XEP-0060 §7.1.5
    #[error("precondition not met: {0}")]
    Precondition(String),
    /// XEP-0060 §7.2.3.3
    #[error("a node is required")]
    NodeRequired,
    /// XEP-0060 §8.1.2
    #[error("unsupported access model")]
    AccessModel,
    /// XEP-0060 §8.2.5.2
    #[error("the configuration cannot be taken: {0}")]
    Configuration(String),
    /// XEP-0060 §8.8.2.4 and §8.9.2.4: none of the changes was made.
    #[error("the change is not acceptable")]
    NotAcceptable,
    /// More nodes than the service allows.
    #[error("too many nodes")]
    TooManyNodes,
    /// More bytes of items than the service allows.
    #[error("no room for more items")]
    TooManyBytes,
    /// A feature of XEP-0060 that this node or service does not have.
    #[error("unsupported: {0}")]
    Unsupported(&'static str),
    /// The database failed.
    #[error("storage: {0}")]
    Storage(#[from] eider_storage::Error),
}

impl From<super::config::Error> for Problem {
    fn from(error: super::config::Error) -> Self {
        use super::config::Error;
        match error {
            Error::Precondition(var) => Problem::Precondition(var),
            Error::AccessModel => Problem::AccessModel,
            Error::Unknown(var) | Error::Value(var) => Problem::Configuration(var),
        }
    }
}

impl Problem {
    /// Condition, type and pubsub condition of the stanza error.
    fn parts(&self) -> (StanzaCondition, ErrorType, Option<&'static str>) {
        use ErrorType::{Auth, Cancel, Modify, Wait};
        use StanzaCondition as C;
        match self {
            Problem::Malformed(_) => (C::BadRequest, Modify, None),
            Problem::Forbidden => (C::Forbidden, Auth, None),
            Problem::NotFound => (C::ItemNotFound, Cancel, None),
            Problem::Exists => (C::Conflict, Cancel, None),
            Problem::InvalidJid => (C::BadRequest, Modify, Some("invalid-jid")),
            Problem::PresenceRequired => (
                C::NotAuthorized,
                Auth,
                Some("presence-subscription-required"),
            ),
            Problem::NotInRosterGroup => (C::NotAuthorized, Auth, Some("not-in-roster-group")),
            Problem::Closed => (C::NotAllowed, Cancel, Some("closed-node")),
            Problem::PendingSubscription => (C::NotAuthorized, Auth, Some("pending-subscription")),
            Problem::TooManySubscriptions => {
                (C::PolicyViolation, Wait, Some("too-many-subscriptions"))
            }
            Problem::NotSubscribed => (C::UnexpectedRequest, Cancel, Some("not-subscribed")),
            Problem::NotSubscribedToRetrieve => (C::NotAuthorized, Auth, Some("not-subscribed")),
            Problem::InvalidSubid => (C::NotAcceptable, Modify, Some("invalid-subid")),
            Problem::JidRequired => (C::BadRequest, Modify, Some("jid-required")),
            Problem::InvalidOptions => (C::BadRequest, Modify, Some("invalid-options")),
            Problem::NodeFull => (C::Conflict, Cancel, Some("node-full")),
            Problem::PayloadTooBig => (C::NotAcceptable, Modify, Some("payload-too-big")),
            Problem::InvalidPayload => (C::BadRequest, Modify, Some("invalid-payload")),
            Problem::ItemRequired => (C::BadRequest, Modify, Some("item-required")),
            Problem::PayloadRequired => (C::BadRequest, Modify, Some("payload-required")),
            Problem::ItemForbidden => (C::BadRequest, Modify, Some("item-forbidden")),
            Problem::Precondition(_) => (C::Conflict, Cancel, Some("precondition-not-met")),
            Problem::NodeRequired => (C::BadRequest, Modify, Some("nodeid-required")),
            Problem::AccessModel => (C::NotAcceptable, Modify, Some("unsupported-access-model")),
            Problem::Configuration(_) | Problem::NotAcceptable => (C::NotAcceptable, Modify, None),
            Problem::TooManyNodes | Problem::TooManyBytes => (C::ResourceConstraint, Wait, None),
            Problem::Unsupported(_) => (C::FeatureNotImplemented, Cancel, Some("unsupported")),
            Problem::Storage(error) if error.is_transient() => (C::ResourceConstraint, Wait, None),
            Problem::Storage(_) => (C::InternalServerError, Cancel, None),
        }
    }

    /// The limit of the service that refuses, named as in the configuration.
    fn limit(&self) -> Option<&'static str> {
        match self {
            Problem::PayloadTooBig => Some("pep_item_bytes"),
            Problem::NodeFull => Some("pep_items"),
            Problem::TooManyNodes => Some("pep_nodes"),
            Problem::TooManyBytes => Some("pep_bytes"),
            Problem::TooManySubscriptions => Some("pep_subscriptions"),
            _ => None,
        }
    }

    /// The stanza error. What the database said stays in the log.
    pub fn to_error(&self) -> StanzaError {
        let (condition, kind, specific) = self.parts();
        let mut error = StanzaError::new(condition).kind(kind);
        if let Some(name) = specific {
            let mut element = Element::new(name, ns::PUBSUB_ERRORS);
            if let Problem::Unsupported(feature) = self {
                element.set_attr("feature", *feature);
            }
            error = error.application(element);
        }
        error.limit = self.limit();
        match self {
            Problem::Storage(eider_storage::Error::Unknown(_)) => error.text(UNKNOWN),
            Problem::Storage(_) => error,
            _ => error.text(self.to_string()),
        }
    }
}
