//! The example file and the option reference, both made from the description of the configuration.

use std::fmt::Write;

use super::Config;
use super::schema::{Describe, Field, Shape};

const HEAD: &str = "\
# Configuration of Eider: every option, with its default.
#
# Nothing here is needed: what is commented out is what happens anyway. To change something, remove the
# # before the key. Lines that begin with ## show what an entry can look like.
# Check the file with: eider --config FILE config check
#
# Every key can also come from the environment (EIDER_STORAGE__ENGINE=postgres is storage.engine) and from
# the command line (--set storage.engine=postgres); the later wins. Keys marked secret can be read from
# a file (`dsn_file = \"/run/secrets/dsn\"`) or from a systemd credential named as the key (`storage.dsn`).
# Relative paths in a file are taken from the folder of that file.
";

/// The documented example: TOML in which every option is commented out with its default.
pub fn example() -> String {
    let mut text = HEAD.to_owned();
    section(&mut text, "", &fields(), None);
    text
}

fn fields() -> Vec<Field> {
    match Config::shape() {
        Shape::Table(fields) => fields,
        _ => Vec::new(),
    }
}

/// Writes the keys of a section, then the sections below it. `shown` holds values to show in place of
/// the defaults.
fn section(out: &mut String, path: &str, fields: &[Field], shown: Option<&toml::Table>) {
    let mark = if path.is_empty() || shown.is_none() {
        "#"
    } else {
        "##"
    };
    for field in fields {
        if !matches!(field.shape, Shape::Table(_) | Shape::Tables(_)) {
            leaf(out, field, mark);
        }
    }
    for field in fields {
        let path = if path.is_empty() {
            field.name.to_owned()
        } else {
            format!("{path}.{}", field.name)
        };
        match &field.shape {
            Shape::Table(below) => {
                out.push('\n');
                doc(out, &field.doc);
                let _ = writeln!(
                    out,
                    "{}[{path}]",
                    if mark == "#" && shown.is_none() {
                        ""
                    } else {
                        mark
                    }
                );
                section(out, &path, below, shown);
            }
            Shape::Tables(below) => tables(out, &path, field, below),
            _ => {}
        }
    }
}

/// Writes a list of sections: the default entries, or one made of defaults to show the keys.
fn tables(out: &mut String, path: &str, field: &Field, below: &[Field]) {
    out.push('\n');
    doc(out, &field.doc);
    let empty = Vec::new();
    let entries = match &field.default {
        Some(toml::Value::Array(entries)) => entries,
        _ => &empty,
    };
    let Some(toml::Value::Table(first)) = entries.first() else {
        let _ = writeln!(out, "##[[{path}]]");
        entry(out, path, below, &toml::Table::new(), "##");
        return;
    };
    let _ = writeln!(out, "#[[{path}]]");
    entry(out, path, below, first, "#");
    for other in entries.iter().skip(1).filter_map(toml::Value::as_table) {
        let _ = writeln!(out, "\n#[[{path}]]");
        for field in below {
            let value = other.get(field.name);
            if value != field.default.as_ref() {
                assignment(out, field, value, "#");
            }
        }
    }
}

fn entry(out: &mut String, path: &str, fields: &[Field], values: &toml::Table, mark: &str) {
    for field in fields {
        match &field.shape {
            Shape::Table(below) => {
                let path = format!("{path}.{}", field.name);
                doc(out, &field.doc);
                let _ = writeln!(out, "{mark}[{path}]");
                let empty = toml::Table::new();
                let values = values
                    .get(field.name)
                    .and_then(toml::Value::as_table)
                    .unwrap_or(&empty);
                entry(out, &path, below, values, mark);
            }
            _ => {
                doc(out, &full_doc(field));
                assignment(
                    out,
                    field,
                    values.get(field.name).or(field.default.as_ref()),
                    mark,
                );
            }
        }
    }
}

fn leaf(out: &mut String, field: &Field, mark: &str) {
    doc(out, &full_doc(field));
    assignment(out, field, field.default.as_ref(), mark);
}

/// The documentation, and the words of a choice with their meanings.
fn full_doc(field: &Field) -> String {
    let mut text = field.doc.clone();
    let choices = match &field.shape {
        Shape::Choice(choices) => choices,
        Shape::List(of) | Shape::Map(of) => match &**of {
            Shape::Choice(choices) => choices,
            _ => return text,
        },
        _ => return text,
    };
    for (word, meaning) in choices {
        let _ = write!(text, "\n  \"{word}\": {meaning}");
    }
    text
}

fn doc(out: &mut String, text: &str) {
    for line in text.lines() {
        let _ = writeln!(out, "# {line}");
    }
}

fn assignment(out: &mut String, field: &Field, value: Option<&toml::Value>, mark: &str) {
    let name = field.name;
    let _ = match (value, &field.shape) {
        (Some(toml::Value::Table(empty)), Shape::Map(_)) if empty.is_empty() => {
            writeln!(out, "{mark}{name} = {{}}")
        }
        (Some(value), _) => writeln!(out, "{mark}{name} = {value}"),
        (None, Shape::Secret) => writeln!(
            out,
            "##{name} = \"…\"   # secret; or {name}_file = \"PATH\""
        ),
        (None, shape) => writeln!(out, "##{name} = <{}>", shape.words()),
    };
}

/// The option reference as Markdown: a table per section.
pub fn reference() -> String {
    let mut text = String::from(
        "# Options\n\nMade from the configuration types by `eider config reference`; a test fails when it is \
         stale.\nLayers, the later wins: defaults, credentials (`$CREDENTIALS_DIRECTORY/storage.dsn`), the \
         TOML file, the environment\n(`EIDER_STORAGE__ENGINE`), the command line (`--set \
         storage.engine=postgres`).\n",
    );
    reference_section(&mut text, "", "The root of the file.", &fields());
    text
}

fn reference_section(out: &mut String, title: &str, about: &str, fields: &[Field]) {
    let title_text = if title.is_empty() {
        "Root".to_owned()
    } else {
        format!("`{title}`")
    };
    let _ = write!(out, "\n## {title_text}\n\n{}\n", about.replace('\n', " "));
    let plain: Vec<_> = fields
        .iter()
        .filter(|f| !matches!(f.shape, Shape::Table(_) | Shape::Tables(_)))
        .collect();
    if !plain.is_empty() {
        out.push_str("\n| key | value | default | |\n|---|---|---|---|\n");
    }
    for field in plain {
        let default = match &field.default {
            Some(value) => format!("`{}`", value.to_string().replace('|', "\\|")),
            None => "unset".to_owned(),
        };
        let doc = full_doc(field)
            .replace("\n  ", "<br>")
            .replace('\n', " ")
            .replace('|', "\\|");
        let words = field.shape.words().replace('|', "\\|");
        let _ = writeln!(out, "| `{}` | {words} | {default} | {doc} |", field.name);
    }
    for field in fields {
        let path = if title.is_empty() {
            field.name.to_owned()
        } else {
            format!("{title}.{}", field.name)
        };
        let path = path.replace("[[", "").replace("]]", "");
        match &field.shape {
            Shape::Table(below) => reference_section(out, &path, &field.doc, below),
            Shape::Tables(below) => {
                reference_section(out, &format!("[[{path}]]"), &field.doc, below);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::load::from_text;
    use super::*;

    fn uncommented() -> String {
        let lines = example();
        let lines = lines.lines().map(|line| match line.strip_prefix('#') {
            Some(rest) if !rest.starts_with([' ', '#']) => rest,
            _ => line,
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn example_is_valid_and_says_the_defaults() {
        let as_is = from_text(Path::new("eider.toml"), &example()).unwrap();
        assert_eq!(as_is, Config::default());
        let all = from_text(Path::new("eider.toml"), &uncommented());
        let all = all.unwrap_or_else(|e| panic!("{e}\n{}", uncommented()));
        assert_eq!(
            all,
            Config {
                data_directory: all.data_directory.clone(),
                ..Config::default()
            }
        );
    }

    #[test]
    fn example_names_every_key() {
        fn check(path: &str, fields: &[Field], text: &str) {
            for field in fields {
                assert!(
                    !field.doc.trim().is_empty(),
                    "{path}.{} is not documented",
                    field.name
                );
                match &field.shape {
                    Shape::Table(below) | Shape::Tables(below) => {
                        assert!(
                            text.contains(&format!("{}]", field.name)),
                            "{path}.{}",
                            field.name
                        );
                        check(field.name, below, text);
                    }
                    _ => assert!(
                        text.contains(&format!("#{} = ", field.name)),
                        "{path}.{} is not in the example",
                        field.name
                    ),
                }
            }
        }
        check("", &fields(), &example());
    }

    #[test]
    fn reference_is_not_stale() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/OPTIONS.md");
        let written = std::fs::read_to_string(path).unwrap_or_default();
        let hint = "stale; write it with: eider config reference > server/OPTIONS.md";
        assert!(written == reference(), "server/OPTIONS.md is {hint}");
    }
}
