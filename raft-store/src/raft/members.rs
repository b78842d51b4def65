//! Who the members are, and changing it, one step at a time (DESIGN §9).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use openraft::error::{ChangeMembershipError, ClientWriteError, RaftError};
use openraft::{ChangeMembers, EmptyNode};

use super::core::Core;
use super::types::{self, to_log_id};
use crate::ids::MemberId;
use crate::log::LogId;

/// For a member that was silent longer no entries are kept: it gets a snapshot when it comes back.
const LATELY: Duration = Duration::from_secs(10);

/// The newest membership in the log here, committed or not.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Membership {
    /// One configuration, or two while it is joint: then a majority of each decides.
    pub(crate) voters: Vec<BTreeSet<MemberId>>,
    pub(crate) learners: BTreeSet<MemberId>,
    /// Of its entry.
    pub(crate) id: Option<LogId>,
}

impl Membership {
    pub(crate) fn is_voter(&self, member: MemberId) -> bool {
        self.voters.iter().any(|voters| voters.contains(&member))
    }

    /// Of all configurations.
    pub(crate) fn all_voters(&self) -> BTreeSet<MemberId> {
        self.voters.iter().flatten().copied().collect()
    }

    /// Voters and learners.
    pub(crate) fn members(&self) -> BTreeSet<MemberId> {
        &self.all_voters() | &self.learners
    }

    /// Whether those for whom `says` holds are a majority of each configuration.
    pub(crate) fn is_quorum(&self, says: impl Fn(MemberId) -> bool) -> bool {
        let of = |voters: &BTreeSet<MemberId>| {
            voters.iter().filter(|voter| says(**voter)).count() > voters.len() / 2
        };
        !self.voters.is_empty() && self.voters.iter().all(of)
    }
}

/// Why a membership was not changed, or nobody knows whether it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ChangeError {
    /// Not appended, or taken back by a later leader. A joint configuration may be left behind.
    #[error("this member does not lead")]
    NotLeader,
    /// The one before is not committed yet.
    #[error("another change is under way")]
    UnderWay,
    /// A new voter must be a learner first; who is removed must not be a voter.
    #[error("a member that is no learner")]
    NoLearner,
    #[error("no voters")]
    NoVoters,
    #[error("the core has ended")]
    Ended,
}

pub(super) fn configurations(of: &types::Membership) -> Vec<BTreeSet<MemberId>> {
    let ids = |voters: &BTreeSet<u64>| voters.iter().copied().map(MemberId).collect();
    of.get_joint_config().iter().map(ids).collect()
}

impl Core {
    pub(crate) fn membership(&self) -> Membership {
        let stored = self
            .raft()
            .server_metrics()
            .borrow()
            .membership_config
            .clone();
        let membership = stored.membership();
        Membership {
            voters: configurations(membership),
            learners: membership.learner_ids().map(MemberId).collect(),
            id: stored.log_id().map(to_log_id),
        }
    }

    /// Up to which index the log of each member is known to match; nothing unless this member leads.
    pub(crate) fn progress(&self) -> BTreeMap<MemberId, Option<u64>> {
        let metrics = self.raft().data_metrics();
        let metrics = metrics.borrow();
        let replication = metrics.replication.iter().flatten();
        replication
            .map(|(member, matched)| (MemberId(*member), matched.map(|id| id.index)))
            .collect()
    }

    /// The first index that a member needs of this leader's log which has answered lately.
    pub(crate) fn needed(&self) -> Option<u64> {
        let lately = self.clock().now().saturating_sub(LATELY);
        let progress = self.progress();
        let others = progress
            .iter()
            .filter(|(member, _)| **member != self.member());
        others
            .filter(|(member, _)| !self.is_barred(**member))
            .filter(|(member, _)| self.peers().last_answer(**member) >= Some(lately))
            .map(|(member, matched)| (*matched).max(self.peers().sending(*member)))
            .map(|has| has.map_or(0, |index| index + 1))
            .min()
    }

    /// Makes `member` a learner. Harmless when it is one, or a voter.
    pub(crate) async fn add_learner(&self, member: MemberId) -> Result<(), ChangeError> {
        let nodes = BTreeMap::from([(member.0, EmptyNode {})]);
        self.change(ChangeMembers::AddNodes(nodes)).await
    }

    /// Makes `voters` the voters, over a joint configuration; those that were stay learners. A repetition ends a joint
    /// configuration that was left behind. Without a deadline: it belongs into a task of its own.
    pub(crate) async fn replace_voters(
        &self,
        voters: BTreeSet<MemberId>,
    ) -> Result<(), ChangeError> {
        let voters = voters.into_iter().map(|member| member.0).collect();
        self.change(ChangeMembers::ReplaceAllVoters(voters)).await
    }

    pub(crate) async fn remove_learner(&self, member: MemberId) -> Result<(), ChangeError> {
        let nodes = BTreeSet::from([member.0]);
        self.change(ChangeMembers::RemoveNodes(nodes)).await
    }

    async fn change(&self, change: ChangeMembers<u64, EmptyNode>) -> Result<(), ChangeError> {
        match self.raft().change_membership(change, true).await {
            Ok(_) => Ok(()),
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_))) => {
                Err(ChangeError::NotLeader)
            }
            Err(RaftError::APIError(ClientWriteError::ChangeMembershipError(error))) => {
                Err(match error {
                    ChangeMembershipError::InProgress(_) => ChangeError::UnderWay,
                    ChangeMembershipError::EmptyMembership(_) => ChangeError::NoVoters,
                    ChangeMembershipError::LearnerNotFound(_) => ChangeError::NoLearner,
                })
            }
            Err(RaftError::Fatal(_)) => Err(ChangeError::Ended),
        }
    }
}
