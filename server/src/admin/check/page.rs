//! The troubleshooting page: every kind of finding, under what users complain of.

use std::fmt::Write;

use super::finding::{Kind, Severity, Symptom};
use super::kinds;

/// The page as Markdown.
pub fn page() -> String {
    let mut text = String::from(
        "# Troubleshooting\n\nMade from the findings of `eider check` by `eider check --page`; a test fails when \
         it is stale.\nFirst type `eider check`: it tells which of these you have. Names in CAPITALS stand for \
         yours.\n\nTo see what one account does: `eider trace ACCOUNT`. To see more in the log for a while: `eider \
         log debug eider::stream --for 10m`.\n",
    );
    for symptom in Symptom::ALL {
        let _ = write!(text, "\n## {}\n", symptom.heading());
        let mut of_it: Vec<_> = kinds()
            .into_iter()
            .filter(|k| k.symptom == symptom)
            .collect();
        of_it.sort_by_key(|kind| std::cmp::Reverse(kind.severity));
        for kind in of_it.into_iter().filter(|kind| !is_told_alone(kind.what)) {
            entry(&mut text, kind);
        }
    }
    text
}

/// A text that is nothing but what the finding fills in says nothing on the page.
fn is_told_alone(what: &str) -> bool {
    let name = what
        .strip_prefix('{')
        .and_then(|what| what.strip_suffix('}'));
    name.is_some_and(|name| !name.contains(['{', '}']))
}

fn entry(out: &mut String, kind: &Kind) {
    let severity = match kind.severity {
        Severity::Note => "note",
        Severity::Warning => "warning",
        Severity::Error => "error",
    };
    let what = upper_first(&capitals(kind.what));
    let _ = write!(
        out,
        "\n**{what}** ({severity}, `{}`)\n- Users: {}.\n- Type: `{}`\n",
        kind.id,
        capitals(kind.effect),
        capitals(kind.remedy),
    );
}

/// `{host}` becomes `HOST`.
fn capitals(template: &str) -> String {
    let mut text = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        let Some((name, after)) = after.split_once('}') else {
            break;
        };
        text.push_str(before);
        text.push_str(&name.to_uppercase());
        rest = after;
    }
    text.push_str(rest);
    text
}

fn upper_first(text: &str) -> String {
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_uppercase().chain(chars).collect(),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn page_is_not_stale() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/TROUBLESHOOTING.md");
        let written = std::fs::read_to_string(path).unwrap_or_default();
        let hint = "stale; write it with: eider check --page > server/TROUBLESHOOTING.md";
        assert!(written == page(), "server/TROUBLESHOOTING.md is {hint}");
    }

    #[test]
    fn kinds_have_ids_of_their_own_and_texts_without_ends() {
        let mut seen = BTreeSet::new();
        for kind in kinds() {
            assert!(seen.insert(kind.id), "{} stands twice", kind.id);
            for text in [kind.what, kind.effect, kind.remedy] {
                assert!(
                    !text.is_empty() && !text.ends_with('.'),
                    "{}: {text}",
                    kind.id
                );
                assert_eq!(
                    text.matches('{').count(),
                    text.matches('}').count(),
                    "{}",
                    kind.id
                );
            }
        }
    }
}
