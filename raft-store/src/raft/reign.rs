//! Who leads, and what elections ask of the core (DESIGN §7).

use std::collections::BTreeSet;
use std::time::Duration;

use openraft::ServerState;

use super::core::Core;
use super::peers::NO_QUORUM_AFTER;
use super::promises::Verdict;
use super::types::{Snapshot, SnapshotMeta, exact_vote, to_vote};
use crate::ids::MemberId;
use crate::link::{Hello, Refused};
use crate::log::{LogId, Vote};

/// What the core says of itself, all its earlier work done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) leading: bool,
    pub(crate) vote: Vote,
    /// Since the vote was last heard.
    pub(crate) vote_age: Duration,
}

impl Standing {
    /// Whether it has given its vote to anybody but `member`, who may be about to win with it; itself too.
    pub(crate) fn has_promised(&self, member: MemberId, within: Duration) -> bool {
        !self.vote.committed && self.vote.node != member.0 && self.vote_age < within
    }
}

impl Core {
    /// The vote this member holds, durably.
    pub(crate) fn vote(&self) -> Vote {
        let vote = to_vote(&self.raft().server_metrics().borrow().vote);
        // Before the core has reported for the first time.
        let found = self.found_vote();
        match (vote.term, vote.node) < (found.term, found.node) {
            true => found,
            false => vote,
        }
    }

    pub(crate) fn term(&self) -> u64 {
        self.vote().term
    }

    /// The last entry in the log here, durable or not.
    pub(crate) fn last(&self) -> Option<LogId> {
        self.log().log_state().last
    }

    /// When the newest AppendEntries was sent that a quorum has answered under this leader's vote, on this member's
    /// clock; the beginning of its election at least. `None`: it does not lead.
    pub(crate) fn quorum_clock(&self) -> Option<Duration> {
        let vote = self.vote();
        let leading = self.is_leading() && vote.node == self.member().0;
        leading.then(|| self.peers().quorum_clock(vote))
    }

    /// Whether a quorum has lately answered this leader. Without one it proposes nothing and answers no reads.
    pub(crate) fn has_quorum(&self) -> bool {
        let clock = self.quorum_clock();
        clock.is_some_and(|clock| self.clock().now().saturating_sub(clock) <= NO_QUORUM_AFTER)
    }

    /// Whether entries of so many bytes that a leader sends fit here, some room left for those of an own leadership.
    pub(crate) fn takes(&self, bytes: usize) -> bool {
        let log = self.log();
        log.has_room(bytes + 2 * log.append_bytes())
    }

    /// A leader was heard.
    pub(crate) fn heard(&self) {
        self.peers().heard();
    }

    /// How long none was.
    pub(crate) fn silence(&self) -> Duration {
        self.peers().silence()
    }

    /// Waits until the core has done what it was told before. `None`: it has ended.
    pub(crate) async fn standing(&self) -> Option<Standing> {
        let asked = self.raft().with_raft_state(|state| {
            let changed = state.vote_last_modified();
            Standing {
                leading: state.server_state == ServerState::Leader,
                vote: to_vote(state.vote_ref()),
                vote_age: changed.map_or(Duration::MAX, |at| at.elapsed()),
            }
        });
        asked.await.ok()
    }

    /// Begins an election if `still` says so of how things stand then: no vote is given to another in between, or the
    /// election would be one against that other. Whether it has begun one; `None`: the core has ended. A leader and a
    /// learner begin none.
    pub(crate) async fn elect_if(&self, still: impl FnOnce(&Standing) -> bool) -> Option<bool> {
        let _alone = self.voting().await;
        if !still(&self.standing().await?) {
            return Some(false);
        }
        self.peers().electing();
        self.raft().trigger().elect().await.ok().map(|()| true)
    }

    /// Waits until the requests to all other voters for `vote` were answered or given up, `limit` at most.
    pub(crate) async fn votes_are_in(&self, vote: Vote, limit: Duration) {
        let requests = self.membership().all_voters().len().saturating_sub(1);
        // Too late is as good as answered.
        let _ = tokio::time::timeout(limit, self.peers().votes_are_in(vote, requests)).await;
    }

    /// Sends a heartbeat to every member and waits until that is done; `false`: the core has ended.
    pub(crate) async fn heartbeat(&self) -> bool {
        if self.raft().trigger().heartbeat().await.is_err() {
            return false;
        }
        let Some(standing) = self.standing().await else {
            return false;
        };
        if !standing.leading {
            return true;
        }
        let members = self.membership().members().into_iter();
        if let Some(stuck) = self.peers().beat(members, standing.vote) {
            let reason = format!("the stream to member {stuck} is stuck");
            self.fail(reason).await;
            return false;
        }
        true
    }

    /// Hand-over: stores `vote`, uncommitted, if this member still follows `leader`. Whether it is stored, durably.
    pub(crate) async fn take_vote(&self, leader: Vote, vote: Vote) -> bool {
        let follows = self
            .standing()
            .await
            .is_some_and(|now| now.vote == leader && leader.committed);
        if !follows || vote.committed || vote <= leader {
            return false;
        }
        let (meta, snapshot) = (SnapshotMeta::default(), Box::default());
        let nothing = Snapshot { meta, snapshot };
        let taken = self.raft().install_full_snapshot(exact_vote(vote), nothing);
        taken
            .await
            .is_ok_and(|answer| to_vote(&answer.vote) == vote)
    }

    /// Hand-over: elects itself as `vote` says, if it still follows `leader`.
    pub(crate) async fn elect_as(&self, leader: Vote, vote: Vote) -> bool {
        let mine = vote.node == self.member().0 && vote.term == leader.term + 1;
        mine && self.elect_if(|now| now.vote == leader).await == Some(true)
    }

    /// When what `member` answered last was sent, on this member's clock; `None`: it has not answered under this vote.
    pub(crate) fn last_answer(&self, member: MemberId) -> Option<Duration> {
        self.peers().last_answer(member)
    }

    /// Whether nothing is sent to this member and nothing is taken from it, since it has lost what it had promised.
    pub(crate) fn is_barred(&self, member: MemberId) -> bool {
        self.peers().is_barred(member)
    }

    /// Whether to talk to a run that says this of itself. One that has lost what it had promised is barred.
    pub(crate) fn judge(&self, hello: &Hello) -> Result<(), Refused> {
        let member = hello.member;
        if self.is_barred(member) {
            return Err(Refused::Reverted);
        }
        match self.peers().promises.judge(hello) {
            Verdict::Good => Ok(()),
            Verdict::Again => Err(Refused::Busy),
            Verdict::Reverted => {
                self.peers().bar(member);
                tracing::error!(%member, vote = ?hello.vote, last = ?hello.last, "a member has lost what it had promised: it is barred and must be replaced");
                Err(Refused::Reverted)
            }
        }
    }

    pub(crate) fn barred(&self) -> BTreeSet<MemberId> {
        self.peers().barred()
    }
}
