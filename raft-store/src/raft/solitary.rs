//! The network of a member without peers: nobody answers.

use std::future::Future;
use std::time::Duration;

use openraft::error::{
    Fatal, NetworkError, RPCError, RaftError, ReplicationClosed, StreamingError,
};
use openraft::network::RPCOption;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse,
};
use openraft::{EmptyNode, OptionalSend, RaftNetwork, RaftNetworkFactory};

use super::types::{Snapshot, Types, Vote};

/// Makes itself for every target.
#[derive(Clone, Copy)]
pub(super) struct Solitary;

#[derive(Debug, thiserror::Error)]
#[error("this member has no peers")]
struct NoPeers;

type Rpc = RPCError<u64, EmptyNode, RaftError<u64>>;

/// openraft asks again at once, so the wait is the pause between two attempts.
async fn nobody(option: &RPCOption) -> NetworkError {
    let pause = option.hard_ttl().min(Duration::from_secs(1)) * 3 / 4;
    tokio::time::sleep(pause).await;
    NetworkError::new(&NoPeers)
}

impl RaftNetworkFactory<Types> for Solitary {
    type Network = Self;

    async fn new_client(&mut self, _target: u64, _node: &EmptyNode) -> Self {
        *self
    }
}

impl RaftNetwork<Types> for Solitary {
    async fn append_entries(
        &mut self,
        _request: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<u64>, Rpc> {
        Err(RPCError::Network(nobody(&option).await))
    }

    async fn vote(
        &mut self,
        _request: VoteRequest<u64>,
        option: RPCOption,
    ) -> Result<VoteResponse<u64>, Rpc> {
        Err(RPCError::Network(nobody(&option).await))
    }

    async fn full_snapshot(
        &mut self,
        _vote: Vote,
        _snapshot: Snapshot,
        _cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<u64>, StreamingError<Types, Fatal<u64>>> {
        Err(StreamingError::Network(nobody(&option).await))
    }
}
