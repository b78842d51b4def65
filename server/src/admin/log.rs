//! The log: tracing to standard error, for people or as JSON, with levels that change while it runs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Registry, reload};

use crate::config::{Level, LogFormat, Logging};

/// Changes levels of the running log. Cheap to clone.
#[derive(Clone)]
pub struct LogControl {
    handle: reload::Handle<Targets, Registry>,
    state: Arc<Mutex<State>>,
}

struct State {
    configured: Logging,
    /// Changes by command: module (empty: everything), level, number of the change.
    changed: BTreeMap<String, (Level, u64)>,
    changes: u64,
}

/// Sets the log up for the whole process. A second call in one process changes nothing and returns a
/// control without effect (tests).
pub fn start(logging: &Logging) -> LogControl {
    let (filter, handle) = reload::Layer::new(filter(logging, &BTreeMap::new()));
    let human = (logging.format == LogFormat::Human).then(|| {
        tracing_subscriber::fmt::layer()
            .with_writer(std::io::stderr)
            .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
    });
    let json = (logging.format == LogFormat::Json).then(|| {
        tracing_subscriber::fmt::layer()
            .json()
            .with_writer(std::io::stderr)
    });
    let subscriber = Registry::default().with(filter).with(human).with(json);
    // Fails only where a log is set up already.
    let _ = tracing::subscriber::set_global_default(subscriber);
    let state = State {
        configured: logging.clone(),
        changed: BTreeMap::new(),
        changes: 0,
    };
    LogControl {
        handle,
        state: Arc::new(Mutex::new(state)),
    }
}

impl LogControl {
    /// Takes new levels from the configuration; changes by command stay.
    pub fn configure(&self, logging: &Logging) {
        let mut state = self.state.lock();
        state.configured = logging.clone();
        self.apply(&state);
    }

    /// Changes the level of everything or of one module, for good (until the restart) or for a time.
    /// Needs a runtime where a time is given.
    pub fn set(&self, level: Level, module: Option<&str>, lasting: Option<Duration>) {
        let module = module.unwrap_or_default().to_owned();
        let number = {
            let mut state = self.state.lock();
            state.changes += 1;
            let number = state.changes;
            state.changed.insert(module.clone(), (level, number));
            self.apply(&state);
            number
        };
        if let Some(lasting) = lasting {
            let control = self.clone();
            tokio::spawn(async move {
                tokio::time::sleep(lasting).await;
                control.take_back(&module, number);
            });
        }
    }

    /// The levels that hold now, as `info, eider::stream=debug`.
    pub fn levels(&self) -> String {
        let state = self.state.lock();
        let (all, modules) = effective(&state.configured, &state.changed);
        let modules = modules
            .into_iter()
            .map(|(module, level)| format!(", {module}={level}"));
        std::iter::once(all.to_string()).chain(modules).collect()
    }

    /// Takes a change back unless a later one replaced it.
    fn take_back(&self, module: &str, number: u64) {
        let mut state = self.state.lock();
        if state.changed.get(module).is_some_and(|(_, n)| *n == number) {
            state.changed.remove(module);
            self.apply(&state);
        }
    }

    fn apply(&self, state: &State) {
        // Fails only where the log itself is gone.
        let _ = self
            .handle
            .reload(filter(&state.configured, &state.changed));
    }
}

fn effective(
    logging: &Logging,
    changed: &BTreeMap<String, (Level, u64)>,
) -> (Level, BTreeMap<String, Level>) {
    let mut modules = logging.modules.clone();
    let mut all = logging.level;
    for (module, (level, _)) in changed {
        if module.is_empty() {
            all = *level;
        } else {
            modules.insert(module.clone(), *level);
        }
    }
    (all, modules)
}

fn filter(logging: &Logging, changed: &BTreeMap<String, (Level, u64)>) -> Targets {
    let (all, modules) = effective(logging, changed);
    let modules = modules
        .into_iter()
        .map(|(module, level)| (module, level_filter(level)));
    Targets::new()
        .with_default(level_filter(all))
        .with_targets(modules)
}

fn level_filter(level: Level) -> LevelFilter {
    match level {
        Level::Off => LevelFilter::OFF,
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
        Level::Trace => LevelFilter::TRACE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn timed_changes_are_taken_back() {
        let control = start(&Logging::default());
        assert_eq!(control.levels(), "info");
        control.set(
            Level::Debug,
            Some("eider::stream"),
            Some(Duration::from_millis(1)),
        );
        control.set(Level::Warn, None, None);
        while control.levels() != "warn" {
            tokio::task::yield_now().await;
        }
    }

    #[test]
    fn a_later_change_outlives_an_earlier_time() {
        let control = start(&Logging::default());
        control.set(Level::Debug, None, None);
        control.set(Level::Trace, None, None);
        control.take_back("", 1);
        assert_eq!(control.levels(), "trace");
        control.configure(&Logging {
            level: Level::Error,
            ..Logging::default()
        });
        assert_eq!(control.levels(), "trace");
        control.take_back("", 2);
        assert_eq!(control.levels(), "error");
    }
}
