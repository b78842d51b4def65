//! RFC 5802 §3: what is stored instead of a password

use std::num::NonZeroU32;

use aws_lc_rs::{constant_time, digest, hmac, pbkdf2};

use super::SALT_BYTES;

/// The hash function of a SCRAM mechanism.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ScramHash {
    /// SHA-1, 20 bytes.
    Sha1,
    /// SHA-256, 32 bytes.
    Sha256,
    /// SHA-512, 64 bytes.
    Sha512,
}

impl ScramHash {
    /// All of them, weakest first.
    pub const ALL: [ScramHash; 3] = [ScramHash::Sha1, ScramHash::Sha256, ScramHash::Sha512];

    /// The name as in mechanisms and in the database: `SHA-256`.
    pub fn as_str(self) -> &'static str {
        match self {
            ScramHash::Sha1 => "SHA-1",
            ScramHash::Sha256 => "SHA-256",
            ScramHash::Sha512 => "SHA-512",
        }
    }

    /// The hash of that name, `None` for any other.
    pub fn from_name(name: &str) -> Option<ScramHash> {
        ScramHash::ALL
            .into_iter()
            .find(|hash| hash.as_str() == name)
    }

    /// Output length, in bytes.
    pub fn len_bytes(self) -> usize {
        self.digest_algorithm().output_len()
    }

    pub(super) fn hash(self, data: &[u8]) -> digest::Digest {
        digest::digest(self.digest_algorithm(), data)
    }

    pub(super) fn hmac(self, key: &[u8], data: &[u8]) -> hmac::Tag {
        let algorithm = match self {
            ScramHash::Sha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            ScramHash::Sha256 => hmac::HMAC_SHA256,
            ScramHash::Sha512 => hmac::HMAC_SHA512,
        };
        hmac::sign(&hmac::Key::new(algorithm, key), data)
    }

    fn digest_algorithm(self) -> &'static digest::Algorithm {
        match self {
            ScramHash::Sha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
            ScramHash::Sha256 => &digest::SHA256,
            ScramHash::Sha512 => &digest::SHA512,
        }
    }

    fn pbkdf2_algorithm(self) -> pbkdf2::Algorithm {
        match self {
            ScramHash::Sha1 => pbkdf2::PBKDF2_HMAC_SHA1,
            ScramHash::Sha256 => pbkdf2::PBKDF2_HMAC_SHA256,
            ScramHash::Sha512 => pbkdf2::PBKDF2_HMAC_SHA512,
        }
    }
}

/// What the server keeps for one account and one hash. `Debug` shows no key.
#[derive(Clone, PartialEq, Eq)]
pub struct ScramKeys {
    /// Hash function everything below was made with.
    pub hash: ScramHash,
    /// Salt of the password, [`SALT_BYTES`] for keys made here.
    pub salt: Vec<u8>,
    /// Rounds of PBKDF2.
    pub iterations: NonZeroU32,
    /// `H(ClientKey)`, as long as the hash.
    pub stored_key: Vec<u8>,
    /// `HMAC(SaltedPassword, "Server Key")`, as long as the hash.
    pub server_key: Vec<u8>,
}

impl std::fmt::Debug for ScramKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ScramKeys")
            .field("hash", &self.hash)
            .field("iterations", &self.iterations)
            .finish_non_exhaustive()
    }
}

impl ScramKeys {
    /// Derives the keys of a password already prepared with
    /// [`prepare_password`](crate::sasl::prepare_password). Costs milliseconds:
    /// not for an async worker thread.
    pub fn derive(hash: ScramHash, password: &str, salt: &[u8], iterations: NonZeroU32) -> Self {
        let mut salted = [0u8; 64];
        let salted = &mut salted[..hash.len_bytes()];
        pbkdf2::derive(
            hash.pbkdf2_algorithm(),
            iterations,
            salt,
            password.as_bytes(),
            salted,
        );
        let client_key = hash.hmac(salted, b"Client Key");
        ScramKeys {
            hash,
            salt: salt.to_vec(),
            iterations,
            stored_key: hash.hash(client_key.as_ref()).as_ref().to_vec(),
            server_key: hash.hmac(salted, b"Server Key").as_ref().to_vec(),
        }
    }

    /// Derives the keys for every hash, each with a salt of its own: equal salts
    /// would tell accounts from decoys. Costs milliseconds.
    pub fn derive_all(
        password: &str,
        salts: [[u8; SALT_BYTES]; 3],
        iterations: NonZeroU32,
    ) -> [ScramKeys; 3] {
        let [sha1, sha256, sha512] = salts;
        [
            (ScramHash::Sha1, sha1),
            (ScramHash::Sha256, sha256),
            (ScramHash::Sha512, sha512),
        ]
        .map(|(hash, salt)| ScramKeys::derive(hash, password, &salt, iterations))
    }

    /// Whether a prepared password is the one these keys were made from, in
    /// constant time after the derivation. Costs milliseconds.
    pub fn verify(&self, password: &str) -> bool {
        let tried = ScramKeys::derive(self.hash, password, &self.salt, self.iterations);
        constant_time::verify_slices_are_equal(&tried.stored_key, &self.stored_key).is_ok()
    }
}

/// The server's secret from which the keys of accounts that do not exist are
/// made, so that their challenges look like any other and never change.
pub struct DecoySecret(hmac::Key);

impl std::fmt::Debug for DecoySecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DecoySecret")
    }
}

impl DecoySecret {
    /// From at least 32 random bytes kept over restarts.
    pub fn new(secret: &[u8]) -> Self {
        DecoySecret(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// Keys for an account (`user@host`) that has none. No password fits them.
    pub fn keys(&self, hash: ScramHash, account: &str, iterations: NonZeroU32) -> ScramKeys {
        let mut salt = self.derive("salt", hash, account);
        salt.truncate(SALT_BYTES);
        ScramKeys {
            hash,
            salt,
            iterations,
            stored_key: self.derive("stored", hash, account),
            server_key: self.derive("server", hash, account),
        }
    }

    /// As many bytes as the hash gives, stable for its arguments.
    fn derive(&self, purpose: &str, hash: ScramHash, account: &str) -> Vec<u8> {
        let mut out = Vec::with_capacity(64);
        let mut counter = 0u8;
        while out.len() < hash.len_bytes() {
            let input = format!("{purpose}\0{}\0{account}\0{counter}", hash.as_str());
            out.extend_from_slice(hmac::sign(&self.0, input.as_bytes()).as_ref());
            counter += 1;
        }
        out.truncate(hash.len_bytes());
        out
    }
}
