//! XEP-0115: Entity Capabilities

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::element::Element;
use crate::ns;
use crate::payload::data_forms::{FORM_TYPE, FieldKind, Form};
use crate::payload::disco::{Identity, Info};
use crate::stanza::Stanza;

/// Longest `node` and `ver` that are looked at.
pub const MAX_ATTRIBUTE_BYTES: usize = 1024;

/// The hash functions that are verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hash {
    /// `sha-1`, which everyone must know (XEP-0115 §4)
    Sha1,
    /// `sha-256`
    Sha256,
}

impl Hash {
    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Hash::Sha1 => "sha-1",
            Hash::Sha256 => "sha-256",
        }
    }

    /// By the name on the wire.
    pub fn from_name(name: &str) -> Option<Hash> {
        match name {
            "sha-1" => Some(Hash::Sha1),
            "sha-256" => Some(Hash::Sha256),
            _ => None,
        }
    }

    fn of(self, text: &str) -> String {
        let algorithm = match self {
            Hash::Sha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
            Hash::Sha256 => &digest::SHA256,
        };
        STANDARD.encode(digest::digest(algorithm, text.as_bytes()))
    }
}

/// `<c/>` in a presence or in stream features.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Caps {
    /// The software's URI.
    pub node: String,
    /// The verification string, or a version in the old form.
    pub ver: String,
    /// As written; `None` in the old form, which is ignored (XEP-0115 §5.4, step 1).
    pub hash: Option<String>,
}

impl Caps {
    /// What our own `<c/>` says of `info`.
    pub fn new(node: &str, hash: Hash, info: &Info) -> Result<Caps, IllFormed> {
        Ok(Caps {
            node: node.to_owned(),
            ver: ver(info, hash)?,
            hash: Some(hash.as_str().to_owned()),
        })
    }

    /// The caps of a presence.
    pub fn of(presence: &Stanza) -> Option<Caps> {
        Caps::parse(&presence.child("c", ns::CAPS)?)
    }

    /// Reads `<c/>`; `None` for another element or one without `node` or `ver`.
    pub fn parse(element: &Element) -> Option<Caps> {
        if !element.is("c", ns::CAPS) {
            return None;
        }
        let bounded = |name| {
            let value = element.attr(name)?;
            (!value.is_empty() && value.len() <= MAX_ATTRIBUTE_BYTES).then(|| value.to_owned())
        };
        Some(Caps {
            node: bounded("node")?,
            ver: bounded("ver")?,
            hash: bounded("hash"),
        })
    }

    /// As a tree.
    pub fn to_element(&self) -> Element {
        Element::new("c", ns::CAPS)
            .with_attr_opt("hash", self.hash.as_deref())
            .with_attr("node", self.node.as_str())
            .with_attr("ver", self.ver.as_str())
    }

    /// The disco node to ask for.
    pub fn disco_node(&self) -> String {
        format!("{}#{}", self.node, self.ver)
    }

    /// Whether `info` is what the verification string was made of: only then may it be kept for
    /// others who show the same string (XEP-0115 §5.4).
    pub fn verify(&self, info: &Info) -> Verdict {
        let Some(hash) = self.hash.as_deref().and_then(Hash::from_name) else {
            return Verdict::Unknown;
        };
        match ver(info, hash) {
            Ok(ver) if ver == self.ver => Verdict::Valid,
            _ => Verdict::Invalid,
        }
    }
}

/// What an answer proves about a verification string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The same for everyone who shows that string.
    Valid,
    /// Ill-formed or forged.
    Invalid,
    /// A hash function that is not known, or none: true of that one JID alone.
    Unknown,
}

/// Why no verification string can be made (XEP-0115 §5.4, step 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IllFormed {
    /// The same category, type, language and name twice.
    #[error("identity given twice")]
    Identity,
    /// The same feature twice.
    #[error("feature given twice")]
    Feature,
    /// Two forms of one FORM_TYPE, or a FORM_TYPE of several values.
    #[error("FORM_TYPE given twice")]
    FormType,
}

/// XEP-0115 §5.1: the verification string of an answer.
pub fn ver(info: &Info, hash: Hash) -> Result<String, IllFormed> {
    Ok(hash.of(&input(info)?))
}

/// What is hashed.
fn input(info: &Info) -> Result<String, IllFormed> {
    let mut out = String::new();
    let mut identities: Vec<&Identity> = info.identities.iter().collect();
    identities.sort_by_key(|identity| key(identity));
    if identities
        .windows(2)
        .any(|two| key(two[0]) == key(two[1]) && two[0].name == two[1].name)
    {
        return Err(IllFormed::Identity);
    }
    for identity in identities {
        let (category, kind, lang) = key(identity);
        let name = identity.name.as_deref().unwrap_or("");
        for (part, end) in [(category, '/'), (kind, '/'), (lang, '/'), (name, '<')] {
            push(&mut out, part, end);
        }
    }
    let mut features: Vec<&str> = info.features.iter().map(AsRef::as_ref).collect();
    features.sort_unstable();
    if features.windows(2).any(|two| two[0] == two[1]) {
        return Err(IllFormed::Feature);
    }
    for feature in features {
        push(&mut out, feature, '<');
    }
    let mut forms = Vec::new();
    for form in &info.forms {
        if let Some(form_type) = form_type(form)? {
            forms.push((form_type, form));
        }
    }
    forms.sort_by_key(|(form_type, _)| *form_type);
    if forms.windows(2).any(|two| two[0].0 == two[1].0) {
        return Err(IllFormed::FormType);
    }
    for (form_type, form) in forms {
        push(&mut out, form_type, '<');
        push_fields(&mut out, form);
    }
    Ok(out)
}

fn key(identity: &Identity) -> (&str, &str, &str) {
    (
        &identity.category,
        &identity.kind,
        identity.lang.as_deref().unwrap_or(""),
    )
}

/// Appends a part. A `<` within stays the escaped form that it had on the wire, or parts could be
/// made to look like others (XEP-0115 §5.1, last note).
fn push(out: &mut String, part: &str, end: char) {
    out.push_str(&part.replace('<', "&lt;"));
    out.push(end);
}

/// XEP-0115 §5.4, steps 3.5 and 3.6: forms without a hidden FORM_TYPE are ignored.
fn form_type(form: &Form) -> Result<Option<&str>, IllFormed> {
    let mut fields = form
        .fields
        .iter()
        .filter(|field| field.var.as_deref() == Some(FORM_TYPE));
    let Some(field) = fields.next() else {
        return Ok(None);
    };
    if fields.next().is_some() || field.values.windows(2).any(|two| two[0] != two[1]) {
        return Err(IllFormed::FormType);
    }
    let hidden = field.kind == Some(FieldKind::Hidden);
    Ok(field.values.first().map(String::as_str).filter(|_| hidden))
}

fn push_fields(out: &mut String, form: &Form) {
    let named = form
        .fields
        .iter()
        .filter_map(|field| Some((field.var.as_deref()?, &field.values)));
    let mut fields: Vec<_> = named.filter(|(var, _)| *var != FORM_TYPE).collect();
    fields.sort_by_key(|(var, _)| *var);
    for (var, values) in fields {
        push(out, var, '<');
        let mut values: Vec<&str> = values.iter().map(String::as_str).collect();
        values.sort_unstable();
        for value in values {
            push(out, value, '<');
        }
    }
}

#[cfg(test)]
mod tests;
