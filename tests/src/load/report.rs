//! What a run found: rows, ratios between servers, goals; as a table or as JSON.

use std::fmt::Write as _;

use serde::Serialize;

use super::goals;

/// One measured row.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Row {
    /// What was measured; the same text for every server.
    pub scenario: String,
    /// Whose server, or which baseline.
    pub server: String,
    /// CPU time of the server's processes per operation, in microseconds.
    pub server_us: Option<f64>,
    /// CPU time of the database's processes per operation, in microseconds.
    pub database_us: Option<f64>,
    /// Operations per second.
    pub per_second: Option<f64>,
    /// Median latency in milliseconds; from the schedule where the rate is fixed.
    pub p50_ms: Option<f64>,
    /// 99th percentile of it.
    pub p99_ms: Option<f64>,
    /// Messages in a commit, on average.
    pub batch: Option<f64>,
    /// A figure of another kind, such as memory.
    pub value: Option<f64>,
    /// The unit of `value`.
    pub unit: &'static str,
    /// What else must be known to read the row.
    pub note: String,
}

impl Row {
    /// A row without figures.
    pub fn new(scenario: impl Into<String>, server: impl Into<String>) -> Self {
        Self {
            scenario: scenario.into(),
            server: server.into(),
            ..Self::default()
        }
    }

    /// With a figure of another kind.
    pub fn value(mut self, value: f64, unit: &'static str) -> Self {
        self.value = Some(value);
        self.unit = unit;
        self
    }

    /// With a note.
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }

    /// CPU per operation, the database's included.
    pub fn cpu_us(&self) -> Option<f64> {
        Some(self.server_us? + self.database_us.unwrap_or(0.0))
    }
}

/// The rows of a run in order.
#[derive(Debug, Default)]
pub struct Report {
    /// The rows.
    pub rows: Vec<Row>,
}

fn cell(value: Option<f64>) -> String {
    match value {
        None => "-".to_owned(),
        Some(v) if v >= 1000.0 => format!("{v:.0}"),
        Some(v) if v >= 10.0 => format!("{v:.1}"),
        Some(v) => format!("{v:.3}"),
    }
}

impl Report {
    /// Adds a row, and says so while the run goes on.
    pub fn add(&mut self, row: Row) {
        eprintln!("{}", line(&row));
        self.rows.push(row);
    }

    /// The table, with each row's ratio to Eider's of the same scenario.
    pub fn table(&self) -> String {
        let mut text = heading();
        let mut last = "";
        for row in &self.rows {
            if row.scenario != last {
                text.push('\n');
                last = &row.scenario;
            }
            let _ = writeln!(text, "{}{}", line(row), self.ratio(row));
        }
        let _ = write!(text, "\n{}", goals::table(&goals::goals(self)));
        text
    }

    fn ratio(&self, row: &Row) -> String {
        let own = self
            .rows
            .iter()
            .find(|r| r.scenario == row.scenario && r.server.starts_with("eider"));
        let Some(own) = own.filter(|own| own.server != row.server) else {
            return String::new();
        };
        let pairs = [
            ("cpu", row.cpu_us(), own.cpu_us()),
            ("p50", row.p50_ms, own.p50_ms),
            ("p99", row.p99_ms, own.p99_ms),
            ("value", row.value, own.value),
        ];
        let shown = pairs.into_iter().filter_map(|(name, theirs, ours)| {
            let ratio = theirs? / ours.filter(|o| *o > 0.0)?;
            Some(format!("{name} {ratio:.1}x"))
        });
        let shown: Vec<String> = shown.collect();
        if shown.is_empty() {
            String::new()
        } else {
            format!("  [{} Eider's]", shown.join(", "))
        }
    }

    /// Rows and goals as JSON.
    pub fn json(&self) -> anyhow::Result<String> {
        let whole = serde_json::json!({ "rows": self.rows, "goals": goals::goals(self) });
        Ok(serde_json::to_string_pretty(&whole)?)
    }
}

fn heading() -> String {
    let names = [
        "server us",
        "db us",
        "ops/s",
        "p50 ms",
        "p99 ms",
        "batch",
        "value",
    ];
    let mut text = format!("{:<44} {:<18}", "scenario", "server");
    for name in names {
        let _ = write!(text, " {name:>10}");
    }
    text.push('\n');
    text
}

fn line(row: &Row) -> String {
    let mut text = format!("{:<44} {:<18}", row.scenario, row.server);
    let cells = [
        row.server_us,
        row.database_us,
        row.per_second,
        row.p50_ms,
        row.p99_ms,
        row.batch,
        row.value,
    ];
    for value in cells {
        let _ = write!(text, " {:>10}", cell(value));
    }
    let _ = write!(text, " {} {}", row.unit, row.note);
    text.trim_end().to_owned()
}
