//! From the start of a run to its place in a cluster, and the watch over the founding record from then on.

use std::convert::Infallible;
use std::sync::Arc;

use super::keep::Keep;
use super::settle::{Settled, Settling};
use crate::raft::core::Core;
use crate::serve::Server;
use crate::waiters::Waiters;

/// The task that does it.
pub(crate) struct Belong {
    pub(crate) settling: Settling,
    pub(crate) server: Arc<Server>,
    pub(crate) core: Core,
    pub(crate) waiters: Waiters,
}

impl Belong {
    /// Runs until the store has closed. What cannot be settled ends the store.
    pub(crate) async fn run(self) {
        let waiters = self.waiters.clone();
        let core = self.core.clone();
        tokio::select! {
            biased;
            () = waiters.closed() => {}
            ended = self.belong() => match ended {
                Ok(never) => match never {},
                Err(reason) => core.fail(reason).await,
            },
        }
    }

    async fn belong(self) -> Result<Infallible, String> {
        let parts = self.settling.parts.clone();
        let (link, standing) = (self.settling.link.clone(), self.settling.standing.clone());
        let belongs = self.settling.identity.belongs;
        let founder = belongs.is_some_and(|belongs| belongs.founder);
        let settled = self.settling.run().await;
        let settled = settled.map_err(|error| error.to_string())?;
        let cluster = settled.cluster();
        // Also when it goes on: a cluster begun offline has nothing of the kind yet.
        let goes_on = matches!(settled, Settled::Resume(_));
        let makes = match settled {
            Settled::Found(_) => true,
            Settled::Resume(_) => founder,
            Settled::Join(_) => false,
        };
        if makes {
            let found = parts.transport.found(goes_on).await;
            found.map_err(|error| format!("what members need to know each other: {error}"))?;
        }
        self.server.belongs_to(cluster);
        if matches!(settled, Settled::Found(_)) {
            self.core.found().await?;
        }
        if !matches!(settled, Settled::Resume(_)) {
            // To peers this was an empty disk.
            link.renew();
        }
        let keep = Keep {
            record: parts.founding.clone(),
            clock: parts.clock.clone(),
            standing: standing.clone(),
            cluster,
        };
        let leading = || self.core.is_leading();
        let registered = async {
            standing.waits(format!("cluster {cluster} to register this run"));
            self.waiters.registered().await;
            standing.waits_no_more();
        };
        Ok(tokio::join!(biased; keep.run(leading), registered).0)
    }
}
