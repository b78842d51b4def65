//! Members compare the hashes of their states behind the same entries. One whose hash no majority of the voters shares
//! stops: what it would answer is wrong.

use std::collections::{BTreeSet, VecDeque};
use std::pin::pin;
use std::time::Duration;

use crate::link::messages::{Reply, Request};
use crate::poll;
use crate::raft::core::Core;
use crate::waiters::Waiters;

/// The state is hashed behind each entry whose index is a multiple of this.
const EVERY_ENTRIES: u64 = 64;
/// Hashes kept, the newest.
const KEPT: usize = 64;
/// Between two comparisons.
const COMPARE: Duration = Duration::from_secs(10);
/// For an answer.
const ANSWER: Duration = Duration::from_secs(2);

/// Hashes behind entries, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Hashes(VecDeque<(u64, u128)>);

impl Hashes {
    /// The entry at `index` was applied.
    pub(crate) fn applied(&mut self, index: u64, hash: impl FnOnce() -> u128) {
        if !index.is_multiple_of(EVERY_ENTRIES) {
            return;
        }
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back((index, hash()));
    }

    pub(crate) fn at(&self, index: u64) -> Option<u128> {
        let found = self.0.iter().rev().find(|(at, _)| *at == index);
        found.map(|(_, hash)| *hash)
    }

    #[cfg(test)]
    pub(crate) fn plant(&mut self) {
        self.0.iter_mut().for_each(|(_, hash)| *hash ^= 1);
    }

    /// One that the others have as well, unless they are far behind: the last but one.
    pub(crate) fn newest(&self) -> Option<(u64, u128)> {
        self.0.get(self.0.len().saturating_sub(2)).copied()
    }
}

/// Compares until the store has closed, or this member's state is found to be wrong.
pub(crate) async fn run(core: Core, waiters: Waiters) {
    let compare = async {
        loop {
            tokio::time::sleep(core.clock().wait(COMPARE)).await;
            if let Some(reason) = compare(&core).await {
                core.fail(reason).await;
            }
        }
    };
    tokio::select! {
        biased;
        () = pin!(waiters.closed()) => {}
        () = compare => {}
    }
}

/// Why this member must stop, if it must.
async fn compare(core: &Core) -> Option<String> {
    let (index, hash) = core.machine().newest_hash()?;
    let membership = core.membership();
    let mut others = membership.all_voters();
    others.remove(&core.member());
    let mut replies = poll::ask(core, others, &Request::StateHash { index, hash }, ANSWER);
    let mut differ = BTreeSet::new();
    while let Some((voter, reply)) = replies.recv().await {
        if matches!(
            reply,
            Reply::StateHash {
                agrees: Some(false)
            }
        ) {
            tracing::error!(%voter, index, "the state of another member differs");
            differ.insert(voter);
        }
    }
    let wrong = membership.is_quorum(|voter| differ.contains(&voter));
    wrong.then(|| format!("the state behind entry {index} differs from that of a majority"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_cluster::{Fabric, cluster, leader};

    #[tokio::test(start_paused = true)]
    async fn whose_state_is_another_ends() {
        let members = cluster(&Fabric::default(), &[0; 3]).await;
        for member in &members {
            tokio::spawn(run(member.core.clone(), member.waiters.clone()));
        }
        let leads = leader(&members).expect("somebody leads");
        for put in 0..200 {
            let put = leads.put(&format!("key {put}"), false, ANSWER).await;
            put.expect("it leads");
        }
        tokio::time::sleep(COMPARE * 2).await;
        let open = |member: &&crate::test_cluster::Member| !member.waiters.is_closed();
        assert_eq!(members.iter().filter(open).count(), 3);
        let wrong = members.iter().find(|member| member.id != leads.id);
        let wrong = wrong.expect("there are three");
        wrong.core.machine().plant_other_hashes();
        tokio::time::sleep(COMPARE * 2).await;
        assert!(wrong.waiters.is_closed());
        assert_eq!(members.iter().filter(open).count(), 2);
    }

    #[test]
    fn the_newest_are_kept() {
        let mut hashes = Hashes::default();
        assert_eq!(hashes.newest(), None);
        for index in 0..=EVERY_ENTRIES * 100 {
            hashes.applied(index, || u128::from(index));
        }
        assert_eq!(hashes.newest(), Some((6336, 6336)));
        assert_eq!(hashes.at(6400), Some(6400));
        assert_eq!(hashes.at(6399), None);
        assert_eq!(hashes.at(64), None);
        assert_eq!(hashes.0.len(), KEPT);
    }
}
