//! XEP-0203: Delayed Delivery

use crate::datetime;
use crate::element::Element;
use crate::ns;
use crate::stanza::Fragment;

/// A `<delay/>` of `from`, with the time the stanza was received (microseconds since 1970).
pub fn fragment(from: &str, unix_micros: i64) -> Fragment {
    Fragment::new(&element(from, unix_micros))
}

/// The same as a tree.
pub fn element(from: &str, unix_micros: i64) -> Element {
    Element::new("delay", ns::DELAY)
        .with_attr("from", from)
        .with_attr("stamp", datetime::format_millis(unix_micros))
}
