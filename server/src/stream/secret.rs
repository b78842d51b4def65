//! The secret behind the salts of accounts that do not exist, kept in the data directory

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use aws_lc_rs::rand::SecureRandom;
use eider_xmpp::sasl::DecoySecret;

const SECRET_BYTES: usize = 32;

/// Reads the secret, or makes one on first use (`decoy.key`, mode 0600).
///
/// # Errors
/// What reading, writing or the random source says.
pub fn decoy_secret(data_directory: &Path, random: &dyn SecureRandom) -> io::Result<DecoySecret> {
    let file = data_directory.join("decoy.key");
    match fs::read(&file) {
        Ok(secret) if secret.len() >= SECRET_BYTES => return Ok(DecoySecret::new(&secret)),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let mut secret = [0u8; SECRET_BYTES];
    random
        .fill(&mut secret)
        .map_err(|_| io::Error::other("no randomness"))?;
    let temporary = file.with_extension("new");
    let mut out = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)?;
    out.write_all(&secret)?;
    out.sync_all()?;
    fs::rename(&temporary, &file)?;
    Ok(DecoySecret::new(&secret))
}
