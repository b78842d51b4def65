//! What the leader sees at one moment, and since when: a [`View`] of it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::step::THREE_BELOW;
use super::view::{Rules, Seen, View};
use crate::ids::MemberId;
use crate::raft::members::Membership;
use crate::state::Members;

/// Whoever has not answered within this time does not answer.
const ANSWERS_WITHIN: Duration = Duration::from_millis(1500);
/// Lengths of the log that are remembered; one a look.
const LENGTHS: usize = 64;

/// One look. Times are those of the leader's clock.
pub(crate) struct Look {
    pub(crate) now: Duration,
    pub(crate) term: u64,
    pub(crate) leader: MemberId,
    pub(crate) membership: Membership,
    pub(crate) committed: bool,
    pub(crate) rows: std::sync::Arc<Members>,
    /// Up to where the log of each matches.
    pub(crate) matched: BTreeMap<MemberId, Option<u64>>,
    /// When what each answered last was sent, under the present vote.
    pub(crate) answered: BTreeMap<MemberId, Duration>,
    pub(crate) connected: BTreeSet<MemberId>,
    pub(crate) barred: BTreeSet<MemberId>,
    pub(crate) leaving: BTreeSet<MemberId>,
    /// Index of the last entry, and bytes of entries written since the start.
    pub(crate) last: u64,
    pub(crate) written_bytes: u64,
    pub(crate) format: u16,
    pub(crate) format_known: u16,
}

/// What is remembered from look to look, of one term.
#[derive(Default)]
pub(crate) struct Sight {
    term: u64,
    began: Duration,
    steady_since: BTreeMap<MemberId, Duration>,
    /// When there were last six members.
    many: Duration,
    /// How many bytes were written when the log ended at an index, oldest first.
    lengths: VecDeque<(u64, u64)>,
}

impl Sight {
    /// Takes a look into account.
    pub(crate) fn view(&mut self, look: &Look, rules: &Rules) -> View {
        if look.term != self.term {
            *self = Self {
                term: look.term,
                began: look.now,
                many: look.now,
                ..Self::default()
            };
        }
        if self
            .lengths
            .back()
            .is_none_or(|(last, _)| *last < look.last)
        {
            self.lengths.push_back((look.last, look.written_bytes));
        }
        if self.lengths.len() > LENGTHS {
            self.lengths.pop_front();
        }
        let rows = look.rows.iter().map(|(id, _)| id);
        let all: BTreeSet<MemberId> = rows.chain(look.membership.members()).collect();
        let members = all.into_iter().map(|id| (id, self.seen(id, look, rules)));
        let members: BTreeMap<_, _> = members.collect();
        self.steady_since.retain(|id, _| members.contains_key(id));
        let common = look.rows.iter().map(|(_, row)| row.info.formats.1).min();
        let common = common.unwrap_or(look.format).min(look.format_known);
        let mut view = View {
            leader: look.leader,
            voters: look.membership.voters.clone(),
            learners: look.membership.learners.clone(),
            committed: look.committed,
            members,
            few: Duration::ZERO,
            formats: (look.format, common),
        };
        if view.present(Duration::ZERO, rules) >= THREE_BELOW {
            self.many = look.now;
        }
        view.few = look.now.saturating_sub(self.many);
        view
    }

    fn seen(&mut self, id: MemberId, look: &Look, rules: &Rules) -> Seen {
        let row = look.rows.get(id);
        let leads = id == look.leader;
        let answered = look.answered.get(&id).copied();
        let in_membership = look.membership.is_voter(id) || look.membership.learners.contains(&id);
        let answering = match in_membership {
            _ if leads => true,
            true => answered.is_some_and(|at| look.now.saturating_sub(at) <= ANSWERS_WITHIN),
            false => look.connected.contains(&id),
        };
        let heard = match answering {
            true => look.now,
            false => answered.unwrap_or(self.began).max(self.began),
        };
        let (lowest, highest) = row.map_or((0, 0), |row| row.info.formats);
        let steady = match answering && (leads || self.is_close(id, look, rules)) {
            true => *self.steady_since.entry(id).or_insert(look.now),
            false => {
                self.steady_since.remove(&id);
                look.now
            }
        };
        Seen {
            live: row.map(|row| row.live),
            zone: row.map_or_else(String::new, |row| row.info.zone.clone()),
            reads_format: (lowest..=highest).contains(&look.format),
            answering,
            steady: look.now.saturating_sub(steady),
            silent: look.now.saturating_sub(heard),
            barred: look.barred.contains(&id),
            leaving: look.leaving.contains(&id),
            removed: look.rows.is_removed(id),
        }
    }

    fn is_close(&self, id: MemberId, look: &Look, rules: &Rules) -> bool {
        let Some(matched) = look.matched.get(&id).copied().flatten() else {
            return false;
        };
        if look.last.saturating_sub(matched) <= rules.close_entries {
            return true;
        }
        // The newest length that it has: no more than what was written after that is missing.
        let had = self.lengths.iter().rev().find(|(last, _)| *last <= matched);
        had.is_some_and(|(_, bytes)| look.written_bytes.saturating_sub(*bytes) <= rules.close_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::{Close, EntryBody, MemberInfo, Registration};
    use crate::ids::BootNonce;
    use crate::limits::Limits;
    use crate::state::State;

    fn rows(formats: &[u16]) -> std::sync::Arc<Members> {
        let mut state = State::new(Limits::format_1());
        for (at, highest) in formats.iter().enumerate() {
            let info = MemberInfo {
                formats: (1, *highest),
                ..MemberInfo::default()
            };
            let asked = Registration {
                member: MemberId(at as u64 + 1),
                nonce: BootNonce(1),
                latest: None,
                info,
            };
            let body = EntryBody {
                proposals: Vec::new(),
                close: Some(Close::Register(asked)),
            };
            state.apply(at as u64 + 1, &body).expect("in order");
        }
        state.shared_members().clone()
    }

    fn look(seconds: u64, formats: &[u16]) -> Look {
        let ids = |ids: &[u64]| ids.iter().copied().map(MemberId).collect::<BTreeSet<_>>();
        let now = Duration::from_secs(seconds);
        Look {
            now,
            term: 4,
            leader: MemberId(1),
            membership: Membership {
                voters: vec![ids(&[1])],
                learners: ids(&[2]),
                id: None,
            },
            committed: true,
            rows: rows(formats),
            matched: BTreeMap::from([(MemberId(2), Some(1000))]),
            answered: BTreeMap::from([(MemberId(2), now)]),
            connected: BTreeSet::new(),
            barred: BTreeSet::new(),
            leaving: BTreeSet::new(),
            last: 1000,
            written_bytes: 0,
            format: 1,
            format_known: 2,
        }
    }

    fn second(sight: &mut Sight, look: &Look) -> Seen {
        let view = sight.view(look, &Rules::default());
        view.members[&MemberId(2)].clone()
    }

    #[test]
    fn it_is_steady_while_it_answers_and_is_close() {
        let mut sight = Sight::default();
        assert_eq!(
            second(&mut sight, &look(100, &[1, 1])).steady,
            Duration::ZERO
        );
        let seen = second(&mut sight, &look(110, &[1, 1]));
        assert_eq!(seen.steady, Duration::from_secs(10));
        // 250 entries behind is close, one more is not, unless they are small.
        let mut behind = look(111, &[1, 1]);
        behind.last = 1250;
        assert_eq!(second(&mut sight, &behind).steady, Duration::from_secs(11));
        behind = look(112, &[1, 1]);
        (behind.last, behind.written_bytes) = (1251, Rules::default().close_bytes);
        assert_eq!(second(&mut sight, &behind).steady, Duration::from_secs(12));
        behind.written_bytes += 1;
        assert_eq!(second(&mut sight, &behind).steady, Duration::ZERO);
        assert_eq!(
            second(&mut sight, &look(113, &[1, 1])).steady,
            Duration::ZERO
        );
        // So is one that does not answer, or whom another leader knew.
        let mut silent = look(120, &[1, 1]);
        silent.answered = BTreeMap::from([(MemberId(2), Duration::from_secs(118))]);
        let seen = second(&mut sight, &silent);
        assert!(!seen.answering && seen.steady.is_zero());
        assert_eq!(seen.silent, Duration::from_secs(2));
        second(&mut sight, &look(121, &[1, 1]));
        let mut later = look(140, &[1, 1]);
        later.term = 5;
        assert_eq!(second(&mut sight, &later).steady, Duration::ZERO);
        // Nobody is silent for longer than this leader leads.
        later.now = Duration::from_secs(141);
        later.answered.clear();
        assert_eq!(second(&mut sight, &later).silent, Duration::from_secs(1));
    }

    #[test]
    fn the_format_is_what_all_rows_and_this_build_read() {
        let formats = |formats: &[u16]| {
            let view = Sight::default().view(&look(1, formats), &Rules::default());
            view.formats
        };
        assert_eq!(formats(&[2, 2]), (1, 2));
        assert_eq!(formats(&[2, 1]), (1, 1));
        assert_eq!(formats(&[3, 3]), (1, 2));
        assert_eq!(formats(&[]), (1, 1));
    }

    #[test]
    fn joiners_are_those_connected() {
        let mut look = look(1, &[1, 1, 1]);
        let third = |look: &Look| {
            let view = Sight::default().view(look, &Rules::default());
            view.members[&MemberId(3)].answering
        };
        assert!(!third(&look));
        look.connected.insert(MemberId(3));
        assert!(third(&look));
    }
}
