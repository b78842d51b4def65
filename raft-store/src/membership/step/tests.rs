//! Every view of four members, and long random lives of ten: what a step may be, and that steps come to an end.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::super::view::{Rules, Seen, View};
use super::{Next, Step, Worth, majority, next_step, worth};
use crate::ids::MemberId;
use crate::state::test_random::Random;

fn ids(ids: impl IntoIterator<Item = u64>) -> BTreeSet<MemberId> {
    ids.into_iter().map(MemberId).collect()
}

fn ready(zone: &str) -> Seen {
    Seen {
        live: Some(true),
        zone: zone.into(),
        reads_format: true,
        answering: true,
        steady: Duration::from_secs(60),
        ..Seen::default()
    }
}

/// Voters first, then learners; all are well.
fn view(voters: u64, learners: u64) -> View {
    let all = 1..=voters + learners;
    View {
        leader: MemberId(1),
        voters: vec![ids(1..=voters)],
        learners: ids(voters + 1..=voters + learners),
        committed: true,
        members: all.map(|id| (MemberId(id), ready(""))).collect(),
        few: Duration::ZERO,
        formats: (1, 1),
    }
}

impl View {
    fn seen(&mut self, id: u64) -> &mut Seen {
        self.members.get_mut(&MemberId(id)).expect("a member")
    }

    fn lose(&mut self, id: u64) {
        let seen = self.seen(id);
        (seen.answering, seen.live) = (false, Some(false));
        (seen.steady, seen.silent) = (Duration::ZERO, Duration::from_secs(30));
    }

    fn next(&self) -> Next {
        next_step(self, &Rules::default())
    }

    fn voters_next(&self) -> Option<BTreeSet<MemberId>> {
        match self.next() {
            Next::Do(Step::Voters(voters), _) => Some(voters),
            _ => None,
        }
    }

    /// What the cluster is after a step was carried out.
    fn after(&self, step: &Step) -> Self {
        let mut view = self.clone();
        match step {
            Step::Finish(voters) | Step::Voters(voters) => {
                let all = self.voters.iter().flatten();
                let all: BTreeSet<MemberId> = all.chain(&self.learners).copied().collect();
                view.learners = all.difference(voters).copied().collect();
                view.voters = vec![voters.clone()];
            }
            Step::HandOver(to) => view.leader = *to,
            Step::AddLearner(id) => {
                view.learners.insert(*id);
            }
            Step::RemoveLearner(id) => {
                view.learners.remove(id);
            }
            Step::Remove(id) if self.is_in_membership(*id) => {
                let seen = view.seen(id.0);
                (seen.live, seen.removed) = (None, true);
            }
            Step::Remove(id) => {
                view.members.remove(id);
            }
            Step::Format(to) => view.formats.0 = *to,
        }
        view
    }

    /// What no step may do, whatever was seen.
    fn check(&self, step: &Step) {
        let rules = Rules::default();
        let going = |id: &MemberId| self.is_going(*id, &rules);
        if let [_, .., last] = self.voters.as_slice() {
            assert_eq!(*step, Step::Finish(last.clone()), "{self:?}");
            return;
        }
        let now = self.resting();
        match step {
            Step::Finish(_) => panic!("nothing to finish: {self:?}"),
            Step::Voters(next) => {
                assert!(next.contains(&self.leader), "{next:?} of {self:?}");
                assert!(matches!(next.len(), 1 | 3 | 5), "{next:?} of {self:?}");
                let least = majority(now.len()).max(majority(next.len()));
                assert!(self.alive(next) >= least, "{next:?} of {self:?}");
                assert_ne!(next, now, "{self:?}");
                for new in next.difference(now) {
                    let seen = &self.members[new];
                    let fit = seen.answering && seen.live == Some(true) && !going(new);
                    let fit = fit && seen.steady >= rules.steady && self.learners.contains(new);
                    assert!(fit, "{new} is no voter: {self:?}");
                }
            }
            Step::HandOver(to) => {
                assert!(going(&self.leader) && !going(to) && self.is_alive(*to));
                assert!(now.contains(to), "{self:?}");
            }
            Step::AddLearner(id) => assert!(!self.is_in_membership(*id) && !going(id)),
            Step::RemoveLearner(id) => assert!(self.learners.contains(id) && going(id)),
            Step::Remove(id) => {
                let seen = &self.members[id];
                assert!(going(id) && !seen.removed, "{self:?}");
                assert_ne!(seen.live, Some(true), "its run lives: {self:?}");
                assert!(seen.barred || !self.is_in_membership(*id), "{self:?}");
            }
            Step::Format(to) => assert!(*to > self.formats.0),
        }
    }

    /// Carries out step after step while nothing else happens.
    fn settle(&self) -> Self {
        let mut view = self.clone();
        for _ in 0..64 {
            match view.next() {
                Next::Do(step, _) => {
                    view.check(&step);
                    view = view.after(&step);
                }
                Next::Waits(_) | Next::Rests => {
                    let ending: Vec<_> = view.ending(&Rules::default()).collect();
                    if ending.is_empty() {
                        return view;
                    }
                    ending
                        .iter()
                        .for_each(|id| view.seen(id.0).live = Some(false));
                }
            }
        }
        panic!("it does not settle: {self:?}");
    }
}

/// What can be the matter with a member.
const CONDITIONS: usize = 8;

fn condition(which: usize, zone: &str) -> Seen {
    let mut seen = ready(zone);
    let silent = |seen: &mut Seen, for_seconds| {
        seen.answering = false;
        seen.steady = Duration::ZERO;
        seen.silent = Duration::from_secs(for_seconds);
    };
    match which {
        0 => {}
        1 => seen.steady = Duration::from_secs(3),
        2 => silent(&mut seen, 3),
        3 => {
            silent(&mut seen, 100);
            seen.live = Some(false);
        }
        4 => {
            silent(&mut seen, 90_000);
            seen.live = Some(false);
        }
        5 => seen.leaving = true,
        6 => {
            silent(&mut seen, 100);
            (seen.live, seen.removed) = (None, true);
        }
        _ => {
            silent(&mut seen, 1);
            seen.barred = true;
        }
    }
    seen
}

/// A quorum answers, or nobody leads.
fn leads(view: &View) -> bool {
    let led = |voters: &BTreeSet<MemberId>| view.alive(voters) >= majority(voters.len());
    let leader = &view.members[&view.leader];
    let may = leader.answering && !leader.barred && !leader.removed;
    may && view.is_voter(view.leader) && view.voters.iter().all(led)
}

#[test]
fn every_view_of_four_members_settles() {
    let zones = ["a", "a", "b", "c"];
    let kinds = 3 * CONDITIONS;
    let (mut looked_at, mut moved) = (0, 0);
    for code in 0..kinds.pow(4) {
        let of = |at: usize| code / kinds.pow(at as u32) % kinds;
        let role = |role: usize| (0..4).filter(move |at| of(*at) / CONDITIONS == role);
        let named = |role: usize| {
            ids((0..4)
                .filter(|at| of(*at) / CONDITIONS == role)
                .map(|at| at as u64))
        };
        if role(2).count() % 2 == 0 {
            continue;
        }
        let members = (0..4).map(|at| {
            (
                MemberId(at as u64),
                condition(of(at) % CONDITIONS, zones[at]),
            )
        });
        let members: BTreeMap<_, _> = members.collect();
        for leader in named(2) {
            let view = View {
                leader,
                voters: vec![named(2)],
                learners: named(1),
                committed: true,
                members: members.clone(),
                few: Duration::from_secs(900),
                formats: (1, 1),
            };
            if !leads(&view) {
                continue;
            }
            looked_at += 1;
            let settled = view.settle();
            moved += usize::from(settled != view);
            assert!(settled.resting().len() % 2 == 1);
            assert!(settled.resting().len() >= view.resting().len().min(3));
            let rules = Rules::default();
            let out = |id: &MemberId| worth(&settled, &rules, *id) >= Some(Worth::Lost);
            let fit = |id: &MemberId| worth(&settled, &rules, *id) == Some(Worth::Fit);
            let in_vain = settled.resting().iter().any(out) && settled.learners.iter().any(fit);
            assert!(!in_vain, "a lost voter stays: {settled:?}");
        }
    }
    assert!(looked_at > 50_000 && moved > 10_000, "{looked_at}, {moved}");
}

/// A cluster whose members come, go, are cut off and are removed, seen every ten seconds by whoever leads.
struct Life {
    random: Random,
    view: View,
    next_id: u64,
    /// Members there may be.
    most: usize,
    /// Changes that ended between their two entries.
    joint: usize,
}

impl Life {
    fn new(seed: u64) -> Self {
        Self {
            random: Random::new(seed),
            view: view(1, 0),
            next_id: 2,
            most: 1 + seed as usize % 12,
            joint: 0,
        }
    }

    fn any(&mut self, which: impl Fn(&View, MemberId) -> bool) -> Option<MemberId> {
        let view = &self.view;
        let all: Vec<_> = view.members.keys().filter(|id| which(view, **id)).collect();
        let at = self.random.below(all.len().max(1) as u64) as usize;
        all.get(at).map(|id| **id)
    }

    fn happens(&mut self) {
        let members = self.view.members.len();
        match self.random.below(10) {
            0..=2 if members < self.most => {
                let zone = ["a", "b", "c"][self.random.below(3) as usize];
                let id = MemberId(self.next_id);
                self.next_id += 1;
                let new = Seen {
                    steady: Duration::ZERO,
                    ..ready(zone)
                };
                self.view.members.insert(id, new);
            }
            3..=4 => {
                if let Some(id) = self.any(|_, _| true) {
                    self.view.seen(id.0).answering = false;
                }
            }
            5..=7 => {
                if let Some(id) = self.any(|view, id| !view.members[&id].answering) {
                    let seen = self.view.seen(id.0);
                    let back = !seen.removed;
                    (seen.answering, seen.live) = (back, back.then_some(true));
                }
            }
            8 => {
                if let Some(id) = self.any(|_, _| true) {
                    let leaving = &mut self.view.seen(id.0).leaving;
                    *leaving = !*leaving;
                }
            }
            _ => {
                if let Some(id) = self.any(|view, id| view.is_voter(id)) {
                    self.view.leader = id;
                }
            }
        }
    }

    fn time_passes(&mut self) {
        let ten = Duration::from_secs(10);
        for seen in self.view.members.values_mut() {
            if seen.answering {
                (seen.steady, seen.silent) = (seen.steady + ten, Duration::ZERO);
            } else {
                (seen.steady, seen.silent) = (Duration::ZERO, seen.silent + ten);
                seen.live = seen.live.map(|live| live && seen.silent < ten);
            }
        }
        let present = self.view.present(Duration::ZERO, &Rules::default());
        self.view.few = if present < super::THREE_BELOW {
            self.view.few + ten
        } else {
            Duration::ZERO
        };
    }

    /// The leader, if one can be, takes a step; a change of voters may end in its middle.
    fn step(&mut self) {
        if !leads(&self.view) {
            let voters: Vec<_> = self.view.members.keys().copied().collect();
            for id in voters {
                self.view.leader = id;
                if leads(&self.view) {
                    return;
                }
            }
            return;
        }
        let Next::Do(step, _) = self.view.next() else {
            return;
        };
        self.view.check(&step);
        let joint = matches!(&step, Step::Voters(_)) && self.random.below(3) == 0;
        match step {
            Step::Voters(next) if joint => {
                self.joint += 1;
                self.view.learners = self.view.learners.difference(&next).copied().collect();
                self.view.voters.push(next);
            }
            step => self.view = self.view.after(&step),
        }
    }
}

#[test]
fn lives_of_clusters_come_to_rest() {
    let (mut threes, mut fives, mut joints) = (0, 0, 0);
    for seed in 0..400 {
        let mut life = Life::new(seed);
        for _ in 0..120 {
            life.happens();
            life.time_passes();
            life.step();
        }
        joints += life.joint;
        // From here on all is well.
        let view = &mut life.view;
        for seen in view.members.values_mut() {
            if !seen.removed {
                *seen = ready(&seen.zone);
            }
        }
        view.few = Duration::ZERO;
        view.leader = *view.resting().first().expect("a voter");
        let mut rested = view.settle();
        assert_eq!(rested.next(), Next::Rests, "seed {seed}");
        let present = rested.present(Duration::ZERO, &Rules::default());
        let voters = rested.resting().len();
        match present {
            0..=2 => assert!(voters == 1 || voters == 3, "seed {seed}"),
            3..=7 => assert!(voters == 3 || voters == 5, "seed {seed}: {rested:?}"),
            _ => assert_eq!(voters, 5, "seed {seed}: {rested:?}"),
        }
        rested.few = Duration::from_secs(600);
        if present < super::THREE_BELOW {
            rested = rested.settle();
            assert!(rested.resting().len() <= 3, "seed {seed}");
        }
        threes += usize::from(voters == 3);
        fives += usize::from(voters == 5);
        let zones = rested.resting().iter().map(|id| &rested.members[id].zone);
        let zones: BTreeSet<_> = zones.collect();
        let there = rested.members.values().map(|seen| &seen.zone);
        let there: BTreeSet<_> = there.collect();
        let most = there.len().min(rested.resting().len());
        assert!(zones.len() >= most, "seed {seed}: {rested:?}");
    }
    assert!(
        threes > 20 && fives > 20 && joints > 200,
        "{threes}, {fives}, {joints}"
    );
}

#[test]
fn one_becomes_three_and_three_five() {
    assert_eq!(view(1, 1).next(), Next::Rests);
    assert_eq!(view(1, 2).voters_next(), Some(ids(1..=3)));
    assert_eq!(view(3, 4).next(), Next::Rests);
    assert_eq!(view(3, 5).voters_next(), Some(ids(1..=5)));
    // One that has gone may not be missed yet when its successor is there.
    let mut one_fresh = view(3, 5);
    one_fresh.seen(8).steady = Duration::ZERO;
    assert_eq!(one_fresh.next(), Next::Rests);
    let mut fewer = view(5, 0);
    assert_eq!(fewer.next(), Next::Rests);
    fewer.few = Duration::from_secs(600);
    assert_eq!(fewer.voters_next(), Some(ids(1..=3)));
}

/// A leader that has just begun has seen nobody for ten seconds: five do not become three because of that.
#[test]
fn a_new_leader_waits_for_learners_to_be_steady() {
    let mut view = view(5, 4);
    view.seen(2).leaving = true;
    (6..=9).for_each(|id| view.seen(id).steady = Duration::from_secs(1));
    assert!(matches!(view.next(), Next::Waits(_)), "{}", view.next());
    view.seen(7).steady = Duration::from_secs(10);
    assert_eq!(view.voters_next(), Some(ids([1, 3, 4, 5, 7])));
    // Where there is nobody to wait for, three are better than one that leaves.
    (6..=9).for_each(|id| view.lose(id));
    assert_eq!(view.voters_next(), Some(ids([1, 3, 4])));
}

#[test]
fn a_majority_of_the_last_resting_number_answers() {
    let mut view = view(5, 0);
    view.few = Duration::from_secs(600);
    // Of three voters two would answer: enough for three, too few after five.
    view.seen(2).answering = false;
    view.seen(2).silent = Duration::from_secs(3);
    assert!(matches!(view.next(), Next::Waits(_)));
    view.lose(2);
    assert_eq!(view.voters_next(), Some(ids([1, 3, 4])));
}

#[test]
fn a_learner_behind_is_no_voter() {
    let mut view = view(1, 2);
    view.seen(3).steady = Duration::from_secs(9);
    assert_eq!(view.next(), Next::Rests);
}

#[test]
fn a_lost_voter_is_replaced_in_one_change() {
    let mut view = view(3, 1);
    view.lose(2);
    assert_eq!(view.voters_next(), Some(ids([1, 3, 4])));
    view.seen(4).steady = Duration::ZERO;
    assert!(matches!(view.next(), Next::Waits(_)));
}

#[test]
fn a_voter_that_was_heard_a_moment_ago_keeps_its_place() {
    let mut view = view(3, 1);
    view.seen(2).answering = false;
    view.seen(2).silent = Duration::from_secs(6);
    assert_eq!(view.next(), Next::Rests);
}

#[test]
fn the_leader_hands_over_before_it_leaves() {
    let mut leaves = view(3, 1);
    leaves.seen(1).leaving = true;
    // It answers, and is behind.
    leaves.seen(2).steady = Duration::ZERO;
    let Next::Do(Step::HandOver(to), _) = leaves.next() else {
        panic!("{}", leaves.next());
    };
    assert_eq!(to, MemberId(3));
    leaves.seen(2).steady = Duration::from_secs(60);
    leaves.leader = to;
    assert_eq!(leaves.voters_next(), Some(ids(2..=4)));
    // A lone one has nobody to hand over to: it stays until there are three others.
    let mut alone = view(1, 1);
    alone.seen(1).leaving = true;
    assert!(matches!(alone.next(), Next::Waits(_)));
    let mut alone = view(1, 3);
    alone.seen(1).leaving = true;
    let settled = alone.settle();
    assert_eq!(settled.resting(), &ids(2..=4));
    assert!(!settled.members.contains_key(&MemberId(1)));
}

#[test]
fn who_leaves_does_not_come_in() {
    let mut view = view(3, 0);
    view.members.insert(MemberId(4), ready(""));
    assert_eq!(
        view.next(),
        Next::Do(Step::AddLearner(MemberId(4)), "it has registered")
    );
    view.seen(4).leaving = true;
    assert_eq!(view.settle().resting(), &ids(1..=3));
    assert!(matches!(view.next(), Next::Waits(_)), "its run has to end");
    view.seen(4).live = Some(false);
    assert!(matches!(view.next(), Next::Do(Step::Remove(_), _)));
}

#[test]
fn a_voter_of_three_is_not_removed_without_another() {
    let mut view = view(3, 0);
    view.seen(3).leaving = true;
    assert!(matches!(view.next(), Next::Waits(_)));
}

#[test]
fn who_is_barred_gets_a_tombstone_when_its_run_is_over() {
    let mut view = view(3, 0);
    view.seen(3).barred = true;
    assert!(matches!(view.next(), Next::Waits(_)), "{}", view.next());
    view.lose(3);
    assert!(matches!(
        view.next(),
        Next::Do(Step::Remove(MemberId(3)), _)
    ));
    let settled = view.settle();
    assert!(settled.members[&MemberId(3)].removed);
    assert_eq!(settled.resting(), &ids(1..=3), "nobody can take its place");
}

#[test]
fn zones_are_spread() {
    let mut view = view(3, 2);
    for (id, zone) in [(1, "a"), (2, "a"), (3, "b"), (4, "b"), (5, "c")] {
        view.seen(id).zone = zone.into();
    }
    assert_eq!(view.voters_next(), Some(ids([1, 3, 5])));
}

/// Whatever the order of their ids: five of eight in three zones are two, two and one.
#[test]
fn five_are_spread_over_three_zones() {
    for turn in 0..8u64 {
        let mut view = view(3, 5);
        for id in 1..=8 {
            view.seen(id).zone = format!("zone {}", (id * 3 + turn) % 8 % 3);
        }
        let voters = view.settle().resting().clone();
        let mut zones: BTreeMap<&str, usize> = BTreeMap::new();
        for voter in &voters {
            *zones.entry(&view.members[voter].zone).or_default() += 1;
        }
        assert!(zones.values().all(|voters| *voters <= 2), "{zones:?}");
        assert_eq!((voters.len(), zones.len()), (5, 3));
    }
}

#[test]
fn churn_is_bounded() {
    let mut view = view(3, 40);
    for id in 4..=43 {
        view.lose(id);
        view.seen(id).silent = Duration::from_secs(100 + id);
    }
    let settled = view.settle();
    assert_eq!(settled.members.len(), 3 + Rules::default().dead_kept);
    assert!(!settled.members.contains_key(&MemberId(43)), "longest dead");
}

#[test]
fn the_dead_go_after_long() {
    let mut view = view(3, 1);
    view.lose(4);
    assert_eq!(view.next(), Next::Rests);
    view.seen(4).silent = Rules::default().remove_dead;
    assert!(!view.settle().members.contains_key(&MemberId(4)));
}

#[test]
fn the_format_rises_last() {
    let mut view = view(1, 2);
    view.formats = (1, 2);
    assert!(view.voters_next().is_some());
    assert_eq!(view.settle().formats, (2, 2));
}
