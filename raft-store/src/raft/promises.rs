//! What peers have promised, as this member has seen it: a run that says hello with less has lost what was on its disk,
//! or stands on an old copy of it (DESIGN §8, reverted log).

use std::collections::BTreeMap;

use parking_lot::Mutex;

use crate::ids::{BootNonce, MemberId};
use crate::link::Hello;
use crate::log::Vote;

/// See the module's documentation.
#[derive(Default)]
pub(super) struct Promises(Mutex<BTreeMap<MemberId, Promise>>);

#[derive(Default)]
struct Promise {
    /// Term and member of the highest vote that it has shown.
    vote: (u64, u64),
    /// The index behind the last committed entry that it has acknowledged.
    committed_next: u64,
    /// Its last run that was judged well. What a run promises itself it cannot have lost.
    good: Option<BootNonce>,
    /// A run that has shown less, once.
    bad: Option<BootNonce>,
}

/// Of a hello.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Good,
    /// Less than was promised. It may be the late hello of an earlier run: it has to say it again.
    Again,
    /// It has said it again.
    Reverted,
}

impl Promises {
    /// `member` holds this vote, durably, or a higher one.
    pub(super) fn shown(&self, member: MemberId, vote: Vote) {
        let mut promises = self.0.lock();
        let promise = promises.entry(member).or_default();
        promise.vote = promise.vote.max((vote.term, vote.node));
    }

    /// `member` has the committed entries below this index, durably.
    pub(super) fn acknowledged(&self, member: MemberId, committed_next: u64) {
        let mut promises = self.0.lock();
        let promise = promises.entry(member).or_default();
        promise.committed_next = promise.committed_next.max(committed_next);
    }

    pub(super) fn judge(&self, hello: &Hello) -> Verdict {
        let mut promises = self.0.lock();
        let promise = promises.entry(hello.member).or_default();
        let vote = hello.vote.map_or((0, 0), |vote| (vote.term, vote.node));
        let next = hello.last.map_or(0, |last| last.index + 1);
        let judged = promise.good == Some(hello.nonce);
        if judged || (vote >= promise.vote && next >= promise.committed_next) {
            promise.good = Some(hello.nonce);
            promise.vote = promise.vote.max(vote);
            return Verdict::Good;
        }
        match promise.bad.replace(hello.nonce) == Some(hello.nonce) {
            true => Verdict::Reverted,
            false => Verdict::Again,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::LogId;

    const PEER: MemberId = MemberId(2);

    fn hello(nonce: u64, vote: (u64, u64), last: Option<u64>) -> Hello {
        let (term, node) = vote;
        Hello {
            cluster: None,
            member: PEER,
            nonce: BootNonce(nonce),
            formats: (1, 1),
            vote: Some(Vote {
                term,
                node,
                committed: false,
            }),
            last: last.map(|index| LogId {
                term: 1,
                node: 1,
                index,
            }),
            addresses: Vec::new(),
        }
    }

    #[test]
    fn a_run_with_less_than_was_promised_is_found_at_its_second_hello() {
        let promises = Promises::default();
        let judge = |nonce, vote, last| promises.judge(&hello(nonce, vote, last));
        assert_eq!(judge(1, (0, 0), None), Verdict::Good);
        promises.acknowledged(PEER, 8);
        let vote = Vote {
            term: 3,
            node: 1,
            committed: true,
        };
        promises.shown(PEER, vote);
        // A connection of the same run that was long on its way.
        assert_eq!(judge(1, (0, 0), None), Verdict::Good);
        assert_eq!(judge(2, (3, 1), Some(7)), Verdict::Good, "all of it");
        assert_eq!(judge(3, (3, 1), Some(6)), Verdict::Again);
        assert_eq!(judge(2, (3, 1), Some(9)), Verdict::Good, "another run");
        assert_eq!(judge(3, (3, 1), Some(6)), Verdict::Reverted);
        assert_eq!(judge(4, (2, 9), Some(20)), Verdict::Again, "its vote");
        assert_eq!(judge(4, (2, 9), Some(20)), Verdict::Reverted);
        assert_eq!(judge(5, (4, 2), Some(7)), Verdict::Good);
        assert_eq!(
            judge(6, (3, 1), Some(7)),
            Verdict::Again,
            "a hello's vote counts"
        );
    }
}
