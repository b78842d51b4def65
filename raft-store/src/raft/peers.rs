//! What a leader knows of its peers from asking them: when each last answered, how far its log matches, how much it is
//! sent at once, whether it is barred (DESIGN §4, §7, §8). And when this member last heard of a leader.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::budget::Budget;
use super::promises::Promises;
use crate::clock::Clock;
use crate::ids::MemberId;
use crate::log::Vote;

/// A leader without a quorum's answer for so long proposes nothing, answers no reads, and goes mute.
pub(crate) const NO_QUORUM_AFTER: Duration = Duration::from_secs(1);
/// Between two tries of a peer that did not answer.
pub(super) const BETWEEN_TRIES: Duration = Duration::from_millis(100);
/// Heartbeats behind which a stream that asked for nothing is stuck: 3 s.
const STUCK_BEATS: u32 = 15;

/// See the module's documentation.
pub(super) struct Peers {
    clock: Arc<dyn Clock>,
    member: MemberId,
    state: Mutex<State>,
    pub(super) promises: Promises,
    /// Of the newest vote that this member has asked for, how many requests have ended.
    voted: Mutex<(Vote, usize)>,
    /// The task that elects alone waits for them.
    ended: Notify,
}

/// A request for a vote that is under way.
pub(super) struct Asked<'a>(&'a Peers, Vote);

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        let mut voted = self.0.voted.lock();
        if voted.0 < self.1 {
            *voted = (self.1, 0);
        }
        if voted.0 == self.1 {
            voted.1 += 1;
        }
        drop(voted);
        self.0.ended.notify_one();
    }
}

struct State {
    /// The notes are of what happened under this vote of ours.
    vote: Vote,
    /// When the first of it was noted.
    began: Duration,
    notes: BTreeMap<MemberId, Note>,
    /// When this member last began an election.
    elected: Duration,
    voters: Vec<BTreeSet<MemberId>>,
    barred: BTreeSet<MemberId>,
    /// Those that did not answer, and when they may be tried again.
    failed: BTreeMap<MemberId, Duration>,
    /// When a leader was last heard.
    heard: Duration,
}

#[derive(Default)]
struct Note {
    /// When the newest AppendEntries that it answered was sent.
    answered: Option<Duration>,
    /// The same of pings.
    ponged: Option<Duration>,
    /// Its log matches up to here.
    matched: Option<u64>,
    /// It was, or is being, sent a snapshot that ends here.
    sending: Option<u64>,
    /// Since its stream last asked for anything.
    beats: u32,
    budget: Budget,
}

impl State {
    /// Forgets what was noted under an earlier vote; `None`: this one is an earlier one.
    fn under(&mut self, vote: Vote, now: Duration) -> Option<&mut BTreeMap<MemberId, Note>> {
        if vote > self.vote {
            self.vote = vote;
            self.began = now;
            self.notes.clear();
        }
        (vote == self.vote).then_some(&mut self.notes)
    }

    fn note(&mut self, of: MemberId, vote: Vote, now: Duration) -> Option<&mut Note> {
        self.under(vote, now)
            .map(|notes| notes.entry(of).or_default())
    }

    /// The newest time that a majority of each configuration has reached, this member's being `now`.
    fn quorum(
        &self,
        me: MemberId,
        now: Duration,
        of: impl Fn(&Note) -> Option<Duration>,
    ) -> Option<Duration> {
        let time = |member: &MemberId| match *member == me {
            true => Some(now),
            false => self.notes.get(member).and_then(&of),
        };
        let of_one = |voters: &BTreeSet<MemberId>| {
            let mut times: Vec<_> = voters.iter().map(time).collect();
            times.sort();
            times.get(voters.len().saturating_sub(1) / 2).copied()?
        };
        // `None` is below any time.
        self.voters.iter().map(of_one).min()?
    }
}

impl Peers {
    pub(super) fn new(member: MemberId, clock: Arc<dyn Clock>) -> Self {
        let now = clock.now();
        let state = State {
            vote: Vote::default(),
            began: now,
            notes: BTreeMap::new(),
            elected: now,
            voters: Vec::new(),
            barred: BTreeSet::new(),
            failed: BTreeMap::new(),
            heard: now,
        };
        Self {
            clock,
            member,
            state: Mutex::new(state),
            promises: Promises::default(),
            voted: Mutex::default(),
            ended: Notify::new(),
        }
    }

    /// A request for `vote` begins.
    pub(super) fn ask_vote(&self, vote: Vote) -> Asked<'_> {
        Asked(self, vote)
    }

    /// Waits until so many requests for `vote` have ended.
    pub(super) async fn votes_are_in(&self, vote: Vote, requests: usize) {
        let are_in = || {
            let voted = self.voted.lock();
            voted.0 > vote || *voted >= (vote, requests)
        };
        while !are_in() {
            self.ended.notified().await;
        }
    }

    pub(super) fn now(&self) -> Duration {
        self.clock.now()
    }

    /// Time on this member's clock, as the runtime has to sleep it.
    pub(super) fn wait(&self, time: Duration) -> Duration {
        self.clock.wait(time)
    }

    pub(super) fn set_voters(&self, voters: Vec<BTreeSet<MemberId>>) {
        self.state.lock().voters = voters;
    }

    /// An election is about to be begun.
    pub(super) fn electing(&self) {
        self.state.lock().elected = self.clock.now();
    }

    /// A leader was heard, or there was no reason to hear one.
    pub(super) fn heard(&self) {
        self.state.lock().heard = self.clock.now();
    }

    /// How long no leader was heard.
    pub(super) fn silence(&self) -> Duration {
        let heard = self.state.lock().heard;
        self.clock.now().saturating_sub(heard)
    }

    /// The stream of `to` is at work.
    pub(super) fn asking(&self, to: MemberId, vote: Vote) {
        let now = self.clock.now();
        if let Some(note) = self.state.lock().note(to, vote, now) {
            note.beats = 0;
        }
    }

    /// `to` has accepted what was sent at `sent` under `vote`; its log matches up to `matched`.
    pub(super) fn answered(&self, to: MemberId, vote: Vote, sent: Duration, matched: Option<u64>) {
        let now = self.clock.now();
        let mut state = self.state.lock();
        if let Some(note) = state.note(to, vote, now) {
            note.answered = note.answered.max(Some(sent));
            note.matched = note.matched.max(matched);
        }
    }

    /// `to` has answered a ping that was sent at `sent`, and has not promised more than `vote`.
    pub(super) fn ponged(&self, to: MemberId, vote: Vote, sent: Duration) {
        let now = self.clock.now();
        let mut state = self.state.lock();
        if let Some(note) = state.note(to, vote, now) {
            note.ponged = note.ponged.max(Some(sent));
        }
    }

    /// Up to where the log of `to` is known to match under `vote`.
    pub(super) fn matched(&self, to: MemberId, vote: Vote) -> Option<u64> {
        let state = self.state.lock();
        let note = state.notes.get(&to).filter(|_| state.vote == vote)?;
        note.matched
    }

    /// When `to` has last been asked something that it answered, under the present vote.
    pub(super) fn last_answer(&self, to: MemberId) -> Option<Duration> {
        let state = self.state.lock();
        let note = state.notes.get(&to)?;
        note.answered.max(note.ponged)
    }

    /// A snapshot is being sent to `to` that ends at `index`.
    pub(super) fn send(&self, to: MemberId, vote: Vote, index: u64) {
        let now = self.clock.now();
        if let Some(note) = self.state.lock().note(to, vote, now) {
            note.sending = Some(index);
        }
    }

    /// Where the last snapshot ends that was sent to `to`.
    pub(super) fn sending(&self, to: MemberId) -> Option<u64> {
        self.state.lock().notes.get(&to)?.sending
    }

    /// Bytes of entries that `to` gets at once.
    pub(super) fn budget(&self, to: MemberId) -> usize {
        let state = self.state.lock();
        let note = state.notes.get(&to);
        note.map_or_else(Budget::default, |note| note.budget)
            .bytes()
    }

    /// An append with entries has taken this time.
    pub(super) fn took(&self, to: MemberId, time: Duration) {
        if let Some(note) = self.state.lock().notes.get_mut(&to) {
            note.budget.took(time);
        }
    }

    /// `to` has answered something.
    pub(super) fn replied(&self, to: MemberId) {
        self.state.lock().failed.remove(&to);
    }

    /// `to` did not answer, or not as it should.
    pub(super) fn failed(&self, to: MemberId) {
        let again = self.clock.now() + BETWEEN_TRIES;
        self.state.lock().failed.insert(to, again);
    }

    /// How long to wait before `to` is tried; whoever gets zero takes this try.
    pub(super) fn pause(&self, to: MemberId) -> Duration {
        let now = self.clock.now();
        let mut state = self.state.lock();
        let Some(again) = state.failed.get_mut(&to) else {
            return Duration::ZERO;
        };
        let pause = again.saturating_sub(now);
        if pause.is_zero() {
            *again = now + BETWEEN_TRIES;
        }
        pause
    }

    /// When the newest AppendEntries that a quorum has answered under `vote` was sent, the beginning of its election
    /// at least.
    pub(super) fn quorum_clock(&self, vote: Vote) -> Duration {
        let now = self.clock.now();
        let state = self.state.lock();
        let answered = (state.vote == vote)
            .then(|| state.quorum(self.member, now, |note| note.answered))
            .flatten();
        answered.map_or(state.elected, |answered| answered.max(state.elected))
    }

    /// Whether a leader under `vote` sends nothing any more, since no quorum answers.
    pub(super) fn is_mute(&self, vote: Vote) -> bool {
        let now = self.clock.now();
        let mut state = self.state.lock();
        if state.under(vote, now).is_none() {
            return true;
        }
        let answered = state.quorum(self.member, now, |note| note.answered);
        let ponged = state.quorum(self.member, now, |note| note.ponged);
        let newest = answered.max(ponged).max(Some(state.began));
        newest.is_some_and(|newest| now.saturating_sub(newest) > NO_QUORUM_AFTER)
    }

    /// Nothing is sent to it any more, nor taken from it: it has lost what it had promised.
    pub(super) fn bar(&self, member: MemberId) -> bool {
        self.state.lock().barred.insert(member)
    }

    pub(super) fn is_barred(&self, member: MemberId) -> bool {
        self.state.lock().barred.contains(&member)
    }

    pub(super) fn barred(&self) -> BTreeSet<MemberId> {
        self.state.lock().barred.clone()
    }

    /// A heartbeat went to the streams of all `members`. One whose stream has not moved for too long.
    pub(super) fn beat(
        &self,
        members: impl Iterator<Item = MemberId>,
        vote: Vote,
    ) -> Option<MemberId> {
        let now = self.clock.now();
        let mut state = self.state.lock();
        let notes = state.under(vote, now)?;
        let mut stuck = None;
        for member in members.filter(|member| *member != self.member) {
            let note = notes.entry(member).or_default();
            note.beats += 1;
            if note.beats > STUCK_BEATS {
                stuck = Some(member);
            }
        }
        stuck
    }
}

#[cfg(test)]
mod tests;
