//! XEP-0059 in XEP-0060: pages of lists that are at hand.

use std::ops::Range;

use eider_xmpp::element::Element;
use eider_xmpp::payload::rsm::{Page, Position, Request};

use super::Problem;

/// Reads `<set/>` of a request.
pub(super) fn read(set: &Element) -> Result<Request, Problem> {
    Request::parse(set).map_err(|_| Problem::Malformed("not a request for a page"))
}

/// Which part of the list is asked for. Who names an item that is not in the list
/// gets `item-not-found` (XEP-0059 §2.2).
pub(super) fn range<T>(
    list: &[T],
    id: impl Fn(&T) -> &str,
    request: &Request,
) -> Result<Range<usize>, Problem> {
    let place = |wanted: &str| {
        list.iter()
            .position(|entry| id(entry) == wanted)
            .ok_or(Problem::NotFound)
    };
    let (start, end) = match &request.position {
        Position::First => (0, list.len()),
        Position::After(wanted) => (place(wanted)? + 1, list.len()),
        Position::Before(wanted) => (0, place(wanted)?),
        Position::Last => (0, list.len()),
        Position::Index(index) => ((*index as usize).min(list.len()), list.len()),
    };
    let end = match &request.until {
        Some(wanted) => place(wanted)?.max(start),
        None => end,
    };
    let max = request.max.map_or(usize::MAX, |max| max as usize);
    if request.is_backwards() {
        Ok(end.saturating_sub(max).max(start)..end)
    } else {
        Ok(start..start.saturating_add(max).min(end))
    }
}

/// `<set/>` of the result: what is shown of a list of `count`.
pub(super) fn notation<T>(
    shown: &[T],
    id: impl Fn(&T) -> &str,
    start: usize,
    count: usize,
) -> Element {
    let ends = shown
        .first()
        .zip(shown.last())
        .map(|(first, last)| (id(first), id(last)));
    Page {
        ends,
        index: ends.map(|_| start),
        count: Some(count),
    }
    .to_element()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: [&str; 5] = ["a", "b", "c", "d", "e"];

    fn page(position: Position, max: Option<u32>) -> Option<Range<usize>> {
        let request = Request {
            max,
            position,
            until: None,
        };
        range(&LIST, |id| id, &request).ok()
    }

    #[test]
    fn pages_go_both_ways() {
        assert_eq!(page(Position::First, None), Some(0..5));
        assert_eq!(page(Position::First, Some(2)), Some(0..2));
        assert_eq!(page(Position::After("b".into()), Some(2)), Some(2..4));
        assert_eq!(page(Position::Last, Some(2)), Some(3..5));
        assert_eq!(page(Position::Before("d".into()), Some(2)), Some(1..3));
        assert_eq!(page(Position::Before("b".into()), Some(9)), Some(0..1));
        assert_eq!(page(Position::Index(4), Some(9)), Some(4..5));
        assert_eq!(page(Position::Index(9), None), Some(5..5));
        assert_eq!(page(Position::First, Some(0)), Some(0..0));
        assert_eq!(page(Position::After("x".into()), None), None);
    }

    #[test]
    fn both_ends_may_be_named() {
        let request = |after: &str, before: &str| Request {
            max: None,
            position: Position::After(after.into()),
            until: Some(before.into()),
        };
        assert_eq!(range(&LIST, |id| id, &request("a", "d")).ok(), Some(1..3));
        assert_eq!(range(&LIST, |id| id, &request("d", "a")).ok(), Some(4..4));
    }
}
