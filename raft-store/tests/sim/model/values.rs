//! What was put and removed, event by event: what answers, reads and watches are held against.

use bytes::Bytes;
use raft_store::ids::Revision;
use raft_store::state::{Answer, Event, Fate};

use super::{Checked, Model, Number, ensure};

impl Model {
    /// A proposal comes to something once, and to nothing when its run is over.
    pub(super) fn answered(&mut self, answer: Answer) -> Checked {
        let Answer { id, fate } = answer;
        if self.dead.contains(&id.incarnation) {
            self.late += 1;
            return ensure(fate == Fate::Dead, || {
                format!("{id:?} of a run that is over came to {fate:?}")
            });
        }
        let Fate::Known(outcome) = fate else {
            return Ok(());
        };
        match self.outcomes.get(&id) {
            Some(known) => ensure(*known == outcome, || {
                format!("{id:?} came to {known:?} and to {outcome:?}")
            }),
            None => {
                self.outcomes.insert(id, outcome);
                Ok(())
            }
        }
    }

    pub(super) fn event(&mut self, event: Event) -> Checked {
        let revision = event.revision();
        let next = Revision(self.events.len() as u64 + 1);
        ensure(revision == next, || {
            format!("event {revision} where {next} comes")
        })?;
        let told = match &event {
            Event::Put(record) => {
                let (key, value) = record.parts();
                let twice = self.values.insert(value.clone(), revision);
                ensure(twice.is_none(), || {
                    format!("{value:?} was put at {twice:?} and at {revision}")
                })?;
                ensure(!self.never.contains(&value), || {
                    format!("{value:?} was to be put never, and is at {revision}")
                })?;
                Some((key, Some(value)))
            }
            Event::Removed { key, .. } => Some((key.clone(), None)),
            Event::Orphaned { owner, .. } => {
                self.dead.insert(*owner);
                self.deaths += 1;
                None
            }
        };
        if let Some((key, value)) = told {
            self.keys.entry(key).or_default().push((revision, value));
        }
        self.events.push(event);
        Ok(())
    }

    /// What was under a key at a revision.
    pub fn at(&self, key: &[u8], revision: Revision) -> Option<(Revision, Bytes)> {
        let changes = self.keys.get(key)?;
        let behind = changes.partition_point(|(at, _)| *at <= revision);
        let (at, value) = changes.get(behind.checked_sub(1)?)?;
        value.clone().map(|value| (*at, value))
    }

    /// Whether an entry ends at a revision: nobody sees a part of one.
    pub fn is_whole(&self, revision: Revision) -> bool {
        revision == Revision(0) || self.revisions.binary_search(&revision).is_ok()
    }

    /// The event of a revision.
    pub fn event_at(&self, revision: Revision) -> Option<&Event> {
        self.events.get(revision.0.checked_sub(1)? as usize)
    }

    /// A call was told that this value never was and never will be put.
    pub fn never(&mut self, value: Bytes) -> Checked {
        let put = self.values.get(&value);
        ensure(put.is_none(), || {
            format!("{value:?} was put at {put:?}; a caller was told never")
        })?;
        self.never.insert(value);
        Ok(())
    }

    /// Of the events after `from` and before `upto`, none that concerns the keys that begin with `prefix` was left out
    /// by a watch at a member: but for those that came with a snapshot.
    pub fn told_all(
        &self,
        at: Number,
        prefix: &[u8],
        (from, upto): (Revision, Revision),
    ) -> Checked {
        let between = (from.0 + 1..upto.0).map(Revision);
        let concerns = |at: &Revision| match self.event_at(*at) {
            Some(event) => event.key().is_none_or(|key| key.starts_with(prefix)),
            None => true,
        };
        let missed = between
            .filter(concerns)
            .find(|missed| !self.installed(at, *missed));
        ensure(missed.is_none(), || {
            format!("the event of {missed:?} was not told, {upto} was after {from}")
        })
    }

    /// Whether a revision came to a member's state with a snapshot, in this life of it.
    pub fn installed(&self, at: Number, revision: Revision) -> bool {
        let installs = self.members[at].installs.iter();
        let mut came = installs.map(|(from, upto)| *from < revision && revision <= *upto);
        came.any(|came| came)
    }
}
