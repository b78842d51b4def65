//! Sending the published snapshot to a peer that the log does not reach: offered, resumed where the peer is, no faster
//! than its rate, tried again until it is there or openraft gives it up (DESIGN §6).

use std::time::Duration;

use openraft::raft::SnapshotResponse;
use tokio::time::{Instant, sleep, sleep_until};

use super::network::{Client, Failure};
use super::peers::BETWEEN_TRIES;
use super::types::exact_vote;
use crate::link::messages::{Reply, Request};
use crate::log::Vote;
use crate::snapshot::paced::pause;
use crate::snapshot::publish::Snapshots;
use crate::snapshot::send::Outgoing;
use crate::spawner::Spawner;

/// A peer writes a chunk, and syncs a few MiB now and then.
const ANSWER: Duration = Duration::from_secs(5);
/// After a snapshot that the peer could not use, or that cannot be read here.
const AFTER_DAMAGE: Duration = Duration::from_secs(1);

/// What the peer says.
enum Said {
    /// Its next chunk begins here.
    Have(u64),
    /// It has it, or needs it no more.
    Installed(Vote),
    /// It has to be sent again.
    Bad,
}

impl Client {
    /// Sends what is published until the peer has it. Ends with the vote that the peer holds: higher than `vote`, and
    /// the peer follows somebody else.
    pub(super) async fn send_snapshot(
        &self,
        snapshots: &Snapshots,
        spawner: &dyn Spawner,
        vote: Vote,
    ) -> SnapshotResponse<u64> {
        loop {
            let outgoing = Outgoing::open(snapshots, spawner);
            let outgoing = match outgoing {
                Ok(Some(outgoing)) => outgoing,
                Ok(None) | Err(_) => {
                    if let Err(error) = outgoing {
                        tracing::error!(%error, "the published snapshot cannot be read");
                    }
                    self.rest(vote, AFTER_DAMAGE).await;
                    continue;
                }
            };
            let index = outgoing.published.index;
            tracing::info!(to = %self.to(), index, "a snapshot is sent");
            self.peers().send(self.to(), vote, index);
            if let Some(vote) = self.send_one(&outgoing, vote).await {
                let vote = exact_vote(vote);
                return SnapshotResponse { vote };
            }
            self.rest(vote, AFTER_DAMAGE).await;
        }
    }

    /// The stream is at work although nothing is sent.
    async fn rest(&self, vote: Vote, time: Duration) {
        self.peers().asking(self.to(), vote);
        sleep(self.peers().wait(time)).await;
    }

    /// `None`: the peer could not use it, or it cannot be read.
    async fn send_one(&self, outgoing: &Outgoing, vote: Vote) -> Option<Vote> {
        let mut at = None;
        loop {
            let began = Instant::now();
            let request = match next(outgoing, vote, at).await {
                Ok(request) => request,
                Err(error) => {
                    tracing::error!(%error, "the published snapshot cannot be read");
                    return None;
                }
            };
            match self.say(request, vote).await {
                Ok(Said::Have(offset)) => {
                    if at.is_some_and(|at| offset <= at) {
                        // It is at work on what it has, or has lost some of it.
                        self.rest(vote, BETWEEN_TRIES).await;
                    }
                    let sent = at.map_or(0, |at| offset.saturating_sub(at));
                    sleep_until(began + pause(sent)).await;
                    at = Some(offset);
                }
                Ok(Said::Installed(vote)) => return Some(vote),
                Ok(Said::Bad) => {
                    tracing::warn!(to = %self.to(), "a snapshot was not taken");
                    return None;
                }
                Err(failure) => {
                    tracing::debug!(to = %self.to(), %failure, "a snapshot goes on later");
                    self.rest(vote, BETWEEN_TRIES).await;
                    // Where it goes on, the peer says.
                    at = None;
                }
            }
        }
    }

    async fn say(&self, request: Request, vote: Vote) -> Result<Said, Failure> {
        let peers = self.peers();
        peers.asking(self.to(), vote);
        let sent = peers.now();
        let muted = peers.is_mute(vote);
        let request = match muted {
            // Nothing that is taken for a sign of the leader.
            true => Request::Ping { vote },
            false => request,
        };
        let reply = self.ask(request, ANSWER);
        let mut reply = std::pin::pin!(reply);
        let reply = loop {
            tokio::select! {
                biased;
                reply = &mut reply => break reply?,
                () = sleep(BETWEEN_TRIES) => peers.asking(self.to(), vote),
            }
        };
        let said = match reply {
            Reply::SnapshotHave { offset } => Said::Have(offset),
            Reply::SnapshotInstalled { vote } => return Ok(Said::Installed(vote)),
            Reply::Pong {
                vote: Some(higher), ..
            } if higher > vote => {
                return Ok(Said::Installed(higher));
            }
            Reply::SnapshotBad => Said::Bad,
            Reply::Pong { .. } => {
                peers.ponged(self.to(), vote, sent);
                return Err(Failure::Mute);
            }
            _ => return Err(Failure::Unfit("no answer to a snapshot")),
        };
        // It hears this leader, although no entry reaches it.
        peers.ponged(self.to(), vote, sent);
        Ok(said)
    }
}

/// What is said to a peer that has all before `at`; `None`: nobody knows what it has.
async fn next(outgoing: &Outgoing, vote: Vote, at: Option<u64>) -> std::io::Result<Request> {
    let published = &outgoing.published;
    let id = published.hash;
    let Some(offset) = at else {
        let (bytes, meta) = (published.bytes, published.meta.clone());
        return Ok(Request::SnapshotOffer {
            vote,
            id,
            bytes,
            meta,
        });
    };
    if offset >= published.bytes {
        return Ok(Request::SnapshotInstall { vote, id });
    }
    let (chunk, crc) = outgoing.chunk(offset).await?;
    Ok(Request::SnapshotChunk {
        vote,
        id,
        offset,
        crc,
        chunk,
    })
}
