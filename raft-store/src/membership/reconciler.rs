//! The one task that changes the membership: on the leader, one change at a time, each computed from a membership read
//! behind a quorum round (DESIGN §9).

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::sight::{Look, Sight};
use super::step::{Next, Step, next_step};
use super::view::{Rules, View};
use crate::entry::Close;
use crate::hand_over::HandOver;
use crate::ids::MemberId;
use crate::leases::Leases;
use crate::limits::Limits;
use crate::link::messages::{NotServed, Removing};
use crate::proposer::Queue;
use crate::raft::core::Core;
use crate::waiters::Waiters;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(200);
/// Behind a change that failed.
const AFTER_FAILURE: Duration = Duration::from_secs(1);
/// A removal is given up when nobody has asked for it for so long.
const ASKED_WITHIN: Duration = Duration::from_secs(10);
/// Removals asked for at once.
const REMOVALS: usize = 64;
/// For handing over before the leader leaves.
const HAND_OVER: Duration = Duration::from_secs(2);

/// Clones are handles to the same.
#[derive(Clone)]
pub(crate) struct Reconciler(Arc<Shared>);

struct Shared {
    core: Core,
    queue: Queue,
    hand_over: HandOver,
    leases: Leases,
    rules: Rules,
    limits: Limits,
    board: Mutex<Board>,
}

#[derive(Default)]
struct Board {
    sight: Sight,
    /// The last view, of this term.
    seen: Option<(u64, View)>,
    next: String,
    /// Who asked for the removal of whom, last.
    leaving: BTreeMap<MemberId, Duration>,
    /// The last change has failed: the next one waits until then.
    pause: Duration,
    /// A change that is under way, and the term it was begun in.
    running: Option<(u64, oneshot::Receiver<()>)>,
}

impl Reconciler {
    pub(crate) fn new(
        core: Core,
        queue: Queue,
        (hand_over, leases): (HandOver, Leases),
        (rules, limits): (Rules, Limits),
    ) -> Self {
        Self(Arc::new(Shared {
            core,
            queue,
            hand_over,
            leases,
            rules,
            limits,
            board: Mutex::default(),
        }))
    }

    /// What comes next, for people; only the leader knows.
    pub(crate) fn next(&self) -> Option<String> {
        let leads = self.0.core.is_leading();
        leads.then(|| self.0.board.lock().next.clone())
    }

    /// What the leader sees, if this member leads.
    pub(crate) fn seen(&self) -> Option<View> {
        let leadership = self.0.core.leadership();
        let board = self.0.board.lock();
        let seen = board.seen.as_ref();
        let seen = seen.filter(|(term, _)| leadership.leading && *term == leadership.term);
        seen.map(|(_, view)| view.clone())
    }

    /// Somebody wants `member` removed. It is as long as it is asked for again and again.
    pub(crate) fn remove(&self, member: MemberId) -> Removing {
        let core = &self.0.core;
        let rows = core.machine().members();
        if rows.is_removed(member) {
            return Removing::Removed;
        }
        if !core.is_leading() {
            return Removing::Not(NotServed::NotLeader(core.leader()));
        }
        // A new leader may not have applied yet what says that there is one.
        let known = self
            .seen()
            .is_none_or(|seen| seen.members.contains_key(&member));
        if !known {
            return Removing::Unknown;
        }
        let now = core.clock().now();
        let mut board = self.0.board.lock();
        if board.leaving.len() >= REMOVALS && !board.leaving.contains_key(&member) {
            return Removing::Not(NotServed::Busy);
        }
        board.leaving.insert(member, now);
        Removing::Wanted
    }

    /// Whether a member is on its way out and in no membership any more: no new run of it begins.
    pub(crate) fn sees_off(&self, member: MemberId) -> bool {
        let rules = &self.0.rules;
        let seen = self.seen();
        seen.is_some_and(|seen| !seen.is_in_membership(member) && seen.is_going(member, rules))
    }

    /// Runs until the store has closed.
    pub(crate) async fn run(self, waiters: Waiters) {
        let work = async {
            loop {
                if self.0.core.wait_leading(&waiters).await {
                    self.round().await;
                }
                self.sleep().await;
            }
        };
        tokio::select! {
            biased;
            () = pin!(waiters.closed()) => {}
            () = work => {}
        }
    }

    async fn sleep(&self) {
        tokio::time::sleep(self.0.core.clock().wait(LOOK)).await;
    }

    /// One look, and perhaps the beginning of one step.
    async fn round(&self) {
        let Some((term, next)) = self.look() else {
            return;
        };
        let Next::Do(step, reason) = next else {
            return;
        };
        if self.is_busy(term) {
            return;
        }
        // What was seen may be old: who leads now may be another, and the membership another's.
        let core = &self.0.core;
        let Ok(index) = core.read_index().await else {
            return;
        };
        if !core.machine().wait_applied(index).await {
            return;
        }
        if self.look() != Some((term, Next::Do(step.clone(), reason))) || self.is_busy(term) {
            return;
        }
        tracing::info!(%step, reason, "the membership changes");
        let (done, end) = oneshot::channel();
        self.0.board.lock().running = Some((term, end));
        let this = self.clone();
        // Not dropped when this member leads no more: a change has two entries.
        core.tasks().spawn(async move {
            this.take(&step, term).await;
            // The board may have forgotten it.
            let _ = done.send(());
        });
    }

    /// A change of this term has not ended, or has just failed, or leadership is on its way to another.
    fn is_busy(&self, term: u64) -> bool {
        let mut board = self.0.board.lock();
        let runs = match &mut board.running {
            Some((of, end)) if *of == term => {
                matches!(end.try_recv(), Err(oneshot::error::TryRecvError::Empty))
            }
            _ => false,
        };
        if !runs {
            board.running = None;
        }
        let pauses = self.0.core.clock().now() < board.pause;
        runs || pauses || self.0.hand_over.is_under_way()
    }

    async fn take(&self, step: &Step, term: u64) {
        let core = &self.0.core;
        let taken = match step {
            Step::Finish(voters) | Step::Voters(voters) => {
                core.replace_voters(voters.clone()).await.map_err(text)
            }
            Step::AddLearner(id) => core.add_learner(*id).await.map_err(text),
            Step::RemoveLearner(id) => core.remove_learner(*id).await.map_err(text),
            Step::HandOver(to) => {
                let deadline = Instant::now() + core.clock().wait(HAND_OVER);
                let done = self.0.hand_over.run(Some(*to), deadline).await;
                done.map(|_| ()).map_err(text)
            }
            Step::Remove(id) => self.command(term, Close::Remove(*id)),
            Step::Format(to) => self.command(term, Close::Format(*to)),
        };
        match taken {
            Ok(()) => tracing::info!(%step, "the membership has changed"),
            Err(error) => {
                tracing::warn!(%step, error, "the membership has not changed");
                self.0.board.lock().pause = core.clock().now() + AFTER_FAILURE;
            }
        }
    }

    fn command(&self, term: u64, close: Close) -> Result<(), String> {
        self.0.queue.command_of(term, close).map_err(text)
    }

    /// What there is to do now, with the term that it belongs to; `None` if this member does not lead.
    fn look(&self) -> Option<(u64, Next)> {
        let core = &self.0.core;
        let leadership = core.leadership();
        let term = leadership.leading.then_some(leadership.term)?;
        let now = core.clock().now();
        let mut board = self.0.board.lock();
        let (members, rows) = (core.membership().members(), core.machine().members());
        // Who is out of the membership does not come back.
        let is_out = |id: &MemberId| !members.contains(id) && rows.get(*id).is_some();
        let asked = |at: &Duration| now.saturating_sub(*at) <= ASKED_WITHIN;
        board.leaving.retain(|id, at| asked(at) || is_out(id));
        let leaving = board.leaving.keys().copied().collect();
        let look = self.what_is(term, now, leaving);
        let view = board.sight.view(&look, &self.0.rules);
        let next = next_step(&view, &self.0.rules);
        for ending in view.ending(&self.0.rules) {
            if let Some(row) = look.rows.get(ending) {
                self.0.leases.condemn(term, row.incarnation);
            }
        }
        board.next = next.to_string();
        board.seen = Some((term, view));
        Some((term, next))
    }

    fn what_is(&self, term: u64, now: Duration, leaving: BTreeSet<MemberId>) -> Look {
        let core = &self.0.core;
        let membership = core.membership();
        let machine = core.machine();
        let members = membership.members();
        let answered = members
            .iter()
            .filter_map(|id| Some((*id, core.last_answer(*id)?)));
        Look {
            now,
            term,
            leader: core.member(),
            committed: machine.membership_id() == membership.id,
            answered: answered.collect(),
            membership,
            rows: machine.members(),
            matched: core.progress(),
            connected: core.link().peers().iter().map(|peer| peer.member).collect(),
            barred: core.barred(),
            leaving,
            last: core.last().map_or(0, |last| last.index),
            written_bytes: core.log().counters().bytes,
            format: machine.cluster_format(),
            format_known: self.0.limits.format_known,
        }
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
