//! What is printed: tables and lines for people, JSON for scripts, progress on standard error.

use std::fmt::Display;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::Global;

/// Prints a text. Who reads along may have seen enough (`eider user list | head`): then the program ends.
pub fn text(text: impl Display) {
    if write!(std::io::stdout(), "{text}").is_err() {
        std::process::exit(0);
    }
}

/// Prints a line.
pub fn line(line: impl Display) {
    text(format_args!("{line}\n"));
}

/// Prints a value as one line of JSON.
pub fn json(value: &impl Serialize) {
    match serde_json::to_string(value) {
        Ok(text) => line(text),
        Err(e) => eprintln!("eider: {e}"),
    }
}

/// Prints rows under a heading, columns aligned; nothing but a remark where there are none.
pub fn table(heading: &[&str], rows: &[Vec<String>], none: &str) {
    if rows.is_empty() {
        return line(none);
    }
    text(table_text(heading, rows));
}

fn table_text(heading: &[&str], rows: &[Vec<String>]) -> String {
    let width = |i: usize| {
        let cells = rows
            .iter()
            .filter_map(|row| row.get(i))
            .map(|cell| cell.chars().count());
        cells.chain([heading[i].len()]).max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..heading.len()).map(width).collect();
    let aligned = |cells: &mut dyn Iterator<Item = &str>| {
        let padded: Vec<_> = cells
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        format!("{}\n", padded.join("  ").trim_end())
    };
    let mut text = aligned(&mut heading.iter().copied());
    for row in rows {
        text.push_str(&aligned(&mut row.iter().map(String::as_str)));
    }
    text
}

/// Bytes for people: `12.3 MiB`.
pub fn bytes(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 {
        format!("{bytes} B")
    } else {
        format!("{value:.1} {}", units[unit])
    }
}

/// Seconds for people: `3d 4h`, `5m 10s`.
pub fn seconds(seconds: u64) -> String {
    let (days, hours) = (seconds / 86_400, seconds / 3_600 % 24);
    let (minutes, rest) = (seconds / 60 % 60, seconds % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{rest}s"),
        (0, 0, _) => format!("{minutes}m {rest}s"),
        (0, _, _) => format!("{hours}h {minutes}m"),
        _ => format!("{days}d {hours}h"),
    }
}

/// Time between two lines of progress where there is no terminal.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);

/// Progress of long work: a line that changes on a terminal, now and then a line else; none with --json.
pub struct Progress {
    silent: bool,
    terminal: bool,
    shown: Option<Instant>,
    began: Instant,
}

impl Progress {
    /// Nothing shown yet.
    pub fn new(global: &Global) -> Self {
        let terminal = std::io::stderr().is_terminal();
        Self {
            silent: global.json,
            terminal,
            shown: None,
            began: Instant::now(),
        }
    }

    /// Shows how far a step is.
    pub fn show(&mut self, what: &str, done: u64) {
        let last = self.shown.unwrap_or(self.began);
        if self.silent || !self.terminal && last.elapsed() < PROGRESS_INTERVAL {
            return;
        }
        self.shown = Some(Instant::now());
        let mut out = std::io::stderr();
        // Progress that cannot be shown is no reason to stop.
        let _ = match self.terminal {
            true => write!(out, "\r\x1b[K{what}: {done}"),
            false => writeln!(out, "{what}: {done}"),
        };
    }

    /// Clears the changing line.
    pub fn end(&self) {
        if self.terminal && self.shown.is_some() {
            eprint!("\r\x1b[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_for_people() {
        assert_eq!(bytes(12), "12 B");
        assert_eq!(bytes(12_900_000), "12.3 MiB");
        assert_eq!(seconds(59), "59s");
        assert_eq!(seconds(310), "5m 10s");
        assert_eq!(seconds(3 * 86_400 + 4 * 3_600), "3d 4h");
    }

    #[test]
    fn columns_are_aligned() {
        let rows = [
            vec!["anna@localhost".to_owned(), "yes".to_owned()],
            vec!["b".to_owned(), "no".to_owned()],
        ];
        let text = table_text(&["account", "on"], &rows);
        assert_eq!(
            text,
            "account         on\nanna@localhost  yes\nb               no\n"
        );
    }
}
