//! Elections: who has heard no leader for a while asks the others whether they have, and then elects itself; who leads
//! sends heartbeats. openraft does neither by itself here (DESIGN §7).

use std::collections::BTreeSet;
use std::time::Duration;

use crate::ids::MemberId;
use crate::link::messages::{Reply, Request};
use crate::log::{LogId, Vote};
use crate::poll;
use crate::raft::core::Core;
use crate::raft::reign::Standing;
use crate::random::Random;

/// Between two heartbeats.
const BEAT: Duration = Duration::from_millis(200);
/// A leader is suspected after so much silence, and up to `SUSPECT_SPREAD` more.
const SUSPECT: Duration = Duration::from_millis(1000);
const SUSPECT_SPREAD: Duration = Duration::from_millis(400);
/// Whoever has heard a leader within this time agrees to no election. openraft's lease is as long.
const LEASE: Duration = Duration::from_millis(900);
/// After a pre-vote without a majority, and up to as much more as stands behind it.
const PRE_VOTE_AGAIN: (Duration, Duration) =
    (Duration::from_millis(100), Duration::from_millis(200));
/// After an election that was lost.
const ELECT_AGAIN: (Duration, Duration) = (Duration::from_millis(150), Duration::from_millis(300));
/// Who has given its vote to another leaves it so much time to win before it agrees to a third, or tries itself.
const PROMISE: Duration = Duration::from_millis(400);
/// An answer to a pre-vote, and the result of an election, are waited for so long.
const ANSWER: Duration = Duration::from_millis(650);
/// More than what a leader appends of its own at once: its first entry, a membership.
const FIRST_ENTRY_BYTES: usize = 4 << 10;
/// How often a member that is no voter looks whether it has become one.
const LEARNER_LOOKS: Duration = Duration::from_millis(200);

/// Runs until the core has ended.
pub(crate) async fn run(core: Core) {
    while step(&core).await.is_some() {}
}

async fn sleep(core: &Core, time: Duration) {
    tokio::time::sleep(core.clock().wait(time)).await;
}

/// `least`, and by chance up to `spread` more.
fn draw(random: &dyn Random, (least, spread): (Duration, Duration)) -> Duration {
    let micros = random.below(spread.as_micros() as u64 + 1);
    least + Duration::from_micros(micros)
}

/// A heartbeat, or one suspicion with what follows. `None`: the core has ended.
async fn step(core: &Core) -> Option<()> {
    if core.is_leading() {
        if !core.heartbeat().await {
            return None;
        }
        core.heard();
        sleep(core, BEAT).await;
        return Some(());
    }
    let member = core.member();
    if !core.membership().is_voter(member) {
        core.standing().await?;
        sleep(core, LEARNER_LOOKS).await;
        return Some(());
    }
    let patience = draw(core.random(), (SUSPECT, SUSPECT_SPREAD));
    if !is_silent(core, patience).await {
        return Some(());
    }
    tracing::info!(%member, term = core.term(), "no leader is heard");
    while core.silence() >= LEASE && !core.is_leading() {
        let before = core.standing().await?;
        if before.has_promised(member, PROMISE) || !pre_vote(core).await {
            core.standing().await?;
            sleep(core, draw(core.random(), PRE_VOTE_AGAIN)).await;
            continue;
        }
        if elect(core, before.vote).await? {
            break;
        }
        sleep(core, draw(core.random(), ELECT_AGAIN)).await;
    }
    Some(())
}

/// Waits until no leader was heard for `patience`; `false`: this member has begun to lead.
async fn is_silent(core: &Core, patience: Duration) -> bool {
    loop {
        let silence = core.silence();
        if core.is_leading() {
            return false;
        }
        if silence >= patience {
            return true;
        }
        sleep(core, patience - silence).await;
    }
}

/// Whether a majority of each configuration would elect this member.
async fn pre_vote(core: &Core) -> bool {
    let membership = core.membership();
    let (member, last) = (core.member(), core.last());
    // Without room for its first entry a leader would end with it.
    if !membership.is_voter(member) || !core.log().has_room(FIRST_ENTRY_BYTES) {
        return false;
    }
    let term = core.term() + 1;
    let asked = (Request::PreVote { term, last }, ANSWER);
    let agrees = |reply: &Reply| matches!(reply, Reply::PreVote(true));
    poll::majority(core, &membership, BTreeSet::from([member]), asked, agrees).await
}

/// Whether this member would vote for `from`, whose log ends at `last`.
pub(crate) async fn would_vote(core: &Core, from: MemberId, last: Option<LogId>) -> bool {
    let hears = || match core.is_leading() {
        true => core.has_quorum(),
        false => core.silence() < LEASE,
    };
    if hears() {
        return false;
    }
    let Some(standing) = core.standing().await else {
        return false;
    };
    let leased = standing.vote.committed && !standing.leading && standing.vote_age <= LEASE;
    // This member's own election is one that may be about to be won, too.
    let promised = standing.has_promised(from, PROMISE);
    !leased && !promised && !hears() && last >= core.last()
}

/// Elects this member, unless it has given its vote to another or heard a leader since its vote was `before`, and waits
/// for what comes of it. `None`: the core has ended.
async fn elect(core: &Core, before: Vote) -> Option<bool> {
    let still = |now: &Standing| now.vote == before && core.silence() >= LEASE;
    if !core.elect_if(still).await? {
        return Some(false);
    }
    let standing = core.standing().await?;
    if standing.leading {
        return Some(true);
    }
    let limit = core.clock().wait(ANSWER);
    core.votes_are_in(standing.vote, limit).await;
    Some(core.standing().await?.leading)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Seeded;

    #[test]
    fn suspicions_are_drawn_anew_from_all_of_their_time() {
        let random = Seeded::new(1, "elections");
        let drawn: BTreeSet<Duration> = (0..1_000)
            .map(|_| draw(&random, (SUSPECT, SUSPECT_SPREAD)))
            .collect();
        let (first, last) = (drawn.first().expect("many"), drawn.last().expect("many"));
        let (least, most) = (SUSPECT, SUSPECT + SUSPECT_SPREAD);
        let tenth = SUSPECT_SPREAD / 10;
        assert!((least..least + tenth).contains(first), "{first:?}");
        assert!((most - tenth..=most).contains(last), "{last:?}");
        assert!(drawn.len() > 900, "{}", drawn.len());
    }
}
