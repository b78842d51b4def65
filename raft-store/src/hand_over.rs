//! Leadership handed over within milliseconds, without waiting until anybody misses the leader (DESIGN §7).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use crate::ids::MemberId;
use crate::link::messages::{Reply, Request};
use crate::log::Vote;
use crate::poll;
use crate::proposer::Queue;
use crate::raft::core::Core;
use crate::waiters::Waiters;

/// How often the target's progress is looked at.
const LOOK: Duration = Duration::from_millis(2);
/// How often a store that is being drained is looked at.
const DRAIN_LOOK: Duration = Duration::from_millis(10);
/// Voters that have not stored the vote by then are left out: the target asks them itself.
const STORE_LIMIT: Duration = Duration::from_millis(300);
/// How often a leader looks whether it has space.
const SPACE_LOOK: Duration = Duration::from_millis(200);
/// Voters that do not say by then whether they have space are passed over.
const SPACE_LIMIT: Duration = Duration::from_millis(300);
/// For giving leadership to one that has space.
const GIVE_LIMIT: Duration = Duration::from_secs(1);
/// Behind an attempt that failed: while it lasts, the membership cannot change.
const GIVE_AGAIN: Duration = Duration::from_secs(2);
/// For the target to begin its election.
const ELECT_LIMIT: Duration = Duration::from_millis(500);

/// Why leadership was not handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HandOverError {
    #[error("this member does not lead")]
    NotLeading,
    /// Two configurations decide until the change of voters is over.
    #[error("the voters are being changed")]
    Joint,
    #[error("no other voter answers, or it is not one that was asked for")]
    NoTarget,
    #[error("leadership is being handed over already")]
    UnderWay,
    /// This member leads on.
    #[error("the target did not catch up before the deadline")]
    Behind,
    /// This member leads no more; the others elect somebody as they do without a leader.
    #[error("leadership was given up, but the target was not seen to lead before the deadline")]
    NotElected,
}

/// Clones are handles to the same.
#[derive(Clone)]
pub(crate) struct HandOver(Arc<Shared>);

struct Shared {
    core: Core,
    queue: Queue,
    under_way: AtomicBool,
}

/// While it lives, nothing is proposed and no other hand-over begins.
struct Held<'a>(&'a Shared);

impl<'a> Held<'a> {
    fn new(shared: &'a Shared) -> Option<Self> {
        if shared.under_way.swap(true, Ordering::AcqRel) {
            return None;
        }
        shared.queue.hold(true);
        Some(Self(shared))
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.queue.hold(false);
        self.0.under_way.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests;

impl HandOver {
    pub(crate) fn new(core: Core, queue: Queue) -> Self {
        let under_way = AtomicBool::new(false);
        Self(Arc::new(Shared {
            core,
            queue,
            under_way,
        }))
    }

    /// Whether nobody may change the membership now: the target must have it.
    pub(crate) fn is_under_way(&self) -> bool {
        self.0.under_way.load(Ordering::Acquire)
    }

    /// Hands leadership to `to`, or to the voter that is nearest to it.
    pub(crate) async fn run(
        &self,
        to: Option<MemberId>,
        deadline: Instant,
    ) -> Result<MemberId, HandOverError> {
        let core = &self.0.core;
        if !core.is_leading() {
            return Err(HandOverError::NotLeading);
        }
        let held = Held::new(&self.0).ok_or(HandOverError::UnderWay)?;
        let target = self.target(to)?;
        timeout_at(deadline, self.caught_up(target))
            .await
            .unwrap_or(Err(HandOverError::Behind))?;
        let leader = core.vote();
        let vote = Vote {
            term: leader.term + 1,
            node: target.0,
            committed: false,
        };
        self.store(leader, vote, target).await?;
        // From here on this member follows: what waits may go to whoever leads next.
        drop(held);
        let request = Request::Elect { leader, vote };
        let elected = core.link().call(target, request, ELECT_LIMIT).await;
        tracing::info!(%target, ?elected, "leadership is handed over");
        let seen = core.wait_leadership(|| {
            let now = core.leadership();
            (now.term >= vote.term && now.leader.is_some()).then_some(now.leader)
        });
        match timeout_at(deadline, seen).await {
            Ok(Some(leader)) if leader == target => Ok(target),
            Ok(_) | Err(_) => Err(HandOverError::NotElected),
        }
    }

    /// Gives leadership away, however often it comes back, until nobody waits for an answer of `waiters`. Then this
    /// run can end without anybody noticing. `Behind` at the deadline.
    pub(crate) async fn drain(
        &self,
        waiters: &Waiters,
        deadline: Instant,
    ) -> Result<(), HandOverError> {
        waiters.drain();
        while Instant::now() < deadline && !waiters.is_closed() {
            let heir = match self.0.core.is_leading() {
                true => self.nearest(&self.with_space().await),
                false => None,
            };
            let given = self.run(heir, deadline).await;
            // Whoever is alone has nobody to give it to.
            let membership = self.0.core.membership();
            let member = self.0.core.member();
            let alone = membership.is_quorum(|voter| voter == member);
            let leads = self.0.core.is_leading() && !alone;
            if !leads && waiters.is_idle() {
                return Ok(());
            }
            tracing::debug!(?given, "draining");
            tokio::time::sleep(self.0.core.clock().wait(DRAIN_LOOK)).await;
        }
        Err(HandOverError::Behind)
    }

    /// Runs as long as the store: a leader whose disk is full gives leadership to a voter that has space, if there is
    /// one, and follows: that takes no space but for what the other one needs to begin.
    pub(crate) async fn give_way(self, waiters: Waiters) {
        let core = &self.0.core;
        while core.wait_leading(&waiters).await {
            let mut pause = SPACE_LOOK;
            if core.log().is_full()
                && let Some(heir) = self.heir_with_space().await
            {
                let deadline = Instant::now() + core.clock().wait(GIVE_LIMIT);
                let given = self.run(Some(heir), deadline).await;
                tracing::warn!(?given, %heir, "the disk is full: another member shall lead");
                if given.is_err() {
                    pause = GIVE_AGAIN;
                }
            }
            tokio::time::sleep(core.clock().wait(pause)).await;
        }
    }

    async fn heir_with_space(&self) -> Option<MemberId> {
        let core = &self.0.core;
        let space = self.with_space().await;
        // Where this member is needed for the heir's quorum, it must have room for what the heir begins with.
        let is_quorum = core.membership().is_quorum(|voter| space.contains(&voter));
        if !is_quorum && !core.takes(0) {
            return None;
        }
        self.nearest(&space)
    }

    /// Other voters that say that they have space.
    async fn with_space(&self) -> BTreeSet<MemberId> {
        let core = &self.0.core;
        let others = &core.membership().all_voters() - &BTreeSet::from([core.member()]);
        let asked = Request::Ping { vote: core.vote() };
        let mut replies = poll::ask(core, others, &asked, SPACE_LIMIT);
        let mut found = BTreeSet::new();
        while let Some((voter, reply)) = replies.recv().await {
            if matches!(reply, Reply::Pong { full: false, .. }) && !core.is_barred(voter) {
                found.insert(voter);
            }
        }
        found
    }

    /// Who of these has most of the log.
    fn nearest<'a>(&self, voters: impl IntoIterator<Item = &'a MemberId>) -> Option<MemberId> {
        let progress = self.0.core.progress();
        let matched = |member: &&MemberId| progress.get(member).copied().flatten();
        voters.into_iter().max_by_key(matched).copied()
    }

    /// A voter of the only configuration: the one asked for, or who has most of the log and is connected.
    fn target(&self, to: Option<MemberId>) -> Result<MemberId, HandOverError> {
        let core = &self.0.core;
        let membership = core.membership();
        let [voters] = &membership.voters[..] else {
            return Err(HandOverError::Joint);
        };
        let connected: BTreeSet<_> = core.link().peers().iter().map(|peer| peer.member).collect();
        let fit = |member: &&MemberId| {
            **member != core.member() && connected.contains(member) && !core.is_barred(**member)
        };
        let found = match to {
            Some(to) => voters.get(&to).filter(fit).copied(),
            None => self.nearest(voters.iter().filter(fit)),
        };
        found.ok_or(HandOverError::NoTarget)
    }

    /// Waits until all that was proposed is applied here and is in the target's log.
    async fn caught_up(&self, target: MemberId) -> Result<(), HandOverError> {
        let core = &self.0.core;
        loop {
            if !core.is_leading() {
                return Err(HandOverError::NotLeading);
            }
            // Both read anew each time: an entry may have been on its way when the queue was held.
            let last = core.last();
            let applied = last == core.machine().applied();
            let matched = core.progress().get(&target).copied().flatten();
            if applied && matched == last.map(|last| last.index) {
                // A change of the membership may have begun before it was forbidden.
                return match core.membership().voters.len() {
                    1 => Ok(()),
                    _ => Err(HandOverError::Joint),
                };
            }
            tokio::time::sleep(core.clock().wait(LOOK)).await;
        }
    }

    /// Has this member and the other voters store the vote. `Ok` when a majority with the target has, or has had the
    /// time to: nothing is lost by asking the target too early.
    async fn store(&self, leader: Vote, vote: Vote, target: MemberId) -> Result<(), HandOverError> {
        let core = &self.0.core;
        let membership = core.membership();
        // This member first: if it does not lead any more as it thinks, nobody else is bothered.
        if !core.take_vote(leader, vote).await {
            return Err(HandOverError::NotLeading);
        }
        let stored = BTreeSet::from([core.member(), target]);
        let asked = (Request::TakeVote { leader, vote }, STORE_LIMIT);
        let stores = |reply: &Reply| matches!(reply, Reply::Taken(true));
        // Too few: the target asks them itself.
        poll::majority(core, &membership, stored, asked, stores).await;
        Ok(())
    }
}
