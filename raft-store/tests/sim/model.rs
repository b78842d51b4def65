//! What the world knows that no member does: every log, what is committed, and a state of its own to which all committed
//! entries are applied. Everything a member shows is held against it at once.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use raft_store::codec::Reader;
use raft_store::entry::{Close, EntryBody};
use raft_store::ids::{Incarnation, Revision};
use raft_store::limits::Limits;
use raft_store::log::{Entry, LogId, Vote};
use raft_store::observe::Seen;
use raft_store::state::{Closed, Event, State};

/// Index in the world of a member.
pub type Number = usize;

const BLANK: u8 = 0;
const NORMAL: u8 = 1;
const MEMBERSHIP: u8 = 2;

/// Voters of each configuration, and everybody.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Membership {
    pub voters: Vec<BTreeSet<u64>>,
    pub all: BTreeSet<u64>,
}

struct Known {
    body: Bytes,
    previous: Option<LogId>,
}

/// One member's log, as it has shown it.
#[derive(Default)]
struct Member {
    id: u64,
    log: BTreeMap<u64, LogId>,
    purged: Option<LogId>,
    vote: Option<Vote>,
    committed: Option<u64>,
    applied: Option<u64>,
    /// The term that it leads, or last led in this life.
    leads: Option<u64>,
}

/// See the module's documentation.
pub struct Model {
    members: Vec<Member>,
    entries: BTreeMap<LogId, Known>,
    pub committed: BTreeMap<u64, LogId>,
    /// Terms won, by whom.
    reigns: BTreeSet<(u64, u64)>,
    state: State,
    /// State hashes by index.
    hashes: Vec<u128>,
    pub memberships: Vec<(u64, Membership)>,
    /// Of each revision, from the first on.
    events: Vec<Event>,
    /// Revisions of each key, and what was put, `None` for a removal.
    pub keys: BTreeMap<Bytes, Vec<(Revision, Option<Bytes>)>>,
    /// Revisions that put each value; the world never uses one twice.
    pub values: BTreeMap<Bytes, Revision>,
    /// Values of calls that were told they never will be applied.
    pub never: BTreeSet<Bytes>,
    /// The highest term that anybody has shown.
    pub term: u64,
    /// Elections won.
    pub elections: u64,
    /// Declared dead since the world last asked.
    pub died: Vec<Incarnation>,
    pub deaths: u64,
    pub installs: u64,
    pub truncations: u64,
    pub purges: u64,
}

type Checked = Result<(), String>;

fn ensure(holds: bool, what: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { Err(what()) }
}

impl Model {
    pub fn new(limits: Limits) -> Self {
        Self {
            members: Vec::new(),
            entries: BTreeMap::new(),
            committed: BTreeMap::new(),
            reigns: BTreeSet::new(),
            state: State::new(limits),
            hashes: Vec::new(),
            memberships: Vec::new(),
            events: Vec::new(),
            keys: BTreeMap::new(),
            values: BTreeMap::new(),
            never: BTreeSet::new(),
            term: 0,
            elections: 0,
            died: Vec::new(),
            deaths: 0,
            installs: 0,
            truncations: 0,
            purges: 0,
        }
    }

    /// Another member has its place.
    pub fn replace(&mut self, number: Number, id: u64) {
        self.members[number] = Member {
            id,
            ..Member::default()
        };
    }

    /// The members of the newest committed membership by number: voters, and all others.
    pub fn composition(&self) -> (Vec<BTreeSet<Number>>, BTreeSet<Number>) {
        let Some((_, membership)) = self.memberships.last() else {
            return Default::default();
        };
        let number = |id: &u64| self.members.iter().position(|member| member.id == *id);
        let numbers = |ids: &BTreeSet<u64>| ids.iter().filter_map(number).collect();
        let voters: Vec<BTreeSet<Number>> = membership.voters.iter().map(numbers).collect();
        let mut others: BTreeSet<Number> = numbers(&membership.all);
        others.retain(|other| !voters.iter().any(|voters| voters.contains(other)));
        (voters, others)
    }

    pub fn add(&mut self, id: u64) -> Number {
        self.members.push(Member {
            id,
            ..Member::default()
        });
        self.members.len() - 1
    }

    /// The state behind the last entry that is known to be committed.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// `Err`: what must never happen.
    pub fn seen(&mut self, by: Number, what: &Seen<'_>) -> Checked {
        match what {
            Seen::Opened {
                vote,
                purged,
                entries,
                applied,
                hash,
            } => {
                self.opened(by, *vote, *purged, entries)?;
                self.members[by].applied = applied.map(|id| id.index);
                match applied {
                    Some(id) => self.same_hash(by, *id, *hash),
                    None => Ok(()),
                }
            }
            Seen::Appended(entries) => entries.iter().try_for_each(|entry| self.append(by, entry)),
            Seen::Truncated { since } => self.truncated(by, *since),
            Seen::Purged(upto) => self.purged(by, *upto),
            Seen::Voted(vote) => self.voted(by, *vote),
            Seen::Committed(id) => self.commit(by, *id),
            Seen::Applied { id, hash } => {
                let next = self.members[by].applied.map_or(0, |index| index + 1);
                ensure(id.index == next, || {
                    format!("applied {} of {next}", id.index)
                })?;
                self.members[by].applied = Some(id.index);
                self.same_hash(by, *id, *hash)
            }
            Seen::Installed { id, hash } => {
                self.installs += 1;
                let before = self.members[by].applied;
                ensure(before < Some(id.index), || {
                    format!("a snapshot of {} installed over {before:?}", id.index)
                })?;
                self.members[by].applied = Some(id.index);
                self.same_hash(by, *id, *hash)
            }
        }
    }

    fn opened(
        &mut self,
        by: Number,
        vote: Option<Vote>,
        purged: Option<LogId>,
        entries: &[Entry],
    ) -> Checked {
        let member = &mut self.members[by];
        ensure(vote >= member.vote, || {
            format!("it came back with {vote:?} after {:?}", member.vote)
        })?;
        member.vote = vote;
        member.log.clear();
        member.purged = purged;
        member.committed = None;
        member.leads = None;
        entries.iter().try_for_each(|entry| self.append(by, entry))
    }

    fn last(&self, by: Number) -> Option<LogId> {
        let member = &self.members[by];
        let last = member.log.last_key_value().map(|(_, id)| *id);
        last.or(member.purged)
    }

    fn append(&mut self, by: Number, entry: &Entry) -> Checked {
        let previous = self.last(by);
        let id = entry.id;
        let next = previous.map_or(0, |id| id.index + 1);
        ensure(id.index == next, || {
            format!("{id:?} appended behind {previous:?}")
        })?;
        self.members[by].log.insert(id.index, id);
        if let Some(known) = self.entries.get(&id) {
            ensure(known.body == entry.body, || {
                format!("two entries are called {id:?}")
            })?;
            // A log that begins behind a snapshot knows what comes before only by name.
            return ensure(known.previous == previous, || {
                format!("{id:?} stands behind {:?} and {previous:?}", known.previous)
            });
        }
        let body = entry.body.clone();
        self.entries.insert(id, Known { body, previous });
        Ok(())
    }

    fn truncated(&mut self, by: Number, since: u64) -> Checked {
        self.truncations += 1;
        let gone = self.members[by].log.split_off(&since);
        let committed = gone
            .values()
            .find(|id| self.committed.get(&id.index) == Some(id));
        ensure(committed.is_none(), || {
            format!("{committed:?} was committed and is truncated")
        })
    }

    fn purged(&mut self, by: Number, upto: LogId) -> Checked {
        self.purges += 1;
        let known = self.committed.get(&upto.index);
        ensure(known == Some(&upto), || {
            format!("purged up to {upto:?}, committed is {known:?}")
        })?;
        let member = &mut self.members[by];
        if member.log.get(&upto.index) == Some(&upto) {
            member.log = member.log.split_off(&(upto.index + 1));
        } else if member.purged.is_none_or(|purged| purged.index < upto.index) {
            member.log.clear();
        } else {
            return Ok(());
        }
        member.purged = Some(upto);
        Ok(())
    }

    fn voted(&mut self, by: Number, vote: Vote) -> Checked {
        let member = &mut self.members[by];
        ensure(Some(vote) >= member.vote, || {
            format!("voted {vote:?} after {:?}", member.vote)
        })?;
        member.vote = Some(vote);
        self.term = self.term.max(vote.term);
        if !vote.committed || vote.node != member.id {
            member.leads = None;
            return Ok(());
        }
        if member.leads == Some(vote.term) {
            return Ok(());
        }
        member.leads = Some(vote.term);
        self.elections += 1;
        ensure(self.reigns.insert((vote.term, vote.node)), || {
            format!("{} was elected twice in term {}", vote.node, vote.term)
        })?;
        let mut missing = self.committed.values();
        let missing = missing.find(|id| !self.has(by, **id));
        ensure(missing.is_none(), || {
            format!("it leads term {} without {missing:?}", vote.term)
        })
    }

    fn has(&self, by: Number, id: LogId) -> bool {
        let member = &self.members[by];
        let purged = member.purged.is_some_and(|purged| id.index <= purged.index);
        purged || member.log.get(&id.index) == Some(&id)
    }

    fn commit(&mut self, by: Number, upto: LogId) -> Checked {
        // An entry of an earlier term is committed by the leader that `by` follows, or by one before it.
        let term = self.members[by].vote.map_or(upto.term, |vote| vote.term);
        let from = self.members[by].committed.map_or(0, |index| index + 1);
        for index in from..=upto.index {
            let member = &self.members[by];
            let Some(id) = member.log.get(&index).copied() else {
                let purged = member.purged.is_some_and(|purged| index <= purged.index);
                ensure(purged, || format!("{index} is committed and not there"))?;
                continue;
            };
            self.commit_one(id, term)?;
        }
        self.members[by].committed = Some(upto.index);
        let known = self.committed.get(&upto.index);
        ensure(known == Some(&upto), || {
            format!("{upto:?} is committed here, {known:?} elsewhere")
        })
    }

    /// Committed under a leader of the term `by` at the latest: every later one has it.
    fn commit_one(&mut self, id: LogId, by: u64) -> Checked {
        match self.committed.get(&id.index) {
            Some(known) if *known == id => return Ok(()),
            Some(known) => return Err(format!("both {known:?} and {id:?} are committed")),
            None => {}
        }
        let next = self.committed.len() as u64;
        ensure(id.index == next, || {
            format!("{} is committed before {next}", id.index)
        })?;
        self.committed.insert(id.index, id);
        for (number, member) in self.members.iter().enumerate() {
            let lacks = member.leads.is_some_and(|term| term > by) && !self.has(number, id);
            ensure(!lacks, || {
                format!("{id:?} is committed and the leader {} lacks it", member.id)
            })?;
        }
        let body = self.entries[&id].body.clone();
        self.apply(id.index, &body)
    }

    fn apply(&mut self, index: u64, body: &Bytes) -> Checked {
        let text = |error: &dyn std::fmt::Display| format!("entry {index}: {error}");
        match body.first().copied() {
            Some(BLANK) => self.state.pass(index).map_err(|error| text(&error))?,
            Some(NORMAL) => {
                let body = EntryBody::decode(&body.slice(1..)).map_err(|error| text(&error))?;
                let applied = self.state.apply(index, &body);
                let applied = applied.map_err(|error| text(&error))?;
                if let (Some(Close::Dead(dead)), Some(Closed::Dead(true))) =
                    (&body.close, applied.closed)
                {
                    self.died.push(*dead);
                    self.deaths += 1;
                }
                applied
                    .events
                    .into_iter()
                    .try_for_each(|event| self.event(event))?;
            }
            Some(MEMBERSHIP) => {
                self.state.pass(index).map_err(|error| text(&error))?;
                let membership = membership(&body[1..]).ok_or("a membership that is none")?;
                self.membership(index, membership)?;
            }
            _ => return Err(format!("entry {index} is of no kind")),
        }
        self.hashes.push(self.state.hash());
        Ok(())
    }

    fn event(&mut self, event: Event) -> Checked {
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
            Event::Orphaned { .. } => None,
        };
        if let Some((key, value)) = told {
            self.keys.entry(key).or_default().push((revision, value));
        }
        self.events.push(event);
        Ok(())
    }

    fn membership(&mut self, index: u64, new: Membership) -> Checked {
        if let Some((_, old)) = self.memberships.last() {
            // A majority of each new configuration meets one of each old one.
            let meets = |one: &BTreeSet<u64>, other: &BTreeSet<u64>| {
                let union = one.union(other).count();
                let (half, otherhalf) = (one.len() / 2 + 1, other.len() / 2 + 1);
                half + otherhalf > union
            };
            let common = new.voters.iter().any(|one| old.voters.contains(one));
            let pairs = new.voters.iter();
            let meets = pairs
                .clone()
                .any(|one| old.voters.iter().any(|o| meets(one, o)));
            ensure(common || meets, || {
                format!("quorums of {old:?} and {new:?} may not meet")
            })?;
        }
        let odd = new.voters.len() > 1 || new.voters.iter().all(|voters| voters.len() % 2 == 1);
        ensure(odd, || format!("a resting membership of {new:?}"))?;
        self.memberships.push((index, new));
        Ok(())
    }

    fn same_hash(&self, by: Number, id: LogId, hash: u128) -> Checked {
        let known = self.committed.get(&id.index);
        ensure(known == Some(&id), || {
            format!("{id:?} is applied, committed is {known:?}")
        })?;
        let index = usize::try_from(id.index).expect("few entries");
        ensure(self.hashes[index] == hash, || {
            format!("member {by} has another state at entry {index}")
        })
    }

    /// What was under a key at a revision.
    pub fn at(&self, key: &[u8], revision: Revision) -> Option<(Revision, Bytes)> {
        let changes = self.keys.get(key)?;
        let behind = changes.partition_point(|(at, _)| *at <= revision);
        let (at, value) = changes.get(behind.checked_sub(1)?)?;
        value.clone().map(|value| (*at, value))
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

    /// How far a member has applied.
    pub fn applied(&self, by: Number) -> Option<u64> {
        self.members[by].applied
    }
}

fn ids(from: &mut Reader<'_>) -> Option<BTreeSet<u64>> {
    let count = from.varint("count").ok()?;
    (0..count).map(|_| from.u64("id").ok()).collect()
}

fn membership(body: &[u8]) -> Option<Membership> {
    let mut from = Reader::new(body);
    let count = from.varint("configurations").ok()?;
    let voters = (0..count).map(|_| ids(&mut from));
    let voters = voters.collect::<Option<_>>()?;
    let all = ids(&mut from)?;
    Some(Membership { voters, all })
}
