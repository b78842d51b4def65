//! Random entries as members would make them: registrations, proposals with repetitions, deaths, clean-ups, removals.

use super::test_random::Random;
use super::{Applied, State};
use crate::entry::{
    Action, Close, EntryBody, Expect, MemberInfo, Op, Proposal, Registration, Write,
};
use crate::ids::{BootNonce, Incarnation, MemberId, ProposalId, Revision};
use crate::limits::Limits;
use bytes::Bytes;

/// A state and the entries that make it.
pub(crate) struct World {
    pub(crate) random: Random,
    pub(crate) state: State,
    pub(crate) index: u64,
    /// Proposals already sent, some of which come again.
    sent: Vec<Proposal>,
    sequence: u64,
    keys: u64,
}

/// Small enough to be reached.
pub(crate) fn small_limits() -> Limits {
    Limits {
        key_bytes: 40,
        value_bytes: 60,
        batch_writes: 4,
        batch_bytes: 200,
        store_bytes: 6000,
        window_results: 8,
        window_writes: 10,
        members: 5,
        clean_up_keys: 7,
        format_known: 2,
    }
}

impl World {
    pub(crate) fn new(seed: u64, limits: Limits) -> Self {
        Self {
            random: Random::new(seed),
            state: State::new(limits),
            index: 0,
            sent: Vec::new(),
            sequence: 0,
            keys: 300,
        }
    }

    fn key(&mut self) -> Bytes {
        let number = self.random.below(self.keys);
        let name = ["one/", "two/", "session/of/somebody/"][(number % 3) as usize];
        Bytes::from(format!("{name}{number}"))
    }

    /// Mostly a run that lives or lived.
    fn run(&mut self) -> Incarnation {
        let rows: Vec<_> = self.state.members().iter().collect();
        match rows.len() as u64 {
            0 => Incarnation(1),
            _ if self.random.below(20) == 0 => Incarnation(1 + self.random.below(50)),
            count => rows[self.random.below(count) as usize].1.incarnation,
        }
    }

    fn write(&mut self) -> Write {
        let key = match self.random.below(60) {
            0 => Bytes::new(),
            1 => vec![b'k'; 41].into(),
            _ => self.key(),
        };
        let there = self.state.get(&key).map(|is| is.revision);
        let expect = match self.random.below(6) {
            0 => Expect::Absent,
            1 => Expect::Revision(Revision(self.random.below(100))),
            2 | 3 => there.map_or(Expect::Absent, Expect::Revision),
            _ => Expect::Any,
        };
        let action = match self.random.below(4) {
            0 => Action::Delete,
            _ => {
                let length = self.random.below(64) as usize;
                let owner = (self.random.below(2) == 0).then(|| self.run());
                let value = self.random.bytes(length).into();
                Action::Put { value, owner }
            }
        };
        Write {
            key,
            expect,
            action,
        }
    }

    fn proposal(&mut self) -> Proposal {
        let count = self.sent.len() as u64;
        if count > 0 && self.random.below(5) == 0 {
            let back = self.random.below(count.min(30)) + 1;
            let mut again = self.sent[(count - back) as usize].clone();
            if self.random.below(3) == 0 {
                again.op = Op::Nop;
            }
            return again;
        }
        self.sequence += 1 + self.random.below(2);
        let op = match self.random.below(6) {
            0 => Op::Nop,
            1 => Op::Batch((0..self.random.below(6)).map(|_| self.write()).collect()),
            _ => Op::Write(self.write()),
        };
        let id = ProposalId {
            incarnation: self.run(),
            sequence: self.sequence,
        };
        let lowest_unanswered = self.sequence.saturating_sub(self.random.below(12));
        let proposal = Proposal {
            id,
            lowest_unanswered,
            op,
        };
        self.sent.push(proposal.clone());
        proposal
    }

    fn registration(&mut self) -> Registration {
        let member = MemberId(1 + self.random.below(8));
        let row = self.state.members().get(member);
        let latest = row.map(|row| row.incarnation);
        let guessed = self.random.below(6) == 0;
        Registration {
            member,
            nonce: BootNonce(self.random.below(6)),
            latest: if guessed {
                Some(Incarnation(3))
            } else {
                latest
            },
            info: MemberInfo {
                addresses: vec![format!("[::1]:{}", self.random.below(9))],
                zone: String::new(),
                formats: (1, if self.random.below(9) == 0 { 1 } else { 2 }),
            },
        }
    }

    fn close(&mut self) -> Option<Close> {
        Some(match self.random.below(24) {
            0 | 1 => Close::Register(self.registration()),
            2 => Close::Dead(self.run()),
            3..=6 => {
                let orphaned = self.state.orphaned_owners().next();
                Close::CleanUp(orphaned.unwrap_or(Incarnation(2)))
            }
            7 if self.random.below(40) == 0 => Close::Remove(MemberId(1 + self.random.below(8))),
            8 => Close::Format(1 + self.random.below(2) as u16),
            _ => return None,
        })
    }

    /// The next entry and its index.
    pub(crate) fn entry(&mut self) -> (u64, EntryBody) {
        self.index += 1 + self.random.below(2);
        let count = self.random.below(5);
        let proposals = (0..count).map(|_| self.proposal()).collect();
        let close = if self.index < 6 {
            Some(Close::Register(self.registration()))
        } else {
            self.close()
        };
        (self.index, EntryBody { proposals, close })
    }

    /// Makes an entry and applies it.
    pub(crate) fn step(&mut self) -> (u64, EntryBody, Applied) {
        let (index, body) = self.entry();
        let applied = self.state.apply(index, &body).expect("entries in order");
        (index, body, applied)
    }
}
