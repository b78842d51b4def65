//! XEP-0059: Result Set Management

use std::ops::Range;

use crate::element::Element;
use crate::ns;

/// Which page of a result set.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Position {
    /// §2.1: the first one.
    #[default]
    First,
    /// §2.2: what follows this item.
    After(String),
    /// §2.3: what precedes this item.
    Before(String),
    /// §2.5: the last one.
    Last,
    /// §2.6: from this index on.
    Index(u32),
}

/// `<set/>` of a request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Request {
    /// The most items wanted; 0 asks for the count only (§2.7).
    pub max: Option<u32>,
    /// The page.
    pub position: Position,
    /// The other end, where both `<after/>` and `<before/>` are given: XEP-0059 leaves
    /// that open; items between the two are meant.
    pub until: Option<String>,
}

/// The element is not a request of XEP-0059: `bad-request`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a request for a page")]
pub struct Error;

impl Request {
    /// Reads `<set/>`. `<after/>` goes before `<before/>`, and both before `<index/>`.
    pub fn parse(set: &Element) -> Result<Request, Error> {
        let text = |name: &str| set.child_text(name, ns::RSM);
        let number = |name: &str| {
            let number = text(name).map(|number| number.trim().parse::<u32>());
            number.transpose().map_err(|_| Error)
        };
        let before = text("before");
        let (position, until) = match (text("after").filter(|id| !id.is_empty()), before) {
            (Some(after), before) => (Position::After(after), before.filter(|id| !id.is_empty())),
            (None, Some(before)) if before.is_empty() => (Position::Last, None),
            (None, Some(before)) => (Position::Before(before), None),
            (None, None) => match number("index")? {
                Some(index) => (Position::Index(index), None),
                None => (Position::First, None),
            },
        };
        Ok(Request {
            max: number("max")?,
            position,
            until,
        })
    }

    /// Whether the page ends, rather than begins, at what the request names.
    pub fn is_backwards(&self) -> bool {
        matches!(self.position, Position::Before(_) | Position::Last)
    }
}

/// A page of a list that is in memory: which items, and the `<set/>` that goes with them.
pub type Cut<'a> = (Range<usize>, Page<'a>);

impl Request {
    /// The page of a list in its order whose items have the ids that `id` gives, of at most `limit`
    /// items; `None` where the item to start from is gone: `item-not-found` (§2.4).
    pub fn page_of<'a, T>(
        &self,
        items: &'a [T],
        limit: usize,
        id: impl Fn(&'a T) -> &'a str,
    ) -> Option<Cut<'a>> {
        let max = self.max.map_or(limit, |max| limit.min(max as usize));
        let find = |wanted: &str| items.iter().position(|item| id(item) == wanted);
        let end = match &self.until {
            Some(until) => find(until)?,
            None => items.len(),
        };
        let upwards = |start: usize| {
            let start = start.min(end);
            start..start.saturating_add(max).min(end)
        };
        let range = match &self.position {
            Position::First => upwards(0),
            Position::After(after) => upwards(find(after)? + 1),
            Position::Index(index) => upwards(*index as usize),
            Position::Before(before) => {
                let end = find(before)?;
                end.saturating_sub(max)..end
            }
            Position::Last => end.saturating_sub(max)..end,
        };
        let page = &items[range.clone()];
        let ends = page.first().zip(page.last());
        let set = Page {
            ends: ends.map(|(first, last)| (id(first), id(last))),
            index: ends.map(|_| range.start),
            count: Some(items.len()),
        };
        Some((range, set))
    }
}

/// `<set/>` of a result.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Page<'a> {
    /// The first and the last item of the page; none of an empty one.
    pub ends: Option<(&'a str, &'a str)>,
    /// The first item's place in the whole result set.
    pub index: Option<usize>,
    /// How many items the whole result set has.
    pub count: Option<usize>,
}

impl Page<'_> {
    /// `<set/>`.
    pub fn to_element(&self) -> Element {
        let part = |name: &'static str, text: &str| Element::new(name, ns::RSM).with_text(text);
        let ends = self.ends.map(|(first, last)| {
            let index = self.index.map(|index| index.to_string());
            [
                part("first", first).with_attr_opt("index", index),
                part("last", last),
            ]
        });
        Element::new("set", ns::RSM)
            .with_children(ends.into_iter().flatten())
            .with_children(self.count.map(|count| part("count", &count.to_string())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(inner: &str) -> Result<Request, Error> {
        let xml = format!("<set xmlns='http://jabber.org/protocol/rsm'>{inner}</set>");
        Request::parse(&Element::parse(xml).expect("test input"))
    }

    fn at(position: Position) -> Result<Request, Error> {
        Ok(Request {
            position,
            ..Request::default()
        })
    }

    #[test]
    fn each_way_to_name_a_page() {
        assert_eq!(parse(""), at(Position::First));
        assert_eq!(parse("<after>a</after>"), at(Position::After("a".into())));
        assert_eq!(
            parse("<before>b</before>"),
            at(Position::Before("b".into()))
        );
        assert_eq!(parse("<before/>"), at(Position::Last));
        assert_eq!(parse("<index>371</index>"), at(Position::Index(371)));
        assert_eq!(parse("<max>10</max>").map(|r| r.max), Ok(Some(10)));
        let between = parse("<after>a</after><before>b</before>").expect("valid");
        assert_eq!(between.until.as_deref(), Some("b"));
    }

    #[test]
    fn pages_of_lists() {
        let items = ["a", "b", "c", "d", "e"];
        let cut = |inner: &str| {
            let request = parse(inner).expect("valid");
            request
                .page_of(&items, 3, |item| item)
                .map(|(range, _)| range)
        };
        assert_eq!(cut(""), Some(0..3));
        assert_eq!(cut("<max>2</max>"), Some(0..2));
        assert_eq!(cut("<max>0</max>"), Some(0..0));
        assert_eq!(cut("<max>2</max><after>b</after>"), Some(2..4));
        assert_eq!(cut("<after>e</after>"), Some(5..5));
        assert_eq!(cut("<max>1</max><before>c</before>"), Some(1..2));
        assert_eq!(cut("<before>a</before>"), Some(0..0));
        assert_eq!(cut("<before/>"), Some(2..5));
        assert_eq!(cut("<index>4</index>"), Some(4..5));
        assert_eq!(cut("<index>4294967295</index>"), Some(5..5));
        assert_eq!(cut("<after>a</after><before>c</before>"), Some(1..2));
        assert_eq!(cut("<after>d</after><before>b</before>"), Some(1..1));
        assert_eq!(cut("<after>x</after>"), None);
        let (_, set) = parse("<max>2</max><index>1</index>")
            .expect("valid")
            .page_of(&items, 3, |item| item)
            .expect("no item to find");
        assert_eq!(
            (set.ends, set.index, set.count),
            (Some(("b", "c")), Some(1), Some(5))
        );
    }

    #[test]
    fn numbers_must_be_numbers() {
        assert_eq!(parse("<max>many</max>"), Err(Error));
        assert_eq!(parse("<max>-1</max>"), Err(Error));
        assert_eq!(parse("<index/>"), Err(Error));
    }

    #[test]
    fn results_name_what_they_hold() {
        let page = Page {
            ends: Some(("a", "z")),
            index: Some(0),
            count: Some(26),
        };
        assert_eq!(
            page.to_element().to_xml(),
            "<set xmlns='http://jabber.org/protocol/rsm'><first index='0'>a</first>\
             <last>z</last><count>26</count></set>"
        );
        assert_eq!(
            Page {
                count: Some(0),
                ..Page::default()
            }
            .to_element()
            .to_xml(),
            "<set xmlns='http://jabber.org/protocol/rsm'><count>0</count></set>"
        );
    }
}
