//! Leases: of this run, renewed with whoever leads; and of all runs, while this member leads (DESIGN §9).

#[cfg(test)]
mod cluster_tests;
mod holder;
mod ledger;
mod renewal;
mod rule;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::timeout;

use crate::bell::Bell;
use crate::proposer::Queue;
use crate::raft::core::Core;
use crate::waiters::Waiters;
use holder::Holder;
use ledger::Ledger;

pub use holder::Lease;

/// Clones are handles to the same.
#[derive(Clone)]
pub(crate) struct Leases(Arc<Shared>);

struct Shared {
    core: Core,
    waiters: Waiters,
    queue: Queue,
    holder: Mutex<Holder>,
    ledger: Mutex<Ledger>,
    /// The lease of this run was granted for the first time, or is lost.
    changed: Bell,
}

impl Leases {
    pub(crate) fn new(core: Core, waiters: Waiters, queue: Queue) -> Self {
        Self(Arc::new(Shared {
            core,
            waiters,
            queue,
            holder: Mutex::new(Holder::new()),
            ledger: Mutex::default(),
            changed: Bell::default(),
        }))
    }

    pub(crate) fn watch(&self) -> LeaseWatch {
        LeaseWatch(self.clone())
    }

    /// Of this run.
    fn state(&self) -> Lease {
        let dead = self.0.waiters.is_dead();
        let proven = self.proven();
        self.change(|holder, now| match (dead, proven) {
            (true, _) => holder.lose(),
            (false, Some(proven)) => holder.proven(proven, now),
            (false, None) => {}
        })
    }

    fn granted(&self, sent: Duration) {
        self.change(|holder, now| holder.granted(sent, now));
    }

    fn lose(&self) {
        self.change(|holder, _| holder.lose());
    }

    fn change(&self, change: impl FnOnce(&mut Holder, Duration)) -> Lease {
        let mut holder = self.0.holder.lock();
        // Under the lock: no later change has an earlier time.
        let now = self.0.core.clock().now();
        let before = holder.clone();
        change(&mut holder, now);
        let after = holder.at(now);
        let told = before.tells() != holder.tells();
        drop(holder);
        if told {
            self.0.changed.ring();
        }
        after
    }
}

/// The lease of this run. Clones see the same.
#[derive(Clone)]
pub struct LeaseWatch(Leases);

impl LeaseWatch {
    /// What holds now, by the clock: also right after the process was stopped, before any of its timers has run.
    pub fn state(&self) -> Lease {
        self.0.state()
    }

    /// Whether it is held now.
    pub fn is_held(&self) -> bool {
        matches!(self.state(), Lease::Held { .. })
    }

    /// Waits until it is held for the first time; `false`: it is lost.
    pub async fn held(&self) -> bool {
        let ready = || match self.state() {
            Lease::Awaited => None,
            Lease::Held { .. } => Some(true),
            Lease::Lost => Some(false),
        };
        self.0.0.changed.wait(ready).await
    }

    /// Waits until it is lost. The store's end counts as that.
    pub async fn lost(&self) {
        let shared = &self.0.0;
        loop {
            let lost = || (self.state() == Lease::Lost).then_some(());
            let lost = shared.changed.wait(lost);
            match self.state() {
                Lease::Lost => return,
                Lease::Awaited => {
                    self.held().await;
                }
                Lease::Held { until } => {
                    let clock = shared.core.clock();
                    let left = until.saturating_sub(clock.now());
                    // Whether it was renewed meanwhile is seen in the next round.
                    let _ = timeout(clock.wait(left), lost).await;
                }
            }
        }
    }
}
