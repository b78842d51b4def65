//! What is looked at from outside whenever anything has happened: leases of the dead, queues; and now and then, dials.

use std::collections::BTreeMap;
use std::time::Duration;

use std::sync::atomic::Ordering;

use raft_store::limits::{COMMANDS_WAITING, PROPOSALS_IN_FLIGHT, READS_IN_FLIGHT};
use tokio::time::sleep;

use super::world::World;

/// Dials of one member to another, and in what time: ten a second.
const DIALS: u64 = 50;
const DIALS_PER: Duration = Duration::from_secs(5);

impl World {
    /// Looks, all the time.
    pub fn look(&self) {
        tokio::spawn(self.clone().look_on());
        tokio::spawn(self.clone().measure());
        tokio::spawn(self.clone().watch_gaps());
        tokio::spawn(self.clone().watch_losses());
    }

    /// Whoever held the lease of a run that is over knows that it is lost.
    pub fn dead_hold_nothing(&self) {
        let members = self.members.lock();
        for (number, member) in members.iter().enumerate() {
            let Some(store) = member.running.as_ref().map(|running| &running.store) else {
                continue;
            };
            let run = store.incarnation();
            let dead = run.is_some_and(|run| self.model.lock().dead.contains(&run));
            if dead && store.lease().is_held() {
                self.trace.violated(format!(
                    "run {run:?} of member {number} is dead and holds its lease"
                ));
            }
        }
    }

    /// Complains of a queue over its limit, or with more in it than was ever asked for.
    fn measure_queues(&self) {
        let calls = self.most_calls.load(Ordering::Relaxed);
        let all = calls * self.count();
        for number in 0..self.count() {
            let Some(up) = self.up(number) else { continue };
            let seen = up.store.inspect();
            let over = seen.forwards > PROPOSALS_IN_FLIGHT.min(all)
                || seen.calls > PROPOSALS_IN_FLIGHT.min(calls)
                || seen.commands > COMMANDS_WAITING
                || seen.reads > READS_IN_FLIGHT.min(all);
            if over {
                self.trace.violated(format!("member {number}: {seen:?}"));
            }
        }
    }

    /// Looks at what members do not show themselves, whenever anything has happened.
    async fn look_on(self) {
        while self.trace.violation().is_none() {
            self.stepped.notified().await;
            self.measure_queues();
            self.dead_hold_nothing();
        }
    }

    /// Complains when somebody is dialled by somebody again and again.
    async fn measure(self) {
        let ids: Vec<_> = (0..self.count()).map(|number| self.id(number)).collect();
        let mut before = BTreeMap::new();
        let mut turn = 0;
        while self.trace.violation().is_none() {
            sleep(Duration::from_secs(1)).await;
            turn = (turn + 1) % DIALS_PER.as_secs();
            if turn != 0 {
                continue;
            }
            for from in &ids {
                for to in &ids {
                    let now = self.network.dials(*from, *to);
                    let then = before.insert((*from, *to), now).unwrap_or(0);
                    if now - then > DIALS {
                        self.trace.violated(format!(
                            "{from} dials {to} {} times in {DIALS_PER:?}",
                            now - then
                        ));
                    }
                }
            }
        }
    }
}
