//! openraft's requests to peers, over a [`Link`]: cut to what a peer can take, paced when it does not answer, and
//! withheld from all while no quorum answers (DESIGN §7, §8).

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use openraft::error::{
    Fatal, NetworkError, RPCError, RaftError, ReplicationClosed, StreamingError,
};
use openraft::network::RPCOption;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse,
};
use openraft::{EmptyNode, OptionalSend, RaftNetwork, RaftNetworkFactory};
use tokio::time::Instant;

use super::budget::fitting;
use super::peers::{BETWEEN_TRIES, Peers};
use super::types::{Snapshot, Types, Vote, exact_vote, from_log_id, to_log_id, to_logged, to_vote};
use crate::ids::MemberId;
use crate::link::messages::{Appended, Reply, Request};
use crate::link::{Link, LinkError};
use crate::log;
use crate::snapshot::publish::Snapshots;
use crate::spawner::Spawner;

/// Makes the clients of all targets.
#[derive(Clone)]
pub(super) struct Network {
    pub(super) link: Arc<dyn Link>,
    pub(super) peers: Arc<Peers>,
    pub(super) snapshots: Snapshots,
    pub(super) spawner: Arc<dyn Spawner>,
}

/// Asks one peer. Several may ask the same one: its stream, a read round, an election.
pub(super) struct Client {
    network: Network,
    to: MemberId,
}

/// Why a peer has not answered as openraft expects.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("no answer: {0:?}")]
    Link(LinkError),
    #[error("an answer that does not fit: {0}")]
    Unfit(&'static str),
    #[error("no quorum answers, so nothing is sent")]
    Mute,
    #[error("the peer has lost what it had acknowledged")]
    Barred,
    #[error("an entry cannot be encoded: {0}")]
    Entry(super::types::Error),
}

type Rpc = RPCError<u64, EmptyNode, RaftError<u64>>;
type AppendResponse = AppendEntriesResponse<u64>;

fn failed(failure: &Failure) -> NetworkError {
    NetworkError::new(failure)
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Client;

    async fn new_client(&mut self, target: u64, _node: &EmptyNode) -> Client {
        Client {
            network: self.clone(),
            to: MemberId(target),
        }
    }
}

/// AppendEntries as it is sent.
struct Append {
    vote: log::Vote,
    previous: Option<log::LogId>,
    entries: Vec<log::Entry>,
    committed: Option<log::LogId>,
    /// There were more entries than the peer gets at once.
    cut: bool,
}

impl Append {
    fn new(rpc: &AppendEntriesRequest<Types>, budget: usize) -> Result<Self, Failure> {
        let entries = rpc.entries.iter().map(to_logged);
        let mut entries: Vec<_> = entries.collect::<Result<_, _>>().map_err(Failure::Entry)?;
        let fit = fitting(entries.iter().map(|entry| entry.body.len()), budget);
        let cut = fit < entries.len();
        entries.truncate(fit);
        Ok(Self {
            vote: to_vote(&rpc.vote),
            previous: rpc.prev_log_id.map(to_log_id),
            entries,
            committed: rpc.leader_commit.map(to_log_id),
            cut,
        })
    }

    /// What matches when all of it was appended.
    fn last(&self) -> Option<log::LogId> {
        self.entries.last().map(|last| last.id).or(self.previous)
    }

    fn request(self) -> Request {
        Request::Append {
            vote: self.vote,
            previous: self.previous,
            entries: self.entries,
            committed: self.committed,
        }
    }
}

impl Client {
    pub(super) fn to(&self) -> MemberId {
        self.to
    }

    pub(super) fn peers(&self) -> &Peers {
        &self.network.peers
    }

    /// Asks once, not sooner after a failure than peers are tried again.
    pub(super) async fn ask(&self, request: Request, limit: Duration) -> Result<Reply, Failure> {
        let Network { link, peers, .. } = &self.network;
        loop {
            if peers.is_barred(self.to) {
                return Err(Failure::Barred);
            }
            let pause = peers.pause(self.to);
            if pause.is_zero() {
                break;
            }
            tokio::time::sleep(peers.wait(pause)).await;
        }
        let reply = link.call(self.to, request, limit).await;
        match &reply {
            Ok(_) => peers.replied(self.to),
            Err(_) => peers.failed(self.to),
        }
        reply.map_err(Failure::Link)
    }

    /// openraft asks again at once, so this is the pause between two attempts, whatever has failed.
    async fn pause(&self, began: Instant, limit: Duration) {
        tokio::time::sleep(self.network.peers.wait(BETWEEN_TRIES)).await;
        tokio::select! {
            biased;
            () = self.network.link.connected(self.to) => {}
            () = tokio::time::sleep_until(began + limit * 3 / 4) => {}
        }
    }

    async fn append(
        &self,
        rpc: &AppendEntriesRequest<Types>,
        limit: Duration,
    ) -> Result<AppendResponse, Failure> {
        let peers = &self.network.peers;
        let vote = to_vote(&rpc.vote);
        peers.asking(self.to, vote);
        if peers.is_mute(vote) {
            return self.ping(vote, limit).await;
        }
        let append = Append::new(rpc, peers.budget(self.to))?;
        let (previous, last, cut) = (append.previous, append.last(), append.cut);
        let committed = append.committed;
        let with_entries = !append.entries.is_empty();
        let (sent, since) = (peers.now(), Instant::now());
        let reply = self.ask(append.request(), limit).await?;
        let Reply::Append(appended) = reply else {
            peers.failed(self.to);
            return Err(Failure::Unfit("no answer to an append"));
        };
        if with_entries {
            peers.took(self.to, since.elapsed());
        }
        let answered = |matched: Option<log::LogId>| {
            peers.answered(self.to, vote, sent, matched.map(|id| id.index));
            peers.promises.shown(self.to, vote);
            // What matches and is committed is durable there.
            if let (Some(matched), Some(committed)) = (matched, committed) {
                let next = matched.index.min(committed.index) + 1;
                peers.promises.acknowledged(self.to, next);
            }
        };
        match appended {
            Appended::All => {
                answered(last);
                Ok(match cut {
                    true => AppendEntriesResponse::PartialSuccess(last.map(from_log_id)),
                    false => AppendEntriesResponse::Success,
                })
            }
            Appended::Some(upto) if previous <= upto && upto <= last => {
                answered(upto);
                Ok(AppendEntriesResponse::PartialSuccess(upto.map(from_log_id)))
            }
            Appended::Conflict => {
                self.judge_conflict(previous, vote)?;
                answered(None);
                Ok(AppendEntriesResponse::Conflict)
            }
            Appended::Higher(higher) if higher > vote => {
                Ok(AppendEntriesResponse::HigherVote(exact_vote(higher)))
            }
            Appended::Some(_) | Appended::Higher(_) | Appended::Superseded => {
                peers.failed(self.to);
                Err(Failure::Unfit("appended something else"))
            }
        }
    }

    /// A peer whose log has once matched there under this vote has lost it.
    fn judge_conflict(&self, at: Option<log::LogId>, vote: log::Vote) -> Result<(), Failure> {
        let at = at.ok_or(Failure::Unfit("a conflict with nothing"))?;
        let matched = self.network.peers.matched(self.to, vote);
        if matched.is_none_or(|matched| matched < at.index) {
            return Ok(());
        }
        if self.network.peers.bar(self.to) {
            tracing::error!(peer = %self.to, index = at.index, "a member has lost entries that it had acknowledged: it is barred and must be replaced");
            // Its connections end, and it is told why.
            self.network.link.renew();
        }
        Err(Failure::Barred)
    }

    /// Instead of an append, which would hold the lease of a leader that nobody answers.
    async fn ping(&self, vote: log::Vote, limit: Duration) -> Result<AppendResponse, Failure> {
        let peers = &self.network.peers;
        let sent = peers.now();
        match self.ask(Request::Ping { vote }, limit).await? {
            Reply::Pong {
                vote: Some(higher), ..
            } if higher > vote => Ok(AppendEntriesResponse::HigherVote(exact_vote(higher))),
            Reply::Pong { .. } => {
                peers.ponged(self.to, vote, sent);
                Err(Failure::Mute)
            }
            _ => Err(Failure::Unfit("no answer to a ping")),
        }
    }
}

impl RaftNetwork<Types> for Client {
    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendResponse, Rpc> {
        let (began, limit) = (Instant::now(), option.hard_ttl());
        match self.append(&rpc, limit).await {
            Ok(response) => Ok(response),
            Err(failure) => {
                self.pause(began, limit).await;
                Err(RPCError::Network(failed(&failure)))
            }
        }
    }

    async fn vote(
        &mut self,
        request: VoteRequest<u64>,
        option: RPCOption,
    ) -> Result<VoteResponse<u64>, Rpc> {
        let _asked = self.network.peers.ask_vote(to_vote(&request.vote));
        let asked = Request::Vote {
            vote: to_vote(&request.vote),
            last: request.last_log_id.map(to_log_id),
        };
        let reply = self.ask(asked, option.hard_ttl()).await;
        match reply.map_err(|failure| RPCError::Network(failed(&failure)))? {
            Reply::Vote {
                vote,
                granted,
                last,
            } => {
                self.network.peers.promises.shown(self.to, vote);
                Ok(VoteResponse {
                    vote: exact_vote(vote),
                    vote_granted: granted,
                    last_log_id: last.map(from_log_id),
                })
            }
            _ => {
                let failure = Failure::Unfit("no answer to a request for a vote");
                Err(RPCError::Network(failed(&failure)))
            }
        }
    }

    /// Of openraft's snapshot only the index is used: what is published now is that one or a later one.
    async fn full_snapshot(
        &mut self,
        vote: Vote,
        _snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<u64>, StreamingError<Types, Fatal<u64>>> {
        let Network {
            snapshots, spawner, ..
        } = self.network.clone();
        tokio::select! {
            biased;
            closed = cancel => Err(StreamingError::Closed(closed)),
            sent = self.send_snapshot(&snapshots, &*spawner, to_vote(&vote)) => Ok(sent),
        }
    }
}
