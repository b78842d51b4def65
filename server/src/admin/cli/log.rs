//! `eider log`: levels of the running server's log.

use std::time::Duration;

use clap::{Args, ValueEnum};

use super::ask::ask;
use super::{Global, output, span};
use crate::admin::protocol::{Failure, Levels, Request};
use crate::config::Level;

/// Levels of the log.
#[derive(Debug, Clone, Args)]
pub struct Log {
    /// The new level; without one the present levels are shown
    level: Option<LevelWord>,
    /// Of this module alone, as eider::stream
    module: Option<String>,
    /// For so long, as 10m; without it until the restart
    #[arg(long = "for", value_name = "TIME", value_parser = span)]
    lasting: Option<Duration>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum LevelWord {
    Off,
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl From<LevelWord> for Level {
    fn from(word: LevelWord) -> Self {
        match word {
            LevelWord::Off => Self::Off,
            LevelWord::Error => Self::Error,
            LevelWord::Warn => Self::Warn,
            LevelWord::Info => Self::Info,
            LevelWord::Debug => Self::Debug,
            LevelWord::Trace => Self::Trace,
        }
    }
}

/// Runs the subcommand.
///
/// # Errors
/// Where no server runs.
pub async fn run(global: &Global, log: Log) -> Result<(), Failure> {
    let request = Request::Log {
        level: log.level.map(Level::from),
        module: log.module,
        for_seconds: log.lasting.map(|l| l.as_secs()),
    };
    let levels: Levels = ask(global, request).await?;
    if global.json {
        output::json(&levels);
    } else {
        output::line(format_args!("{}", levels.levels));
    }
    Ok(())
}
