//! Logging: how much and in which form.

use std::collections::BTreeMap;

use super::schema::{choice, section};

section! {
    /// The log goes to standard error. It never holds message bodies or secrets.
    pub struct Logging {
        /// The level of everything.
        pub level: Level = Level::Info,
        /// Levels of single modules: `"eider::stream" = "debug"`.
        pub modules: BTreeMap<String, Level> = BTreeMap::new(),
        /// The form of a line.
        pub format: LogFormat = LogFormat::Human,
    }
}

choice! {
    /// A level of the log; each includes those before it.
    pub enum Level {
        /// Nothing.
        Off = "off",
        /// What an operator must act on.
        Error = "error",
        /// What an operator should know of.
        Warn = "warn",
        /// Starts, ends, sessions.
        Info = "info",
        /// Decisions.
        Debug = "debug",
        /// Everything.
        Trace = "trace",
    }
}

choice! {
    /// The form of the log.
    pub enum LogFormat {
        /// For people.
        Human = "human",
        /// One JSON object per line.
        Json = "json",
    }
}
