//! Who owns keys, and whose keys are orphaned. Which keys those are is found in the map, which skips what never saw an owner.

use super::hash::Item;
use crate::ids::Incarnation;
use std::collections::BTreeMap;

/// Owners that have keys, and the dead among them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Owners {
    /// Keys of each; never 0.
    keys: BTreeMap<Incarnation, u64>,
    /// Dead ones that still have keys: the last key removed, none above it is gone, none up to it is left.
    orphans: BTreeMap<Incarnation, Box<[u8]>>,
}

impl Owners {
    pub(crate) fn gained(&mut self, owner: Option<Incarnation>) {
        if let Some(owner) = owner {
            *self.keys.entry(owner).or_default() += 1;
        }
    }

    pub(crate) fn lost(&mut self, owner: Option<Incarnation>) {
        let Some(owner) = owner else {
            return;
        };
        let keys = self.keys.get_mut(&owner).expect("the key was counted");
        *keys -= 1;
        if *keys == 0 {
            self.keys.remove(&owner);
            self.orphans.remove(&owner);
        }
    }

    /// Orphans what an owner has.
    pub(crate) fn died(&mut self, owner: Incarnation) {
        if self.keys.contains_key(&owner) {
            self.orphans.insert(owner, Box::from([]));
        }
    }

    pub(crate) fn is_orphaned(&self, owner: Incarnation) -> bool {
        self.orphans.contains_key(&owner)
    }

    pub(crate) fn keys(&self, owner: Incarnation) -> u64 {
        self.keys.get(&owner).copied().unwrap_or(0)
    }

    /// Dead owners that still have keys, each with the key up to which they are removed.
    pub(crate) fn orphans(&self) -> impl Iterator<Item = (Incarnation, &[u8])> {
        self.orphans.iter().map(|(owner, upto)| (*owner, &**upto))
    }

    pub(crate) fn removed_upto(&self, owner: Incarnation) -> Option<&[u8]> {
        self.orphans.get(&owner).map(|upto| &**upto)
    }

    /// Notes how far the removal came; nothing if no key is left.
    pub(crate) fn remove_upto(&mut self, owner: Incarnation, key: &[u8]) {
        if let Some(upto) = self.orphans.get_mut(&owner) {
            *upto = Box::from(key);
        }
    }

    /// As read from a snapshot, after all keys are counted; `false` if the owner has none.
    pub(crate) fn restore_orphan(&mut self, owner: Incarnation, upto: &[u8]) -> bool {
        self.keys.contains_key(&owner) && self.orphans.insert(owner, Box::from(upto)).is_none()
    }

    /// Owners that have keys, dead ones too.
    pub(crate) fn all(&self) -> impl Iterator<Item = Incarnation> {
        self.keys.keys().copied()
    }

    /// What it adds to the state hash; the counts follow from the records.
    pub(crate) fn hash(&self) -> u128 {
        let items = self.orphans.iter();
        let hashes = items.map(|(owner, upto)| Item::new(b'o').number(owner.0).bytes(upto).hash());
        hashes.fold(0, u128::wrapping_add)
    }
}
