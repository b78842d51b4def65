//! Applying an entry: the proposals in order, then the command that closes it.

use super::map::Map;
use super::members::{Member, Registered};
use super::record::Record;
use super::window::{Known, Outcome, Window, WriteOutcome, WriteRefusal};
use super::{Error, State};
use crate::entry::{Action, Close, EntryBody, Expect, Op, Proposal, Registration, Write};
use crate::ids::{Incarnation, MemberId, ProposalId, Revision};
use crate::limits::RECORD_OVERHEAD_BYTES;
use bytes::Bytes;
use std::sync::Arc;

/// What came of an entry.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Applied {
    /// One for each proposal, in their order.
    pub answers: Vec<Answer>,
    /// Of the closing command.
    pub closed: Option<Closed>,
    /// Each with the revision after the one before.
    pub events: Vec<Event>,
}

/// What came of a proposal.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    pub id: ProposalId,
    pub fate: Fate,
}

/// Whether a proposal has been applied, now or before.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fate {
    /// Now, or earlier under the same id.
    Known(Outcome),
    /// Below the window; not applied now.
    Stale,
    /// Its incarnation is dead or was never registered; never applied.
    Dead,
}

/// What came of a closing command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Closed {
    Registered {
        member: MemberId,
        outcome: Registered,
    },
    /// Whether it was live.
    Dead(bool),
    /// Keys removed, and keys left.
    CleanedUp { removed: usize, left: u64 },
    /// Whether it had not been removed before.
    Removed(bool),
    /// The cluster format now: not raised if a member does not read the new one.
    Format(u16),
}

/// One revision.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    Put(Record),
    Removed {
        key: Bytes,
        revision: Revision,
    },
    /// All keys of `owner` read as orphaned from here on.
    Orphaned {
        owner: Incarnation,
        revision: Revision,
    },
}

impl Event {
    pub fn revision(&self) -> Revision {
        match self {
            Self::Put(record) => record.revision(),
            Self::Removed { revision, .. } | Self::Orphaned { revision, .. } => *revision,
        }
    }

    /// `None` for the death of an owner, which concerns all keys.
    pub fn key(&self) -> Option<&[u8]> {
        match self {
            Self::Put(record) => Some(record.key()),
            Self::Removed { key, .. } => Some(key),
            Self::Orphaned { .. } => None,
        }
    }
}

/// Bytes charged for all records.
pub(super) fn store_bytes(map: &Map) -> u64 {
    map.payload_bytes() + (map.len() * RECORD_OVERHEAD_BYTES) as u64
}

impl State {
    /// Notes an entry that says nothing to the state (a leader's first, a membership).
    pub fn pass(&mut self, index: u64) -> Result<(), Error> {
        let applied = self.applied;
        // The entry that founds a cluster has index 0.
        if index <= applied && !(index == 0 && applied == 0) {
            return Err(Error::Order { index, applied });
        }
        self.applied = index;
        Ok(())
    }

    /// Applies the entry at `index`. After an error the state must not be used.
    pub fn apply(&mut self, index: u64, body: &EntryBody) -> Result<Applied, Error> {
        self.pass(index)?;
        let mut events = Vec::new();
        let propose = |proposal| self.propose(proposal, &mut events);
        let answers = body.proposals.iter().map(propose).collect();
        let closed = match &body.close {
            Some(close) => Some(self.close(index, close, &mut events)?),
            None => None,
        };
        Ok(Applied {
            answers,
            closed,
            events,
        })
    }

    fn propose(&mut self, proposal: &Proposal, events: &mut Vec<Event>) -> Answer {
        let id = proposal.id;
        let fate = self.fate(proposal, events);
        Answer { id, fate }
    }

    fn fate(&mut self, proposal: &Proposal, events: &mut Vec<Event>) -> Fate {
        let ProposalId {
            incarnation,
            sequence,
        } = proposal.id;
        let Some(window) = self.windows.get_mut(&incarnation) else {
            return Fate::Dead;
        };
        let window = Arc::make_mut(window);
        window.raise(incarnation, proposal.lowest_unanswered);
        match window.known(sequence) {
            Known::Stored(outcome) => return Fate::Known(outcome.clone()),
            Known::Stale => return Fate::Stale,
            Known::New => {}
        }
        let outcome = self.operate(&proposal.op, events);
        let window = self.windows.get_mut(&incarnation);
        let window = Arc::make_mut(window.expect("no proposal ends an incarnation"));
        window.keep(incarnation, sequence, outcome.clone(), &self.limits);
        Fate::Known(outcome)
    }

    fn operate(&mut self, op: &Op, events: &mut Vec<Event>) -> Outcome {
        match op {
            Op::Nop => Outcome::Nop,
            Op::Write(write) => Outcome::Write(self.write(write, events)),
            Op::Batch(writes) => {
                let bytes: usize = writes.iter().map(Write::payload_bytes).sum();
                if writes.len() > self.limits.batch_writes || bytes > self.limits.batch_bytes {
                    return Outcome::TooLarge;
                }
                Outcome::Batch(writes.iter().map(|w| self.write(w, events)).collect())
            }
        }
    }

    fn write(&mut self, write: &Write, events: &mut Vec<Event>) -> WriteOutcome {
        let key = &write.key;
        if key.is_empty() || key.len() > self.limits.key_bytes {
            return WriteOutcome::Refused(WriteRefusal::KeyBytes);
        }
        let is = self.map.get(key);
        let revision = is.map(Record::revision);
        let holds = match write.expect {
            Expect::Any => true,
            Expect::Absent => revision.is_none(),
            Expect::Revision(expected) => revision == Some(expected),
        };
        if !holds {
            return WriteOutcome::Conflict(revision);
        }
        match &write.action {
            Action::Delete if is.is_none() => WriteOutcome::Written(self.revision),
            Action::Delete => {
                events.push(self.remove(key));
                WriteOutcome::Written(self.revision)
            }
            Action::Put { value, owner } => {
                let replaced = is.map_or(0, |is| is.payload_bytes() + RECORD_OVERHEAD_BYTES);
                if let Some(refusal) = self.refuses(write, *owner, replaced) {
                    return WriteOutcome::Refused(refusal);
                }
                let record = Record::new(key, value, self.next_revision(), *owner);
                let old = self.map.put(record.clone());
                self.owners.gained(*owner);
                self.owners.lost(old.and_then(|old| old.owner()));
                events.push(Event::Put(record));
                WriteOutcome::Written(self.revision)
            }
        }
    }

    /// What a put must not exceed; one that makes the store no larger always may.
    fn refuses(
        &self,
        write: &Write,
        owner: Option<Incarnation>,
        replaced: usize,
    ) -> Option<WriteRefusal> {
        let payload = write.payload_bytes();
        if payload - write.key.len() > self.limits.value_bytes {
            return Some(WriteRefusal::ValueBytes);
        }
        if owner.is_some_and(|owner| !self.windows.contains_key(&owner)) {
            return Some(WriteRefusal::OwnerDead);
        }
        let added = payload + RECORD_OVERHEAD_BYTES;
        let after = store_bytes(&self.map) + added as u64 - replaced as u64;
        let over = added > replaced && after > self.limits.store_bytes;
        over.then_some(WriteRefusal::StoreBytes)
    }

    fn next_revision(&mut self) -> Revision {
        self.revision.0 += 1;
        self.revision
    }

    /// Removes a key that is there.
    fn remove(&mut self, key: &[u8]) -> Event {
        let old = self.map.remove(key).expect("the key was just found");
        self.owners.lost(old.owner());
        let revision = self.next_revision();
        let key = Bytes::copy_from_slice(key);
        Event::Removed { key, revision }
    }

    fn close(
        &mut self,
        index: u64,
        close: &Close,
        events: &mut Vec<Event>,
    ) -> Result<Closed, Error> {
        Ok(match close {
            Close::Register(asked) => self.register(index, asked, events)?,
            Close::Dead(incarnation) => Closed::Dead(self.die(*incarnation, events)),
            Close::CleanUp(incarnation) => self.clean_up(*incarnation, events),
            Close::Remove(member) => {
                let row = self.members.get(*member);
                if let Some(incarnation) = row.map(|row| row.incarnation) {
                    self.die(incarnation, events);
                }
                Closed::Removed(Arc::make_mut(&mut self.members).remove(*member))
            }
            Close::Format(format) => self.raise(*format)?,
        })
    }

    /// Raises the cluster format if all members read the new one: whoever registered in the meantime counts as well.
    fn raise(&mut self, format: u16) -> Result<Closed, Error> {
        let read = self.members.iter();
        let read = read.map(|(_, member)| member.info.formats);
        if format > self.cluster_format && read.into_iter().all(|formats| formats.1 >= format) {
            if format > self.limits.format_known {
                return Err(Error::Format {
                    found: format,
                    known: self.limits.format_known,
                });
            }
            self.cluster_format = format;
        }
        Ok(Closed::Format(self.cluster_format))
    }

    fn register(
        &mut self,
        index: u64,
        asked: &Registration,
        events: &mut Vec<Event>,
    ) -> Result<Closed, Error> {
        if index == 0 || index > Incarnation::CEILING {
            return Err(Error::Index { index });
        }
        let (incarnation, member) = (Incarnation(index), asked.member);
        let limits = (self.limits.members, self.cluster_format);
        let outcome = self.members.judge(asked, incarnation, limits);
        if outcome == Registered::As(incarnation) {
            // The run before ended, or this one would not be: one data directory, one process.
            if let Some(latest) = asked.latest {
                self.die(latest, events);
            }
            let row = Member {
                incarnation,
                live: true,
                nonce: asked.nonce,
                info: asked.info.clone(),
            };
            Arc::make_mut(&mut self.members).replace(member, row);
            let window = Arc::new(Window::new(member, 1));
            self.windows.insert(incarnation, window);
        }
        Ok(Closed::Registered { member, outcome })
    }

    /// Ends an incarnation if it is live: one event, however many keys it owns.
    fn die(&mut self, owner: Incarnation, events: &mut Vec<Event>) -> bool {
        let Some(window) = self.windows.remove(&owner) else {
            return false;
        };
        Arc::make_mut(&mut self.members).died(window.member());
        self.owners.died(owner);
        let revision = self.next_revision();
        events.push(Event::Orphaned { owner, revision });
        true
    }

    fn clean_up(&mut self, owner: Incarnation, events: &mut Vec<Event>) -> Closed {
        let Some(upto) = self.owners.removed_upto(owner) else {
            return Closed::CleanedUp {
                removed: 0,
                left: 0,
            };
        };
        let limit = self.limits.clean_up_keys;
        let records = self.map.owned_after(owner, upto, limit);
        for record in &records {
            events.push(self.remove(record.key()));
        }
        if let Some(last) = records.last() {
            self.owners.remove_upto(owner, last.key());
        }
        Closed::CleanedUp {
            removed: records.len(),
            left: self.owners.keys(owner),
        }
    }
}
