//! Baselines of the same run: what the machine, TLS and the databases cost without a server between.

pub mod commit;
pub mod echo;
pub mod insert;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

/// This program again, for a part that runs as a process of its own.
fn part(arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(arguments).stdout(Stdio::piped());
    Ok(command)
}

/// The first line that a part prints.
fn first_line(output: impl std::io::Read) -> Result<String> {
    let mut line = String::new();
    BufReader::new(output)
        .read_line(&mut line)
        .context("reading from a part of the run")?;
    Ok(line.trim().to_owned())
}
