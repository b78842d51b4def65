//! The command line: one file per subcommand. Each asks the running server over its control socket or,
//! for what needs only the database, opens the database itself.

pub mod ask;
pub mod backup;
pub mod check;
pub mod config;
pub mod log;
pub mod output;
pub mod password;
pub mod serve;
pub mod session;
pub mod status;
pub mod storage;
pub mod trace;
pub mod user;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::protocol::{Failure, FailureKind};
use crate::config::{Config, Sources};

/// Told by `eider help`.
pub const EXIT_CODES: &str = "\
Exit codes: 0 done; 1 failed; 2 wrong arguments; 3 no such account, session or file; 4 exists already;
5 the server is not running; 6 the configuration has problems; 7 the database cannot be used;
8 check found problems.";

/// Options of every subcommand.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// The configuration file (TOML); without one, defaults and the environment hold
    #[arg(long, short, global = true, value_name = "FILE", env = "EIDER_CONFIG")]
    pub config: Option<PathBuf>,
    /// Sets a configuration key, over file and environment: --set logging.level=debug
    #[arg(long, global = true, value_name = "KEY=VALUE", value_parser = key_value)]
    pub set: Vec<(String, String)>,
    /// The data directory, as --set data_directory=DIR
    #[arg(long, global = true, value_name = "DIR")]
    pub data_directory: Option<PathBuf>,
    /// JSON for scripts: one object per line
    #[arg(long, global = true)]
    pub json: bool,
}

impl Global {
    /// Where the configuration comes from.
    pub fn sources(&self) -> Sources {
        let mut overrides = self.set.clone();
        if let Some(directory) = &self.data_directory {
            let directory = directory.to_string_lossy().into_owned();
            overrides.push(("data_directory".to_owned(), directory));
        }
        Sources::of_process(self.config.clone(), overrides)
    }

    /// The configuration.
    ///
    /// # Errors
    /// Every problem of it.
    pub fn load(&self) -> Result<Config, Failure> {
        self.sources().load().map_err(|e| {
            Failure::new(FailureKind::Configuration, e.to_string())
                .hint(format!("{} config example", self.program()))
        })
    }

    /// How this program is called, with the options that find the same server again.
    pub fn program(&self) -> String {
        let mut text = std::env::args()
            .next()
            .unwrap_or_else(|| "eider".to_owned());
        if let Some(file) = &self.config {
            text = format!("{text} --config {}", file.display());
        }
        if let Some(directory) = &self.data_directory {
            text = format!("{text} --data-directory {}", directory.display());
        }
        text
    }
}

/// Ends the program: nothing more on success, the failure and what to type next else.
pub fn exit(global: &Global, result: Result<(), Failure>) -> ExitCode {
    let Err(failure) = result else {
        return ExitCode::SUCCESS;
    };
    if global.json {
        let line = serde_json::json!({ "failure": failure });
        output::line(format_args!("{line}"));
    } else {
        eprintln!("eider: {failure}");
        if let Some(hint) = &failure.hint {
            eprintln!("  try: {hint}");
        }
    }
    ExitCode::from(failure.kind.exit_code())
}

fn key_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text
        .split_once('=')
        .ok_or("write KEY=VALUE, as logging.level=debug")?;
    Ok((key.trim().to_owned(), value.to_owned()))
}

/// A span of time as typed: `30s`, `10m`, `2h`.
///
/// # Errors
/// A text for people where it is none.
pub fn span(text: &str) -> Result<std::time::Duration, String> {
    let wrong = || format!("\"{text}\" is no time: write 30s, 10m or 2h");
    let unit = text.chars().last().ok_or_else(wrong)?;
    let seconds: u64 = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        _ => return Err(wrong()),
    };
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    let seconds = number
        .checked_mul(seconds)
        .filter(|s| *s > 0)
        .ok_or_else(wrong)?;
    Ok(std::time::Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read() {
        assert_eq!(span("10m").unwrap().as_secs(), 600);
        assert_eq!(span("2h").unwrap().as_secs(), 7_200);
        for wrong in ["", "m", "10", "-1s", "0s", "10ä", "99999999999999999999h"] {
            assert!(span(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn keys_and_values_are_parted() {
        let pair = key_value("storage.dsn=postgres://a?b=c").unwrap();
        assert_eq!(
            pair,
            ("storage.dsn".to_owned(), "postgres://a?b=c".to_owned())
        );
        assert!(key_value("storage.dsn").is_err());
    }
}
