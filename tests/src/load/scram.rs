//! RFC 5802, RFC 7677: SCRAM as a client, with keys derived once for all accounts of a run.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use aws_lc_rs::{digest, hmac, pbkdf2, rand};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use parking_lot::Mutex;

/// The password of every account of a run.
pub const PASSWORD: &str = "load-generator";
/// The salt of every account of a run: one, so that keys are derived once.
pub const SALT: &[u8] = b"one-salt-for-all";
/// The rounds of key derivation, the same on every server.
pub const ITERATIONS: u32 = 10_000;

/// A hash function of a mechanism.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hash {
    /// SCRAM-SHA-1, where a server offers nothing better.
    Sha1,
    /// SCRAM-SHA-256.
    Sha256,
    /// SCRAM-SHA-512; only its stored keys are needed.
    Sha512,
}

impl Hash {
    /// The name of the mechanism.
    pub fn mechanism(self) -> &'static str {
        match self {
            Self::Sha1 => "SCRAM-SHA-1",
            Self::Sha256 => "SCRAM-SHA-256",
            Self::Sha512 => "SCRAM-SHA-512",
        }
    }

    fn hmac(self) -> hmac::Algorithm {
        match self {
            Self::Sha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => hmac::HMAC_SHA256,
            Self::Sha512 => hmac::HMAC_SHA512,
        }
    }

    fn digest(self, data: &[u8]) -> Vec<u8> {
        let algorithm = match self {
            Self::Sha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => &digest::SHA256,
            Self::Sha512 => &digest::SHA512,
        };
        digest::digest(algorithm, data).as_ref().to_vec()
    }

    fn pbkdf2(self) -> pbkdf2::Algorithm {
        match self {
            Self::Sha1 => pbkdf2::PBKDF2_HMAC_SHA1,
            Self::Sha256 => pbkdf2::PBKDF2_HMAC_SHA256,
            Self::Sha512 => pbkdf2::PBKDF2_HMAC_SHA512,
        }
    }

    fn mac(self, key: &[u8], data: &[u8]) -> Vec<u8> {
        hmac::sign(&hmac::Key::new(self.hmac(), key), data)
            .as_ref()
            .to_vec()
    }
}

/// What the client and the server keep of a password.
#[derive(Debug, Clone)]
pub struct Keys {
    /// The hash function they are for.
    pub hash: Hash,
    client_key: Vec<u8>,
    /// H(ClientKey).
    pub stored_key: Vec<u8>,
    /// HMAC(SaltedPassword, "Server Key").
    pub server_key: Vec<u8>,
}

impl Keys {
    /// Derives the keys of [`PASSWORD`].
    pub fn derive(hash: Hash, salt: &[u8], iterations: u32) -> Self {
        let rounds = NonZeroU32::new(iterations).unwrap_or(NonZeroU32::MIN);
        let mut salted = vec![0; hash.digest(b"").len()];
        pbkdf2::derive(
            hash.pbkdf2(),
            rounds,
            salt,
            PASSWORD.as_bytes(),
            &mut salted,
        );
        let client_key = hash.mac(&salted, b"Client Key");
        Self {
            hash,
            stored_key: hash.digest(&client_key),
            server_key: hash.mac(&salted, b"Server Key"),
            client_key,
        }
    }

    /// The keys that the accounts of a run are made with.
    pub fn of_run(hash: Hash) -> Self {
        Self::derive(hash, SALT, ITERATIONS)
    }
}

/// Which key derivation a server asked for: hash, salt, iterations.
type Derivation = (Hash, Vec<u8>, u32);

/// Keys by what a server asked for; each derived once.
#[derive(Debug, Default)]
pub struct KeyCache(Mutex<HashMap<Derivation, Arc<Keys>>>);

impl KeyCache {
    fn get(&self, hash: Hash, salt: &[u8], iterations: u32) -> Arc<Keys> {
        let mut keys = self.0.lock();
        let derived = keys.entry((hash, salt.to_vec(), iterations));
        derived
            .or_insert_with(|| Arc::new(Keys::derive(hash, salt, iterations)))
            .clone()
    }
}

/// One exchange, without channel binding unless it is asked to pretend some.
pub struct Exchange {
    hash: Hash,
    bare: String,
    nonce: String,
}

impl Exchange {
    /// Begins for this localpart; the second value is the first message, in base64.
    pub fn begin(hash: Hash, localpart: &str) -> Result<(Self, String)> {
        Self::begin_with(hash, "n,,", localpart)
    }

    /// Begins with another GS2 header (RFC 5802 §7): channel binding, authorization identity.
    pub fn begin_with(hash: Hash, gs2: &str, localpart: &str) -> Result<(Self, String)> {
        let mut random = [0; 18];
        rand::fill(&mut random).context("random bytes")?;
        let nonce = BASE64.encode(random).replace('=', "");
        let bare = format!("n={localpart},r={nonce}");
        let first = BASE64.encode(format!("{gs2}{bare}"));
        Ok((Self { hash, bare, nonce }, first))
    }

    /// The answer to the server's first message, both in base64.
    pub fn answer(&self, challenge: &str, cache: &KeyCache) -> Result<String> {
        self.answer_with(challenge, cache, b"n,,", str::to_owned)
    }

    /// The same with other bytes as what the channel is bound to, and another nonce than the server's; the proof is right.
    pub fn answer_with(
        &self,
        challenge: &str,
        cache: &KeyCache,
        bound: &[u8],
        nonce: impl FnOnce(&str) -> String,
    ) -> Result<String> {
        let challenge = String::from_utf8(BASE64.decode(challenge.trim())?)?;
        let field = |name: &str| {
            let mut fields = challenge.split(',');
            fields
                .find_map(|f| f.strip_prefix(name))
                .with_context(|| format!("no {name} in {challenge}"))
        };
        let given = field("r=")?;
        ensure!(
            given.starts_with(&self.nonce),
            "the server answered another nonce"
        );
        let nonce = nonce(given);
        let salt = BASE64.decode(field("s=")?)?;
        let keys = cache.get(self.hash, &salt, field("i=")?.parse()?);
        let without_proof = format!("c={},r={nonce}", BASE64.encode(bound));
        let auth_message = format!("{},{challenge},{without_proof}", self.bare);
        let signature = self.hash.mac(&keys.stored_key, auth_message.as_bytes());
        let proof: Vec<u8> = keys
            .client_key
            .iter()
            .zip(&signature)
            .map(|(a, b)| a ^ b)
            .collect();
        Ok(BASE64.encode(format!("{without_proof},p={}", BASE64.encode(proof))))
    }
}
