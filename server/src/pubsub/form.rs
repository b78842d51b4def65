//! XEP-0004 in XEP-0060: configuration, options and approval as forms.

use eider_storage::Timestamp;
use eider_xmpp::datetime;
use eider_xmpp::element::Element;
use eider_xmpp::ns;
use eider_xmpp::payload::data_forms::{Field as FormField, FieldKind, Form, FormKind};

use super::Problem;
use super::config::{FIELDS, Field, Kind, METADATA, NodeConfig, Submitted};

const ALLOW: &str = "pubsub#allow";
const NODE: &str = "pubsub#node";
const SUBSCRIBER: &str = "pubsub#subscriber_jid";

/// The fields of a submission, by name, FORM_TYPE aside.
pub(super) type Fields = Vec<(String, Vec<String>)>;

/// Borrowed as the configuration takes them.
pub(super) fn submitted(fields: &Fields) -> Vec<Submitted<'_>> {
    let mut borrowed = Vec::with_capacity(fields.len());
    for (var, values) in fields {
        borrowed.push((var.as_str(), values.iter().map(String::as_str).collect()));
    }
    borrowed
}

/// A submitted form of this FORM_TYPE; `None` where it is cancelled. Clients leave
/// FORM_TYPE out at times; another one is refused.
pub(super) fn submission(x: &Element, form_type: &str) -> Result<Option<Fields>, Problem> {
    let form = Form::parse(x).map_err(|_| Problem::Malformed("not a form"))?;
    match form.kind {
        FormKind::Cancel => return Ok(None),
        FormKind::Submit => {}
        FormKind::Form | FormKind::Result => return Err(Problem::Malformed("not a submission")),
    }
    if form.form_type().is_some_and(|found| found != form_type) {
        return Err(Problem::Malformed("a form of another kind"));
    }
    let named = form
        .fields
        .into_iter()
        .filter_map(|field| Some((field.var?, field.values)));
    Ok(Some(named.filter(|(var, _)| var != "FORM_TYPE").collect()))
}

/// XEP-0060 §7.1.5: the preconditions of a publication.
pub(super) fn preconditions(options: Option<&Element>) -> Result<Fields, Problem> {
    let Some(x) = options else {
        return Ok(Vec::new());
    };
    Ok(submission(x, ns::PUBSUB_PUBLISH_OPTIONS)?.unwrap_or_default())
}

fn kind(field: &Field) -> FieldKind {
    match field.kind {
        Kind::Boolean => FieldKind::Boolean,
        Kind::Text => FieldKind::TextSingle,
        Kind::Words => FieldKind::TextMulti,
        Kind::Jids => FieldKind::JidMulti,
        Kind::List(_) => FieldKind::ListSingle,
    }
}

fn form_field(field: &Field, config: &NodeConfig) -> FormField {
    let shown = FormField::new(field.var, kind(field))
        .label(field.label)
        .values((field.get)(config));
    match field.kind {
        Kind::List(words) => words.iter().fold(shown, |shown, word| shown.option(*word)),
        _ => shown,
    }
}

/// XEP-0060 §8.2.2: the form to configure a node with.
pub(super) fn configuration(config: &NodeConfig) -> Element {
    let empty = Form::typed(FormKind::Form, ns::PUBSUB_NODE_CONFIG);
    FIELDS
        .iter()
        .fold(empty, |form, field| form.with(form_field(field, config)))
        .to_element()
}

/// XEP-0060 §8.2.5.3: the configuration as it is now.
pub(super) fn result(config: &NodeConfig) -> Element {
    let empty = Form::typed(FormKind::Result, ns::PUBSUB_NODE_CONFIG);
    FIELDS
        .iter()
        .fold(empty, |form, field| form.with(reported(field, config)))
        .to_element()
}

fn reported(field: &Field, config: &NodeConfig) -> FormField {
    FormField::new(field.var, kind(field)).values((field.get)(config))
}

/// XEP-0060 §5.4: a node's metadata.
pub(super) fn metadata(config: &NodeConfig, owner: &str, created_at: Timestamp) -> Element {
    let mut form = Form::typed(FormKind::Result, ns::PUBSUB_META_DATA)
        .with(FormField::new("pubsub#owner", FieldKind::JidMulti).value(owner))
        .with(FormField::new("pubsub#creator", FieldKind::JidSingle).value(owner))
        .with(
            FormField::new("pubsub#creation_date", FieldKind::TextSingle)
                .value(datetime::format_millis(created_at.0)),
        );
    for field in FIELDS.iter().filter(|field| METADATA.contains(&field.var)) {
        form = form.with(reported(field, config));
    }
    form.to_element()
}

/// XEP-0060 §6.3.3: the options of a subscription.
pub(super) fn subscription_options(deliver: bool) -> Element {
    let deliver = FormField::new("pubsub#deliver", FieldKind::Boolean)
        .label("Receive notifications")
        .value(if deliver { "1" } else { "0" });
    Form::typed(FormKind::Form, ns::PUBSUB_SUBSCRIBE_OPTIONS)
        .with(deliver)
        .to_element()
}

/// XEP-0060 §8.6: the form that asks an owner.
pub(super) fn authorization(node: &str, subscriber: &str) -> Element {
    Form::typed(FormKind::Form, ns::PUBSUB_SUBSCRIBE_AUTHORIZATION)
        .title("Subscription request")
        .instructions("Allow or refuse this subscription to your node.")
        .with(
            FormField::new(NODE, FieldKind::TextSingle)
                .label("Node")
                .value(node),
        )
        .with(
            FormField::new(SUBSCRIBER, FieldKind::JidSingle)
                .label("Subscriber")
                .value(subscriber),
        )
        .with(
            FormField::new(ALLOW, FieldKind::Boolean)
                .label("Allow")
                .value("false"),
        )
        .to_element()
}

/// An owner's answer to such a form.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// The owner put it off: nothing changes.
    Later,
    /// Node, subscriber and whether it is let in.
    Decided {
        node: String,
        subscriber: String,
        allow: bool,
    },
}

/// Reads an owner's answer; `None` where the form is none.
pub(super) fn authorization_reply(x: &Element) -> Option<Reply> {
    let form = Form::parse(x).ok()?;
    if form.form_type() != Some(ns::PUBSUB_SUBSCRIBE_AUTHORIZATION) {
        return None;
    }
    match form.kind {
        FormKind::Cancel => Some(Reply::Later),
        FormKind::Submit => Some(Reply::Decided {
            node: form.value(NODE)?.to_owned(),
            subscriber: form.value(SUBSCRIBER)?.to_owned(),
            allow: form.boolean(ALLOW)?,
        }),
        FormKind::Form | FormKind::Result => None,
    }
}
