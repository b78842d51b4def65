//! The table of bad input, for people and as JSON.

use anyhow::Result;
use serde::Serialize;

/// One case.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// What kind of case it is.
    pub group: String,
    /// The case.
    pub case: String,
    /// What was sent, in short.
    pub sent: String,
    /// What came back, in short.
    pub got: String,
    /// Whether it is what the specification names, with the server well afterwards and its memory where it was.
    pub ok: bool,
    /// What is wrong.
    pub why: String,
    /// The server's resident memory before, KiB.
    pub before_kib: u64,
    /// The server's resident memory afterwards, KiB.
    pub after_kib: u64,
}

impl Row {
    /// Which case went wrong and why, where it did.
    pub fn wrong(&self) -> Option<String> {
        (!self.ok).then(|| format!("{}: {}: {}", self.group, self.case, self.why))
    }
}

const CASE_CHARS: usize = 44;
const SENT_CHARS: usize = 64;
/// Namespaces that say little and take much.
const LONG_NAMES: [(&str, &str); 3] = [
    ("urn:ietf:params:xml:ns:", "…:"),
    ("http://jabber.org/protocol/", "…/"),
    ("http://etherx.jabber.org/", "…/"),
];

/// At most so many characters, on one line.
pub fn short(text: &str, chars: usize) -> String {
    let line: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    match line.char_indices().nth(chars) {
        None => line,
        Some(_) => {
            let kept: String = line.chars().take(chars.saturating_sub(1)).collect();
            format!("{kept}…")
        }
    }
}

/// Prints all rows.
///
/// # Errors
/// None but those of the JSON writer.
pub fn print(rows: &[Row], json: bool) -> Result<()> {
    if json {
        println!("{}", serde_json::to_string_pretty(rows)?);
        return Ok(());
    }
    println!(
        "{:<CASE_CHARS$} | verdict | KiB before | after | {:<SENT_CHARS$} | what came back",
        "case", "what was sent"
    );
    let mut group = "";
    for row in rows {
        if row.group != group {
            group = &row.group;
            println!("-- {group}");
        }
        let mut sent = row.sent.clone();
        for (long, abbreviated) in LONG_NAMES {
            sent = sent.replace(long, abbreviated);
        }
        println!(
            "{:<CASE_CHARS$} | {:<7} | {:>10} | {:>+5} | {:<SENT_CHARS$} | {}",
            short(&row.case, CASE_CHARS),
            if row.ok { "ok" } else { "WRONG" },
            row.before_kib,
            i128::from(row.after_kib) - i128::from(row.before_kib),
            short(&sent, SENT_CHARS),
            row.got,
        );
    }
    let wrong: Vec<String> = rows.iter().filter_map(Row::wrong).collect();
    println!("\n{} cases, {} wrong", rows.len(), wrong.len());
    for line in wrong {
        println!("WRONG {line}");
    }
    Ok(())
}
