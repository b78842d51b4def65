//! Renews the lease of this run with whoever leads, this member too.

use std::time::Duration;

use tokio::time::timeout;

use super::{Lease, Leases};
use crate::ids::Incarnation;
use crate::link::messages::{Renewed, Reply, Request};

/// Between two renewals that were granted.
const EACH: Duration = Duration::from_millis(1500);
/// Behind one that was not: after a change of leader, time is short.
const AGAIN: Duration = Duration::from_millis(100);
/// For an answer, which needs a heartbeat's round.
const LIMIT: Duration = Duration::from_millis(1000);

impl Leases {
    /// Runs until the store has closed or the lease of this run is lost.
    pub(crate) async fn hold(self) {
        tokio::select! {
            biased;
            () = self.0.waiters.ended() => {}
            () = self.renew_on() => {}
        }
        self.lose();
    }

    async fn renew_on(&self) {
        let clock = self.0.core.clock();
        let incarnation = self.0.waiters.run().await;
        while self.state() != Lease::Lost {
            let sent = clock.now();
            let pause = match self.ask(incarnation).await {
                Some(Renewed::Granted) => {
                    self.granted(sent);
                    EACH.saturating_sub(clock.now().saturating_sub(sent))
                }
                Some(Renewed::Lost) => return,
                Some(Renewed::Not(_)) | None => AGAIN,
            };
            tokio::time::sleep(clock.wait(pause)).await;
        }
    }

    /// `None`: nobody has answered.
    async fn ask(&self, incarnation: Incarnation) -> Option<Renewed> {
        let core = &self.0.core;
        let limit = core.clock().wait(LIMIT);
        let known = core.leadership();
        let over = core.wait_leadership(|| (core.leadership() != known).then_some(()));
        let Some(leader) = known.leader else {
            let _ = timeout(limit, over).await;
            return None;
        };
        if leader == core.member() {
            return timeout(limit, self.renewed(leader, incarnation)).await.ok();
        }
        let request = Request::Renew { incarnation };
        tokio::select! {
            biased;
            () = over => None,
            reply = core.link().call(leader, request, limit) => match reply {
                Ok(Reply::Renewed(renewed)) => Some(renewed),
                Ok(_) | Err(_) => None,
            },
        }
    }
}
