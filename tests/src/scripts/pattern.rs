//! Matching received elements against the expected ones of a protocol script.
//!
//! Attributes and children are compared as sets and must be the same, but for these: `...` among the children allows
//! more children and attributes; a top-level `to`, `xml:lang`, `<stanza-id/>`, and an iq's `from`, count only if mentioned.
//! `{name}` in an attribute or text stands for a known value, or takes the value it meets; `{any}` matches anything.

use super::xml::{Content, Node};
use std::collections::HashMap;

pub type Values = HashMap<String, String>;

const STANZA_ID: &str = "urn:xmpp:sid:0";

/// Compares; on success new values are in `values`, on failure the first difference is told.
pub fn matches(expected: &Node, got: &Node, values: &mut Values) -> Result<(), String> {
    let mut trial = values.clone();
    compare(expected, got, &mut trial, true)?;
    *values = trial;
    Ok(())
}

fn compare(expected: &Node, got: &Node, values: &mut Values, top: bool) -> Result<(), String> {
    if expected.name != got.name || expected.ns != got.ns {
        return Err(format!(
            "expected <{} xmlns='{}'>, got <{} xmlns='{}'>",
            expected.name, expected.ns, got.name, got.ns
        ));
    }
    let open = expected
        .content
        .iter()
        .any(|part| matches!(part, Content::Text(text) if text.trim() == "..."));
    attributes(expected, got, values, top || open)?;
    text(expected, got, values, open)?;
    let wanted: Vec<&Node> = expected.children().collect();
    let ids_matter = wanted.iter().any(|node| node.is("stanza-id", STANZA_ID));
    let present: Vec<&Node> = got
        .children()
        .filter(|node| !top || ids_matter || !node.is("stanza-id", STANZA_ID))
        .collect();
    let mut used = vec![false; present.len()];
    children(&wanted, &present, &mut used, values)?;
    if let Some(extra) = used.iter().position(|used| !used).filter(|_| !open) {
        return Err(format!(
            "not expected in <{}>: {}",
            got.name, present[extra]
        ));
    }
    Ok(())
}

fn attributes(
    expected: &Node,
    got: &Node,
    values: &mut Values,
    lenient: bool,
) -> Result<(), String> {
    for (key, pattern) in &expected.attrs {
        let Some(value) = got.attr(key) else {
            return Err(format!("<{}> lacks {key}='{pattern}'", got.name));
        };
        if !fits(pattern, value, values) {
            let (name, pattern) = (&got.name, resolved(pattern, values));
            return Err(format!("<{name}> has {key}='{value}', not '{pattern}'"));
        }
    }
    for (key, value) in &got.attrs {
        let addressed = key == "to" || key == "xml:lang" || (key == "from" && got.name == "iq");
        let free = lenient && addressed;
        if expected.attr(key).is_none() && !free && !has_dots(expected) {
            return Err(format!("<{}> has unexpected {key}='{value}'", got.name));
        }
    }
    Ok(())
}

fn has_dots(node: &Node) -> bool {
    node.text().trim() == "..."
}

fn text(expected: &Node, got: &Node, values: &mut Values, open: bool) -> Result<(), String> {
    let pattern = expected.text();
    let (pattern, value) = (pattern.trim(), got.text());
    if open || fits(pattern, value.trim(), values) {
        return Ok(());
    }
    let (name, pattern) = (&got.name, resolved(pattern, values));
    Err(format!(
        "<{name}> has text '{}', not '{pattern}'",
        value.trim()
    ))
}

/// Gives every wanted child one of those present, trying others where a first choice does not work out.
fn children(
    wanted: &[&Node],
    present: &[&Node],
    used: &mut Vec<bool>,
    values: &mut Values,
) -> Result<(), String> {
    let Some((first, rest)) = wanted.split_first() else {
        return Ok(());
    };
    let mut reason = format!("lacks {first}");
    let mut deeper = false;
    for (at, candidate) in present.iter().enumerate() {
        if used[at] {
            continue;
        }
        let mut trial = values.clone();
        match compare(first, candidate, &mut trial, false) {
            Err(why) if candidate.name == first.name && !deeper && first.name != "feature" => {
                reason = why;
            }
            Err(_) => {}
            Ok(()) => {
                used[at] = true;
                match children(rest, present, used, &mut trial) {
                    Ok(()) => {
                        *values = trial;
                        return Ok(());
                    }
                    Err(why) => {
                        used[at] = false;
                        deeper = true;
                        reason = why;
                    }
                }
            }
        }
    }
    Err(reason)
}

/// The pattern with its known placeholders filled in, for messages.
fn resolved(pattern: &str, values: &Values) -> String {
    let mut out = pattern.to_owned();
    for (key, value) in values {
        out = out.replace(&format!("{{{key}}}"), value);
    }
    out
}

/// Whether `value` fits `pattern`, placeholders taking as little as they can.
fn fits(pattern: &str, value: &str, values: &mut Values) -> bool {
    let Some((before, name, after)) = placeholder(pattern) else {
        return pattern == value;
    };
    let Some(rest) = value.strip_prefix(before) else {
        return false;
    };
    if let Some(known) = values.get(name) {
        let Some(rest) = rest.strip_prefix(known.as_str()) else {
            return false;
        };
        let rest = rest.to_owned();
        return fits(after, &rest, values);
    }
    let ends = rest.char_indices().map(|(at, _)| at).chain([rest.len()]);
    for end in ends {
        let mut trial = values.clone();
        if name != "any" {
            if end == 0 {
                continue;
            }
            trial.insert(name.to_owned(), rest[..end].to_owned());
        }
        if fits(after, &rest[end..], &mut trial) {
            *values = trial;
            return true;
        }
    }
    false
}

/// Splits at the first `{name}`.
pub fn placeholder(pattern: &str) -> Option<(&str, &str, &str)> {
    let open = pattern.find('{')?;
    let close = pattern[open..].find('}')? + open;
    Some((
        &pattern[..open],
        &pattern[open + 1..close],
        &pattern[close + 1..],
    ))
}

#[cfg(test)]
mod tests {
    use super::super::xml::parse_all;
    use super::*;

    fn check(expected: &str, got: &str, values: &mut Values) -> bool {
        let expected = parse_all(expected).unwrap().remove(0);
        let got = parse_all(got).unwrap().remove(0);
        matches(&expected, &got, values).is_ok()
    }

    #[test]
    fn placeholders_take_and_compare() {
        let mut values = Values::new();
        assert!(check(
            "<a x='p/{r}'>{any}</a>",
            "<a x='p/q'>t</a>",
            &mut values
        ));
        assert_eq!(values["r"], "q");
        assert!(check("<a x='{r}'/>", "<a x='q'/>", &mut values));
        assert!(!check("<a x='{r}'/>", "<a x='z'/>", &mut values));
    }

    #[test]
    fn children_are_a_set() {
        let mut values = Values::new();
        assert!(check("<a><b/><c/></a>", "<a><c/><b/></a>", &mut values));
        assert!(!check("<a><b/></a>", "<a><c/><b/></a>", &mut values));
        assert!(check(
            "<a>...<b/></a>",
            "<a y='1'><c/><b/></a>",
            &mut values
        ));
        assert!(!check("<a><b/><b/></a>", "<a><b/></a>", &mut values));
        let pair = "<a><i n='{x}'/><i n='2'/></a>";
        assert!(check(pair, "<a><i n='2'/><i n='1'/></a>", &mut values));
        assert_eq!(values["x"], "1");
    }
}
