//! What the world knows that no member does: every log, what is committed, and a state of its own to which all committed
//! entries are applied. Everything a member shows is held against it at once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use raft_store::MembershipRules;
use raft_store::entry::EntryBody;
use raft_store::ids::{Incarnation, ProposalId, Revision};
use raft_store::limits::Limits;
use raft_store::log::{Entry, LogId, Vote};
use raft_store::observe::Seen;
use raft_store::state::{Event, Outcome, State};
use tokio::time::Instant;

mod members;
mod values;

pub use members::Membership;

/// Index in the world of a member.
pub type Number = usize;

const BLANK: u8 = 0;
const NORMAL: u8 = 1;
const MEMBERSHIP: u8 = 2;
/// Entries of proposals that a leader may have handed out and not committed.
const IN_FLIGHT: usize = 2;

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
    /// On its disk up to here: what it may have acknowledged.
    durable: Option<LogId>,
    committed: Option<u64>,
    applied: Option<u64>,
    /// Committed, and truncated for a snapshot that is about to be installed: the log is purged up to there next.
    replaced: Option<LogId>,
    /// The term that it leads, or last led in this life.
    leads: Option<u64>,
    /// Since when its process is not there.
    down: Option<Instant>,
    /// Revisions before and behind each snapshot installed in this life.
    installs: Vec<(Revision, Revision)>,
}

impl Member {
    fn has(&self, id: LogId) -> bool {
        let purged = self.purged.is_some_and(|purged| id.index <= purged.index);
        purged || self.log.get(&id.index) == Some(&id)
    }

    fn last(&self) -> Option<LogId> {
        let last = self.log.last_key_value().map(|(_, id)| *id);
        last.or(self.purged)
    }
}

/// See the module's documentation.
pub struct Model {
    members: Vec<Member>,
    /// Whose disks are gone for good: what they had said stands.
    gone: Vec<Member>,
    entries: BTreeMap<LogId, Known>,
    pub committed: BTreeMap<u64, LogId>,
    /// By index: the term in which it was committed, or a later one.
    committed_in: Vec<u64>,
    /// What came of each proposal when it was applied.
    outcomes: BTreeMap<ProposalId, Outcome>,
    /// Terms won, by whom.
    reigns: BTreeSet<(u64, u64)>,
    state: State,
    /// State hashes by index, and revisions.
    hashes: Vec<u128>,
    revisions: Vec<Revision>,
    /// All that were ever in a log, and those that are committed.
    proposed: Vec<(LogId, Membership)>,
    pub memberships: Vec<(u64, Membership)>,
    /// The number of voters when they last rested.
    resting: usize,
    /// Since when somebody is a member and no voter yet.
    learners: BTreeMap<u64, Instant>,
    rules: MembershipRules,
    /// When something was committed last.
    pub committed_at: Instant,
    /// The longest time without a commit while there could have been one.
    pub longest_gap: Duration,
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
    /// Runs that are over.
    pub dead: BTreeSet<Incarnation>,
    pub deaths: u64,
    /// Proposals of runs that were over when they were committed.
    pub late: u64,
    pub installs: u64,
    pub truncations: u64,
    pub purges: u64,
}

type Checked = Result<(), String>;

fn ensure(holds: bool, what: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { Err(what()) }
}

impl Model {
    /// Needs a runtime around it.
    pub fn new(limits: Limits) -> Self {
        Self {
            members: Vec::new(),
            gone: Vec::new(),
            entries: BTreeMap::new(),
            committed: BTreeMap::new(),
            committed_in: Vec::new(),
            outcomes: BTreeMap::new(),
            reigns: BTreeSet::new(),
            state: State::new(limits),
            hashes: Vec::new(),
            revisions: Vec::new(),
            proposed: Vec::new(),
            memberships: Vec::new(),
            resting: 0,
            learners: BTreeMap::new(),
            rules: MembershipRules::default(),
            committed_at: Instant::now(),
            longest_gap: Duration::ZERO,
            events: Vec::new(),
            keys: BTreeMap::new(),
            values: BTreeMap::new(),
            never: BTreeSet::new(),
            term: 0,
            elections: 0,
            dead: BTreeSet::new(),
            deaths: 0,
            late: 0,
            installs: 0,
            truncations: 0,
            purges: 0,
        }
    }

    /// Another member has its place.
    pub fn replace(&mut self, number: Number, id: u64) {
        let new = Member {
            id,
            ..Member::default()
        };
        let old = std::mem::replace(&mut self.members[number], new);
        self.gone.push(old);
    }

    /// A process has begun or ended.
    pub fn is_down(&mut self, number: Number, down: bool) {
        self.members[number].down = down.then(Instant::now);
    }

    /// A member's disk is set back to an earlier one: nobody may count on it any more.
    pub fn set_back(&mut self, number: Number) {
        let id = self.members[number].id;
        self.replace(number, id);
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
        self.nothing_is_lost(by, what)?;
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
            Seen::Durable(id) => {
                let member = &mut self.members[by];
                // What was truncated meanwhile is durable no more.
                if member.has(*id) && member.durable.is_none_or(|last| last.index < id.index) {
                    member.durable = Some(*id);
                }
                Ok(())
            }
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
                let revision = |index: u64| self.revisions.get(index as usize).copied();
                let from = before.and_then(revision).unwrap_or(Revision(0));
                let upto = revision(id.index).unwrap_or(Revision(u64::MAX));
                self.members[by].installs.push((from, upto));
                ensure(before < Some(id.index), || {
                    format!("a snapshot of {} installed over {before:?}", id.index)
                })?;
                self.members[by].applied = Some(id.index);
                self.same_hash(by, *id, *hash)
            }
        }
    }

    /// A log that does not fit a snapshot loses everything behind its commit index before the snapshot is installed, which
    /// has been on disk since it was received. It says that it is purged next.
    fn nothing_is_lost(&mut self, by: Number, what: &Seen<'_>) -> Checked {
        let member = &mut self.members[by];
        let Some(gone) = member.replaced else {
            return Ok(());
        };
        match what {
            Seen::Purged(upto) if upto.index >= gone.index => member.replaced = None,
            Seen::Opened { purged, .. } if purged.is_some_and(|upto| upto.index >= gone.index) => {
                member.replaced = None;
            }
            Seen::Applied { .. } | Seen::Committed(_) | Seen::Durable(_) => {}
            _ => return Err(format!("{gone:?} was committed and is truncated")),
        }
        Ok(())
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
        let promised = member.durable.take();
        member.vote = vote;
        member.log.clear();
        member.purged = purged;
        member.committed = None;
        member.leads = None;
        member.installs.clear();
        entries
            .iter()
            .try_for_each(|entry| self.append(by, entry))?;
        let member = &mut self.members[by];
        member.durable = member.last();
        let lost = promised.filter(|id| !member.has(*id));
        ensure(lost.is_none(), || {
            format!("it has acknowledged {lost:?} and comes back without")
        })
    }

    fn last(&self, by: Number) -> Option<LogId> {
        self.members[by].last()
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
        self.in_flight(by, id)?;
        self.propose(by, id, &entry.body)
    }

    /// A leader has handed out few entries that are not committed.
    fn in_flight(&self, by: Number, id: LogId) -> Checked {
        let member = &self.members[by];
        let from = member.committed.map_or(0, |index| index + 1);
        let open = member.log.range(from..).map(|(_, open)| open);
        let open = open.filter(|open| open.term == id.term && open.node == id.node);
        let kind = |open: &&LogId| self.entries[open].body.first() == Some(&NORMAL);
        let count = open.filter(kind).count();
        ensure(count <= IN_FLIGHT, || {
            format!("{count} entries of proposals are under way at {id:?}")
        })
    }

    fn truncated(&mut self, by: Number, since: u64) -> Checked {
        self.truncations += 1;
        let member = &mut self.members[by];
        let gone = member.log.split_off(&since);
        let committed = &self.committed;
        let lost = gone.values().rev();
        let lost = lost
            .copied()
            .find(|id| committed.get(&id.index) == Some(id));
        member.replaced = lost;
        if member.durable.is_some_and(|last| last.index >= since) {
            member.durable = lost.or(member.last());
        }
        Ok(())
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
        // What begins behind a snapshot has it on disk.
        if member.durable.is_none_or(|last| last.index < upto.index) {
            member.durable = Some(upto);
        }
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
        self.elected(by, vote)?;
        // One that was stopped on its way to lead may find that a later leader has begun, and has committed more.
        let mut before = self.committed.values().zip(&self.committed_in);
        let missing = before.find(|(id, term)| **term < vote.term && !self.has(by, **id));
        ensure(missing.is_none(), || {
            format!("it leads term {} without {missing:?}", vote.term)
        })
    }

    fn has(&self, by: Number, id: LogId) -> bool {
        self.members[by].has(id)
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
        self.committed_in.push(by);
        for (number, member) in self.members.iter().enumerate() {
            let lacks = member.leads.is_some_and(|term| term > by) && !self.has(number, id);
            ensure(!lacks, || {
                format!("{id:?} is committed and the leader {} lacks it", member.id)
            })?;
        }
        self.committed_at = Instant::now();
        let body = self.entries[&id].body.clone();
        self.apply(id.index, &body)?;
        self.on_a_quorum(id)
    }

    fn apply(&mut self, index: u64, body: &Bytes) -> Checked {
        let text = |error: &dyn std::fmt::Display| format!("entry {index}: {error}");
        match body.first().copied() {
            Some(BLANK) => self.state.pass(index).map_err(|error| text(&error))?,
            Some(NORMAL) => {
                let body = EntryBody::decode(&body.slice(1..)).map_err(|error| text(&error))?;
                let applied = self.state.apply(index, &body);
                let applied = applied.map_err(|error| text(&error))?;
                applied
                    .answers
                    .into_iter()
                    .try_for_each(|answer| self.answered(answer))?;
                applied
                    .events
                    .into_iter()
                    .try_for_each(|event| self.event(event))?;
            }
            Some(MEMBERSHIP) => {
                self.state.pass(index).map_err(|error| text(&error))?;
                let membership = members::decoded(&body[1..]).ok_or("a membership that is none")?;
                self.membership(index, membership)?;
            }
            _ => return Err(format!("entry {index} is of no kind")),
        }
        self.hashes.push(self.state.hash());
        self.revisions.push(self.state.revision());
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

    /// How far a member has applied.
    pub fn applied(&self, by: Number) -> Option<u64> {
        self.members[by].applied
    }
}
