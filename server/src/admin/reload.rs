//! Reload: reads all layers again and swaps the configuration whole, or keeps the old one.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::log::LogControl;
use crate::config::{Changes, Config, ConfigWatch, Error, Sources};

/// Obeys a configuration; answers what is wrong though the server goes on.
type Follow = Box<dyn Fn(&Config) -> Vec<String> + Send + Sync>;

/// What a reload came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reload {
    /// What it changed.
    pub changes: Changes,
    /// What is wrong though the configuration is valid, as a certificate that cannot be read.
    pub findings: Vec<String>,
}

/// Holds the valid configuration and replaces it.
pub struct Reloader {
    sources: Sources,
    config: watch::Sender<Arc<Config>>,
    log: LogControl,
    before: Mutex<Vec<Follow>>,
    /// One reload after another: else the older file could be installed last.
    turn: Mutex<()>,
}

impl Reloader {
    /// Begins with a configuration that `sources` gave.
    pub fn new(sources: Sources, config: Config, log: LogControl) -> Self {
        Self {
            sources,
            config: watch::Sender::new(Arc::new(config)),
            log,
            before: Mutex::default(),
            turn: Mutex::default(),
        }
    }

    /// Has `follow` called with each new configuration before anyone else sees it; it answers what it finds wrong.
    pub fn before(&self, follow: impl Fn(&Config) -> Vec<String> + Send + Sync + 'static) {
        self.before.lock().push(Box::new(follow));
    }

    /// Does work with the valid configuration that no reload may come between.
    pub fn in_turn<T>(&self, work: impl FnOnce(&Config) -> T) -> T {
        let _turn = self.turn.lock();
        work(&self.current())
    }

    /// Where parts read the valid configuration and learn of a new one.
    pub fn watch(&self) -> ConfigWatch {
        self.config.subscribe()
    }

    /// The configuration that is valid now.
    pub fn current(&self) -> Arc<Config> {
        self.config.borrow().clone()
    }

    /// Reads everything again. Where it has problems they are logged and nothing changes. Reads files: short of an
    /// async worker's time, but not for many at once.
    ///
    /// # Errors
    /// Every problem found.
    pub fn reload(&self) -> Result<Reload, Error> {
        let _turn = self.turn.lock();
        let new = match self.sources.load() {
            Ok(new) => new,
            Err(e) => {
                tracing::error!("configuration not reloaded, the old one stays: {e}");
                return Err(e);
            }
        };
        let running = self.current();
        let changes = Changes::between(&running, &new);
        let new = new.followed_by(&running);
        self.log.configure(&new.logging);
        let mut findings = Vec::new();
        for follow in self.before.lock().iter() {
            findings.extend(follow(&new));
        }
        for finding in &findings {
            tracing::warn!("{finding}");
        }
        self.config.send_replace(Arc::new(new));
        tracing::info!(
            changed = changes.applied.join(", "),
            "configuration reloaded"
        );
        if !changes.restart.is_empty() {
            tracing::warn!(
                "these take effect after a restart: {}",
                changes.restart.join(", ")
            );
        }
        Ok(Reload { changes, findings })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::log;

    #[test]
    fn a_bad_file_changes_nothing_a_good_one_all() {
        let path = std::env::temp_dir().join(format!("eider-reload-{}.toml", std::process::id()));
        std::fs::write(&path, "[archive]\nretention_days = 1\n").unwrap();
        let sources = Sources {
            file: Some(path.clone()),
            ..Sources::default()
        };
        let config = sources.load().unwrap();
        let log = log::start(&config.logging);
        let reloader = Reloader::new(sources, config, log);
        let mut watch = reloader.watch();
        assert!(!watch.has_changed().unwrap());

        std::fs::write(&path, "[archive]\nretention = 2\n").unwrap();
        assert!(reloader.reload().is_err());
        assert!(!watch.has_changed().unwrap());

        std::fs::write(&path, "[archive]\nretention_days = 2\n").unwrap();
        assert_eq!(
            reloader.reload().unwrap().changes.applied,
            ["archive.retention_days"]
        );
        assert_eq!(watch.borrow_and_update().archive.retention_days, 2);

        let text = "data_directory = \"other\"\n[archive]\nretention_days = 3\n";
        std::fs::write(&path, text).unwrap();
        let changes = reloader.reload().unwrap().changes;
        assert_eq!(changes.restart, ["data_directory"]);
        let now = watch.borrow_and_update().clone();
        assert_eq!(now.archive.retention_days, 3);
        assert_eq!(now.data_directory, Config::default().data_directory);
        assert_eq!(
            reloader.reload().unwrap().changes,
            Changes {
                applied: Vec::new(),
                ..changes
            }
        );
        reloader.before(|_| vec!["a certificate is broken".to_owned()]);
        let found = reloader.reload().unwrap().findings;
        assert_eq!(found, ["a certificate is broken"]);
        std::fs::remove_file(path).unwrap();
    }
}
