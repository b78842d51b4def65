//! XEP-0060 §16.4.4: the configuration of a pubsub node.
//!
//! One table lists every field: the configuration form, its submission, the
//! preconditions of a publication and the node's metadata all read it.

use serde::{Deserialize, Serialize};

mod fields;

pub use fields::{FIELDS, Field, Kind, METADATA, field};

/// Values a field may take, as the words of the form.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum $name { $($(#[$vdoc])* #[serde(rename = $word)] $variant),+ }

        impl $name {
            /// Each value as it is written in a form.
            pub const WORDS: &'static [&'static str] = &[$($word),+];

            /// The value as it is written in a form.
            pub fn as_str(self) -> &'static str {
                match self { $($name::$variant => $word),+ }
            }

            /// The value that is written so, if there is one.
            pub fn from_word(word: &str) -> Option<Self> {
                match word { $($word => Some($name::$variant),)+ _ => None }
            }
        }
    };
}
pub(crate) use words;

words! {
    /// XEP-0060 §4.5: who may subscribe and retrieve items.
    AccessModel {
        /// Anyone.
        Open = "open",
        /// Who sees the owner's presence.
        Presence = "presence",
        /// Who is in one of the allowed roster groups.
        Roster = "roster",
        /// Whose request an owner has approved.
        Authorize = "authorize",
        /// Owners, publishers and members.
        Whitelist = "whitelist",
    }
}

words! {
    /// Who may publish.
    PublishModel {
        /// Owners and publishers.
        Publishers = "publishers",
        /// Subscribers too.
        Subscribers = "subscribers",
        /// Anyone.
        Open = "open",
    }
}

words! {
    /// When the last published item is sent unasked.
    SendLast {
        /// Never.
        Never = "never",
        /// To a new subscriber.
        OnSub = "on_sub",
        /// Also to a subscriber's resource that comes online.
        OnSubAndPresence = "on_sub_and_presence",
    }
}

words! {
    /// XEP-0060 §12.17: whom items name.
    ItemReply {
        /// The node's owner.
        Owner = "owner",
        /// The item's publisher.
        Publisher = "publisher",
        /// Nobody.
        None = "none",
    }
}

words! {
    /// XEP-0060 §7.1.2.5: what gives way when a node is full.
    NodeFull {
        /// The oldest item, subscribers being told where the node tells of retractions.
        RetractOldest = "retract-oldest",
        /// The oldest item, silently.
        DiscardOldest = "discard-oldest",
        /// The new item.
        Reject = "reject",
    }
}

words! {
    /// The type of the messages that notify.
    NotificationType {
        /// `normal`.
        Normal = "normal",
        /// `headline`: never kept for later.
        Headline = "headline",
    }
}

/// A number, or as much as the service allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Amount {
    /// `max`.
    Max,
    /// A number of the field's unit.
    Of(u32),
}

impl Amount {
    /// The number itself, `max` being the service's own.
    pub fn or_max(self, service_max: u32) -> u32 {
        match self {
            Amount::Max => service_max,
            Amount::Of(n) => n.min(service_max),
        }
    }
}

/// What a service allows its nodes, whatever they are configured to.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Items kept per node.
    pub max_items: u32,
    /// Size of an item's payload, in bytes.
    pub max_payload_bytes: u32,
    /// Size of all items' payloads of one service, in bytes.
    pub max_bytes: u64,
    /// Nodes of one service.
    pub max_nodes: u32,
    /// Subscriptions and affiliations of one node, each.
    pub max_entities: u32,
    /// Explicit subscriptions of one account's resources to one node.
    pub max_per_account: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_items: 1_000,
            max_payload_bytes: 192 * 1024,
            max_bytes: 64 * 1024 * 1024,
            max_nodes: 1_000,
            max_entities: 1_000,
            max_per_account: 10,
        }
    }
}

/// The longest value kept of a field, in bytes.
const MAX_TEXT_BYTES: usize = 1024;
/// The most values kept of a field with several.
const MAX_VALUES: usize = 64;

/// The configuration of one node. Stored as JSON; a field that is missing there
/// has its default, so that older rows read as newer ones.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeConfig {
    pub access_model: AccessModel,
    /// Sorted, without doubles.
    pub roster_groups_allowed: Vec<String>,
    pub publish_model: PublishModel,
    pub persist_items: bool,
    pub max_items: Amount,
    /// Seconds that an item is kept.
    pub item_expire: Amount,
    pub send_last_published_item: SendLast,
    pub deliver_notifications: bool,
    pub deliver_payloads: bool,
    pub notify_retract: bool,
    pub notify_delete: bool,
    pub notify_config: bool,
    pub notify_sub: bool,
    pub notification_type: NotificationType,
    pub item_reply: ItemReply,
    pub publish_node_full: NodeFull,
    pub presence_based_delivery: bool,
    pub subscribe: bool,
    /// Bytes of an item's payload.
    pub max_payload_size: Amount,
    pub title: String,
    pub description: String,
    /// The payload's namespace, as far as the owner says.
    pub payload_type: String,
    pub language: String,
    pub contact: Vec<String>,
}

impl Default for NodeConfig {
    /// XEP-0163 §5: the defaults of an account's nodes.
    fn default() -> Self {
        NodeConfig {
            access_model: AccessModel::Presence,
            roster_groups_allowed: Vec::new(),
            publish_model: PublishModel::Publishers,
            persist_items: true,
            max_items: Amount::Of(1),
            item_expire: Amount::Max,
            send_last_published_item: SendLast::OnSubAndPresence,
            deliver_notifications: true,
            deliver_payloads: true,
            notify_retract: true,
            notify_delete: true,
            notify_config: false,
            notify_sub: false,
            notification_type: NotificationType::Headline,
            item_reply: ItemReply::None,
            publish_node_full: NodeFull::RetractOldest,
            presence_based_delivery: false,
            subscribe: true,
            max_payload_size: Amount::Max,
            title: String::new(),
            description: String::new(),
            payload_type: String::new(),
            language: String::new(),
            contact: Vec::new(),
        }
    }
}

/// Why a submitted field is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No such field.
    #[error("unknown field {0}")]
    Unknown(String),
    /// A value that the field cannot have.
    #[error("bad value for {0}")]
    Value(String),
    /// The access model is none of those known.
    #[error("unsupported access model")]
    AccessModel,
    /// The node has another value (XEP-0060 §7.1.5).
    #[error("precondition not met: {0}")]
    Precondition(String),
}

/// A submitted field: its name and values.
pub type Submitted<'a> = (&'a str, Vec<&'a str>);

impl NodeConfig {
    /// The configuration with the submitted fields changed and all others kept.
    /// Fields that are not known are skipped (XEP-0004 §3.2), read-only ones too.
    pub fn submit(&self, fields: &[Submitted<'_>]) -> Result<NodeConfig, Error> {
        let mut next = self.clone();
        for (var, values) in fields {
            if let Some(field) = field(var) {
                next.set(field, values)?;
            }
        }
        Ok(next)
    }

    /// XEP-0060 §7.1.5, third case: the defaults with the preconditions applied.
    pub fn created_with(&self, preconditions: &[Submitted<'_>]) -> Result<NodeConfig, Error> {
        let mut next = self.clone();
        for (var, values) in preconditions {
            let field = field(var).ok_or_else(|| Error::Unknown((*var).to_owned()))?;
            next.set(field, values)?;
        }
        Ok(next)
    }

    /// XEP-0060 §7.1.5, first two cases: each precondition holds of this node.
    pub fn check(&self, preconditions: &[Submitted<'_>]) -> Result<(), Error> {
        for (var, values) in preconditions {
            let field = field(var).ok_or_else(|| Error::Unknown((*var).to_owned()))?;
            let mut wanted = self.clone();
            wanted.set(field, values)?;
            if wanted != *self {
                return Err(Error::Precondition((*var).to_owned()));
            }
        }
        Ok(())
    }

    fn set(&mut self, field: &Field, values: &[&str]) -> Result<(), Error> {
        let fits = values.len() <= MAX_VALUES && values.iter().all(|v| v.len() <= MAX_TEXT_BYTES);
        if fits && (field.set)(self, values).is_some() {
            return Ok(());
        }
        Err(match field.var {
            "pubsub#access_model" => Error::AccessModel,
            var => Error::Value(var.to_owned()),
        })
    }
}

#[cfg(test)]
mod tests;
