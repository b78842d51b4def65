//! The cluster as its leader sees it: what the next change of membership is computed from.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::ids::MemberId;

/// Times and numbers of the rules; those of production are the default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// A learner becomes a voter when it has been close behind and answering for so long.
    pub steady: Duration,
    /// A voter that has not answered for so long is lost: a learner may take its place.
    pub lost: Duration,
    /// Five voters go back to three when there were fewer than six members for so long.
    pub few: Duration,
    /// A member that was declared dead is removed for ever after so long.
    pub remove_dead: Duration,
    /// Above so many dead members, those longest dead are removed earlier…
    pub dead_kept: usize,
    /// …but not before this time.
    pub remove_dead_least: Duration,
    /// Closer behind than this is caught up, by entries…
    pub close_entries: u64,
    /// …or by bytes of the log.
    pub close_bytes: u64,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            steady: Duration::from_secs(10),
            lost: Duration::from_secs(10),
            few: Duration::from_secs(600),
            remove_dead: Duration::from_secs(24 * 3600),
            dead_kept: 16,
            remove_dead_least: Duration::from_secs(60),
            close_entries: 250,
            close_bytes: 1024 * 1024,
        }
    }
}

/// One member as the leader sees it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Seen {
    /// Its row in the state says that its run lives. `None`: there is no row.
    pub(crate) live: Option<bool>,
    pub(crate) zone: String,
    /// It reads the format of the cluster.
    pub(crate) reads_format: bool,
    /// It answers now.
    pub(crate) answering: bool,
    /// How long it has answered and been close behind without a break. Zero: it is not.
    pub(crate) steady: Duration,
    /// How long it has not answered. Zero: it does.
    pub(crate) silent: Duration,
    /// It has less on its disk than it acknowledged: it is asked nothing any more (DESIGN §8).
    pub(crate) barred: bool,
    /// Somebody asked for its removal.
    pub(crate) leaving: bool,
    /// It has a tombstone.
    pub(crate) removed: bool,
}

/// The whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct View {
    /// This member.
    pub(crate) leader: MemberId,
    /// Sets of voters: one, or two while it is joint, the old one first.
    pub(crate) voters: Vec<BTreeSet<MemberId>>,
    pub(crate) learners: BTreeSet<MemberId>,
    /// The last membership is committed.
    pub(crate) committed: bool,
    /// All that have a row, are in the membership or connected.
    pub(crate) members: BTreeMap<MemberId, Seen>,
    /// How long there have been fewer than six members that answer.
    pub(crate) few: Duration,
    /// The cluster's format, and the highest that every row and this build read.
    pub(crate) formats: (u16, u16),
}

impl View {
    /// The voters of the last membership that is not joint.
    pub(crate) fn resting(&self) -> &BTreeSet<MemberId> {
        static NOBODY: BTreeSet<MemberId> = BTreeSet::new();
        self.voters.first().unwrap_or(&NOBODY)
    }

    pub(crate) fn is_voter(&self, id: MemberId) -> bool {
        self.voters.iter().any(|voters| voters.contains(&id))
    }

    pub(crate) fn is_in_membership(&self, id: MemberId) -> bool {
        self.is_voter(id) || self.learners.contains(&id)
    }

    /// Answers, and what it answers counts.
    pub(crate) fn is_alive(&self, id: MemberId) -> bool {
        let seen = self.members.get(&id);
        id == self.leader || seen.is_some_and(|seen| seen.answering && !seen.barred)
    }

    pub(crate) fn alive(&self, among: &BTreeSet<MemberId>) -> usize {
        among.iter().filter(|id| self.is_alive(**id)).count()
    }

    /// Members that answer, have done so for `steady`, and stay: how many voters there should be depends on them.
    pub(crate) fn present(&self, steady: Duration, rules: &Rules) -> usize {
        let here = |(id, seen): &(&MemberId, &Seen)| {
            let id = **id;
            let here = self.is_in_membership(id) && self.is_alive(id) && seen.steady >= steady;
            here && !self.is_going(id, rules)
        };
        self.members.iter().filter(here).count()
    }

    /// To be removed, by whatever reason.
    pub(crate) fn is_going(&self, id: MemberId, rules: &Rules) -> bool {
        let Some(seen) = self.members.get(&id) else {
            return false;
        };
        seen.removed || seen.leaving || seen.barred || self.is_expired(id, rules)
    }

    /// Members that are to be removed and are in no membership any more, whose run lives: it must end first, or it would
    /// believe in a lease while others take what it owns.
    pub(crate) fn ending(&self, rules: &Rules) -> impl Iterator<Item = MemberId> {
        let ends = |(id, seen): &(&MemberId, &Seen)| {
            seen.live == Some(true) && !self.is_in_membership(**id) && self.is_going(**id, rules)
        };
        self.members.iter().filter(ends).map(|(id, _)| *id)
    }

    /// Dead for so long that it is removed.
    pub(crate) fn is_expired(&self, id: MemberId, rules: &Rules) -> bool {
        let Some(seen) = self.members.get(&id) else {
            return false;
        };
        if !seen.is_dead() || seen.silent < rules.remove_dead_least {
            return false;
        }
        // Ties go by id, so that the number is what it says.
        let longer = |(other, theirs): &(&MemberId, &Seen)| {
            theirs.is_dead() && (theirs.silent, *other) >= (seen.silent, &id)
        };
        let dead = self.members.values().filter(|seen| seen.is_dead()).count();
        let rank = self.members.iter().filter(longer).count();
        seen.silent >= rules.remove_dead || rank + rules.dead_kept <= dead
    }
}

impl Seen {
    /// Declared dead and not heard since.
    pub(crate) fn is_dead(&self) -> bool {
        self.live == Some(false) && !self.answering
    }
}
