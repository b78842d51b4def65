//! What waits for the archive writer: the heavier traffic class is served first, the lighter shed first.
//!
//! As long as all that waits fits into one commit, weights change nothing. Beyond that, the lighter
//! wait: their sessions' inboxes fill and their sockets are not read. What waits too long, and what
//! comes last and lightest into a full queue, is refused.

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use eider_storage::AccountId;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::{BATCH_MESSAGES, Batch, Submission, WAIT_MAX};
use crate::account::ledger::Acknowledged;

#[derive(Default)]
struct State {
    /// In order of arrival within a weight.
    by_weight: BTreeMap<Reverse<u32>, VecDeque<Submission>>,
    stanzas: usize,
    bytes: u64,
    paid: Vec<(AccountId, Acknowledged)>,
    /// Who waits until all that came before them is settled, in order of arrival.
    looks: VecDeque<Look>,
    closed: bool,
}

struct Look {
    since: Instant,
    settled: oneshot::Sender<()>,
}

/// See the module's documentation.
pub struct Queue {
    state: Mutex<State>,
    news: Notify,
    stanzas_max: usize,
    bytes_max: u64,
}

fn bytes(submission: &Submission) -> u64 {
    submission.message.stanza.as_bytes().len() as u64
}

impl State {
    fn pop_front(&mut self, weight: u32) -> Option<Submission> {
        let waiting = self.by_weight.get_mut(&Reverse(weight))?;
        let first = waiting.pop_front()?;
        if waiting.is_empty() && waiting.capacity() > BATCH_MESSAGES {
            *waiting = VecDeque::new();
        }
        self.stanzas -= 1;
        self.bytes -= bytes(&first);
        Some(first)
    }

    /// The lightest that came last.
    fn pop_lightest(&mut self) -> Option<Submission> {
        let lightest = self.by_weight.values_mut().rev();
        let last = lightest.filter_map(VecDeque::pop_back).next()?;
        self.stanzas -= 1;
        self.bytes -= bytes(&last);
        Some(last)
    }

    fn weights(&self) -> Vec<u32> {
        self.by_weight.keys().map(|weight| weight.0).collect()
    }

    /// Who waits for nothing that is still in the queue.
    fn take_looks(&mut self) -> Vec<oneshot::Sender<()>> {
        let fronts = self.by_weight.values().filter_map(VecDeque::front);
        let oldest = fronts.map(|submission| submission.since).min();
        let over = |look: &mut Look| oldest.is_none_or(|oldest| look.since < oldest);
        let mut settled = Vec::new();
        while let Some(look) = self.looks.pop_front_if(over) {
            settled.push(look.settled);
        }
        settled
    }

    /// What has waited for at least `age`.
    fn take_older(&mut self, age: Duration) -> Vec<Submission> {
        let mut late = Vec::new();
        for weight in self.weights() {
            let is_late = |state: &State| {
                let first = state.by_weight.get(&Reverse(weight))?.front()?;
                Some(first.since.elapsed() >= age)
            };
            while is_late(self) == Some(true) {
                late.extend(self.pop_front(weight));
            }
        }
        late
    }
}

impl Queue {
    /// A queue of at most so many messages and bytes of them.
    pub fn new(stanzas_max: usize, bytes_max: u64) -> Arc<Queue> {
        Arc::new(Queue {
            state: Mutex::default(),
            news: Notify::new(),
            stanzas_max,
            bytes_max,
        })
    }

    /// Adds a message; where the queue is full, the lightest that came last are refused. Answers by which limit.
    pub fn push(&self, weight: u32, submission: Submission) -> Option<&'static str> {
        let mut shed = Vec::new();
        let mut over = None;
        let mut state = self.state.lock();
        state.stanzas += 1;
        state.bytes += bytes(&submission);
        let waiting = state.by_weight.entry(Reverse(weight)).or_default();
        waiting.push_back(submission);
        while state.stanzas > self.stanzas_max || state.bytes > self.bytes_max {
            over = Some(match state.stanzas > self.stanzas_max {
                true => "archive_queue_stanzas",
                false => "archive_queue_bytes",
            });
            shed.extend(state.pop_lightest());
        }
        drop(state);
        shed.into_iter().for_each(Submission::refuse);
        self.news.notify_one();
        over
    }

    /// Adds what an account has acknowledged.
    pub fn push_paid(&self, account: AccountId, acknowledged: Acknowledged) {
        self.state.lock().paid.push((account, acknowledged));
        self.news.notify_one();
    }

    /// Adds somebody who waits until all that was pushed before is stored and delivered, or refused.
    pub fn push_look(&self, settled: oneshot::Sender<()>) {
        let mut state = self.state.lock();
        let since = Instant::now();
        state.looks.push_back(Look { since, settled });
        drop(state);
        self.news.notify_one();
    }

    /// Nothing more will come.
    pub fn close(&self) {
        self.state.lock().closed = true;
        self.news.notify_one();
    }

    /// Messages that wait.
    pub fn len(&self) -> usize {
        self.state.lock().stanzas
    }

    /// What goes into the next commit, the heaviest first; what it leaves behind and has waited too
    /// long is refused. `None` once the queue is closed and empty.
    pub fn take(&self) -> Option<Batch> {
        let mut state = self.state.lock();
        let mut batch = Batch {
            messages: Vec::with_capacity(state.stanzas.min(BATCH_MESSAGES)),
            paid: std::mem::take(&mut state.paid),
            looks: Vec::new(),
        };
        for weight in state.weights() {
            while batch.messages.len() < BATCH_MESSAGES
                && let Some(next) = state.pop_front(weight)
            {
                batch.messages.push(next);
            }
        }
        let late = match state.stanzas {
            0 => Vec::new(),
            _ => state.take_older(WAIT_MAX),
        };
        batch.looks = state.take_looks();
        let is_over = state.closed && batch.is_empty();
        drop(state);
        late.into_iter().for_each(Submission::refuse);
        (!is_over).then_some(batch)
    }

    /// Refuses what has waited for at least `age`: it is surely not stored.
    pub fn refuse_older(&self, age: Duration) {
        let late = self.state.lock().take_older(age);
        late.into_iter().for_each(Submission::refuse);
    }

    /// Until something was added since the last call.
    pub async fn news(&self) {
        self.news.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::message::Message;
    use crate::account::writer::NotStored;
    use crate::xep::carbons::Copies;
    use eider_xmpp::element::Element;
    use eider_xmpp::jid::FullJid;
    use eider_xmpp::ns;
    use eider_xmpp::stanza::Stanza;

    type Told = oneshot::Receiver<Result<(), NotStored>>;

    fn submission(id: &str, waited: Duration) -> (Submission, Told) {
        let from: FullJid = "anna@localhost/a".parse().unwrap();
        let stanza = Element::new("message", ns::CLIENT).with_attr("id", id);
        let (done, told) = oneshot::channel();
        let message = Message {
            stanza: Stanza::from_element(&stanza),
            to: from.to_jid(),
            from,
            destination: None,
            carbons: Copies::default(),
            rows: Default::default(),
            text: None,
            owed: None,
            resend_key: None,
            over_bound: false,
        };
        let since = Instant::now() - waited;
        let submission = Submission {
            message,
            since,
            done,
        };
        (submission, told)
    }

    fn ids(batch: &Batch) -> Vec<String> {
        let ids = batch.messages.iter().map(|one| one.message.stanza.id());
        ids.map(|id| id.unwrap().into_owned()).collect()
    }

    #[test]
    fn the_heavier_goes_first_and_the_lighter_is_shed_first() {
        let queue = Queue::new(3, 1024 * 1024);
        let mut told = Vec::new();
        for (weight, id) in [(10, "n1"), (10, "n2"), (50, "v1"), (50, "v2"), (10, "n3")] {
            let (submission, answer) = submission(id, Duration::ZERO);
            queue.push(weight, submission);
            told.push((id, answer));
        }
        for (id, answer) in &mut told {
            let refused = answer.try_recv() == Ok(Err(NotStored::Unavailable));
            assert_eq!(refused, ["n2", "n3"].contains(id), "{id}");
        }
        assert_eq!(ids(&queue.take().unwrap()), ["v1", "v2", "n1"]);
        assert!(queue.take().is_some(), "more may come");
        queue.close();
        assert!(queue.take().is_none());
    }

    #[test]
    fn while_commits_are_full_the_lighter_wait_but_not_for_ever() {
        let queue = Queue::new(4 * BATCH_MESSAGES, 1024 * 1024 * 1024);
        let (late, mut late_told) = submission("late", WAIT_MAX);
        let (light, mut light_told) = submission("light", Duration::ZERO);
        queue.push(1, late);
        queue.push(1, light);
        for number in 0..BATCH_MESSAGES {
            let (heavy, _) = submission(&number.to_string(), Duration::ZERO);
            queue.push(10, heavy);
        }
        let full = ids(&queue.take().unwrap());
        assert_eq!(full.len(), BATCH_MESSAGES);
        assert!(
            full.iter()
                .enumerate()
                .all(|(at, id)| *id == at.to_string())
        );
        assert_eq!(late_told.try_recv(), Ok(Err(NotStored::Unavailable)));
        assert!(light_told.try_recv().is_err(), "it waits");
        assert_eq!(ids(&queue.take().unwrap()), ["light"]);
    }

    #[test]
    fn who_looks_waits_for_what_came_before_and_for_nothing_later() {
        let queue = Queue::new(4 * BATCH_MESSAGES, 1024 * 1024 * 1024);
        let (light, _light) = submission("light", Duration::from_millis(1));
        queue.push(1, light);
        let (look, mut looks) = oneshot::channel();
        queue.push_look(look);
        for number in 0..BATCH_MESSAGES {
            let (heavy, _) = submission(&number.to_string(), Duration::ZERO);
            queue.push(10, heavy);
        }
        assert!(
            queue.take().unwrap().looks.is_empty(),
            "the light one waits"
        );
        let (later, _later) = submission("later", Duration::ZERO);
        queue.push(10, later);
        let batch = queue.take().unwrap();
        assert_eq!(ids(&batch), ["later", "light"]);
        assert!(looks.try_recv().is_err(), "not written yet");
        assert_eq!(batch.looks.len(), 1);
        let (alone, _alone) = oneshot::channel();
        queue.push_look(alone);
        assert_eq!(queue.take().unwrap().looks.len(), 1);
    }
}
