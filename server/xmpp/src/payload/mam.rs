//! XEP-0313: Message Archive Management, queries; XEP-0431: full text; XEP-0441: preferences

use std::collections::HashSet;

use crate::datetime;
use crate::element::Element;
use crate::jid::Jid;
use crate::ns;
use crate::payload::data_forms::{Form, FormKind};

/// XEP-0431 §3.1: the field for full text.
pub const FULLTEXT: &str = "{urn:xmpp:fulltext:0}fulltext";

/// The most ids that one query may name.
pub const MAX_IDS: usize = 256;
/// The longest text searched for, in bytes.
const MAX_TEXT_BYTES: usize = 1024;
/// The most JIDs in a preference list.
pub const MAX_PREFERENCE_JIDS: usize = 1024;

/// A query (§4): filters and flags. Paging (XEP-0059) is read apart.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Query {
    /// Repeated in each result.
    pub query_id: Option<String>,
    /// Another archive's node; user archives have none.
    pub node: Option<String>,
    /// Messages with this JID; a bare one stands for its resources too.
    pub with: Option<Jid>,
    /// Received at or after, in microseconds since 1970.
    pub start: Option<i64>,
    /// Received at or before, in microseconds since 1970.
    pub end: Option<i64>,
    /// Older than this message.
    pub before_id: Option<String>,
    /// Newer than this message.
    pub after_id: Option<String>,
    /// Exactly these; `None` for no such limit.
    pub ids: Option<Vec<String>>,
    /// Messages that hold this text.
    pub text: Option<String>,
    /// §4.3.4: the page is sent newest first.
    pub flip: bool,
    /// XEP-0059's `<set/>`.
    pub set: Option<Element>,
}

/// Why a query or preferences are refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The form is none of this protocol's: `bad-request`.
    #[error("not a query form")]
    Form,
    /// An unknown field: `feature-not-implemented` (the query could not mean what it says).
    #[error("unknown field {0}")]
    UnknownField(String),
    /// A value that the field cannot have: `bad-request`.
    #[error("bad value of {0}")]
    Value(&'static str),
    /// Not preferences of XEP-0441: `bad-request`.
    #[error("not archive preferences")]
    Preferences,
}

impl Query {
    /// Reads `<query/>` of an iq set.
    pub fn parse(query: &Element) -> Result<Query, Error> {
        let mut read = Query {
            query_id: query.attr("queryid").map(str::to_owned),
            node: query.attr("node").map(str::to_owned),
            flip: query.has("flip-page", ns::MAM),
            set: query.child("set", ns::RSM).cloned(),
            ..Query::default()
        };
        let Some(x) = query.child("x", ns::DATA_FORMS) else {
            return Ok(read);
        };
        let form = Form::parse(x).map_err(|_| Error::Form)?;
        if form.kind != FormKind::Submit || form.form_type() != Some(ns::MAM) {
            return Err(Error::Form);
        }
        for field in &form.fields {
            match field.var.as_deref() {
                Some(var) => read.field(var, &field.values)?,
                None => return Err(Error::Form),
            }
        }
        Ok(read)
    }

    fn field(&mut self, var: &str, values: &[String]) -> Result<(), Error> {
        match var {
            "FORM_TYPE" => {}
            "with" => {
                let jid = single(values, "with")?.map(Jid::parse);
                self.with = jid.transpose().map_err(|_| Error::Value("with"))?;
            }
            "start" => self.start = time(values, "start")?,
            "end" => self.end = time(values, "end")?,
            "before-id" => self.before_id = single(values, "before-id")?.map(str::to_owned),
            "after-id" => self.after_id = single(values, "after-id")?.map(str::to_owned),
            "ids" => {
                if values.len() > MAX_IDS {
                    return Err(Error::Value("ids"));
                }
                self.ids = Some(values.to_vec());
            }
            FULLTEXT => {
                let text = single(values, "fulltext")?;
                if text.is_some_and(|text| text.len() > MAX_TEXT_BYTES) {
                    return Err(Error::Value("fulltext"));
                }
                self.text = text.map(str::to_owned);
            }
            other => return Err(Error::UnknownField(other.to_owned())),
        }
        Ok(())
    }
}

/// One value, or none; an empty one is none.
fn single<'a>(values: &'a [String], field: &'static str) -> Result<Option<&'a str>, Error> {
    match values {
        [] => Ok(None),
        [value] => Ok(Some(value.as_str()).filter(|value| !value.is_empty())),
        _ => Err(Error::Value(field)),
    }
}

fn time(values: &[String], field: &'static str) -> Result<Option<i64>, Error> {
    let parsed = single(values, field)?.map(datetime::parse);
    parsed.transpose().map_err(|_| Error::Value(field))
}

/// `<query/>` that answers an iq get (§4.1.5): the fields; full text where the host has it.
pub fn query_form(fulltext: bool) -> Element {
    let field = |var: &'static str, kind: &'static str| {
        Element::new("field", ns::DATA_FORMS)
            .with_attr("type", kind)
            .with_attr("var", var)
    };
    let open = Element::new("validate", ns::DATA_VALIDATE)
        .with_attr("datatype", "xs:string")
        .with_child(Element::new("open", ns::DATA_VALIDATE));
    let value = Element::new("value", ns::DATA_FORMS).with_text(ns::MAM);
    let form = Element::new("x", ns::DATA_FORMS)
        .with_attr("type", "form")
        .with_child(field("FORM_TYPE", "hidden").with_child(value))
        .with_child(field("with", "jid-single"))
        .with_child(field("start", "text-single"))
        .with_child(field("end", "text-single"))
        .with_child(field("before-id", "text-single"))
        .with_child(field("after-id", "text-single"))
        .with_child(field("ids", "list-multi").with_child(open))
        .with_children(fulltext.then(|| field(FULLTEXT, "text-single")));
    Element::new("query", ns::MAM).with_child(form)
}

/// `<fin/>` of an iq result (§4.3): paging, and whether nothing is left.
pub fn fin(complete: bool, set: Element) -> Element {
    let fin = Element::new("fin", ns::MAM);
    let fin = if complete {
        fin.with_attr("complete", "true")
    } else {
        fin
    };
    fin.with_child(set)
}

/// `<metadata/>` of an iq result (§5): id and time in microseconds of the first and
/// last message, where there is any.
pub fn metadata(ends: Option<[(&str, i64); 2]>) -> Element {
    let metadata = Element::new("metadata", ns::MAM);
    let Some([first, last]) = ends else {
        return metadata;
    };
    let end = |name: &'static str, (id, at): (&str, i64)| {
        Element::new(name, ns::MAM)
            .with_attr("id", id)
            .with_attr("timestamp", datetime::format_millis(at))
    };
    metadata
        .with_child(end("start", first))
        .with_child(end("end", last))
}

/// XEP-0441 §2.1.1: what happens with messages of JIDs in neither list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DefaultPolicy {
    /// They are archived.
    Always,
    /// They are not.
    Never,
    /// They are where the JID is in the roster.
    Roster,
}

impl DefaultPolicy {
    /// As written.
    pub fn as_str(self) -> &'static str {
        match self {
            DefaultPolicy::Always => "always",
            DefaultPolicy::Never => "never",
            DefaultPolicy::Roster => "roster",
        }
    }
}

/// XEP-0441 §2.1: archive preferences.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preferences {
    /// For JIDs in neither list.
    pub default: DefaultPolicy,
    /// Always archived.
    pub always: Vec<String>,
    /// Never archived.
    pub never: Vec<String>,
}

impl Preferences {
    /// Reads `<prefs/>` of an iq set.
    pub fn parse(prefs: &Element) -> Result<Preferences, Error> {
        let default = match prefs.attr("default") {
            Some("always") => DefaultPolicy::Always,
            Some("never") => DefaultPolicy::Never,
            Some("roster") => DefaultPolicy::Roster,
            _ => return Err(Error::Preferences),
        };
        let list = |name| jids(prefs.child(name, ns::MAM));
        Ok(Preferences {
            default,
            always: list("always")?,
            never: list("never")?,
        })
    }

    /// `<prefs/>` of an iq result.
    pub fn to_element(&self) -> Element {
        let list = |name: &'static str, jids: &[String]| {
            let jids = jids
                .iter()
                .map(|jid| Element::new("jid", ns::MAM).with_text(jid));
            Element::new(name, ns::MAM).with_children(jids)
        };
        Element::new("prefs", ns::MAM)
            .with_attr("default", self.default.as_str())
            .with_child(list("always", &self.always))
            .with_child(list("never", &self.never))
    }
}

fn jids(list: Option<&Element>) -> Result<Vec<String>, Error> {
    let (mut jids, mut seen) = (Vec::new(), HashSet::new());
    for jid in list.iter().flat_map(|list| list.children()) {
        if !jid.is("jid", ns::MAM) || jids.len() == MAX_PREFERENCE_JIDS {
            return Err(Error::Preferences);
        }
        let jid = Jid::parse(jid.text().trim()).map_err(|_| Error::Preferences)?;
        let jid = jid.as_str().to_owned();
        if seen.insert(jid.clone()) {
            jids.push(jid);
        }
    }
    Ok(jids)
}

#[cfg(test)]
mod tests;
