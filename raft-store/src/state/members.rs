//! Members by id, their last incarnation, and the tombstones of those removed.

use super::hash::Item;
use crate::codec::{self, Reader, Writer};
use crate::entry::{self, MemberInfo, Registration};
use crate::ids::{BootNonce, Incarnation, MemberId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Most bytes of a member in a snapshot.
pub(crate) const MEMBER_BYTES: usize = 4096;

/// One member.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// Its last run.
    pub incarnation: Incarnation,
    /// Whether that run has not been declared dead.
    pub live: bool,
    pub nonce: BootNonce,
    pub info: MemberInfo,
}

/// All members.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Members {
    rows: BTreeMap<MemberId, Member>,
    /// Kept for ever; shared, so that a row's change does not copy them.
    tombstones: Arc<BTreeSet<MemberId>>,
    /// Of their hashes.
    tombstones_sum: u128,
}

/// What a registration came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Registered {
    /// This run's incarnation; the same again if it asks twice.
    As(Incarnation),
    /// The member's last incarnation is not the one that the run knows.
    Superseded(Option<Incarnation>),
    /// The id has a tombstone.
    Removed,
    /// There are as many members as may be.
    Full,
    /// Its build does not read the cluster's format, this one.
    Format(u16),
}

impl Member {
    pub(crate) fn encode(&self, to: &mut Writer) {
        to.varint(self.incarnation.0);
        to.bool(self.live);
        to.u64(self.nonce.0);
        self.info.encode(to);
    }

    pub(crate) fn decode(from: &mut Reader<'_>) -> Result<Self, codec::Error> {
        Ok(Self {
            incarnation: entry::incarnation(from, "incarnation of a member")?,
            live: from.bool("liveness")?,
            nonce: BootNonce(from.u64("boot nonce")?),
            info: MemberInfo::decode(from)?,
        })
    }
}

impl Members {
    pub fn get(&self, member: MemberId) -> Option<&Member> {
        self.rows.get(&member)
    }

    pub fn iter(&self) -> impl Iterator<Item = (MemberId, &Member)> {
        self.rows.iter().map(|(id, member)| (*id, member))
    }

    pub fn is_removed(&self, member: MemberId) -> bool {
        self.tombstones.contains(&member)
    }

    pub fn tombstones(&self) -> impl Iterator<Item = MemberId> {
        self.tombstones.iter().copied()
    }

    /// What a registration in the entry `at` comes to, before anything is changed.
    /// The limit of members, and the cluster format.
    pub(crate) fn judge(
        &self,
        asked: &Registration,
        at: Incarnation,
        (limit, format): (usize, u16),
    ) -> Registered {
        if self.is_removed(asked.member) {
            return Registered::Removed;
        }
        let (lowest, highest) = asked.info.formats;
        if !(lowest..=highest).contains(&format) {
            return Registered::Format(format);
        }
        let row = self.rows.get(&asked.member);
        let latest = row.map(|row| row.incarnation);
        match row {
            Some(row) if row.live && row.nonce == asked.nonce => Registered::As(row.incarnation),
            _ if latest != asked.latest => Registered::Superseded(latest),
            None if self.rows.len() >= limit => Registered::Full,
            _ => Registered::As(at),
        }
    }

    pub(crate) fn put(&mut self, id: MemberId, member: Member) -> bool {
        !self.is_removed(id) && self.rows.insert(id, member).is_none()
    }

    pub(crate) fn replace(&mut self, id: MemberId, member: Member) {
        self.rows.insert(id, member);
    }

    pub(crate) fn died(&mut self, member: MemberId) {
        if let Some(row) = self.rows.get_mut(&member) {
            row.live = false;
        }
    }

    /// `false` if it was removed before.
    pub(crate) fn remove(&mut self, member: MemberId) -> bool {
        self.rows.remove(&member);
        let new = Arc::make_mut(&mut self.tombstones).insert(member);
        if new {
            let hash = Item::new(b't').number(member.0).hash();
            self.tombstones_sum = self.tombstones_sum.wrapping_add(hash);
        }
        new
    }

    /// What they add to the state hash.
    pub(crate) fn hash(&self) -> u128 {
        let rows = self.rows.iter().map(|(id, member)| {
            let mut bytes = Writer::new(usize::MAX);
            member.encode(&mut bytes);
            let bytes = bytes.finish("member").expect("no limit");
            Item::new(b'm').number(id.0).bytes(&bytes).hash()
        });
        rows.fold(self.tombstones_sum, u128::wrapping_add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_knows_each_tombstone_once_in_any_order() {
        let (mut rising, mut falling) = (Members::default(), Members::default());
        let mut seen = BTreeSet::from([rising.hash()]);
        for id in 1..=40 {
            assert!(rising.remove(MemberId(id)));
            assert!(seen.insert(rising.hash()), "tombstone {id} changes nothing");
            assert!(!rising.remove(MemberId(id)), "it has one");
            assert!(falling.remove(MemberId(41 - id)));
        }
        assert!(rising == falling);
        let items = (1..=40).map(|id| Item::new(b't').number(id).hash());
        assert_eq!(rising.hash(), items.fold(0, u128::wrapping_add));
        assert_eq!(rising.hash(), falling.hash());
    }
}
