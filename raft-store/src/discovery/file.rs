//! A file with one address a line, read again and again: who writes it needs no signal. `#` begins a comment.

use std::io::{ErrorKind, Read};
use std::path::PathBuf;
use std::time::Duration;

use super::{Discovery, DiscoveryError};
use crate::limits::DISCOVERY_BYTES;
use crate::transport::BoxFuture;

/// See the module's documentation. A file that does not exist has no addresses; one over [`DISCOVERY_BYTES`] is an error.
#[derive(Debug, Clone)]
pub struct AddressFile {
    path: PathBuf,
    name: String,
}

impl AddressFile {
    /// The file need not be there yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        let name = format!("file {}", path.display());
        Self { path, name }
    }

    fn read(&self) -> Result<Vec<String>, DiscoveryError> {
        let failed = |error: std::io::Error| DiscoveryError(error.to_string());
        let file = match std::fs::File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(error)),
        };
        let mut text = String::new();
        let limit = DISCOVERY_BYTES as u64 + 1;
        file.take(limit).read_to_string(&mut text).map_err(failed)?;
        lines(&text)
    }
}

/// The addresses of a text of lines.
pub(super) fn lines(text: &str) -> Result<Vec<String>, DiscoveryError> {
    if text.len() > DISCOVERY_BYTES {
        return Err(DiscoveryError(format!("more than {DISCOVERY_BYTES} bytes")));
    }
    let lines = text.lines().map(|line| {
        let content = line.split('#').next().unwrap_or_default();
        content.trim().to_owned()
    });
    Ok(lines.filter(|line| !line.is_empty()).collect())
}

impl Discovery for AddressFile {
    fn name(&self) -> &str {
        &self.name
    }

    fn find(&self) -> BoxFuture<'_, Result<Vec<String>, DiscoveryError>> {
        // A small local file: as quick as looking whether it has changed.
        Box::pin(std::future::ready(self.read()))
    }

    fn holds(&self) -> Duration {
        Duration::from_secs(2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Random, SystemRandom};

    #[test]
    fn a_file_is_read_again() {
        let name = format!("raft-store-addresses-{:016x}", SystemRandom.u64());
        let path = std::env::temp_dir().join(name);
        let way = AddressFile::new(&path);
        assert_eq!(way.read(), Ok(Vec::new()));
        std::fs::write(&path, "one:1 # the first\n\n# none\n  two:2\n").expect("written");
        assert_eq!(way.read(), Ok(vec!["one:1".to_owned(), "two:2".to_owned()]));
        std::fs::write(&path, "x".repeat(DISCOVERY_BYTES + 1)).expect("written");
        assert!(way.read().is_err());
        std::fs::remove_file(&path).expect("removed");
    }
}
