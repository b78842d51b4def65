//! Taking a state apart for a snapshot and putting it together again, with all that can be checked checked.

use super::State;
use super::members::Member;
use super::record::Record;
use super::window::{Outcome, Window};
use crate::ids::{Incarnation, MemberId, Revision};
use crate::limits::Limits;
use std::sync::Arc;

/// The numbers of a state, against which what was read is checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Head {
    pub revision: Revision,
    pub applied: u64,
    pub cluster_format: u16,
    pub records: u64,
    pub hash: u128,
}

/// A state growing from a snapshot. Each part says what is wrong with it.
pub(crate) struct Restore {
    state: State,
    head: Head,
}

type Checked = Result<(), &'static str>;

fn check(holds: bool, otherwise: &'static str) -> Checked {
    if holds { Ok(()) } else { Err(otherwise) }
}

impl State {
    pub(crate) fn head(&self) -> Head {
        Head {
            revision: self.revision,
            applied: self.applied,
            cluster_format: self.cluster_format,
            records: self.map.len() as u64,
            hash: self.hash(),
        }
    }

    /// Live incarnations with their windows.
    pub(crate) fn windows(&self) -> impl Iterator<Item = (Incarnation, &Window)> {
        self.windows.iter().map(|(id, window)| (*id, &**window))
    }

    /// Dead owners that still have keys, each with the key up to which they are removed.
    pub(crate) fn orphans(&self) -> impl Iterator<Item = (Incarnation, &[u8])> {
        self.owners.orphans()
    }
}

impl State {
    /// Goes on so much later: what others may have counted since, and is lost, is never counted again.
    pub(crate) fn leap(&mut self, by: u64) {
        self.applied += by;
        self.revision.0 += by;
    }
}

impl Restore {
    /// The cluster format of `head` must be one that is known.
    pub(crate) fn new(head: Head, limits: Limits) -> Self {
        let mut state = State::new(limits);
        state.revision = head.revision;
        state.applied = head.applied;
        state.cluster_format = head.cluster_format;
        Self { state, head }
    }

    pub(crate) fn member(&mut self, id: MemberId, member: Member) -> Checked {
        let new = Arc::make_mut(&mut self.state.members).put(id, member);
        check(new, "a member twice, or removed")
    }

    pub(crate) fn tombstone(&mut self, id: MemberId) -> Checked {
        check(self.state.members.get(id).is_none(), "a removed member")?;
        let new = Arc::make_mut(&mut self.state.members).remove(id);
        check(new, "a tombstone twice")
    }

    pub(crate) fn window(
        &mut self,
        incarnation: Incarnation,
        member: MemberId,
        floor: u64,
    ) -> Checked {
        let row = self.state.members.get(member);
        let live = row.is_some_and(|row| row.live && row.incarnation == incarnation);
        check(live, "a window of no live incarnation")?;
        let window = Arc::new(Window::new(member, floor));
        let twice = self.state.windows.insert(incarnation, window).is_some();
        check(!twice, "a window twice")
    }

    /// A result of the window of `incarnation`, which came before.
    pub(crate) fn result(
        &mut self,
        incarnation: Incarnation,
        sequence: u64,
        outcome: Outcome,
    ) -> Checked {
        let limits = &self.state.limits;
        let window = self.state.windows.get_mut(&incarnation);
        let window = Arc::make_mut(window.ok_or("a result of no window")?);
        let at = sequence.checked_sub(window.floor());
        let inside = at.is_some_and(|at| at < limits.window_results as u64);
        check(inside, "a result outside its window")?;
        check(window.result(sequence).is_none(), "a result twice")?;
        let room = limits.window_writes - window.writes();
        check(outcome.writes() <= room, "a window over its limit")?;
        window.keep(incarnation, sequence, outcome, limits);
        Ok(())
    }

    /// Neighbouring records, above all before.
    pub(crate) fn records(&mut self, records: Vec<Record>) -> Checked {
        let head = self.head;
        for record in &records {
            check(record.revision() <= head.revision, "a record of the future")?;
            let fits = record.key().len() <= self.state.limits.key_bytes;
            check(fits, "a key over its limit")?;
            self.state.owners.gained(record.owner());
        }
        check(self.state.map.append(records), "records out of order")
    }

    /// A dead owner, after all records.
    pub(crate) fn orphan(&mut self, owner: Incarnation, upto: &[u8]) -> Checked {
        let live = self.state.windows.contains_key(&owner);
        let new = !live && self.state.owners.restore_orphan(owner, upto);
        check(new, "an orphaned owner twice, alive, or without keys")
    }

    /// The state, if it is the one that `head` told of.
    pub(crate) fn finish(self) -> Result<State, &'static str> {
        let Self { state, head } = self;
        let live = state.members.iter().filter(|(_, member)| member.live);
        check(live.count() == state.windows.len(), "a missing window")?;
        let known = |owner| state.windows.contains_key(&owner) || state.owners.is_orphaned(owner);
        check(state.owners.all().all(known), "an unknown owner")?;
        check(state.head() == head, "not the state it says")?;
        Ok(state)
    }
}
