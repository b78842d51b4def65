//! Tombstones: whoever has one is told so, and a member that has one ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::raft::core::Core;

/// Whether this member was removed. Clones are handles to the same.
#[derive(Clone, Default)]
pub(crate) struct Removed(Arc<AtomicBool>);

impl Removed {
    pub(crate) fn is_removed(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// It was: said by its own state, or by a peer that has it from its own.
    pub(crate) async fn told(&self, core: &Core) {
        if !self.0.swap(true, Ordering::AcqRel) {
            let member = core.member();
            core.fail(format!(
                "member {member} was removed from the cluster: its directory is of no use any more"
            ))
            .await;
        }
    }

    /// Says hello to everybody again when somebody was removed, until the store has ended.
    pub(crate) async fn run(self, core: Core) {
        let mut members = core.machine().members();
        let mut known = members.tombstones().count();
        loop {
            if members.is_removed(core.member()) {
                self.told(&core).await;
                return;
            }
            match core.machine().wait_members(&members).await {
                Some(changed) => members = changed,
                None => return,
            }
            let now = members.tombstones().count();
            if now != known {
                // The one that was removed is refused from now on, and hears why.
                core.link().renew();
                known = now;
            }
        }
    }
}
