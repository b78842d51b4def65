//! Who else runs: told from the rows of the state, so in the order of the entries, and the same on all members.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::ids::{Incarnation, MemberId};
use crate::raft::machine::Machine;
use crate::state::Members;

/// What is told of another member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    /// A run of it is registered.
    Up {
        member: MemberId,
        incarnation: Incarnation,
        /// Where it can be reached, as it says.
        addresses: Vec<String>,
    },
    /// That run is dead, by its lease, by a later run, or by the member's removal.
    Gone {
        member: MemberId,
        incarnation: Incarnation,
    },
}

/// Tells of all other members, beginning with those that are up.
pub struct PeerWatch {
    machine: Machine,
    own: MemberId,
    seen: Arc<Members>,
    up: BTreeMap<MemberId, Incarnation>,
    waiting: VecDeque<Peer>,
}

impl PeerWatch {
    pub(crate) fn new(machine: Machine, own: MemberId) -> Self {
        Self {
            machine,
            own,
            seen: Arc::default(),
            up: BTreeMap::new(),
            waiting: VecDeque::new(),
        }
    }

    /// The next one; `None` when the store has ended. Runs that came and went between two calls are not told. Nothing
    /// is lost when the future is dropped.
    pub async fn next(&mut self) -> Option<Peer> {
        while self.waiting.is_empty() {
            self.seen = self.machine.wait_members(&self.seen).await?;
            let told = changes(&mut self.up, &self.seen, self.own);
            self.waiting.extend(told);
        }
        self.waiting.pop_front()
    }
}

/// From who was up to who is, as the rows say: who is gone first.
fn changes(up: &mut BTreeMap<MemberId, Incarnation>, rows: &Members, own: MemberId) -> Vec<Peer> {
    let live = |member: MemberId| rows.get(member).filter(|row| row.live);
    let mut told = Vec::new();
    up.retain(|&member, &mut incarnation| {
        let same = live(member).is_some_and(|row| row.incarnation == incarnation);
        if !same {
            told.push(Peer::Gone {
                member,
                incarnation,
            });
        }
        same
    });
    for (member, row) in rows.iter().filter(|(id, row)| *id != own && row.live) {
        if up.insert(member, row.incarnation).is_none() {
            told.push(Peer::Up {
                member,
                incarnation: row.incarnation,
                addresses: row.info.addresses.clone(),
            });
        }
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::{Close, EntryBody, MemberInfo, Registration};
    use crate::ids::BootNonce;
    use crate::limits::Limits;
    use crate::state::State;

    const OWN: MemberId = MemberId(1);
    const OTHER: MemberId = MemberId(2);

    fn register(member: MemberId, latest: Option<u64>, nonce: u64) -> Close {
        Close::Register(Registration {
            member,
            nonce: BootNonce(nonce),
            latest: latest.map(Incarnation),
            info: MemberInfo {
                addresses: vec![format!("host-{nonce}:7")],
                ..MemberInfo::default()
            },
        })
    }

    #[test]
    fn runs_come_and_go() {
        let mut state = State::new(Limits::format_1());
        let mut up = BTreeMap::new();
        let mut index = 0;
        let mut told = |close| {
            index += 1;
            let body = EntryBody {
                proposals: Vec::new(),
                close: Some(close),
            };
            state.apply(index, &body).expect("it is next");
            changes(&mut up, state.members(), OWN)
        };
        let up = |incarnation, nonce| Peer::Up {
            member: OTHER,
            incarnation: Incarnation(incarnation),
            addresses: vec![format!("host-{nonce}:7")],
        };
        let gone = |incarnation| Peer::Gone {
            member: OTHER,
            incarnation: Incarnation(incarnation),
        };
        assert_eq!(told(register(OWN, None, 8)), []);
        assert_eq!(told(register(OTHER, None, 9)), [up(2, 9)]);
        assert_eq!(told(register(OTHER, Some(2), 10)), [gone(2), up(3, 10)]);
        assert_eq!(told(Close::Dead(Incarnation(3))), [gone(3)]);
        assert_eq!(told(Close::Dead(Incarnation(3))), []);
        assert_eq!(told(register(OTHER, Some(3), 11)), [up(6, 11)]);
        assert_eq!(told(Close::Remove(OTHER)), [gone(6)]);
    }
}
