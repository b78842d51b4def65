//! Times without a commit, while a majority could have made one.

use std::collections::BTreeSet;
use std::time::Duration;

/// Who ran and reached whom from a moment on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Situation {
    /// Nanoseconds since the run began.
    pub at: u64,
    pub voters: BTreeSet<usize>,
    /// Those that ran.
    pub up: BTreeSet<usize>,
    /// (from, to): packets went.
    pub links: BTreeSet<(usize, usize)>,
}

impl Situation {
    /// Whether these are a majority of the voters and all reach each other.
    fn serves(&self, set: &[usize]) -> bool {
        let voters = set.iter().filter(|member| self.voters.contains(member));
        let majority = voters.count() * 2 > self.voters.len();
        let connected = |from: &usize| set.iter().all(|to| self.links.contains(&(*from, *to)));
        majority
            && set
                .iter()
                .all(|member| self.up.contains(member) && connected(member))
    }

    fn reach_each_other(&self, one: usize, other: usize) -> bool {
        [(one, other), (other, one)]
            .iter()
            .all(|link| self.links.contains(link))
    }

    /// Whether some voter that `member` does not reach has a majority of its own: it may lead, and nobody passes a
    /// renewal on to it.
    fn is_led_without(&self, member: usize) -> bool {
        let leads = |voter: &usize| {
            let follows =
                |other: &&usize| self.up.contains(other) && self.reach_each_other(*voter, **other);
            let followers = self.voters.iter().filter(follows).count();
            self.up.contains(voter) && followers * 2 > self.voters.len()
        };
        let mut apart = self
            .voters
            .iter()
            .filter(|voter| **voter != member && !self.reach_each_other(**voter, member));
        apart.any(leads)
    }
}

/// A time without a commit, during the whole of which the same majority was mutually connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// Nanoseconds since the run began.
    pub from: u64,
    pub length: Duration,
    pub majority: Vec<usize>,
}

/// Whether `member` was mutually connected with one and the same majority during all of this time, and nobody led whom
/// it did not reach.
pub fn was_served(member: usize, (from, to): (u64, u64), situations: &[Situation]) -> bool {
    let first = situations
        .partition_point(|situation| situation.at <= from)
        .saturating_sub(1);
    let last = situations.partition_point(|situation| situation.at < to);
    let within = situations.get(first..last).unwrap_or_default();
    let mut voters: BTreeSet<usize> = within
        .iter()
        .flat_map(|situation| situation.voters.iter().copied())
        .collect();
    voters.insert(member);
    let mut sets = subsets(&voters)
        .into_iter()
        .filter(|set| set.contains(&member));
    let begun = within.first().is_some_and(|first| first.at <= from);
    let together = !within
        .iter()
        .any(|situation| situation.is_led_without(member));
    begun && together && sets.any(|set| within.iter().all(|situation| situation.serves(&set)))
}

fn subsets(of: &BTreeSet<usize>) -> Vec<Vec<usize>> {
    let members: Vec<usize> = of.iter().copied().collect();
    let choose = |bits: u32| {
        let chosen = members
            .iter()
            .enumerate()
            .filter(move |(at, _)| bits >> at & 1 == 1);
        chosen.map(|(_, member)| *member).collect()
    };
    (1..1 << members.len()).map(choose).collect()
}

/// The longest such time of every pause between two commits, or the last and `end`, longest first. `commits` and
/// `situations` in order of time.
pub fn gaps(commits: &[u64], situations: &[Situation], end: u64) -> Vec<Gap> {
    let ends = commits.iter().skip(1).copied().chain(std::iter::once(end));
    // A pause that is short needs no look at who could have ended it.
    let pauses = commits
        .iter()
        .copied()
        .zip(ends)
        .filter(|(from, to)| to.saturating_sub(*from) > 500_000_000);
    let mut found: Vec<Gap> = pauses
        .filter_map(|(from, to)| longest(from, to, situations))
        .collect();
    found.sort_by_key(|gap| std::cmp::Reverse(gap.length));
    found
}

/// The longest time within a pause that one majority was mutually connected.
fn longest(from: u64, to: u64, situations: &[Situation]) -> Option<Gap> {
    let first = situations
        .partition_point(|situation| situation.at <= from)
        .saturating_sub(1);
    let last = situations.partition_point(|situation| situation.at < to);
    let within = &situations[first..last];
    let mut members = BTreeSet::new();
    for situation in within {
        members.extend(situation.voters.iter().copied());
    }
    let mut best: Option<Gap> = None;
    for majority in subsets(&members) {
        let mut since = None;
        for (at, situation) in within.iter().enumerate() {
            let until = within.get(at + 1).map_or(to, |next| next.at).min(to);
            if !situation.serves(&majority) {
                since = None;
                continue;
            }
            let start = *since.get_or_insert(situation.at.max(from));
            let length = Duration::from_nanos(until.saturating_sub(start));
            if best.as_ref().is_none_or(|best| length > best.length) {
                best = Some(Gap {
                    from: start,
                    length,
                    majority: majority.clone(),
                });
            }
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn situation(at: u64, up: &[usize], cut: &[(usize, usize)]) -> Situation {
        let up: BTreeSet<usize> = up.iter().copied().collect();
        let all = up.iter().flat_map(|from| up.iter().map(|to| (*from, *to)));
        let links = all.filter(|link| !cut.contains(link)).collect();
        Situation {
            at: at * SECOND,
            voters: [1, 2, 3].into(),
            up,
            links,
        }
    }

    #[test]
    fn a_pause_counts_while_one_majority_is_connected() {
        let all = [1, 2, 3];
        let situations = [
            situation(0, &all, &[]),
            // The leader dies: two are left, and were connected before.
            situation(10, &[2, 3], &[]),
            // Nobody has a majority.
            situation(30, &[2, 3], &[(2, 3)]),
            situation(40, &all, &[(2, 3)]),
        ];
        let commits = [0, 10 * SECOND - 1, 13 * SECOND, 29 * SECOND, 42 * SECOND];
        let found = gaps(&commits, &situations, 43 * SECOND);
        let seconds: Vec<u64> = found.iter().map(|gap| gap.length.as_secs()).collect();
        assert_eq!(seconds, [16, 9, 3, 2, 1]);
        assert_eq!(found[0].majority, [2, 3]);
    }

    #[test]
    fn who_was_connected_with_a_majority_all_the_time() {
        let all = [1, 2, 3];
        let situations = [
            situation(0, &all, &[]),
            situation(10, &[1, 3], &[]),
            situation(20, &all, &[(1, 2), (2, 1), (1, 3), (3, 1)]),
            situation(30, &all, &[]),
        ];
        let served =
            |member, from, to| was_served(member, (from * SECOND, to * SECOND), &situations);
        assert!(
            served(1, 2, 19) && served(3, 2, 19),
            "the leader may have gone"
        );
        assert!(!served(2, 2, 12), "it was down");
        assert!(!served(1, 12, 22), "it was cut off");
        assert!(served(2, 21, 40) && !served(1, 21, 40));
        assert!(!served(3, 15, 25), "with one majority, then with another");
        assert!(served(1, 30, 40));
        // Two do not reach each other: the third may follow either.
        let apart = [situation(0, &all, &[(1, 2), (2, 1)])];
        let served = |member| was_served(member, (SECOND, 9 * SECOND), &apart);
        assert!(!served(1) && !served(2) && served(3));
        // A learner needs a majority of the voters beside it.
        let learner = [situation(0, &[1, 2, 4], &[]), situation(5, &[1, 4], &[])];
        assert!(was_served(4, (SECOND, 4 * SECOND), &learner));
        assert!(!was_served(4, (SECOND, 6 * SECOND), &learner));
    }

    #[test]
    fn two_majorities_one_after_the_other_are_none_that_lasts() {
        let all = [1, 2, 3];
        let mut situations = vec![situation(0, &all, &[])];
        for at in 1..10 {
            let cut = [(1, 2), (2, 3), (3, 1)][at as usize % 3];
            situations.push(situation(at, &all, &[cut, (cut.1, cut.0)]));
        }
        let found = gaps(&[0], &situations, 10 * SECOND);
        assert!(found[0].length <= Duration::from_secs(3), "{found:?}");
    }
}
