//! Public stanza-ids (XEP-0359, XEP-0313 §3): a position in an owner's archive, encrypted.
//!
//! An id must be unpredictable and lead back to its archive row. Encrypting
//! (owner, position) as one AES block gives both without a random column and
//! its index: equal ids mean equal rows, and nobody without the key can guess one.

use aws_lc_rs::cipher::{
    AES_256, DecryptingKey, DecryptionContext, EncryptingKey, UnboundCipherKey,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use eider_storage::AccountId;
use eider_xmpp::ns;

use crate::xep::{Spec, Status, Target};

/// See [`Spec`].
pub const SPEC: Spec = Spec {
    number: 359,
    name: "Unique and Stable Stanza IDs",
    version: "0.7.0",
    status: Status::Complete,
    note: "",
    features: &[
        (Target::Server, ns::STANZA_ID),
        (Target::Account, ns::STANZA_ID),
    ],
    switch: None,
};

/// Length of the key, in bytes.
pub const KEY_LEN_BYTES: usize = 32;

/// Makes and reads stanza-ids under the installation's key.
pub struct StanzaIds {
    encrypting: EncryptingKey,
    decrypting: DecryptingKey,
}

impl StanzaIds {
    /// Uses `key`, which storage keeps for the life of the archive.
    pub fn new(key: &[u8; KEY_LEN_BYTES]) -> StanzaIds {
        let unbound =
            || UnboundCipherKey::new(&AES_256, key).expect("the key has AES-256's length");
        StanzaIds {
            encrypting: EncryptingKey::ecb(unbound()).expect("ECB takes any AES key"),
            decrypting: DecryptingKey::ecb(unbound()).expect("ECB takes any AES key"),
        }
    }

    /// The id of an owner's archive row: 22 characters of the URL-safe base64 alphabet.
    pub fn encode(&self, owner: AccountId, position: i64) -> String {
        let mut block = [0u8; 16];
        block[..8].copy_from_slice(&owner.0.to_be_bytes());
        block[8..].copy_from_slice(&position.to_be_bytes());
        self.encrypting
            .encrypt(&mut block)
            .expect("one whole block");
        URL_SAFE_NO_PAD.encode(block)
    }

    /// The position an id stands for, or `None` for an id that is not of this owner's archive.
    pub fn decode(&self, owner: AccountId, id: &str) -> Option<i64> {
        let mut block: [u8; 16] = URL_SAFE_NO_PAD.decode(id).ok()?.try_into().ok()?;
        self.decrypting
            .decrypt(&mut block, DecryptionContext::None)
            .ok()?;
        let (id_owner, position) = block.split_at(8);
        if id_owner != owner.0.to_be_bytes() {
            return None;
        }
        Some(i64::from_be_bytes(
            position.try_into().expect("eight bytes remain"),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leads_back_to_its_row_and_to_no_other_owner() {
        let ids = StanzaIds::new(&[7; KEY_LEN_BYTES]);
        let id = ids.encode(AccountId(3), 41);
        assert_eq!(ids.decode(AccountId(3), &id), Some(41));
        assert_eq!(ids.decode(AccountId(4), &id), None);
        assert_ne!(id, ids.encode(AccountId(3), 42));
        assert_eq!(ids.decode(AccountId(3), "forged"), None);
        assert_eq!(ids.decode(AccountId(3), "AAAAAAAAAAAAAAAAAAAAAA"), None);
    }
}
