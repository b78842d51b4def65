//! What a leader does about leases: grants renewals, declares the silent dead, has the keys of the dead removed.

use std::collections::BTreeSet;
use std::time::Duration;

use super::Leases;
use super::ledger::Noted;
use crate::entry::Close;
use crate::ids::{Incarnation, MemberId};
use crate::link::messages::{NotServed, Renewed};
use crate::raft::core::Leadership;

/// Between two looks at who was heard.
const LOOK: Duration = Duration::from_millis(250);
/// Between two entries that remove keys of the dead: what callers write goes in between, and along with them.
const CLEAN_UP: Duration = Duration::from_millis(20);
/// Whether a quorum has answered is looked at so often.
const GRANT_LOOK: Duration = Duration::from_millis(20);
/// A renewal is not granted later than this: whoever asked has asked again.
const GRANT_LIMIT: Duration = Duration::from_millis(1000);

impl Leases {
    /// What becomes of a renewal by a run of `from` that has just been received. Granted, if this member still leads
    /// when a quorum has answered what it sent after the receipt, and the run is seen to live by then.
    pub(crate) async fn renewed(&self, from: MemberId, incarnation: Incarnation) -> Renewed {
        let core = &self.0.core;
        let known = core.leadership();
        let not_leader = || Renewed::Not(NotServed::NotLeader(core.leader()));
        if !known.leading {
            return not_leader();
        }
        let (received, noted) = self.note(known.term, incarnation);
        match noted {
            Noted::Received => {}
            Noted::Condemned => return Renewed::Lost,
            Noted::Over => return not_leader(),
        }
        while core.leadership() == known {
            let answered = self.answered(known);
            if answered.is_some_and(|answered| answered >= received)
                && let Some(renewed) = self.judge(known.term, from, incarnation)
            {
                return renewed;
            }
            if core.clock().now().saturating_sub(received) >= GRANT_LIMIT {
                return Renewed::Not(NotServed::NoQuorum);
            }
            tokio::time::sleep(core.clock().wait(GRANT_LOOK)).await;
        }
        not_leader()
    }

    /// A run that does not know yet which it is, since it still catches up, asks again. It is not dead, and is granted
    /// nothing.
    pub(crate) fn heard(&self, incarnation: Incarnation) {
        let known = self.0.core.leadership();
        if known.leading {
            self.note(known.term, incarnation);
        }
    }

    /// Grants a run nothing any more while this member leads `term`; it is declared dead when its lease is over.
    pub(crate) fn condemn(&self, term: u64, incarnation: Incarnation) {
        let mut ledger = self.0.ledger.lock();
        ledger.condemn(term, incarnation, self.0.core.clock().now());
    }

    fn note(&self, term: u64, incarnation: Incarnation) -> (Duration, Noted) {
        let mut ledger = self.0.ledger.lock();
        let received = self.0.core.clock().now();
        (received, ledger.received(term, incarnation, received))
    }

    /// When what a quorum has answered was sent, if this member leads as it did when it was asked.
    fn answered(&self, known: Leadership) -> Option<Duration> {
        let core = &self.0.core;
        let answered = core.quorum_clock();
        answered.filter(|_| core.leadership() == known)
    }

    /// A leader holds its own lease by the answers of a quorum alone. A lone voter, whom nobody can take anything from,
    /// so holds it also when it was stopped for long.
    pub(super) fn proven(&self) -> Option<Duration> {
        let core = &self.0.core;
        let known = core.leadership();
        let run = self.0.waiters.incarnation().filter(|_| known.leading)?;
        let answered = self.answered(known)?;
        let lives = self.judge(known.term, core.member(), run) == Some(Renewed::Granted);
        (lives && !self.0.ledger.lock().condemns(known.term, run)).then_some(answered)
    }

    /// `None`: not everything is applied here that says whether the run lives. That is all entries of earlier terms,
    /// which may end it, and the one that registered it.
    fn judge(&self, term: u64, from: MemberId, incarnation: Incarnation) -> Option<Renewed> {
        let machine = self.0.core.machine();
        let applied = machine.applied()?;
        if applied.term != term || applied.index < incarnation.0 {
            return None;
        }
        let state = machine.read()?;
        let row = state.members().get(from);
        let lives = row.is_some_and(|row| row.live && row.incarnation == incarnation);
        Some(match lives {
            true => Renewed::Granted,
            false => Renewed::Lost,
        })
    }

    /// Runs until the store has closed.
    pub(crate) async fn rule(self) {
        let waiters = &self.0.waiters;
        tokio::select! {
            biased;
            () = waiters.closed() => {}
            () = self.look_on() => {}
        }
    }

    async fn look_on(&self) {
        let clock = self.0.core.clock();
        loop {
            let pause = match self.look() {
                true => CLEAN_UP,
                false => LOOK,
            };
            tokio::time::sleep(clock.wait(pause)).await;
        }
    }

    /// Whether there is more to do soon.
    fn look(&self) -> bool {
        let core = &self.0.core;
        let known = core.leadership();
        if !known.leading {
            return false;
        }
        let Some(state) = core.machine().read() else {
            return false;
        };
        let rows = state.members().iter().filter(|(_, row)| row.live);
        let live: BTreeSet<_> = rows.map(|(_, row)| row.incarnation).collect();
        let orphaned = state.orphaned_owners().next();
        drop(state);
        let mut ledger = self.0.ledger.lock();
        let now = core.clock().now();
        let dead = ledger.dead(known.term, &live, now);
        drop(ledger);
        for incarnation in dead {
            self.command(Close::Dead(incarnation), known.term);
        }
        if let Some(owner) = orphaned {
            self.command(Close::CleanUp(owner), known.term);
        }
        orphaned.is_some()
    }

    /// Commands may be lost with the leadership, and are harmless when repeated: each look asks again.
    fn command(&self, close: Close, term: u64) {
        // Busy: the next look asks again.
        let _ = self.0.queue.command_of(term, close);
    }
}
