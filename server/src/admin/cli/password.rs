//! Passwords: from a prompt, standard input or a file, never from arguments (others see those).

use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};

use clap::Args;

use crate::admin::protocol::{Failure, FailureKind, Password};

/// The longest password read, in bytes.
const PASSWORD_BYTES: u64 = 1_024;

/// Where a password comes from.
#[derive(Debug, Clone, Args)]
pub struct PasswordSource {
    /// Reads the password from the first line of a file; without this, a prompt asks or, where standard
    /// input is no terminal, its first line is taken
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
}

impl PasswordSource {
    /// Gets the password.
    ///
    /// # Errors
    /// Where none can be read, or two typed ones differ.
    pub fn read(&self, account: &str) -> Result<Password, Failure> {
        let text = match &self.password_file {
            Some(path) if path == Path::new("-") => first_line(std::io::stdin())?,
            Some(path) => {
                let file = std::fs::File::open(path).map_err(|e| {
                    let what = format!("{}: {e}", path.display());
                    Failure::new(FailureKind::NotFound, what)
                })?;
                first_line(file)?
            }
            None if std::io::stdin().is_terminal() => prompt(account)?,
            None => first_line(std::io::stdin())?,
        };
        if text.is_empty() {
            return Err(Failure::new(FailureKind::Usage, "the password is empty"));
        }
        Ok(Password(text))
    }
}

fn prompt(account: &str) -> Result<String, Failure> {
    let ask = |text: String| {
        rpassword::prompt_password(text)
            .map_err(|e| Failure::new(FailureKind::Failed, format!("no password read: {e}")))
    };
    let password = ask(format!("Password for {account}: "))?;
    let again = ask("The same again: ".to_owned())?;
    if password != again {
        return Err(Failure::new(FailureKind::Usage, "the two passwords differ"));
    }
    Ok(password)
}

fn first_line(from: impl Read) -> Result<String, Failure> {
    let mut text = String::new();
    from.take(PASSWORD_BYTES)
        .read_to_string(&mut text)
        .map_err(|e| Failure::new(FailureKind::Failed, format!("no password read: {e}")))?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_counts() {
        assert_eq!(first_line("pencil \r\nmore".as_bytes()).unwrap(), "pencil ");
        assert_eq!(first_line("pencil".as_bytes()).unwrap(), "pencil");
        assert_eq!(first_line("".as_bytes()).unwrap(), "");
        assert!(first_line(&[0xff, 0xfe][..]).is_err());
    }
}
