//! The next change of membership: a pure function of what the leader sees. The rules, in the order they are looked at:
//!
//! 1. A joint configuration is finished before anything else; an uncommitted membership is waited for.
//!    One that is barred gets its tombstone before that.
//! 2. Voters: 1, 3 or 5, in one change. Three when there are three fit members, five from eight members, back to three
//!    below six. Lost and leaving ones give their place to learners that are caught up; zones are spread.
//!    Never fewer voters that answer than a majority of the last resting number. The leader hands over before it leaves.
//! 3. Learners that go leave the membership, then their run ends, then they get their tombstone; registered members come
//!    in as learners.
//! 4. The cluster's format rises when everybody reads the next one.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::view::{Rules, Seen, View};
use crate::ids::MemberId;

#[cfg(test)]
mod tests;

/// Members that answer, from which on there are five voters; and below which, back to three.
const FIVE_FROM: usize = 8;
pub(super) const THREE_BELOW: usize = 6;

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Ends a joint configuration: these are the voters.
    Finish(BTreeSet<MemberId>),
    /// Replaces all voters by these.
    Voters(BTreeSet<MemberId>),
    /// The leader goes: another leads first.
    HandOver(MemberId),
    AddLearner(MemberId),
    RemoveLearner(MemberId),
    /// A tombstone for one that is in no membership, or that is barred.
    Remove(MemberId),
    /// Raises the cluster's format.
    Format(u16),
}

/// What there is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Next {
    Do(Step, &'static str),
    /// Something is wanted that cannot be yet.
    Waits(&'static str),
    Rests,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, ids: &BTreeSet<MemberId>| {
            ids.iter().try_for_each(|id| write!(f, " {id}"))
        };
        match self {
            Self::Finish(voters) => {
                f.write_str("finish the change to the voters")?;
                list(f, voters)
            }
            Self::Voters(voters) => {
                f.write_str("change to the voters")?;
                list(f, voters)
            }
            Self::HandOver(to) => write!(f, "hand the leadership over to {to}"),
            Self::AddLearner(id) => write!(f, "add the learner {id}"),
            Self::RemoveLearner(id) => write!(f, "take the learner {id} out"),
            Self::Remove(id) => write!(f, "remove the member {id} for ever"),
            Self::Format(to) => write!(f, "raise the cluster's format to {to}"),
        }
    }
}

impl fmt::Display for Next {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Do(step, reason) => write!(f, "{step}: {reason}"),
            Self::Waits(reason) => write!(f, "waiting: {reason}"),
            Self::Rests => f.write_str("nothing to do"),
        }
    }
}

pub(crate) fn majority(of: usize) -> usize {
    of / 2 + 1
}

/// See the module's documentation.
pub(crate) fn next_step(view: &View, rules: &Rules) -> Next {
    if let [_, .., last] = view.voters.as_slice() {
        return match view.committed {
            true => Next::Do(
                Step::Finish(last.clone()),
                "a change was left in its middle",
            ),
            false => Next::Waits("a membership is not committed yet"),
        };
    }
    if !view.committed {
        return Next::Waits("a membership is not committed yet");
    }
    if let Some((step, reason)) = of_the_barred(view) {
        return Next::Do(step, reason);
    }
    let voters = of_voters(view, rules);
    if let Next::Do(..) = voters {
        return voters;
    }
    let others = [of_those_who_go(view, rules), of_joiners(view, rules)];
    let others = others.into_iter().flatten().next();
    if let Some((step, reason)) = others.or_else(|| of_format(view)) {
        return Next::Do(step, reason);
    }
    match (voters, view.ending(rules).next()) {
        (Next::Rests, Some(_)) => Next::Waits("the run of a member that is removed has to end"),
        (voters, _) => voters,
    }
}

/// Whether a voter is worth keeping; the lowest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Worth {
    /// A voter that answers or was heard a moment ago, or a learner that is ready.
    Fit,
    /// Answers, but is to be removed.
    Leaves,
    Lost,
    /// It never comes back.
    Removed,
}

fn worth(view: &View, rules: &Rules, id: MemberId) -> Option<Worth> {
    let seen = view.members.get(&id)?;
    if !view.is_voter(id) {
        return is_ready(view, rules, id).then_some(Worth::Fit);
    }
    Some(match () {
        () if seen.removed || seen.barred => Worth::Removed,
        () if id != view.leader && seen.silent >= rules.lost => Worth::Lost,
        () if view.is_going(id, rules) => Worth::Leaves,
        () => Worth::Fit,
    })
}

/// A learner that may become a voter when it has been steady for long enough.
fn may_vote(view: &View, rules: &Rules, id: MemberId) -> bool {
    let Some(seen) = view.members.get(&id) else {
        return false;
    };
    view.learners.contains(&id)
        && seen.live == Some(true)
        && seen.reads_format
        && seen.answering
        && !view.is_going(id, rules)
}

/// It has been.
fn is_ready(view: &View, rules: &Rules, id: MemberId) -> bool {
    let steady = |seen: &Seen| seen.steady >= rules.steady;
    may_vote(view, rules, id) && view.members.get(&id).is_some_and(steady)
}

/// How many voters there should be.
fn wanted(view: &View, rules: &Rules) -> (usize, &'static str) {
    let voters = view.resting();
    let is_fit = |id: &&MemberId| worth(view, rules, **id) == Some(Worth::Fit);
    let fit = view.members.keys().filter(is_fit).count();
    let answering = |id: &&MemberId| is_fit(id) && view.is_alive(**id);
    let answering = view.members.keys().filter(answering).count();
    // Also because this leader has only begun to look.
    let is_soon = |id: &&MemberId| may_vote(view, rules, **id) && !is_ready(view, rules, **id);
    let soon = view.learners.iter().filter(is_soon).count();
    let goes = voters.iter().any(|id| view.is_going(*id, rules));
    match voters.len() {
        0..=2 if answering >= 3 => (3, "three members are fit to vote"),
        4 if answering < 5 => (3, "the number of voters is odd"),
        3..=4 if answering >= 5 && view.present(rules.steady, rules) >= FIVE_FROM => {
            (5, "there are eight members and more")
        }
        5.. if view.few >= rules.few => (3, "there are fewer than six members"),
        5.. if goes && fit + soon < 5 => (3, "a voter leaves and nobody can take its place"),
        now if now <= 5 => (now, "a voter is replaced"),
        _ => (5, "more voters than five serve nobody"),
    }
}

/// The best `size` of voters and ready learners: what is worth most, then the zone that has fewest, then who votes already.
/// `kept` is among them in any case.
fn pick(view: &View, rules: &Rules, size: usize, kept: Option<MemberId>) -> BTreeSet<MemberId> {
    let rated = |id: &MemberId| worth(view, rules, *id).map(|worth| (*id, worth));
    let mut rated: Vec<_> = view.members.keys().filter_map(rated).collect();
    let mut zones: BTreeMap<&str, usize> = BTreeMap::new();
    let mut picked = BTreeSet::new();
    while picked.len() < size {
        let rank = |(id, worth): &(MemberId, Worth)| {
            let zone = zones.get(view.members[id].zone.as_str());
            let leads = *id == view.leader;
            let crowd = zone.copied().unwrap_or(0);
            let is_kept = Some(*id) == kept;
            (!is_kept, *worth, !leads, crowd, !view.is_voter(*id), *id)
        };
        let best = (0..rated.len()).min_by_key(|at| rank(&rated[*at]));
        let Some(best) = best else {
            break;
        };
        let (id, _) = rated.swap_remove(best);
        *zones.entry(&view.members[&id].zone).or_default() += 1;
        picked.insert(id);
    }
    picked
}

fn of_voters(view: &View, rules: &Rules) -> Next {
    let now = view.resting();
    let (size, mut reason) = wanted(view, rules);
    let mut next = pick(view, rules, size, None);
    let is_unfit = |id: &&MemberId| worth(view, rules, **id) != Some(Worth::Fit);
    let heir = |id: &&MemberId| view.is_alive(**id) && !view.is_going(**id, rules);
    // Who has been close behind for longest: it has caught up soonest.
    let steady = |id: &&MemberId| view.members.get(id).map(|seen| seen.steady);
    let heirs = now.intersection(&next).filter(heir);
    let heir = heirs.max_by_key(steady).copied();
    if heir.is_none() {
        // None of them could lead the change: it takes two.
        next = pick(view, rules, size, Some(view.leader));
    }
    if next == *now {
        return match now.iter().find(is_unfit) {
            Some(_) => Next::Waits("nobody can take the place of a voter that is lost or leaves"),
            None => Next::Rests,
        };
    }
    if next.len() == now.len() && !now.iter().any(|id| is_unfit(&id)) {
        reason = "voters are spread over more zones";
    }
    let alive = view.alive(&next);
    if next.len().is_multiple_of(2) || alive < majority(now.len()) || alive < majority(next.len()) {
        return Next::Waits("a change of voters would leave too few that answer");
    }
    match heir {
        Some(heir) if !next.contains(&view.leader) => {
            Next::Do(Step::HandOver(heir), "the leader leaves")
        }
        _ => Next::Do(Step::Voters(next), reason),
    }
}

/// That a member is barred is in the memory of whoever found it out; a tombstone bars it everywhere and for ever, also
/// where nobody can take its place yet. Not before its run is over: what it owns becomes others'.
fn of_the_barred(view: &View) -> Option<(Step, &'static str)> {
    let barred =
        |(_, seen): &(&MemberId, &Seen)| seen.barred && !seen.removed && seen.live != Some(true);
    let (id, _) = view.members.iter().find(barred)?;
    Some((Step::Remove(*id), LOST))
}

const LOST: &str = "its disk lost what it had acknowledged";

fn of_those_who_go(view: &View, rules: &Rules) -> Option<(Step, &'static str)> {
    let goes = |id: &&MemberId| !view.is_voter(**id) && view.is_going(**id, rules);
    for id in view.members.keys().filter(goes) {
        let seen = &view.members[id];
        let reason = match () {
            () if seen.removed => "it was removed",
            () if seen.leaving => "its removal was asked for",
            () if seen.barred => LOST,
            () => "it has been dead for long",
        };
        if view.learners.contains(id) {
            return Some((Step::RemoveLearner(*id), reason));
        }
        if !seen.removed && seen.live != Some(true) {
            return Some((Step::Remove(*id), reason));
        }
    }
    None
}

fn of_joiners(view: &View, rules: &Rules) -> Option<(Step, &'static str)> {
    let joins = |id: &&MemberId| {
        let seen = &view.members[*id];
        let can = seen.live == Some(true) && seen.answering && seen.reads_format;
        can && !view.is_in_membership(**id) && !view.is_going(**id, rules)
    };
    let id = view.members.keys().find(joins)?;
    Some((Step::AddLearner(*id), "it has registered"))
}

fn of_format(view: &View) -> Option<(Step, &'static str)> {
    let (now, common) = view.formats;
    let raise = (Step::Format(common), "every member reads it");
    (common > now).then_some(raise)
}
