//! XEP-0049: Private XML Storage

use crate::element::Element;
use crate::ns;

/// Why a request is refused (§3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No element with a namespace of its own is stored or asked for: `bad-request`.
    #[error("no element is stored or asked for")]
    Empty,
    /// More than one is asked for: `not-acceptable`.
    #[error("one element at a time")]
    Several,
    /// An element of a namespace that others answer for: `not-acceptable`.
    #[error("a reserved namespace")]
    Reserved,
}

/// The elements that a request is about; in a get exactly one.
pub fn parse(query: &Element, set: bool) -> Result<Vec<&Element>, Error> {
    let elements: Vec<&Element> = query.children().collect();
    if elements.is_empty() {
        return Err(Error::Empty);
    }
    if !set && elements.len() > 1 {
        return Err(Error::Several);
    }
    for element in &elements {
        match element.ns() {
            ns::PRIVATE | "" => return Err(Error::Empty),
            other if other.starts_with("jabber:") || other == ns::VCARD => {
                return Err(Error::Reserved);
            }
            _ => {}
        }
    }
    Ok(elements)
}

/// `<query/>` of a result.
pub fn result(element: Element) -> Element {
    Element::new("query", ns::PRIVATE).with_child(element)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(inner: &str, set: bool) -> Result<usize, Error> {
        let xml = format!("<query xmlns='jabber:iq:private'>{inner}</query>");
        parse(&Element::parse(xml).expect("test input"), set).map(|found| found.len())
    }

    #[test]
    fn one_is_read_and_several_are_written() {
        assert_eq!(check("<a xmlns='urn:a'/>", false), Ok(1));
        assert_eq!(check("<a xmlns='urn:a'/><b xmlns='urn:b'/>", true), Ok(2));
        assert_eq!(
            check("<a xmlns='urn:a'/><b xmlns='urn:b'/>", false),
            Err(Error::Several)
        );
    }

    #[test]
    fn some_are_refused() {
        assert_eq!(check("", true), Err(Error::Empty));
        assert_eq!(check("<a/>", true), Err(Error::Empty));
        assert_eq!(
            check("<a xmlns='jabber:iq:roster'/>", true),
            Err(Error::Reserved)
        );
    }
}
