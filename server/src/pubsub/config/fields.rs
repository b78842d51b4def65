//! XEP-0060 §16.4.4: the fields of `pubsub#node_config`, one line of the table each.

use super::{
    AccessModel, Amount, ItemReply, NodeConfig, NodeFull, NotificationType, PublishModel, SendLast,
};

/// How a form shows the field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `boolean`.
    Boolean,
    /// `text-single`.
    Text,
    /// `text-multi`: any words; shown so because the form cannot list them.
    Words,
    /// `jid-multi`.
    Jids,
    /// `list-single` of these values.
    List(&'static [&'static str]),
}

/// One field of the configuration.
pub struct Field {
    /// The field's name in the form.
    pub var: &'static str,
    /// How it is shown.
    pub kind: Kind,
    /// What a person reads beside it.
    pub label: &'static str,
    /// Its present values.
    pub get: fn(&NodeConfig) -> Vec<String>,
    /// Sets it; `None` where it cannot have the values.
    pub(super) set: fn(&mut NodeConfig, &[&str]) -> Option<()>,
}

/// The field of this name.
pub fn field(var: &str) -> Option<&'static Field> {
    FIELDS.iter().find(|field| field.var == var)
}

/// XEP-0060 §5.4: the fields that a node's metadata shows.
pub const METADATA: &[&str] = &[
    "pubsub#type",
    "pubsub#title",
    "pubsub#description",
    "pubsub#language",
    "pubsub#contact",
    "pubsub#access_model",
    "pubsub#publish_model",
    "pubsub#max_items",
];

fn one<'a>(values: &[&'a str]) -> Option<&'a str> {
    match values {
        [value] => Some(value.trim()),
        _ => None,
    }
}

fn text(values: &[&str]) -> Option<String> {
    match values {
        [] => Some(String::new()),
        [value] => Some((*value).to_owned()),
        _ => None,
    }
}

fn boolean(values: &[&str]) -> Option<bool> {
    match one(values)? {
        "1" | "true" => Some(true),
        "0" | "false" => Some(false),
        _ => None,
    }
}

/// A number, `max`, or nothing at all, which is `max` too. What exceeds 32 bits
/// exceeds what any service allows.
fn amount(values: &[&str]) -> Option<Amount> {
    match values {
        [] => Some(Amount::Max),
        [value] => match value.trim() {
            "" | "max" => Some(Amount::Max),
            number => {
                let number: u64 = number.parse().ok()?;
                Some(u32::try_from(number).map_or(Amount::Max, Amount::Of))
            }
        },
        _ => None,
    }
}

fn flag(value: bool) -> Vec<String> {
    vec![if value { "1" } else { "0" }.to_owned()]
}

fn word(value: &str) -> Vec<String> {
    vec![value.to_owned()]
}

fn words_of(text: &str) -> Vec<String> {
    if text.is_empty() {
        Vec::new()
    } else {
        word(text)
    }
}

fn shown(amount: Amount) -> Vec<String> {
    match amount {
        Amount::Max => word("max"),
        Amount::Of(n) => vec![n.to_string()],
    }
}

fn set_of(values: &[&str]) -> Vec<String> {
    let mut set: Vec<String> = values.iter().map(|v| (*v).to_owned()).collect();
    set.sort();
    set.dedup();
    set
}

/// A field whose value is one of a list of words.
macro_rules! list {
    ($var:literal, $label:literal, $type:ident, $member:ident) => {
        Field {
            var: $var,
            kind: Kind::List($type::WORDS),
            label: $label,
            get: |c| word(c.$member.as_str()),
            set: |c, v| {
                c.$member = $type::from_word(one(v)?)?;
                Some(())
            },
        }
    };
}

/// A yes or no.
macro_rules! switch {
    ($var:literal, $label:literal, $member:ident) => {
        Field {
            var: $var,
            kind: Kind::Boolean,
            label: $label,
            get: |c| flag(c.$member),
            set: |c, v| {
                c.$member = boolean(v)?;
                Some(())
            },
        }
    };
}

/// A number or `max`.
macro_rules! count {
    ($var:literal, $label:literal, $member:ident) => {
        Field {
            var: $var,
            kind: Kind::Text,
            label: $label,
            get: |c| shown(c.$member),
            set: |c, v| {
                c.$member = amount(v)?;
                Some(())
            },
        }
    };
}

/// A line of text.
macro_rules! line {
    ($var:literal, $label:literal, $member:ident) => {
        Field {
            var: $var,
            kind: Kind::Text,
            label: $label,
            get: |c| words_of(&c.$member),
            set: |c, v| {
                c.$member = text(v)?;
                Some(())
            },
        }
    };
}

/// A set of words.
macro_rules! several {
    ($var:literal, $kind:expr, $label:literal, $member:ident) => {
        Field {
            var: $var,
            kind: $kind,
            label: $label,
            get: |c| c.$member.clone(),
            set: |c, v| {
                c.$member = set_of(v);
                Some(())
            },
        }
    };
}

/// Every field, in the order of the form.
pub const FIELDS: &[Field] = &[
    line!("pubsub#title", "Friendly name of the node", title),
    line!("pubsub#description", "Description of the node", description),
    line!("pubsub#type", "Namespace of the payloads", payload_type),
    line!("pubsub#language", "Default language of the node", language),
    several!(
        "pubsub#contact",
        Kind::Jids,
        "Who to ask about the node",
        contact
    ),
    list!(
        "pubsub#access_model",
        "Who may subscribe and retrieve items",
        AccessModel,
        access_model
    ),
    several!(
        "pubsub#roster_groups_allowed",
        Kind::Words,
        "Roster groups that may subscribe and retrieve items",
        roster_groups_allowed
    ),
    list!(
        "pubsub#publish_model",
        "Who may publish",
        PublishModel,
        publish_model
    ),
    switch!("pubsub#persist_items", "Keep items", persist_items),
    count!("pubsub#max_items", "Most items to keep, or max", max_items),
    count!(
        "pubsub#item_expire",
        "Seconds to keep an item, or max",
        item_expire
    ),
    count!(
        "pubsub#max_payload_size",
        "Most bytes of a payload, or max",
        max_payload_size
    ),
    list!(
        "pubsub#publish_node_full",
        "What gives way when full",
        NodeFull,
        publish_node_full
    ),
    list!(
        "pubsub#send_last_published_item",
        "When to send the last published item",
        SendLast,
        send_last_published_item
    ),
    switch!(
        "pubsub#deliver_notifications",
        "Notify subscribers",
        deliver_notifications
    ),
    switch!(
        "pubsub#deliver_payloads",
        "Send payloads with notifications",
        deliver_payloads
    ),
    switch!(
        "pubsub#notify_retract",
        "Tell of removed items",
        notify_retract
    ),
    switch!(
        "pubsub#notify_delete",
        "Tell of the node's deletion",
        notify_delete
    ),
    switch!(
        "pubsub#notify_config",
        "Tell of changed configuration",
        notify_config
    ),
    switch!(
        "pubsub#notify_sub",
        "Tell owners of new and leaving subscribers",
        notify_sub
    ),
    list!(
        "pubsub#notification_type",
        "Type of messages",
        NotificationType,
        notification_type
    ),
    list!("pubsub#itemreply", "Whom items name", ItemReply, item_reply),
    switch!(
        "pubsub#presence_based_delivery",
        "Notify available subscribers only",
        presence_based_delivery
    ),
    switch!("pubsub#subscribe", "Allow subscriptions", subscribe),
    Field {
        var: "pubsub#node_type",
        kind: Kind::List(&["leaf"]),
        label: "Kind of node",
        get: |_| word("leaf"),
        set: |_, v| (one(v)? == "leaf").then_some(()),
    },
];
