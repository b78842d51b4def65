//! Public stanza-ids (XEP-0359, XEP-0313 §3): a position in an owner's archive, encrypted.
//!
//! An id must be unpredictable and lead back to its archive row. Encrypting
//! (owner, position) as one AES block gives both without a random column and
//! its index: equal ids mean equal rows, and nobody without the key can guess one.

use eider_storage::AccountId;
use eider_xmpp::ns;

use crate::sealed_ids::SealedIds;
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

/// Makes and reads stanza-ids.
pub struct StanzaIds(SealedIds);

impl StanzaIds {
    /// Stanza-ids under the installation's key.
    pub fn new(ids: SealedIds) -> StanzaIds {
        StanzaIds(ids)
    }

    /// The id of an owner's archive row: 22 characters of the URL-safe base64 alphabet.
    pub fn encode(&self, owner: AccountId, position: i64) -> String {
        self.0
            .seal(owner.0.cast_unsigned(), position.cast_unsigned())
    }

    /// The position an id stands for, or `None` for an id that is not of this owner's archive.
    pub fn decode(&self, owner: AccountId, id: &str) -> Option<i64> {
        let (id_owner, position) = self.0.open(id)?;
        (id_owner.cast_signed() == owner.0).then_some(position.cast_signed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sealed_ids::KEY_LEN_BYTES;

    #[test]
    fn leads_back_to_its_row_and_to_no_other_owner() {
        let ids = StanzaIds::new(SealedIds::new(&[7; KEY_LEN_BYTES]));
        let id = ids.encode(AccountId(3), 41);
        assert_eq!(ids.decode(AccountId(3), &id), Some(41));
        assert_eq!(ids.decode(AccountId(4), &id), None);
        assert_ne!(id, ids.encode(AccountId(3), 42));
        assert_eq!(ids.decode(AccountId(3), "forged"), None);
        assert_eq!(ids.decode(AccountId(3), "AAAAAAAAAAAAAAAAAAAAAA"), None);
    }
}
