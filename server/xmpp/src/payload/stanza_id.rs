//! XEP-0359: Unique and Stable Stanza IDs

use crate::element::Element;
use crate::ns;
use crate::stanza::{Fragment, Stanza};

/// A `<stanza-id/>` that `by` asserts (XEP-0359 §3.1).
pub fn fragment(by: &str, id: &str) -> Fragment {
    Fragment::new(
        &Element::new("stanza-id", ns::STANZA_ID)
            .with_attr("by", by)
            .with_attr("id", id),
    )
}

/// The id the sender gave the message (XEP-0359 §3.2).
pub fn origin_id(stanza: &Stanza) -> Option<String> {
    let element = stanza.child("origin-id", ns::STANZA_ID)?;
    element.attr("id").map(str::to_owned)
}
