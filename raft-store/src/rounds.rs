//! Read barriers: one round with a quorum at a time serves all who wait; who comes while it runs waits for the next,
//! since what it reads may have been written after the round began. A member that follows asks the leader.

use std::pin::pin;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Duration, Instant, timeout_at};

use crate::error::Error;
use crate::limits::READS_IN_FLIGHT;
use crate::link::Link;
use crate::link::messages::{NotServed, Reply, Request};
use crate::raft::core::{Core, NoIndex};
use crate::waiters::Waiters;

/// Between two rounds when nobody answers.
const PAUSE: Duration = Duration::from_millis(20);
/// For the leader's answer; its own rounds take 600 ms at most.
const ASK_LIMIT: Duration = Duration::from_secs(1);

/// Who waits for a round. Clones are handles to the same.
#[derive(Clone, Default)]
pub(crate) struct Rounds(Arc<Shared>);

#[derive(Default)]
struct Shared {
    waiting: Mutex<Vec<Waiting>>,
    /// The task that runs the rounds alone waits for it.
    added: Notify,
}

enum Waiting {
    /// A call here: told when what it must see is applied here.
    Own(oneshot::Sender<()>),
    /// A peer, which asks nobody but the leader: told the index.
    Peer(oneshot::Sender<Result<u64, NoIndex>>),
}

impl Waiting {
    fn is_gone(&self) -> bool {
        match self {
            Self::Own(tell) => tell.is_closed(),
            Self::Peer(tell) => tell.is_closed(),
        }
    }
}

impl Rounds {
    fn push(&self, one: Waiting) -> Result<(), Error> {
        let mut waiting = self.0.waiting.lock();
        if waiting.len() >= READS_IN_FLIGHT {
            waiting.retain(|one| !one.is_gone());
        }
        if waiting.len() >= READS_IN_FLIGHT {
            return Err(Error::Busy);
        }
        waiting.push(one);
        drop(waiting);
        self.0.added.notify_one();
        Ok(())
    }

    /// Waits until everything acknowledged before this call is applied here. `NoQuorum` at the deadline.
    pub(crate) async fn barrier(&self, waiters: &Waiters, deadline: Instant) -> Result<(), Error> {
        let (tell, told) = oneshot::channel();
        self.push(Waiting::Own(tell))?;
        if waiters.is_closed() {
            return Err(Error::Closed);
        }
        match timeout_at(deadline, told).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Error::Closed),
            Err(_) => Err(Error::NoQuorum),
        }
    }

    /// The index that a read begun before this call must see; of a leader alone.
    pub(crate) async fn index(&self) -> Result<u64, NoIndex> {
        let (tell, told) = oneshot::channel();
        self.push(Waiting::Peer(tell))
            .map_err(|_| NoIndex::NoQuorum)?;
        told.await.unwrap_or(Err(NoIndex::Ended))
    }

    /// How many wait.
    pub(crate) fn waiting(&self) -> usize {
        self.0.waiting.lock().len()
    }

    /// Runs rounds until the store has closed.
    pub(crate) async fn run(self, core: Core, waiters: Waiters, link: Arc<dyn Link>) {
        tokio::select! {
            biased;
            () = pin!(waiters.closed()) => {}
            () = self.serve(&core, &waiters, &*link) => {}
        }
        self.0.waiting.lock().clear();
    }

    async fn serve(&self, core: &Core, waiters: &Waiters, link: &dyn Link) {
        loop {
            self.0.added.notified().await;
            let mut waiting = std::mem::take(&mut *self.0.waiting.lock());
            while !waiting.is_empty() {
                match round(core, link).await {
                    Ok(index) => {
                        tell_peers(&mut waiting, Ok(index));
                        if !waiting.is_empty() && !core.machine().wait_applied(index).await {
                            return;
                        }
                        tell_own(&mut waiting);
                    }
                    Err(NoIndex::Ended) => return,
                    Err(why @ (NoIndex::NotLeader | NoIndex::NoQuorum)) => {
                        tell_peers(&mut waiting, Err(why));
                        tokio::time::sleep(PAUSE).await;
                        if !self.wait_leader(core, waiters, &mut waiting).await {
                            return;
                        }
                        waiting.retain(|one| !one.is_gone());
                        // A later round serves those who came meanwhile as well.
                        waiting.append(&mut self.0.waiting.lock());
                    }
                }
            }
        }
    }

    /// Waits until somebody is known to lead; peers that ask meanwhile are told. `false`: the store has closed.
    async fn wait_leader(
        &self,
        core: &Core,
        waiters: &Waiters,
        waiting: &mut Vec<Waiting>,
    ) -> bool {
        loop {
            let known = core.wait_leadership(|| {
                let known = core.leader().is_some();
                (known || waiters.is_closed()).then_some(known)
            });
            tokio::select! {
                biased;
                known = known => return known,
                () = self.0.added.notified() => {
                    waiting.append(&mut self.0.waiting.lock());
                    tell_peers(waiting, Err(NoIndex::NotLeader));
                }
            }
        }
    }
}

/// One exchange that proves leadership, here or at the leader.
async fn round(core: &Core, link: &dyn Link) -> Result<u64, NoIndex> {
    if core.is_leading() {
        return core.read_index().await;
    }
    let leader = core.leader().ok_or(NoIndex::NotLeader)?;
    match link.call(leader, Request::ReadIndex, ASK_LIMIT).await {
        Ok(Reply::ReadIndex(Ok(index))) => Ok(index),
        Ok(Reply::ReadIndex(Err(NotServed::NotLeader(_)))) => Err(NoIndex::NotLeader),
        Ok(_) | Err(_) => Err(NoIndex::NoQuorum),
    }
}

fn tell_peers(waiting: &mut Vec<Waiting>, what: Result<u64, NoIndex>) {
    let (peers, own) = std::mem::take(waiting)
        .into_iter()
        .partition::<Vec<_>, _>(|one| matches!(one, Waiting::Peer(_)));
    *waiting = own;
    for one in peers {
        if let Waiting::Peer(tell) = one {
            // It may have gone.
            let _ = tell.send(what);
        }
    }
}

fn tell_own(waiting: &mut Vec<Waiting>) {
    for one in waiting.drain(..) {
        if let Waiting::Own(tell) = one {
            // Its deadline may have passed.
            let _ = tell.send(());
        }
    }
}

#[cfg(test)]
mod tests;
