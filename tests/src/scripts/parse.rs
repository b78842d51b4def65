//! Reading protocol scripts: steps with their blocks, definitions and rows.

use anyhow::{Context, Result, bail, ensure};
use std::collections::{BTreeSet, HashMap};
use std::path::Path;

/// A case that runs by itself.
#[derive(Clone, Debug)]
pub struct Script {
    /// File name, and the row's label where the file has rows.
    pub name: String,
    /// TOML for the server's configuration; scripts with equal text share a server.
    pub config: String,
    pub steps: Vec<Step>,
    /// Local names of the accounts to be made.
    pub accounts: BTreeSet<String>,
}

/// A step: its line in words, and the indented lines below it.
#[derive(Clone, Debug)]
pub struct Step {
    /// Line in the file, counted from 1.
    pub line: usize,
    pub words: Vec<String>,
    pub body: String,
}

#[derive(Clone)]
struct Line {
    number: usize,
    indent: usize,
    text: String,
}

struct Definition {
    parameters: Vec<String>,
    lines: Vec<Line>,
}

#[derive(Default)]
struct File {
    config: String,
    common: Vec<Line>,
    definitions: HashMap<String, Definition>,
    rows: Vec<Line>,
}

/// Reads a file into its cases.
pub fn load(path: &Path) -> Result<Vec<Script>> {
    let text = std::fs::read_to_string(path)?;
    let name = path.file_stem().context("no file name")?.to_string_lossy();
    parse(&name, &text).with_context(|| format!("{}", path.display()))
}

pub fn parse(name: &str, text: &str) -> Result<Vec<Script>> {
    let file = sections(text)?;
    if file.rows.is_empty() {
        return Ok(vec![script(name.to_owned(), &file, file.common.clone())?]);
    }
    let mut scripts = Vec::new();
    for row in &file.rows {
        let mut cells = row.text.split('|').map(str::trim);
        let label = cells.next().context("row without a label")?;
        let mut lines = file.common.clone();
        for cell in cells.filter(|cell| !cell.is_empty()) {
            let (number, text) = (row.number, cell.to_owned());
            lines.push(Line {
                number,
                indent: 0,
                text,
            });
        }
        scripts.push(script(format!("{name}: {label}"), &file, lines)?);
    }
    Ok(scripts)
}

fn sections(text: &str) -> Result<File> {
    let mut file = File::default();
    let mut lines = Vec::new();
    for (at, raw) in text.lines().enumerate() {
        if let Some(config) = raw.strip_prefix("# config: ") {
            file.config.push_str(config);
            file.config.push('\n');
        }
        let text = raw.trim();
        if !text.is_empty() && !raw.starts_with('#') {
            let indent = raw.len() - raw.trim_start().len();
            let (number, text) = (at + 1, text.to_owned());
            lines.push(Line {
                number,
                indent,
                text,
            });
        }
    }
    let mut at = 0;
    while at < lines.len() {
        let line = &lines[at];
        ensure!(
            line.indent == 0,
            "line {}: nothing to belong to",
            line.number
        );
        let end = block_end(&lines, at);
        let block = dedent(&lines[at + 1..end]);
        let mut words = line.text.split_whitespace().map(str::to_owned);
        match words.next().as_deref() {
            Some("define") => {
                let name = words.next().context("definition without a name")?;
                let (parameters, lines) = (words.collect(), block);
                let definition = Definition { parameters, lines };
                file.definitions.insert(name, definition);
            }
            Some("rows") => file.rows.extend(block),
            _ => {
                file.common.push(line.clone());
                file.common.extend_from_slice(&lines[at + 1..end]);
            }
        }
        at = end;
    }
    Ok(file)
}

/// The index after the lines indented deeper than line `at`.
fn block_end(lines: &[Line], at: usize) -> usize {
    let mut end = at + 1;
    while end < lines.len() && lines[end].indent > lines[at].indent {
        end += 1;
    }
    end
}

fn dedent(lines: &[Line]) -> Vec<Line> {
    let least = lines.iter().map(|line| line.indent).min().unwrap_or(0);
    let mut lines = lines.to_vec();
    for line in &mut lines {
        line.indent -= least;
    }
    lines
}

fn script(name: String, file: &File, lines: Vec<Line>) -> Result<Script> {
    let mut steps = Vec::new();
    expand(&lines, &file.definitions, 0, &mut steps)?;
    let mut accounts = BTreeSet::new();
    for step in &steps {
        match step.words[0].as_str() {
            "account" | "friends" => accounts.extend(step.words[1..].iter().cloned()),
            who => {
                if let Some((account, _)) = who.split_once('/') {
                    accounts.insert(account.to_owned());
                }
            }
        }
    }
    let config = file.config.clone();
    Ok(Script {
        name,
        config,
        steps,
        accounts,
    })
}

fn expand(
    lines: &[Line],
    definitions: &HashMap<String, Definition>,
    depth: usize,
    steps: &mut Vec<Step>,
) -> Result<()> {
    ensure!(depth < 8, "definitions that use themselves");
    let mut at = 0;
    while at < lines.len() {
        let line = &lines[at];
        let end = block_end(lines, at);
        let block = dedent(&lines[at + 1..end]);
        let words: Vec<String> = line.text.split_whitespace().map(str::to_owned).collect();
        if let Some(definition) = definitions.get(&words[0]) {
            let mut given = words[1..].to_vec();
            let wanted = definition.parameters.len();
            if given.len() > wanted && wanted > 0 {
                // The last parameter takes what is left.
                let last = given.split_off(wanted - 1).join(" ");
                given.push(last);
            }
            if given.len() != wanted {
                bail!(
                    "line {}: {} takes {:?}",
                    line.number,
                    words[0],
                    definition.parameters
                );
            }
            let mut filled = definition.lines.clone();
            for line in &mut filled {
                for (parameter, value) in definition.parameters.iter().zip(&given) {
                    line.text = line.text.replace(parameter.as_str(), value);
                }
            }
            expand(&filled, definitions, depth + 1, steps)?;
        } else {
            let body: Vec<&str> = block.iter().map(|line| line.text.as_str()).collect();
            let (line, body) = (line.number, body.join("\n"));
            steps.push(Step { line, words, body });
        }
        at = end;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_become_scripts() {
        let text = "# config: a = 1\nromeo/x logs in\ndefine say $what\n    romeo/x sends\n        <$what/>\n\
            rows\n    one | say message\n    two | say iq | romeo/x gets nothing\n";
        let scripts = parse("f", text).unwrap();
        assert_eq!(scripts.len(), 2);
        assert_eq!(scripts[1].name, "f: two");
        assert_eq!(scripts[1].config, "a = 1\n");
        assert_eq!(scripts[1].steps.len(), 3);
        assert_eq!(scripts[1].steps[1].body, "<iq/>");
        assert!(scripts[1].accounts.contains("romeo"));
    }
}
