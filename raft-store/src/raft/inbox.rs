//! What peers ask of consensus here: appends, votes, pings, hand-over, snapshots (DESIGN §7, §8).
//!
//! openraft's queue has no bound, and it works on nothing else while an append waits for the disk. So of each sender it
//! has one append at a time, and one without entries beside it; the newest next one waits here in place of an older.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, VoteRequest};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::core::Core;
use super::receiving::Receiving;
use super::types::{Error, Types, exact_vote, from_log_id, from_logged, to_log_id, to_vote};
use crate::elections;
use crate::ids::MemberId;
use crate::link::messages::{Appended, Reply, Request};
use crate::log::{self, Entry, LogId, Vote};
use crate::transport::BoxFuture;

/// How long an append is kept waiting when there is no space for its entries.
const FULL_PAUSE: Duration = Duration::from_millis(200);

/// Clones are handles to the same.
#[derive(Clone)]
pub(crate) struct Inbox(Arc<Shared>);

struct Shared {
    core: Core,
    /// By sender, with entries or without.
    places: Mutex<BTreeMap<(MemberId, bool), Place>>,
    receiving: Receiving,
}

/// Of one sender's appends one is with the core; the next waits here.
#[derive(Default)]
struct Place {
    next: Option<oneshot::Sender<()>>,
}

/// An append that the core may have. Dropping it lets the next one go.
struct Turn {
    inbox: Inbox,
    of: (MemberId, bool),
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut places = self.inbox.0.places.lock();
        let next = places.get_mut(&self.of).and_then(|place| place.next.take());
        // Whoever waits makes a turn of its own of it.
        if next.is_none_or(|next| next.send(()).is_err()) {
            places.remove(&self.of);
        }
    }
}

/// AppendEntries as it came.
struct Append {
    vote: Vote,
    previous: Option<LogId>,
    entries: Vec<Entry>,
    committed: Option<LogId>,
}

impl Append {
    fn to_core(&self) -> Result<AppendEntriesRequest<Types>, Error> {
        let entries = self.entries.iter().cloned().map(from_logged);
        Ok(AppendEntriesRequest {
            vote: exact_vote(self.vote),
            prev_log_id: self.previous.map(from_log_id),
            entries: entries.collect::<Result<_, _>>()?,
            leader_commit: self.committed.map(from_log_id),
        })
    }
}

/// Whose vote, or whose leadership, a request stands on: nobody speaks for another.
fn spoken_for(request: &Request) -> Option<MemberId> {
    let vote = match request {
        Request::Append { vote, .. }
        | Request::Vote { vote, .. }
        | Request::Ping { vote }
        | Request::SnapshotOffer { vote, .. }
        | Request::SnapshotChunk { vote, .. }
        | Request::SnapshotInstall { vote, .. }
        | Request::TakeVote { leader: vote, .. }
        | Request::Elect { leader: vote, .. } => vote,
        _ => return None,
    };
    Some(MemberId(vote.node))
}

impl Inbox {
    pub(crate) fn new(core: Core) -> Self {
        Self(Arc::new(Shared {
            core,
            places: Mutex::default(),
            receiving: Receiving::default(),
        }))
    }

    /// The reply to a request of the lanes of consensus and of snapshots. It is worked on to its end even when the
    /// future is dropped.
    pub(crate) fn serve(&self, from: MemberId, request: Request) -> BoxFuture<'static, Reply> {
        let inbox = self.clone();
        let task = self.0.core.tasks().clone();
        Box::pin(async move {
            let reply = task.spawn(async move { inbox.reply(from, request).await });
            // It panics with the core, or is dropped with the member.
            reply.await.unwrap_or(Reply::Unfit)
        })
    }

    async fn reply(&self, from: MemberId, request: Request) -> Reply {
        let core = &self.0.core;
        if core.is_barred(from) || spoken_for(&request).is_some_and(|by| by != from) {
            return Reply::Unfit;
        }
        match request {
            Request::Append {
                vote,
                previous,
                entries,
                committed,
            } => {
                let append = Append {
                    vote,
                    previous,
                    entries,
                    committed,
                };
                self.append(from, append).await
            }
            Request::Vote { vote, last } => self.vote(vote, last).await,
            Request::PreVote { last, .. } => {
                Reply::PreVote(elections::would_vote(core, from, last).await)
            }
            Request::Ping { .. } => Reply::Pong {
                vote: Some(core.vote()),
                full: core.log().is_full(),
            },
            Request::TakeVote { leader, vote } => Reply::Taken(core.take_vote(leader, vote).await),
            Request::Elect { leader, vote } => Reply::Taken(core.elect_as(leader, vote).await),
            request => self.0.receiving.serve(core, request).await,
        }
    }

    /// Waits for a turn; `None`: a newer append has taken its place.
    async fn turn(&self, of: (MemberId, bool)) -> Option<Turn> {
        let wait = {
            let mut places = self.0.places.lock();
            match places.get_mut(&of) {
                None => {
                    places.insert(of, Place::default());
                    None
                }
                Some(place) => {
                    let (tell, told) = oneshot::channel();
                    place.next = Some(tell);
                    Some(told)
                }
            }
        };
        if let Some(wait) = wait {
            wait.await.ok()?;
        }
        let inbox = self.clone();
        Some(Turn { inbox, of })
    }

    async fn append(&self, from: MemberId, mut append: Append) -> Reply {
        let core = &self.0.core;
        if append.vote >= core.vote() {
            core.heard();
            core.peers().promises.shown(from, append.vote);
        }
        let Some(turn) = self.turn((from, !append.entries.is_empty())).await else {
            return Reply::Append(Appended::Superseded);
        };
        let bytes = append.entries.iter().map(log::entry_bytes).sum();
        let full = !append.entries.is_empty() && !core.takes(bytes);
        if full {
            append.entries.clear();
        }
        let request = match append.to_core() {
            Ok(request) => request,
            Err(error) => {
                tracing::error!(%from, %error, "entries that this build cannot read");
                return Reply::Unfit;
            }
        };
        let appended = core.raft().append_entries(request).await;
        if full {
            // The leader goes on at once where it was told to, so the wait is here.
            tokio::time::sleep(core.clock().wait(FULL_PAUSE)).await;
        }
        drop(turn);
        Reply::Append(match appended {
            Ok(AppendEntriesResponse::Success) if full => match append.previous {
                Some(previous) => Appended::Some(Some(previous)),
                None => return Reply::Unfit,
            },
            Ok(AppendEntriesResponse::Success) => Appended::All,
            Ok(AppendEntriesResponse::PartialSuccess(upto)) => Appended::Some(upto.map(to_log_id)),
            Ok(AppendEntriesResponse::Conflict) => Appended::Conflict,
            Ok(AppendEntriesResponse::HigherVote(vote)) => Appended::Higher(to_vote(&vote)),
            Err(_) => return Reply::Unfit,
        })
    }

    async fn vote(&self, vote: Vote, last: Option<LogId>) -> Reply {
        let request = VoteRequest {
            vote: exact_vote(vote),
            last_log_id: last.map(from_log_id),
        };
        let _alone = self.0.core.voting().await;
        match self.0.core.raft().vote(request).await {
            Ok(answer) => Reply::Vote {
                vote: to_vote(&answer.vote),
                granted: answer.vote_granted,
                last: answer.last_log_id.map(to_log_id),
            },
            Err(_) => Reply::Unfit,
        }
    }
}
