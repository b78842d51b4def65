//! Who votes: what each membership must be beside the one before, and which members must hold a vote or an entry before
//! somebody leads or something is committed.

use std::collections::BTreeSet;
use std::time::Duration;

use raft_store::codec::Reader;
use raft_store::log::{LogId, Vote};
use tokio::time::Instant;

use super::{Checked, MEMBERSHIP, Member, Model, Number, ensure};

/// Whoever is down longer than this answers no leader any more, as that one sees it too.
const DOWN: Duration = Duration::from_secs(4);
/// Entries that a leader may append between its last look at a learner and the change that makes it a voter.
const MEANWHILE: u64 = 4;
/// What they take.
const MEANWHILE_BYTES: u64 = 4096;

/// Voters of each configuration, and everybody.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Membership {
    pub voters: Vec<BTreeSet<u64>>,
    pub all: BTreeSet<u64>,
}

impl Membership {
    /// Whether these members are a majority of each configuration.
    pub fn is_quorum(&self, those: impl Fn(u64) -> bool) -> bool {
        let of = |voters: &BTreeSet<u64>| {
            voters.iter().filter(|voter| those(**voter)).count() > voters.len() / 2
        };
        !self.voters.is_empty() && self.voters.iter().all(of)
    }
}

fn ids(from: &mut Reader<'_>) -> Option<BTreeSet<u64>> {
    let count = from.varint("count").ok()?;
    (0..count).map(|_| from.u64("id").ok()).collect()
}

/// Of the body of an entry of this kind, without its tag.
pub(super) fn decoded(body: &[u8]) -> Option<Membership> {
    let mut from = Reader::new(body);
    let count = from.varint("configurations").ok()?;
    let voters = (0..count).map(|_| ids(&mut from));
    let voters = voters.collect::<Option<_>>()?;
    let all = ids(&mut from)?;
    Some(Membership { voters, all })
}

impl Model {
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

    /// Memberships that may decide what is committed now: the last one committed, and what was proposed behind it.
    pub fn deciding(&self) -> impl Iterator<Item = &Membership> {
        let last = self.memberships.last().map(|(index, _)| *index);
        let stands = |id: &LogId| {
            self.committed
                .get(&id.index)
                .is_none_or(|known| known == id)
        };
        let proposed = self.proposed.iter();
        let proposed = proposed.filter(move |(id, _)| Some(id.index) >= last && stands(id));
        proposed.map(|(_, membership)| membership)
    }

    /// The newest membership that anybody has proposed has two configurations.
    pub fn is_joint(&self) -> bool {
        let newest = self.proposed.iter().max_by_key(|(id, _)| *id);
        newest.is_some_and(|(_, membership)| membership.voters.len() > 1)
    }

    /// How many memberships were committed, and how many were proposed.
    pub fn memberships_seen(&self) -> (usize, usize) {
        (self.memberships.len(), self.proposed.len())
    }

    /// The newest membership in the log of a member, committed or not.
    fn effective(&self, by: Number) -> Option<&Membership> {
        let has = |id: &LogId| match self.members[by].log.get(&id.index) {
            Some(known) => known == id,
            None => self.has(by, *id) && self.committed.get(&id.index) == Some(id),
        };
        let proposed = self.proposed.iter().filter(|(id, _)| has(id));
        let newest = proposed.max_by_key(|(id, _)| id.index);
        newest.map(|(_, membership)| membership)
    }

    /// All that ever were, also those whose machine is another now.
    fn everybody(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().chain(&self.gone)
    }

    /// Whoever leads has the vote of a majority of each configuration, durably.
    pub(super) fn elected(&self, by: Number, vote: Vote) -> Checked {
        let asked = Vote {
            committed: false,
            ..vote
        };
        let granted: BTreeSet<u64> = self
            .everybody()
            .filter(|member| member.vote >= Some(asked))
            .map(|member| member.id)
            .collect();
        let membership = self.effective(by);
        let quorum = membership.is_some_and(|of| of.is_quorum(|voter| granted.contains(&voter)));
        ensure(quorum, || {
            format!("elected by {granted:?} of {membership:?} as {vote:?}")
        })
    }

    /// What is committed is on the disks of a majority: of the membership that was committed before it, or of one that
    /// was proposed behind that.
    pub(super) fn on_a_quorum(&self, id: LogId) -> Checked {
        let holds = |member: &&Member| {
            let durable = member.durable.is_some_and(|last| last.index >= id.index);
            durable && member.has(id)
        };
        let holders: BTreeSet<u64> = self
            .everybody()
            .filter(holds)
            .map(|member| member.id)
            .collect();
        let before = self.memberships.iter().rev();
        let before = before
            .map(|(index, _)| *index)
            .find(|index| *index <= id.index);
        let mut may = self
            .proposed
            .iter()
            .filter(|(proposed, _)| Some(proposed.index) >= before);
        let quorum = may.any(|(_, of)| of.is_quorum(|voter| holders.contains(&voter)));
        ensure(quorum, || {
            format!("{id:?} is committed, and on the disks of {holders:?} alone")
        })
    }

    /// A membership is proposed, by whoever leads.
    pub(super) fn propose(&mut self, by: Number, id: LogId, body: &[u8]) -> Checked {
        if body.first() != Some(&MEMBERSHIP) {
            return Ok(());
        }
        let new = decoded(&body[1..]).ok_or("a membership that is none")?;
        let now = Instant::now();
        let old = self.effective(by).cloned().unwrap_or_default();
        self.learners.retain(|learner, _| new.all.contains(learner));
        for joined in new.all.difference(&old.all) {
            self.learners.insert(*joined, now);
        }
        let voters = |of: &Membership| of.voters.iter().flatten().copied().collect();
        let (were, are): (BTreeSet<u64>, BTreeSet<u64>) = (voters(&old), voters(&new));
        self.enough_answer(&new, now)?;
        let promoted = are.difference(&were).filter(|_| !were.is_empty());
        let checked = promoted.map(|voter| self.may_vote(by, *voter, now));
        let checked: Checked = checked.collect();
        self.learners.retain(|learner, _| !are.contains(learner));
        self.proposed.push((id, new));
        checked
    }

    /// Of voters that are to be, a majority answers.
    fn enough_answer(&self, new: &Membership, now: Instant) -> Checked {
        let [_, voters] = &new.voters[..] else {
            return Ok(());
        };
        let is_up = |member: &&Member| member.down.is_none_or(|since| now - since <= DOWN);
        let of_them = self
            .members
            .iter()
            .filter(|member| voters.contains(&member.id));
        let up = of_them.filter(is_up).count();
        ensure(up > voters.len() / 2, || {
            format!("{voters:?} are to vote, and {up} of them answer")
        })
    }

    /// A learner becomes a voter: it has been one for long enough, and has nearly everything.
    fn may_vote(&self, by: Number, learner: u64, now: Instant) -> Checked {
        if let Some(since) = self.learners.get(&learner) {
            // The leader's clock may be one percent fast.
            let least = self.rules.steady.mul_f64(0.98);
            let was = now - *since;
            ensure(was >= least, || {
                format!("{learner} is to vote, and was a learner for {was:?} only")
            })?;
        }
        let last = self.last(by).map_or(0, |last| last.index);
        let of = self.members.iter().find(|member| member.id == learner);
        let has = of.and_then(|member| member.durable);
        let next = has.map_or(0, |has| has.index + 1);
        let lacks = last.saturating_sub(next);
        let log = self.members[by].log.range(next..);
        let bytes = log.map(|(_, id)| self.entries[id].body.len() as u64);
        let bytes: u64 = bytes.sum();
        let close = lacks <= self.rules.close_entries + MEANWHILE
            || bytes <= self.rules.close_bytes + MEANWHILE_BYTES;
        ensure(close, || {
            format!("{learner} is to vote, and lacks {lacks} entries of {bytes} bytes")
        })
    }

    /// A membership is committed.
    pub(super) fn membership(&mut self, index: u64, new: Membership) -> Checked {
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
        if let [voters] = &new.voters[..] {
            let size = voters.len();
            ensure(matches!(size, 1 | 3 | 5), || {
                format!("{size} voters at rest: {new:?}")
            })?;
            let least = self.resting / 2 + 1;
            ensure(self.resting == 0 || size >= least, || {
                format!("{size} voters where {} were: {new:?}", self.resting)
            })?;
            self.resting = size;
        }
        self.memberships.push((index, new));
        Ok(())
    }

    /// How long a learner must wait, and how close it must be.
    pub fn set_rules(&mut self, rules: &raft_store::MembershipRules) {
        self.rules = rules.clone();
    }
}
