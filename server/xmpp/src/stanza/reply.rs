//! RFC 6120 §8.2.3 and §8.3.1: answers to stanzas

use super::{Fragment, IqType, Kind, Slot, Stanza};
use crate::element::Element;
use crate::error::StanzaError;
use crate::ns;

/// The result of an iq get or set, addressed back, with an optional payload.
pub fn iq_result(request: &Stanza, payload: Option<Element>) -> Stanza {
    let payload = payload.map(Fragment::from);
    let empty = Stanza::empty(Kind::Iq);
    let id = request.id();
    let mut result = empty.rewrite().type_attr("result");
    if let Some(id) = &id {
        result = result.id(id);
    }
    if let Some(from) = request.to() {
        result = result.from(from.clone());
    }
    if let Some(to) = request.from() {
        result = result.to(to.clone());
    }
    if let Some(payload) = &payload {
        result = result.append(payload);
    }
    result.build()
}

/// The error to answer a stanza with; `None` where none may be sent: to errors, to results
/// (RFC 6120 §8.3.1), and to an iq that has no type to tell.
pub fn error_reply(stanza: &Stanza, error: &StanzaError) -> Option<Stanza> {
    let silent = match stanza.kind() {
        Kind::Iq => matches!(stanza.iq_type(), Ok(IqType::Result | IqType::Error)),
        _ => stanza.is_error(),
    };
    if silent {
        return None;
    }
    let reply = answer(stanza)
        .with_attr("type", "error")
        .with_child(error.to_element());
    Some(Stanza::from_element(&reply))
}

fn answer(stanza: &Stanza) -> Element {
    let mut reply = Element::new(stanza.kind().as_str(), ns::CLIENT);
    if let Some(to) = stanza.from() {
        reply.set_attr("to", to.as_str());
    }
    if let Some(from) = stanza.to() {
        reply.set_attr("from", from.as_str());
    } else if stanza.bad_to() {
        // The sender recognises its own mistake by the address as it wrote it.
        if let Some(from) = stanza.value(Slot::To) {
            reply.set_attr("from", from);
        }
    }
    if let Some(id) = stanza.id() {
        reply.set_attr("id", id);
    }
    reply
}
