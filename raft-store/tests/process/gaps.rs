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
}

/// A time without a commit, during the whole of which the same majority was mutually connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// Nanoseconds since the run began.
    pub from: u64,
    pub length: Duration,
    pub majority: Vec<usize>,
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
