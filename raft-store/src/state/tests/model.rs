//! The state as plainly as it can be said: ordered maps, nothing shared, nothing counted ahead.

use super::*;
use crate::state::record::Record;

#[derive(Clone)]
struct Row {
    value: Bytes,
    revision: Revision,
    owner: Option<Incarnation>,
}

pub(super) struct Model {
    limits: Limits,
    rows: BTreeMap<Bytes, Row>,
    revision: u64,
    /// Live runs: member, floor, results.
    live: BTreeMap<Incarnation, (MemberId, u64, BTreeMap<u64, Outcome>)>,
    /// Last run and nonce of each member, and the highest format it reads.
    members: BTreeMap<MemberId, (Incarnation, BootNonce, u16)>,
    format: u16,
    removed: Vec<MemberId>,
}

impl Model {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            rows: BTreeMap::new(),
            revision: 0,
            live: BTreeMap::new(),
            members: BTreeMap::new(),
            format: 1,
            removed: Vec::new(),
        }
    }

    fn next(&mut self) -> Revision {
        self.revision += 1;
        Revision(self.revision)
    }

    pub(super) fn apply(&mut self, index: u64, body: &EntryBody) -> Applied {
        let mut events = Vec::new();
        let mut answers = Vec::new();
        for proposal in &body.proposals {
            let fate = self.propose(proposal, &mut events);
            let id = proposal.id;
            answers.push(Answer { id, fate });
        }
        let closed = body
            .close
            .as_ref()
            .map(|close| self.close(index, close, &mut events));
        Applied {
            answers,
            closed,
            events,
        }
    }

    fn propose(&mut self, proposal: &Proposal, events: &mut Vec<Event>) -> Fate {
        let run = proposal.id.incarnation;
        let sequence = proposal.id.sequence;
        let Some((_, floor, results)) = self.live.get_mut(&run) else {
            return Fate::Dead;
        };
        *floor = (*floor).max(proposal.lowest_unanswered);
        results.retain(|at, _| at >= floor);
        if sequence < *floor {
            return Fate::Stale;
        }
        if let Some(outcome) = results.get(&sequence) {
            return Fate::Known(outcome.clone());
        }
        let outcome = match &proposal.op {
            Op::Nop => Outcome::Nop,
            Op::Write(write) => Outcome::Write(self.write(write, events)),
            Op::Batch(writes) => {
                let bytes: usize = writes.iter().map(Write::payload_bytes).sum();
                if writes.len() > self.limits.batch_writes || bytes > self.limits.batch_bytes {
                    Outcome::TooLarge
                } else {
                    Outcome::Batch(writes.iter().map(|w| self.write(w, events)).collect())
                }
            }
        };
        let (_, floor, results) = self.live.get_mut(&run).expect("live");
        results.insert(sequence, outcome.clone());
        let window = self.limits.window_results as u64;
        *floor = (*floor).max((sequence + 1).saturating_sub(window));
        results.retain(|at, _| at >= floor);
        let writes = |outcome: &Outcome| match outcome {
            Outcome::Batch(outcomes) => outcomes.len(),
            Outcome::Write(_) => 1,
            Outcome::Nop | Outcome::TooLarge => 0,
        };
        while results.values().map(writes).sum::<usize>() > self.limits.window_writes {
            results.remove(floor);
            *floor += 1;
        }
        Fate::Known(outcome)
    }

    fn bytes(&self) -> u64 {
        let row = |(key, row): (&Bytes, &Row)| key.len() + row.value.len() + 72;
        self.rows.iter().map(row).sum::<usize>() as u64
    }

    fn write(&mut self, write: &Write, events: &mut Vec<Event>) -> WriteOutcome {
        use WriteOutcome::{Conflict, Refused, Written};
        let key = write.key.clone();
        if key.is_empty() || key.len() > self.limits.key_bytes {
            return Refused(WriteRefusal::KeyBytes);
        }
        let is = self.rows.get(&key).map(|row| row.revision);
        match write.expect {
            Expect::Absent if is.is_some() => return Conflict(is),
            Expect::Revision(expected) if is != Some(expected) => return Conflict(is),
            _ => {}
        }
        let Action::Put { value, owner } = &write.action else {
            if self.rows.remove(&key).is_none() {
                return Written(Revision(self.revision));
            }
            let revision = self.next();
            events.push(Event::Removed { key, revision });
            return Written(revision);
        };
        if value.len() > self.limits.value_bytes {
            return Refused(WriteRefusal::ValueBytes);
        }
        if owner.is_some_and(|owner| !self.live.contains_key(&owner)) {
            return Refused(WriteRefusal::OwnerDead);
        }
        let before = self.bytes();
        let row = Row {
            value: value.clone(),
            revision: Revision(self.revision + 1),
            owner: *owner,
        };
        let old = self.rows.insert(key.clone(), row);
        if self.bytes() > before.max(self.limits.store_bytes) {
            match old {
                Some(old) => self.rows.insert(key, old),
                None => self.rows.remove(&key),
            };
            return Refused(WriteRefusal::StoreBytes);
        }
        let revision = self.next();
        events.push(Event::Put(Record::new(&key, value, revision, *owner)));
        Written(revision)
    }

    fn die(&mut self, owner: Incarnation, events: &mut Vec<Event>) -> bool {
        let was = self.live.remove(&owner).is_some();
        if was {
            let revision = self.next();
            events.push(Event::Orphaned { owner, revision });
        }
        was
    }

    fn close(&mut self, index: u64, close: &Close, events: &mut Vec<Event>) -> Closed {
        match close {
            Close::Register(asked) => Closed::Registered {
                member: asked.member,
                outcome: self.register(index, asked, events),
            },
            Close::Dead(run) => Closed::Dead(self.die(*run, events)),
            Close::CleanUp(run) if self.live.contains_key(run) => Closed::CleanedUp {
                removed: 0,
                left: 0,
            },
            Close::CleanUp(run) => {
                let owned = self.rows.iter().filter(|(_, row)| row.owner == Some(*run));
                let owned: Vec<_> = owned.map(|(key, _)| key.clone()).collect();
                let removed = owned.len().min(self.limits.clean_up_keys);
                for key in &owned[..removed] {
                    self.rows.remove(key);
                    let (key, revision) = (key.clone(), self.next());
                    events.push(Event::Removed { key, revision });
                }
                let left = (owned.len() - removed) as u64;
                Closed::CleanedUp { removed, left }
            }
            Close::Remove(member) => {
                if let Some((run, ..)) = self.members.remove(member) {
                    self.die(run, events);
                }
                let new = !self.removed.contains(member);
                self.removed.push(*member);
                Closed::Removed(new)
            }
            Close::Format(format) => {
                if self.members.values().all(|(.., reads)| reads >= format) {
                    self.format = self.format.max(*format);
                }
                Closed::Format(self.format)
            }
        }
    }

    fn register(
        &mut self,
        index: u64,
        asked: &Registration,
        events: &mut Vec<Event>,
    ) -> Registered {
        if self.removed.contains(&asked.member) {
            return Registered::Removed;
        }
        if asked.info.formats.1 < self.format {
            return Registered::Format(self.format);
        }
        let row = self.members.get(&asked.member).copied();
        let latest = row.map(|(run, ..)| run);
        if let Some((run, nonce, _)) = row
            && nonce == asked.nonce
            && self.live.contains_key(&run)
        {
            return Registered::As(run);
        }
        if latest != asked.latest {
            return Registered::Superseded(latest);
        }
        if row.is_none() && self.members.len() == self.limits.members {
            return Registered::Full;
        }
        if let Some(run) = latest {
            self.die(run, events);
        }
        let run = Incarnation(index);
        let row = (run, asked.nonce, asked.info.formats.1);
        self.members.insert(asked.member, row);
        self.live.insert(run, (asked.member, 1, BTreeMap::new()));
        Registered::As(run)
    }

    pub(super) fn assert_same(&self, state: &State) {
        assert_eq!(state.revision(), Revision(self.revision));
        assert_eq!(state.store_bytes(), self.bytes());
        let items = state.scan(b"", None, usize::MAX);
        assert_eq!(items.len(), self.rows.len());
        for (item, (key, row)) in items.iter().zip(&self.rows) {
            let expected = Versioned {
                value: row.value.clone(),
                revision: row.revision,
                owner: row.owner,
                orphaned: row
                    .owner
                    .is_some_and(|owner| !self.live.contains_key(&owner)),
            };
            assert_eq!((&item.key, &item.versioned), (key, &expected));
        }
        let live: Vec<_> = state.windows().map(|(run, _)| run).collect();
        assert!(live.iter().eq(self.live.keys()));
        for (run, (member, floor, results)) in &self.live {
            let window = state.window(*run).expect("live");
            assert_eq!((window.member(), window.floor()), (*member, *floor));
            assert!(
                window
                    .results()
                    .eq(results.iter().map(|(at, outcome)| (*at, outcome)))
            );
        }
    }
}

/// What the random entries brought about: a model that is never put to the test shows nothing.
#[derive(Default)]
pub(super) struct Seen(BTreeMap<&'static str, u32>);

impl Seen {
    pub(super) fn note(&mut self, applied: &Applied) {
        use WriteOutcome::{Conflict, Refused, Written};
        let write = |outcome: &WriteOutcome| match outcome {
            Written(_) => "written",
            Conflict(None) => "conflict with nothing",
            Conflict(Some(_)) => "conflict",
            Refused(WriteRefusal::KeyBytes) => "key",
            Refused(WriteRefusal::ValueBytes) => "value",
            Refused(WriteRefusal::StoreBytes) => "store",
            Refused(WriteRefusal::OwnerDead) => "owner",
        };
        let mut seen = Vec::new();
        for answer in &applied.answers {
            match &answer.fate {
                Fate::Dead => seen.push("dead"),
                Fate::Stale => seen.push("stale"),
                Fate::Known(Outcome::Nop) => seen.push("nop"),
                Fate::Known(Outcome::TooLarge) => seen.push("too large"),
                Fate::Known(Outcome::Write(outcome)) => seen.push(write(outcome)),
                Fate::Known(Outcome::Batch(outcomes)) => seen.extend(outcomes.iter().map(write)),
            }
        }
        seen.extend(applied.closed.map(|closed| match closed {
            Closed::Registered { outcome, .. } => match outcome {
                Registered::As(_) => "registered",
                Registered::Superseded(_) => "superseded",
                Registered::Removed => "refused as removed",
                Registered::Full => "full",
                Registered::Format(_) => "refused by its formats",
            },
            Closed::Dead(true) => "died",
            Closed::Dead(false) => "died twice",
            Closed::CleanedUp {
                left: 0,
                removed: 1..,
            } => "cleaned up",
            Closed::CleanedUp { removed: 1.., .. } => "cleaned up in part",
            Closed::CleanedUp { .. } => "nothing to clean up",
            Closed::Removed(_) => "removed",
            Closed::Format(1) => "format",
            Closed::Format(_) => "format raised",
        }));
        for what in seen {
            *self.0.entry(what).or_default() += 1;
        }
    }

    pub(super) fn assert_all(&self) {
        assert_eq!(self.0.len(), 24, "not all came to pass: {:?}", self.0);
    }
}
