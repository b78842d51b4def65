//! Reload: what changed between two configurations, and what of it waits for a restart.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::{C2sListener, Config, Limits, Listeners, Logging, Tls};

/// Keys that are read only at the start: files, sockets and connections made then.
const AT_START: &[&str] = &[
    "data_directory",
    "worker_threads",
    "listeners",
    "storage",
    "tls.certificate_directory",
    "tls.local_authority",
    "tls.min_version",
    "tls.session_cache_entries",
    "tls.client_authorities",
    "limits.archive_queue_bytes",
    "limits.archive_queue_stanzas",
    "limits.caps_cache_entries",
    "limits.facts_cache_entries",
    "logging.format",
];

/// What a listener that is open takes from a reload.
const OF_OPEN_LISTENERS: &[&str] = &[
    "proxy_networks",
    "max_connections",
    "max_connections_per_address",
    "connections_per_second",
    "connections_per_second_per_address",
];

impl Config {
    /// This configuration as far as a running server can follow it: what is read only at the start stays as
    /// `running` has it.
    pub fn followed_by(self, running: &Config) -> Config {
        Config {
            data_directory: running.data_directory.clone(),
            worker_threads: running.worker_threads,
            listeners: Listeners {
                c2s: open_listeners(&running.listeners.c2s, &self.listeners.c2s),
                http: running.listeners.http.clone(),
            },
            storage: running.storage.clone(),
            tls: Tls {
                default_host: self.tls.default_host.clone(),
                ..running.tls.clone()
            },
            limits: Limits {
                archive_queue_bytes: running.limits.archive_queue_bytes,
                archive_queue_stanzas: running.limits.archive_queue_stanzas,
                caps_cache_entries: running.limits.caps_cache_entries,
                facts_cache_entries: running.limits.facts_cache_entries,
                ..self.limits
            },
            logging: Logging {
                format: running.logging.format,
                ..self.logging
            },
            ..self
        }
    }
}

/// The listeners that are open, in their order, with the limits they shall have now.
fn open_listeners(open: &[C2sListener], now: &[C2sListener]) -> Vec<C2sListener> {
    let names = listener_names(now);
    let follow = |(name, open): (String, &C2sListener)| {
        let same = names.iter().position(|other| *other == name);
        C2sListener {
            address: open.address.clone(),
            port: open.port,
            tls: open.tls,
            ..same.map_or(open, |at| &now[at]).clone()
        }
    };
    listener_names(open)
        .into_iter()
        .zip(open)
        .map(follow)
        .collect()
}

/// What tells listeners apart: address and port; those whose port the system chooses are counted.
fn listener_names(listeners: &[C2sListener]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for listener in listeners {
        let name = format!("{}:{}", listener.address, listener.port);
        let earlier = names
            .iter()
            .filter(|other| other.starts_with(&name))
            .count();
        names.push(match (listener.port, earlier) {
            (0, 1..) => format!("{name}#{earlier}"),
            _ => name,
        });
    }
    names
}

/// What a reload changes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Keys whose new value is valid at once.
    pub applied: Vec<String>,
    /// Keys whose new value waits for a restart.
    pub restart: Vec<String>,
}

impl Changes {
    /// Compares two configurations, key by key; lists count as one key, except that of listeners.
    pub fn between(old: &Config, new: &Config) -> Self {
        let mut keys = BTreeSet::new();
        compare("", &tree(old), &tree(new), &mut keys);
        // Secrets are all shown alike, so they are compared by themselves.
        if old.storage.dsn != new.storage.dsn {
            keys.insert("storage.dsn".to_owned());
        }
        if old.storage.reader_dsn != new.storage.reader_dsn {
            keys.insert("storage.reader_dsn".to_owned());
        }
        let (restart, applied) = keys.into_iter().partition(|key| waits(key));
        Self { applied, restart }
    }

    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.applied.is_empty() && self.restart.is_empty()
    }
}

/// A configuration as a tree, its listeners by what tells them apart.
fn tree(config: &Config) -> Value {
    let mut tree = serde_json::to_value(config).unwrap_or_default();
    if let Some(Value::Array(listeners)) = tree.pointer_mut("/listeners/c2s").map(Value::take) {
        let names = listener_names(&config.listeners.c2s);
        let named: Map<String, Value> = names.into_iter().zip(listeners).collect();
        tree["listeners"]["c2s"] = Value::Object(named);
    }
    tree
}

fn waits(key: &str) -> bool {
    let of_open = |key: &str| OF_OPEN_LISTENERS.contains(&key);
    if let Some(key) = key.strip_prefix("listeners.c2s.")
        && key.rsplit_once('.').is_some_and(|(_, last)| of_open(last))
    {
        return false;
    }
    AT_START.iter().any(|at_start| {
        key.strip_prefix(at_start)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    })
}

fn compare(key: &str, old: &Value, new: &Value, keys: &mut BTreeSet<String>) {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            for name in old.keys().chain(new.keys()) {
                let key = if key.is_empty() {
                    name.clone()
                } else {
                    format!("{key}.{name}")
                };
                let null = Value::Null;
                compare(
                    &key,
                    old.get(name).unwrap_or(&null),
                    new.get(name).unwrap_or(&null),
                    keys,
                );
            }
        }
        (old, new) if old != new => {
            keys.insert(key.to_owned());
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::super::Secret;
    use super::*;

    #[test]
    fn tells_what_waits() {
        let old = Config::default();
        assert!(Changes::between(&old, &old).is_empty());
        let mut new = old.clone();
        new.hosts.push(super::super::Host::named("example.org"));
        new.logging.level = super::super::Level::Debug;
        new.listeners.http.port = 9000;
        new.storage.dsn = Some(Secret::new("postgres://a"));
        let changes = Changes::between(&old, &new);
        assert_eq!(changes.applied, ["hosts", "logging.level"]);
        assert_eq!(changes.restart, ["listeners.http.port", "storage.dsn"]);
        let mut newer = new.clone();
        newer.storage.dsn = Some(Secret::new("postgres://b"));
        assert_eq!(Changes::between(&new, &newer).restart, ["storage.dsn"]);
    }

    #[test]
    fn a_listener_follows_its_limits_alone() {
        let old = Config::default();
        let mut new = old.clone();
        new.listeners.c2s.reverse();
        new.listeners.c2s[1].max_connections = 7;
        new.listeners.c2s[0].tls = super::super::TlsMode::Starttls;
        new.listeners.c2s.push(C2sListener {
            port: 5269,
            ..C2sListener::default()
        });
        let changes = Changes::between(&old, &new);
        assert_eq!(changes.applied, ["listeners.c2s.*:5222.max_connections"]);
        let restart = ["listeners.c2s.*:5223.tls", "listeners.c2s.*:5269"];
        assert_eq!(changes.restart, restart);
        let followed = new.clone().followed_by(&old);
        assert_eq!(Changes::between(&followed, &new).restart, restart);
        assert_eq!(Changes::between(&old, &followed).applied, changes.applied);
        assert!(Changes::between(&old, &followed).restart.is_empty());
    }

    /// Every key whose value is a number, a switch or a text, with another value.
    fn changed_keys(tree: &Value, pointer: &str, changed: &mut Vec<Config>) {
        let Value::Object(section) = tree.pointer(pointer).unwrap() else {
            return;
        };
        for (name, value) in section {
            let pointer = format!("{pointer}/{name}");
            let mut other = tree.clone();
            *other.pointer_mut(&pointer).unwrap() = match value {
                Value::Bool(on) => Value::Bool(!on),
                Value::Number(number) => (number.as_u64().unwrap() + 1).into(),
                Value::String(_) if name == "format" => "json".into(),
                Value::String(_) if name == "min_version" => "1.3".into(),
                Value::String(_) => "other".into(),
                Value::Null => "other".into(),
                Value::Object(_) => {
                    changed_keys(tree, &pointer, changed);
                    continue;
                }
                Value::Array(_) => continue,
            };
            changed.extend(serde_json::from_value::<Config>(other));
        }
    }

    #[test]
    fn what_waits_stays_whole_as_it_was() {
        let old = Config::default();
        let mut changed = Vec::new();
        changed_keys(&serde_json::to_value(&old).unwrap(), "", &mut changed);
        let (mut applied, mut waiting) = (0, 0);
        for new in changed {
            let told = Changes::between(&old, &new);
            let done = Changes::between(&old, &new.followed_by(&old));
            assert_eq!(done.applied, told.applied);
            assert!(done.restart.is_empty(), "{:?}", told.restart);
            applied += told.applied.len();
            waiting += told.restart.len();
        }
        assert!(applied > 60 && waiting > 15, "{applied}, {waiting}");
    }

    #[test]
    fn keys_read_at_the_start_exist() {
        let tree = serde_json::to_value(Config::default()).unwrap();
        for key in AT_START {
            let found = key.split('.').try_fold(&tree, |tree, name| tree.get(name));
            assert!(found.is_some(), "{key} is no key");
        }
        let listener = serde_json::to_value(C2sListener::default()).unwrap();
        for key in OF_OPEN_LISTENERS {
            assert!(listener.get(key).is_some(), "{key} is no key");
        }
    }
}
