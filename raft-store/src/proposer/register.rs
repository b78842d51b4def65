//! Asks for the incarnation of this run: through its own queue when it leads, else through the leader.

use std::sync::Arc;

use tokio::time::{Duration, Instant, timeout};

use crate::entry::{Close, MemberInfo, Registration};
use crate::ids::{Incarnation, MemberId};
use crate::link::Link;
use crate::link::messages::{Forwarded, NotServed, Reply, Request};
use crate::proposer::Queue;
use crate::raft::core::Core;
use crate::rounds::Rounds;
use crate::state::Registered;
use crate::waiters::Waiters;

/// A run that others keep overtaking gives up: its directory is used twice.
const REGISTRATIONS: usize = 8;
/// Between two attempts while nobody takes the question.
const PAUSE: Duration = Duration::from_millis(100);
/// For one answer to the question, and for the round before it.
const ASK_LIMIT: Duration = Duration::from_secs(1);
/// While there are too many members.
const FULL_PAUSE: Duration = Duration::from_secs(5);
/// Members asked in one attempt.
const ASKED_AT_ONCE: usize = 16;
/// For its being applied here; then it is asked again.
const APPLY_LIMIT: Duration = Duration::from_secs(2);

/// See the module's documentation.
pub(crate) struct Registrar {
    pub(crate) core: Core,
    pub(crate) waiters: Waiters,
    pub(crate) queue: Queue,
    pub(crate) rounds: Rounds,
    pub(crate) link: Arc<dyn Link>,
    pub(crate) member: MemberId,
    pub(crate) info: MemberInfo,
}

impl Registrar {
    /// Runs until this run is registered, or never will be.
    pub(crate) async fn run(self) {
        let mut overtaken = 0;
        while overtaken < REGISTRATIONS {
            self.waiters.register_again();
            match self.ask_until_told().await {
                Some(Registered::Superseded(_)) => overtaken += 1,
                Some(Registered::As(_)) | None => return,
                Some(Registered::Full) => self.wait_for_room().await,
                Some(Registered::Format(found)) => return self.unfit(found).await,
                Some(Registered::Removed) => {
                    tracing::error!("this member was removed");
                    return;
                }
            }
        }
        tracing::error!("another run of this member registers at the same time");
    }

    /// The dead are removed some day.
    async fn wait_for_room(&self) {
        tracing::warn!(
            "there are as many members as may be: this one waits until another is removed"
        );
        tokio::time::sleep(FULL_PAUSE).await;
    }

    /// This build cannot be a member.
    async fn unfit(&self, found: u16) {
        let (lowest, highest) = self.info.formats;
        let reason =
            format!("the cluster format is {found}; this build reads {lowest} to {highest}");
        self.core.fail(reason).await;
    }

    /// `None`: the store has closed.
    async fn ask_until_told(&self) -> Option<Registered> {
        let mut known = None;
        loop {
            if self.waiters.is_closed() {
                return None;
            }
            // While this member catches up the question is repeated as it was: this run lives, says that.
            known = self.latest().await.or(known);
            if let Some(latest) = known
                && self.ask(latest).await
                && let Ok(told) = timeout(APPLY_LIMIT, self.waiters.registered()).await
            {
                return told;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// The last incarnation of this member, read behind a round. An empty log knows none, and gets no round either.
    async fn latest(&self) -> Option<Option<Incarnation>> {
        if self.core.log().log_state().last.is_none() {
            return Some(None);
        }
        let deadline = Instant::now() + ASK_LIMIT;
        let seen = self.rounds.barrier(&self.waiters, deadline).await;
        seen.ok()?;
        let state = self.core.machine().read()?;
        Some(state.members().get(self.member).map(|row| row.incarnation))
    }

    /// Whether somebody has taken the question.
    async fn ask(&self, latest: Option<Incarnation>) -> bool {
        let asked = Registration {
            member: self.member,
            nonce: self.waiters.nonce(),
            latest,
            info: self.info.clone(),
        };
        if self.core.is_leading() {
            return self.queue.command(Close::Register(asked)).is_ok();
        }
        let mut hint = self.core.leader();
        let mut others = self.link.peers().into_iter();
        // Each peer once, and the leader that it names; members may name each other.
        for _ in 0..ASKED_AT_ONCE {
            let to = hint
                .take()
                .or_else(|| others.next().map(|hello| hello.member));
            let Some(to) = to.filter(|to| *to != self.member) else {
                return false;
            };
            let request = Request::Register(asked.clone());
            match self.link.call(to, request, ASK_LIMIT).await {
                Ok(Reply::Forwarded(Forwarded::Queued)) => return true,
                Ok(Reply::Forwarded(Forwarded::Not(NotServed::NotLeader(Some(leader))))) => {
                    hint = Some(leader).filter(|leader| *leader != to);
                }
                Ok(Reply::Forwarded(Forwarded::Format(found))) => {
                    self.unfit(found).await;
                    return false;
                }
                Ok(Reply::Forwarded(Forwarded::Full)) => {
                    self.wait_for_room().await;
                    return false;
                }
                Ok(_) | Err(_) => {}
            }
        }
        false
    }
}
