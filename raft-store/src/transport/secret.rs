//! The join secret: who knows it may become a member. Both sides prove that they know it without showing it.
//!
//! A proof is an HMAC over what only the two ends of one TLS connection share (its exporter), with a label for each
//! direction, so that it proves nothing on another connection and nothing when it is sent back.

use std::fmt;

use aws_lc_rs::{hkdf, hmac};

use crate::random::Random;

/// The shortest secret: 128 bits.
pub const MIN_BYTES: usize = 16;
/// The longest.
pub const MAX_BYTES: usize = 64;
/// What [`JoinSecret::mint`] makes.
const MINTED_BYTES: usize = 32;
/// A proof's length.
pub(crate) const PROOF_BYTES: usize = 32;

/// Why a text is no join secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("a join secret has at least 128 bits: 32 hexadecimal digits")]
    Short,
    #[error("a join secret has at most 512 bits: 128 hexadecimal digits")]
    Long,
    #[error("a join secret is an even number of hexadecimal digits")]
    NotHex,
}

/// At least 128 random bits, written as hexadecimal digits.
#[derive(Clone)]
pub struct JoinSecret(Vec<u8>);

/// Who proves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Joiner,
    Member,
}

impl JoinSecret {
    /// A new one of 256 bits.
    pub fn mint(random: &dyn Random) -> Self {
        let mut bytes = vec![0; MINTED_BYTES];
        random.fill(&mut bytes);
        Self(bytes)
    }

    /// Reads one as [`JoinSecret::text`] writes it; white space around it does not matter.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let digits = text.trim().as_bytes();
        if digits.len() < 2 * MIN_BYTES {
            return Err(Error::Short);
        }
        if digits.len() > 2 * MAX_BYTES {
            return Err(Error::Long);
        }
        let digit = |at: u8| (at as char).to_digit(16).ok_or(Error::NotHex);
        let byte = |pair: &[u8]| match *pair {
            [high, low] => Ok((digit(high)? * 16 + digit(low)?) as u8),
            _ => Err(Error::NotHex),
        };
        let bytes = digits.chunks(2).map(byte).collect::<Result<_, _>>()?;
        Ok(Self(bytes))
    }

    /// The secret itself, for the file or the screen that it was made for.
    pub fn text(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// 32 bytes for one purpose.
    pub(crate) fn derive(&self, salt: &[u8], purpose: &[u8]) -> [u8; 32] {
        let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, salt);
        let mut derived = [0; 32];
        salt.extract(&self.0)
            .expand(&[purpose], hkdf::HKDF_SHA256)
            .and_then(|key| key.fill(&mut derived))
            .expect("32 bytes are one block");
        derived
    }

    fn proof_key(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, &self.derive(&[], b"raft-store proof"))
    }

    /// What `side` shows on the connection with this exporter.
    pub(crate) fn prove(&self, side: Side, exporter: &[u8; 32]) -> [u8; PROOF_BYTES] {
        let tag = hmac::sign(&self.proof_key(), &message(side, exporter));
        tag.as_ref().try_into().expect("SHA-256 has 32 bytes")
    }

    /// Whether `proof` is what `side` shows; in constant time.
    pub(crate) fn is_proof(&self, side: Side, exporter: &[u8; 32], proof: &[u8]) -> bool {
        hmac::verify(&self.proof_key(), &message(side, exporter), proof).is_ok()
    }
}

fn message(side: Side, exporter: &[u8; 32]) -> Vec<u8> {
    let label: &[u8] = match side {
        Side::Joiner => b"raft-store joiner ",
        Side::Member => b"raft-store member ",
    };
    [label, exporter].concat()
}

impl fmt::Debug for JoinSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JoinSecret(not shown)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Seeded, SystemRandom};

    #[test]
    fn a_secret_is_read_as_it_was_written() {
        let secret = JoinSecret::mint(&SystemRandom);
        let read = JoinSecret::parse(&format!(" {}\n", secret.text())).expect("a secret");
        assert_eq!(read.text(), secret.text());
        assert_eq!(secret.text().len(), 64);
        assert_ne!(JoinSecret::mint(&SystemRandom).text(), secret.text());
        assert!(!format!("{secret:?}").contains(&secret.text()[..8]));
    }

    #[test]
    fn a_short_secret_is_refused() {
        let parse = |text: &str| JoinSecret::parse(text).map(|_| ()).unwrap_err();
        assert_eq!(parse("hunter2"), Error::Short);
        assert_eq!(parse(&"0f".repeat(15)), Error::Short);
        assert!(JoinSecret::parse(&"0f".repeat(16)).is_ok());
        assert_eq!(parse(&"0f".repeat(65)), Error::Long);
        assert_eq!(parse(&"0x".repeat(16)), Error::NotHex);
        assert_eq!(parse(&"é".repeat(16)), Error::NotHex);
        assert_eq!(parse(&format!("{}0", "0f".repeat(16))), Error::NotHex);
    }

    #[test]
    fn a_proof_is_of_one_secret_one_connection_and_one_side() {
        let random = Seeded::new(1, "secret");
        let (ours, other) = (JoinSecret::mint(&random), JoinSecret::mint(&random));
        let proof = ours.prove(Side::Joiner, &[1; 32]);
        assert!(ours.is_proof(Side::Joiner, &[1; 32], &proof));
        assert!(!ours.is_proof(Side::Member, &[1; 32], &proof), "mirrored");
        assert!(!ours.is_proof(Side::Joiner, &[2; 32], &proof), "replayed");
        assert!(!other.is_proof(Side::Joiner, &[1; 32], &proof));
        assert!(!ours.is_proof(Side::Joiner, &[1; 32], &proof[..31]));
        assert_ne!(ours.derive(b"a", b"p"), ours.derive(b"b", b"p"));
        assert_ne!(ours.derive(b"a", b"p"), ours.derive(b"a", b"q"));
    }
}
