//! The state hash: the sum modulo 2^128 of the first 16 bytes of BLAKE3 over each item. One write changes one summand,
//! and neither order nor chunking matters.

/// Begins the bytes of all items that are not records: as a record's header it would be a key of 1,023 bytes with an
/// owner of seven, longer than any key let in.
const NOT_A_RECORD: [u8; 2] = [0xff, 0xff];

/// One summand.
pub(crate) fn item(bytes: &[u8]) -> u128 {
    let hash = blake3::hash(bytes);
    let first = hash.as_bytes().first_chunk().expect("a hash has 32 bytes");
    u128::from_le_bytes(*first)
}

/// The bytes of an item that is not a record: a kind, numbers of 8 bytes, and what has a length of its own.
pub(crate) struct Item(Vec<u8>);

impl Item {
    pub(crate) fn new(kind: u8) -> Self {
        let mut bytes = Vec::with_capacity(64);
        bytes.extend_from_slice(&NOT_A_RECORD);
        bytes.push(kind);
        Self(bytes)
    }

    pub(crate) fn number(mut self, value: u64) -> Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    pub(crate) fn bytes(self, bytes: &[u8]) -> Self {
        let mut with_length = self.number(bytes.len() as u64);
        with_length.0.extend_from_slice(bytes);
        with_length
    }

    pub(crate) fn hash(self) -> u128 {
        item(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_keep_items_apart() {
        let one = Item::new(1).bytes(b"ab").bytes(b"c").hash();
        let other = Item::new(1).bytes(b"a").bytes(b"bc").hash();
        assert_ne!(one, other);
        assert_ne!(Item::new(1).number(1).hash(), Item::new(2).number(1).hash());
    }
}
