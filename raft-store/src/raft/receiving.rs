//! A snapshot that a leader sends: received and published aside, then handed to openraft, which only swaps the state.
//! Every message of it is a sign of the leader, since no heartbeat comes meanwhile (DESIGN §6).

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::timeout;

use super::core::Core;
use super::types::{Snapshot, SnapshotFile, SnapshotMeta, decode_meta, exact_vote, to_log_id};
use crate::bell::Bell;
use crate::link::messages::{Reply, Request};
use crate::log::Vote;
use crate::snapshot::receive::{Incoming, Received};
use crate::spawner::free;

/// Whoever asks for an installation that takes longer is told to ask again: it may take seconds.
const PATIENCE: Duration = Duration::from_millis(200);

/// The one snapshot that is being received.
#[derive(Default)]
pub(super) struct Receiving(Mutex<Option<Arc<Transfer>>>);

struct Transfer {
    incoming: Incoming,
    begun: OnceLock<()>,
    /// Whether it was installed.
    outcome: OnceLock<bool>,
    ended: Bell,
}

impl Receiving {
    pub(super) async fn serve(&self, core: &Core, request: Request) -> Reply {
        let (Request::SnapshotOffer { vote, .. }
        | Request::SnapshotChunk { vote, .. }
        | Request::SnapshotInstall { vote, .. }) = request
        else {
            return Reply::Unfit;
        };
        let mine = core.vote();
        if vote < mine {
            return Reply::SnapshotInstalled { vote: mine };
        }
        core.heard();
        match request {
            Request::SnapshotOffer {
                id, bytes, meta, ..
            } => self.offer(core, id, bytes, &meta),
            Request::SnapshotChunk {
                id,
                offset,
                crc,
                chunk,
                ..
            } => self.chunk(id, offset, crc, chunk).await,
            Request::SnapshotInstall { vote, id } => self.install(core, vote, id).await,
            _ => Reply::Unfit,
        }
    }

    fn offer(&self, core: &Core, id: [u8; 32], bytes: u64, meta: &[u8]) -> Reply {
        let Ok((Some(last), _)) = decode_meta(meta) else {
            return Reply::SnapshotBad;
        };
        if last.index < core.machine().progress().next {
            let vote = core.vote();
            return Reply::SnapshotInstalled { vote };
        }
        let mut slot = self.0.lock();
        if let Some(transfer) = slot
            .as_ref()
            .filter(|transfer| transfer.incoming.id() == id)
        {
            let offset = transfer.incoming.have();
            return Reply::SnapshotHave { offset };
        }
        // What another leader has begun is given up before.
        *slot = None;
        let begun = Incoming::begin(core.snapshots(), core.spawner(), id, bytes);
        match begun {
            Ok(incoming) => {
                *slot = Some(Arc::new(Transfer {
                    incoming,
                    begun: OnceLock::new(),
                    outcome: OnceLock::new(),
                    ended: Bell::default(),
                }));
                Reply::SnapshotHave { offset: 0 }
            }
            Err(error) => {
                tracing::error!(%error, "no snapshot can be received");
                Reply::SnapshotBad
            }
        }
    }

    fn transfer(&self, id: [u8; 32]) -> Option<Arc<Transfer>> {
        let slot = self.0.lock();
        slot.clone().filter(|transfer| transfer.incoming.id() == id)
    }

    fn forget(&self, id: [u8; 32]) {
        let mut slot = self.0.lock();
        slot.take_if(|transfer| transfer.incoming.id() == id);
    }

    async fn chunk(&self, id: [u8; 32], offset: u64, crc: u32, chunk: Bytes) -> Reply {
        let Some(transfer) = self.transfer(id) else {
            return Reply::SnapshotBad;
        };
        if crc32c::crc32c(&chunk) != crc {
            let offset = transfer.incoming.have();
            return Reply::SnapshotHave { offset };
        }
        match transfer.incoming.chunk(offset, chunk).await {
            Ok(offset) => Reply::SnapshotHave { offset },
            Err(error) => {
                tracing::error!(%error, "receiving a snapshot");
                self.forget(id);
                Reply::SnapshotBad
            }
        }
    }

    async fn install(&self, core: &Core, vote: Vote, id: [u8; 32]) -> Reply {
        let Some(transfer) = self.transfer(id) else {
            return Reply::SnapshotBad;
        };
        if transfer.begun.set(()).is_ok() {
            let (core, transfer) = (core.clone(), transfer.clone());
            core.tasks().clone().spawn(async move {
                let done = transfer.install(&core, vote).await;
                // Set once, here.
                let _ = transfer.outcome.set(done);
                transfer.ended.ring();
            });
        }
        let outcome = transfer.ended.wait(|| transfer.outcome.get().copied());
        match timeout(core.clock().wait(PATIENCE), outcome).await {
            Err(_) => Reply::SnapshotHave {
                offset: transfer.incoming.bytes(),
            },
            Ok(true) => {
                self.forget(id);
                let vote = core.vote();
                Reply::SnapshotInstalled { vote }
            }
            Ok(false) => {
                self.forget(id);
                Reply::SnapshotBad
            }
        }
    }
}

impl Transfer {
    async fn install(&self, core: &Core, vote: Vote) -> bool {
        let Received { loaded, published } = match self.incoming.finish().await {
            Ok(received) => received,
            Err(error) => {
                tracing::error!(%error, "a snapshot that was received");
                return false;
            }
        };
        let Ok((Some(last), last_membership)) = decode_meta(&loaded.meta) else {
            tracing::error!("a snapshot without an index");
            return false;
        };
        if published.index > last.index {
            // A newer one was built here meanwhile.
            free(core.spawner(), loaded.state);
            return true;
        }
        core.log().publish(to_log_id(last));
        let meta = SnapshotMeta {
            last_log_id: Some(last),
            last_membership,
            snapshot_id: published.index.to_string(),
        };
        let state = Some(loaded.state);
        let snapshot = Box::new(SnapshotFile { state });
        let snapshot = Snapshot { meta, snapshot };
        let installed = core
            .raft()
            .install_full_snapshot(exact_vote(vote), snapshot);
        installed.await.is_ok()
    }
}
