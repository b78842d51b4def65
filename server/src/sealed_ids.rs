//! Ids that lead back to what they stand for, and that nobody without the key can guess: one encrypted AES block.

use aws_lc_rs::cipher::{
    AES_256, DecryptingKey, DecryptionContext, EncryptingKey, UnboundCipherKey,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Length of the key, in bytes.
pub const KEY_LEN_BYTES: usize = 32;

/// Length of an id, in characters of the URL-safe base64 alphabet.
pub const ID_LEN: usize = 22;

/// Makes and reads ids under a key of the installation.
pub struct SealedIds {
    encrypting: EncryptingKey,
    decrypting: DecryptingKey,
}

impl SealedIds {
    /// Uses `key`, which storage keeps for as long as the ids are good.
    pub fn new(key: &[u8; KEY_LEN_BYTES]) -> SealedIds {
        let unbound =
            || UnboundCipherKey::new(&AES_256, key).expect("the key has AES-256's length");
        SealedIds {
            encrypting: EncryptingKey::ecb(unbound()).expect("ECB takes any AES key"),
            decrypting: DecryptingKey::ecb(unbound()).expect("ECB takes any AES key"),
        }
    }

    /// The id of two numbers, of [`ID_LEN`] characters.
    pub fn seal(&self, first: u64, second: u64) -> String {
        let mut block = [0u8; 16];
        block[..8].copy_from_slice(&first.to_be_bytes());
        block[8..].copy_from_slice(&second.to_be_bytes());
        self.encrypting
            .encrypt(&mut block)
            .expect("one whole block");
        URL_SAFE_NO_PAD.encode(block)
    }

    /// The two numbers of an id; of an id made by others two numbers that mean nothing, or `None`.
    pub fn open(&self, id: &str) -> Option<(u64, u64)> {
        let mut block: [u8; 16] = URL_SAFE_NO_PAD.decode(id).ok()?.try_into().ok()?;
        self.decrypting
            .decrypt(&mut block, DecryptionContext::None)
            .ok()?;
        let both = u128::from_be_bytes(block);
        Some(((both >> 64) as u64, both as u64))
    }
}
