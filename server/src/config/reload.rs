//! Reload: what changed between two configurations, and what of it waits for a restart.

use std::collections::BTreeSet;

use serde_json::Value;

use super::Config;

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

/// What a reload changes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Keys whose new value is valid at once.
    pub applied: Vec<String>,
    /// Keys whose new value waits for a restart.
    pub restart: Vec<String>,
}

impl Changes {
    /// Compares two configurations, key by key; lists count as one key.
    pub fn between(old: &Config, new: &Config) -> Self {
        let tree = |config: &Config| serde_json::to_value(config).unwrap_or_default();
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

fn waits(key: &str) -> bool {
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
    fn keys_read_at_the_start_exist() {
        let tree = serde_json::to_value(Config::default()).unwrap();
        for key in AT_START {
            let found = key.split('.').try_fold(&tree, |tree, name| tree.get(name));
            assert!(found.is_some(), "{key} is no key");
        }
    }
}
