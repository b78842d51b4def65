//! Layers of the configuration: file, environment, credentials, command line. Each becomes a tree of
//! values in which every key is known; secrets are read from their files, paths made absolute.

use std::path::{Path, PathBuf};

use figment::value::{Dict, Tag, Value};

use super::Config;
use super::load::{Problem, shown};
use super::schema::{Describe, Field, Shape};

/// One layer: values and what is wrong with them.
pub(super) struct Layer {
    /// What it is called in messages.
    pub name: String,
    /// The values, all keys known.
    pub values: Dict,
    /// Everything wrong with it.
    pub problems: Vec<Problem>,
    /// The text of the file, to find lines in; empty for other layers.
    text: String,
    /// What relative paths are relative to.
    base: Option<PathBuf>,
}

impl Layer {
    fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            values: Dict::new(),
            problems: Vec::new(),
            text: String::new(),
            base: None,
        }
    }

    /// Whether the layer sets the key or something below it.
    pub fn sets(&self, key: &str) -> bool {
        find(&self.values, key)
    }

    /// Where in the layer the key stands.
    pub fn place(&self, key: &str) -> String {
        match line_of(&self.text, key) {
            Some(line) => format!("{}:{line}", self.name),
            None => self.name.clone(),
        }
    }

    fn problem(&mut self, key: &str, value: &str, what: String) {
        let place = self.place(key);
        self.problems.push(Problem {
            place,
            key: key.to_owned(),
            value: value.to_owned(),
            what,
        });
    }

    /// Checks all keys of a section, reads secrets, makes paths absolute.
    fn check(&mut self, prefix: &str, values: Dict, fields: &[Field]) -> Dict {
        let mut checked = Dict::new();
        for (name, value) in values {
            let key = join(prefix, &name);
            let Some(field) = fields.iter().find(|f| f.name == name) else {
                match secret_of(&name, fields) {
                    Some(secret) => self.read_secret(&key, &value, secret, &mut checked),
                    None => self.unknown(&key, &name, &value, fields),
                }
                continue;
            };
            if checked.contains_key(&name) {
                self.problem(
                    &key,
                    "",
                    format!("given twice: as {name} and as {name}_file"),
                );
            }
            let value = self.check_value(&key, value, &field.shape);
            checked.insert(name, value);
        }
        checked
    }

    fn check_value(&mut self, key: &str, value: Value, shape: &Shape) -> Value {
        match (value, shape) {
            (Value::Dict(tag, dict), Shape::Table(fields)) => {
                Value::Dict(tag, self.check(key, dict, fields))
            }
            (Value::Array(tag, items), Shape::Tables(fields)) => {
                let mut checked = Vec::with_capacity(items.len());
                for (i, item) in items.into_iter().enumerate() {
                    let shape = Shape::Table(fields.clone());
                    checked.push(self.check_value(&format!("{key}.{i}"), item, &shape));
                }
                Value::Array(tag, checked)
            }
            (Value::String(tag, path), Shape::Path) => match &self.base {
                Some(base) => Value::String(tag, base.join(path).to_string_lossy().into_owned()),
                None => Value::String(tag, path),
            },
            (value, _) => value,
        }
    }

    fn read_secret(&mut self, key: &str, value: &Value, secret: &str, into: &mut Dict) {
        let Some(path) = value.as_str() else {
            return self.problem(key, &shown(key, value), "must be a path".to_owned());
        };
        let path = match &self.base {
            Some(base) => base.join(path),
            None => PathBuf::from(path),
        };
        match std::fs::read_to_string(&path) {
            Ok(text) => {
                into.insert(secret.to_owned(), text.trim_end().into());
            }
            Err(e) => self.problem(
                key,
                &path.display().to_string(),
                format!("cannot be read: {e}"),
            ),
        }
    }

    fn unknown(&mut self, key: &str, name: &str, value: &Value, fields: &[Field]) {
        let near = fields
            .iter()
            .map(|f| (distance(f.name, name), f.name))
            .min();
        let hint = match near {
            Some((distance, near)) if distance <= 2.max(near.len() / 3) => {
                format!("; did you mean \"{near}\"?")
            }
            _ => "; `eider config example` shows all".to_owned(),
        };
        self.problem(key, &shown(key, value), format!("unknown key{hint}"));
    }
}

/// The layer of a TOML file.
pub(super) fn file(path: &Path, text: &str) -> Layer {
    let mut layer = Layer::new(&path.display().to_string());
    layer.text = text.to_owned();
    layer.base = path
        .parent()
        .map(Path::to_path_buf)
        .filter(|p| !p.as_os_str().is_empty());
    match toml::from_str::<Dict>(text) {
        Ok(values) => layer.values = layer.check("", values, &fields()),
        Err(e) => {
            let line = e
                .span()
                .map(|s| text[..s.start.min(text.len())].matches('\n').count() + 1);
            let place = line.map_or(layer.name.clone(), |line| format!("{}:{line}", layer.name));
            let what = e.message().to_owned();
            layer.problems.push(Problem {
                place,
                key: String::new(),
                value: String::new(),
                what,
            });
        }
    }
    layer
}

/// The layer of the environment. A variable counts where `__` parts section and key, or where it names
/// a key of the root; others that begin with `EIDER_` (as Kubernetes sets for services) do not.
pub(super) fn environment(variables: &[(String, String)]) -> Layer {
    let fields = fields();
    let pairs = variables.iter().filter_map(|(name, value)| {
        let key = name
            .strip_prefix("EIDER_")?
            .to_ascii_lowercase()
            .replace("__", ".");
        let counts = key.contains('.') || fields.iter().any(|f| f.name == key);
        counts.then(|| (key, value.clone()))
    });
    from_pairs("environment", pairs, &fields)
}

/// The layer of `--set KEY=VALUE`.
pub(super) fn commandline(overrides: &[(String, String)]) -> Layer {
    from_pairs("command line", overrides.iter().cloned(), &fields())
}

/// The layer of a directory of credentials: files named as the keys of secrets.
pub(super) fn credentials(directory: &Path) -> Layer {
    let fields = fields();
    let mut pairs = Vec::new();
    for key in secrets("", &fields) {
        if let Ok(text) = std::fs::read_to_string(directory.join(&key)) {
            pairs.push((key, text.trim_end().to_owned()));
        }
    }
    from_pairs(
        &format!("credentials in {}", directory.display()),
        pairs.into_iter(),
        &fields,
    )
}

fn from_pairs(
    name: &str,
    pairs: impl Iterator<Item = (String, String)>,
    fields: &[Field],
) -> Layer {
    let mut layer = Layer::new(name);
    let mut values = Dict::new();
    for (key, text) in pairs {
        let value = match shape_of(&key, fields) {
            Some(Shape::Secret | Shape::Path | Shape::Choice(_) | Shape::Leaf("text")) => {
                Value::String(Tag::Default, unquote(&text))
            }
            _ => value_of(&text),
        };
        let path: Vec<_> = key.split('.').collect();
        if !insert(&mut values, &path, value) {
            layer.problem(&key, "", "is a section and a value at once".to_owned());
        }
    }
    layer.values = layer.check("", values, fields);
    layer
}

fn fields() -> Vec<Field> {
    match Config::shape() {
        Shape::Table(fields) => fields,
        _ => Vec::new(),
    }
}

/// The shape of a key from the root; a secret's `_file` is a path.
fn shape_of(key: &str, fields: &[Field]) -> Option<Shape> {
    let (first, rest) = match key.split_once('.') {
        Some((first, rest)) => (first, Some(rest)),
        None => (key, None),
    };
    let Some(field) = fields.iter().find(|f| f.name == first) else {
        return secret_of(first, fields).map(|_| Shape::Path);
    };
    match (rest, &field.shape) {
        (None, shape) => Some(shape.clone()),
        (Some(rest), Shape::Table(fields)) => shape_of(rest, fields),
        (Some(_), Shape::Map(of)) => Some((**of).clone()),
        _ => None,
    }
}

/// The keys of all secrets that stand in sections (not in lists of them).
pub(super) fn secrets(prefix: &str, fields: &[Field]) -> Vec<String> {
    let mut keys = Vec::new();
    for field in fields {
        let key = join(prefix, field.name);
        match &field.shape {
            Shape::Secret => keys.push(key),
            Shape::Table(fields) => keys.extend(secrets(&key, fields)),
            _ => {}
        }
    }
    keys
}

fn secret_of<'a>(name: &'a str, fields: &[Field]) -> Option<&'a str> {
    let secret = name.strip_suffix("_file")?;
    fields
        .iter()
        .any(|f| f.name == secret && f.shape == Shape::Secret)
        .then_some(secret)
}

fn insert(values: &mut Dict, path: &[&str], value: Value) -> bool {
    match path {
        [] => false,
        [name] => values.insert((*name).to_owned(), value).is_none(),
        [name, rest @ ..] => {
            let section = values.entry((*name).to_owned());
            match section.or_insert_with(|| Value::Dict(Tag::Default, Dict::new())) {
                Value::Dict(_, section) => insert(section, rest, value),
                _ => false,
            }
        }
    }
}

fn find(values: &Dict, key: &str) -> bool {
    let (first, rest) = match key.split_once('.') {
        Some((first, rest)) => (first, Some(rest)),
        None => (key, None),
    };
    match (values.get(first), rest) {
        (Some(_), None) | (Some(Value::Array(..)), _) => true,
        (Some(Value::Dict(_, below)), Some(rest)) => find(below, rest),
        _ => false,
    }
}

fn join(prefix: &str, name: &str) -> String {
    if prefix.is_empty() {
        name.to_owned()
    } else {
        format!("{prefix}.{name}")
    }
}

/// A value as in TOML; what is no TOML value is text.
fn value_of(text: &str) -> Value {
    let parsed = toml::from_str::<Dict>(&format!("value = {text}"));
    match parsed
        .ok()
        .as_mut()
        .and_then(|values| values.remove("value"))
    {
        Some(value) => value,
        None => text.into(),
    }
}

fn unquote(text: &str) -> String {
    let inner = text.strip_prefix('"').and_then(|t| t.strip_suffix('"'));
    inner.unwrap_or(text).to_owned()
}

/// The line of a key in a TOML text; where the key itself is not written, of the section around it.
fn line_of(text: &str, key: &str) -> Option<usize> {
    use toml::de::{DeTable, DeValue};
    let root = DeTable::parse(text).ok()?;
    let mut at = None;
    let mut value = DeValue::Table(root.into_inner());
    for part in key.split('.') {
        let next = match value {
            DeValue::Table(mut table) => {
                let name = table.keys().find(|k| k.get_ref() == part)?.clone();
                let found = table.remove(&name)?;
                at = Some(name.span().start);
                found
            }
            DeValue::Array(array) => {
                let found = array.into_iter().nth(part.parse().ok()?)?;
                at = Some(found.span().start);
                found
            }
            _ => break,
        };
        value = next.into_inner();
    }
    at.map(|at| text[..at].matches('\n').count() + 1)
}

/// How many letters must change to make one word of the other (Levenshtein).
pub(crate) fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let cost = usize::from(x != *y);
            let best = (diagonal + cost).min(row[j] + 1).min(row[j + 1] + 1);
            diagonal = std::mem::replace(&mut row[j + 1], best);
        }
    }
    row[b.len()]
}
