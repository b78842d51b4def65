//! `eider backup`: a consistent copy of the database while the server runs, or while it does not.

use std::path::PathBuf;

use clap::Args;

use super::ask::ask;
use super::{Global, output};
use crate::admin::commands::new_file;
use crate::admin::protocol::{Failure, Request, Tables};

/// A backup.
#[derive(Debug, Clone, Args)]
pub struct Backup {
    /// The file to write; it must not exist
    file: PathBuf,
}

/// Writes the backup; what is reported was read back from the file.
///
/// # Errors
/// Why it was not done.
pub async fn run(global: &Global, backup: Backup) -> Result<(), Failure> {
    let target = new_file(&backup.file)?;
    let tables: Tables = ask(
        global,
        Request::Backup {
            target: target.clone(),
        },
    )
    .await?;
    report(
        global,
        &tables,
        &format!("{} written and verified", target.display()),
    );
    Ok(())
}

/// Prints what was written.
pub fn report(global: &Global, tables: &Tables, done: &str) {
    if global.json {
        return output::json(tables);
    }
    let filled = tables.tables.iter().filter(|t| t.rows > 0);
    let rows: Vec<_> = filled
        .map(|t| vec![t.table.clone(), t.rows.to_string()])
        .collect();
    output::table(&["table", "rows"], &rows, "nothing is in it");
    println!("{done}: {} rows", tables.rows);
}
