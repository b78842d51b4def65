//! The one description of the configuration: each section is declared once, with `section!` or
//! `choice!`, and types, defaults, documentation, example file and checks all come from there.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// What a configuration value may look like.
#[derive(Debug, Clone, PartialEq)]
pub enum Shape {
    /// A single value; the text says what is expected, for people.
    Leaf(&'static str),
    /// A path; relative ones in a file are taken from that file's folder.
    Path,
    /// A value that must not be seen; also given by `<key>_file` and by credential.
    Secret,
    /// One of these words, each with its meaning.
    Choice(Vec<(&'static str, String)>),
    /// A list of plain values.
    List(Box<Shape>),
    /// A section.
    Table(Vec<Field>),
    /// A list of sections: `[[name]]`.
    Tables(Vec<Field>),
    /// Named plain values.
    Map(Box<Shape>),
}

impl Shape {
    /// The expectation in a few words, for messages and the option reference.
    pub fn words(&self) -> String {
        match self {
            Self::Leaf(words) => (*words).to_owned(),
            Self::Path => "path".to_owned(),
            Self::Secret => "secret text".to_owned(),
            Self::Choice(choices) => {
                let words: Vec<_> = choices
                    .iter()
                    .map(|(word, _)| format!("\"{word}\""))
                    .collect();
                words.join(" | ")
            }
            Self::List(of) => format!("list of {}", of.words()),
            Self::Table(_) => "section".to_owned(),
            Self::Tables(_) => "list of sections".to_owned(),
            Self::Map(of) => format!("table of {}", of.words()),
        }
    }
}

/// One key of a section.
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    /// The key as written in TOML.
    pub name: &'static str,
    /// The documentation of the field, lines joined by newlines.
    pub doc: String,
    /// What the value may look like.
    pub shape: Shape,
    /// The default; `None` where the key is unset by default.
    pub default: Option<toml::Value>,
}

/// Types that can stand in the configuration.
pub trait Describe {
    /// What a value of this type looks like in TOML.
    fn shape() -> Shape;

    /// What a list of this type looks like in TOML.
    fn list_shape() -> Shape {
        match Self::shape() {
            Shape::Table(fields) => Shape::Tables(fields),
            other => Shape::List(Box::new(other)),
        }
    }
}

macro_rules! leaf {
    ($($ty:ty => $words:literal),* $(,)?) => {
        $(impl Describe for $ty {
            fn shape() -> Shape {
                Shape::Leaf($words)
            }
        })*
    };
}

leaf! {
    bool => "true | false",
    u8 => "number",
    u16 => "number",
    u32 => "number",
    u64 => "number",
    usize => "number",
    String => "text",
    std::net::IpAddr => "address",
    std::net::SocketAddr => "address:port",
    ipnet::IpNet => "network, as 192.0.2.0/24",
}

impl Describe for PathBuf {
    fn shape() -> Shape {
        Shape::Path
    }
}

impl<T: Describe> Describe for Option<T> {
    fn shape() -> Shape {
        T::shape()
    }
}

impl<T: Describe> Describe for Vec<T> {
    fn shape() -> Shape {
        T::list_shape()
    }
}

impl<T: Describe> Describe for BTreeMap<String, T> {
    fn shape() -> Shape {
        Shape::Map(Box::new(T::shape()))
    }
}

/// Joins the pieces of a documentation comment: one leading space of each line goes.
pub fn join_doc(lines: &[&str]) -> String {
    let lines: Vec<_> = lines
        .iter()
        .map(|l| l.strip_prefix(' ').unwrap_or(l))
        .collect();
    lines.join("\n")
}

/// Declares a section of the configuration: a struct whose every field has documentation and a
/// default, refusing unknown keys, describing itself.
macro_rules! section {
    (
        $(#[doc = $doc:expr])*
        pub struct $name:ident {
            $( $(#[doc = $field_doc:expr])+ pub $field:ident : $ty:ty = $default:expr ),* $(,)?
        }
    ) => {
        $(#[doc = $doc])*
        #[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name {
            $( $(#[doc = $field_doc])+ pub $field: $ty, )*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $( $field: $default, )* }
            }
        }

        impl $crate::config::schema::Describe for $name {
            fn shape() -> $crate::config::schema::Shape {
                let defaults = Self::default();
                $crate::config::schema::Shape::Table(vec![
                    $( $crate::config::schema::Field {
                        name: stringify!($field),
                        doc: $crate::config::schema::join_doc(&[$($field_doc),+]),
                        shape: <$ty as $crate::config::schema::Describe>::shape(),
                        default: toml::Value::try_from(&defaults.$field).ok(),
                    }, )*
                ])
            }
        }
    };
}

/// Declares a value that is one of a few words.
macro_rules! choice {
    (
        $(#[doc = $doc:expr])*
        pub enum $name:ident {
            $( $(#[doc = $variant_doc:expr])+ $variant:ident = $word:literal ),* $(,)?
        }
    ) => {
        $(#[doc = $doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[derive(serde::Serialize, serde::Deserialize)]
        pub enum $name {
            $( $(#[doc = $variant_doc])+ #[serde(rename = $word)] $variant, )*
        }

        impl $name {
            /// The word that stands for it in the configuration.
            pub fn as_str(self) -> &'static str {
                match self {
                    $( Self::$variant => $word, )*
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl $crate::config::schema::Describe for $name {
            fn shape() -> $crate::config::schema::Shape {
                $crate::config::schema::Shape::Choice(vec![
                    $( ($word, $crate::config::schema::join_doc(&[$($variant_doc),+])), )*
                ])
            }
        }
    };
}

pub(crate) use {choice, section};
