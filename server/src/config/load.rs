//! Loading: layers are read, checked key by key against the description, then merged. Every problem
//! is reported, each with where it stands, its key and its value.

use std::fmt;
use std::path::{Path, PathBuf};

use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};

use super::layers::{Layer, commandline, credentials, environment, file};
use super::{Config, validate};

/// What is wrong with one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where it stands: `eider.toml:12`, `environment`, `command line`.
    pub place: String,
    /// The key from the root, as `storage.login_connections`.
    pub key: String,
    /// The value as written; empty where there is none or it must not be seen.
    pub value: String,
    /// What is wrong, and what would be right.
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            place,
            key,
            value,
            what,
        } = self;
        if !place.is_empty() {
            write!(f, "{place}: ")?;
        }
        if !key.is_empty() {
            write!(f, "{key}")?;
            if !value.is_empty() {
                write!(f, " = {value}")?;
            }
            write!(f, ": ")?;
        }
        write!(f, "{what}")
    }
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Keys or values are wrong.
    #[error("{}", lines(.0))]
    Problems(Vec<Problem>),
}

fn lines(problems: &[Problem]) -> String {
    let lines: Vec<_> = problems.iter().map(Problem::to_string).collect();
    lines.join("\n")
}

/// Where the configuration comes from.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The TOML file.
    pub file: Option<PathBuf>,
    /// Variables, those that begin with `EIDER_` count: `EIDER_STORAGE__DSN` is `storage.dsn`.
    pub environment: Vec<(String, String)>,
    /// Directory of credentials (systemd): a file `storage.dsn` there is the value of that key.
    pub credentials: Option<PathBuf>,
    /// Keys and values of the command line, as `("storage.engine", "postgres")`.
    pub overrides: Vec<(String, String)>,
}

impl Sources {
    /// The process's own environment, with a file and overrides from the command line.
    pub fn of_process(file: Option<PathBuf>, overrides: Vec<(String, String)>) -> Self {
        let text = |s: std::ffi::OsString| s.to_string_lossy().into_owned();
        Self {
            file,
            environment: std::env::vars_os()
                .map(|(k, v)| (text(k), text(v)))
                .collect(),
            credentials: std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from),
            overrides,
        }
    }

    /// Reads all layers again and makes the configuration of them.
    ///
    /// # Errors
    /// [`Error::Read`] where the file cannot be read, else every problem found.
    pub fn load(&self) -> Result<Config, Error> {
        let mut layers = Vec::new();
        layers.extend(self.credentials.as_deref().map(credentials));
        if let Some(path) = &self.file {
            let text = std::fs::read_to_string(path).map_err(|source| Error::Read {
                path: path.clone(),
                source,
            })?;
            layers.push(file(path, &text));
        }
        layers.push(environment(&self.environment));
        layers.push(commandline(&self.overrides));
        merge(layers)
    }
}

/// Loads a configuration from the text of a file alone, for tests and tools.
///
/// # Errors
/// Every problem found.
pub fn from_text(path: &Path, text: &str) -> Result<Config, Error> {
    merge(vec![file(path, text)])
}

fn merge(layers: Vec<Layer>) -> Result<Config, Error> {
    let problems: Vec<_> = layers
        .iter()
        .flat_map(|l| l.problems.iter().cloned())
        .collect();
    if !problems.is_empty() {
        return Err(Error::Problems(problems));
    }
    let mut figment = Figment::new();
    for layer in &layers {
        figment = figment.merge(Values(layer));
    }
    let config: Config = figment.extract().map_err(|e| {
        let problems = e
            .into_iter()
            .map(|e| type_problem(&e, &figment, &layers))
            .collect();
        Error::Problems(problems)
    })?;
    let problems = validate::problems(&config, |key| place(&layers, key));
    if problems.is_empty() {
        Ok(config)
    } else {
        Err(Error::Problems(problems))
    }
}

/// A checked layer as figment takes it.
struct Values<'a>(&'a Layer);

impl Provider for Values<'_> {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.0.name.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Map::from([(Profile::Default, self.0.values.clone())]))
    }
}

fn type_problem(error: &figment::Error, figment: &Figment, layers: &[Layer]) -> Problem {
    let key = error.path.join(".");
    let value = figment
        .find_value(&key)
        .ok()
        .map(|v| shown(&key, &v))
        .unwrap_or_default();
    let what = match &error.kind {
        figment::error::Kind::InvalidType(_, expected) => format!("must be {expected}"),
        figment::error::Kind::InvalidValue(_, expected) => format!("must be {expected}"),
        figment::error::Kind::UnknownVariant(_, words) => {
            format!("must be one of {}", words.join(", "))
        }
        other => other.to_string(),
    };
    Problem {
        place: place(layers, &key),
        key,
        value,
        what,
    }
}

/// Where a key was set last.
fn place(layers: &[Layer], key: &str) -> String {
    let set = layers.iter().rev().find(|l| l.sets(key));
    set.map(|l| l.place(key)).unwrap_or_default()
}

/// A value as written, hidden where it may hold a secret.
pub(super) fn shown(key: &str, value: &Value) -> String {
    let text = match value {
        Value::String(_, text) => format!("{text:?}"),
        other => match serde_json::to_string(other) {
            Ok(text) => text,
            Err(_) => return String::new(),
        },
    };
    let secret = ["dsn", "dns", "secret", "password", "token", "key"]
        .iter()
        .any(|w| key.contains(w));
    if secret || (text.contains("://") && text.contains('@')) {
        return super::secret::HIDDEN.to_owned();
    }
    text
}

#[cfg(test)]
#[path = "load/tests.rs"]
mod tests;
