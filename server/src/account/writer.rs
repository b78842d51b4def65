//! The archive writer: one commit for whatever has gathered while the last one ran (DESIGN §3).
//!
//! The writer also delivers, in commit order: two senders' messages then reach a
//! recipient in the order of its archive. Only after that is the sender's session told.

mod pulse;
mod queue;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use eider_storage::{
    AccountId, Commit, CommitError, Fence, NewMessage, PosRange, Position, Storage, Unknown,
    Watermark,
};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::{error, warn};

pub use self::pulse::{Pulse, Trouble};

use self::pulse::Outcome;
use self::queue::Queue;
use crate::account::ledger::Acknowledged;
use crate::account::message::Message;
use crate::admin::metrics::Metrics;
use crate::fault::{self, Point};

/// Messages in one commit at most.
const BATCH_MESSAGES: usize = 1_024;
/// A message that waited this long while the database is away is refused: its sender gets
/// `resource-constraint` within 5 s.
const WAIT_MAX: Duration = Duration::from_millis(4_500);
/// Between two looks at a database that does not answer.
const RETRY_PAUSE: Duration = Duration::from_millis(250);
/// Paid debts are written with the next commit, or alone after this time.
const LEDGER_PERIOD: Duration = Duration::from_secs(2);

/// Why a message was not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotStored {
    /// Surely not stored: the sender may try again.
    Unavailable,
    /// This member may not write any more.
    Fenced,
}

/// A message, and who waits for it.
pub struct Submission {
    /// See [`Message`].
    pub message: Message,
    /// When it was submitted.
    pub since: Instant,
    /// Told once the message is stored and delivered, or surely not stored.
    pub done: oneshot::Sender<Result<(), NotStored>>,
}

/// Delivers what is committed; implemented by the router.
pub trait Deliver: Send + Sync {
    /// Delivers a message whose rows lie at `positions` (in the order of [`Message::rows`]).
    fn committed(&self, message: &Message, positions: &[i64]);
    /// Delivering it has panicked: its debts stay owed.
    fn failed(&self, message: &Message, positions: &[i64]);
    /// Acknowledged debts that changed and are not written yet.
    fn paid(&self) -> Vec<(AccountId, Acknowledged)>;
}

impl Submission {
    /// Surely not stored: the sender may try again.
    fn refuse(self) {
        let _ = self.done.send(Err(NotStored::Unavailable));
    }
}

/// The way to the writer. Cheap to clone.
#[derive(Clone)]
pub struct Writer {
    door: Arc<Door>,
    pulse: Arc<Pulse>,
    metrics: Arc<Metrics>,
}

/// Closes the queue once nobody can add to it.
struct Door(Arc<Queue>);

impl Drop for Door {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// The writer's own end, to be run as one task.
pub struct WriterTask {
    storage: Arc<dyn Storage>,
    deliver: Arc<dyn Deliver>,
    /// Not written yet because a commit failed; earlier than what the ledgers know.
    paid: Vec<(AccountId, Acknowledged)>,
    ledger_period: Duration,
    pulse: Arc<Pulse>,
    queue: Arc<Queue>,
    metrics: Arc<Metrics>,
    fence: Fence,
}

impl Writer {
    /// The two ends of a queue of at most `queue_max` messages and `queue_max_bytes` of them.
    pub fn new(
        storage: Arc<dyn Storage>,
        deliver: Arc<dyn Deliver>,
        metrics: Arc<Metrics>,
        fence: Fence,
        queue_max: usize,
        queue_max_bytes: u64,
    ) -> (Writer, WriterTask) {
        let queue = Queue::new(queue_max, queue_max_bytes);
        let pulse = Arc::new(Pulse::new(Instant::now()));
        let task = WriterTask {
            storage,
            deliver,
            paid: Vec::new(),
            ledger_period: LEDGER_PERIOD,
            pulse: pulse.clone(),
            queue: queue.clone(),
            metrics: metrics.clone(),
            fence,
        };
        let writer = Writer {
            door: Arc::new(Door(queue)),
            pulse,
            metrics,
        };
        (writer, task)
    }

    /// A look at how many messages wait. Does not keep the writer alive.
    pub fn depth(&self) -> impl Fn() -> usize + Send + Sync + use<> {
        let queue = self.door.0.clone();
        move || queue.len()
    }

    /// Whether it lives and writes. Does not keep the writer alive.
    pub fn pulse(&self) -> Arc<Pulse> {
        self.pulse.clone()
    }

    /// Submits a message of a sender whose traffic class has this weight. The answer comes after
    /// delivery; an error where the queue has no room for it, or lately needs it for heavier ones.
    pub fn submit(
        &self,
        message: Message,
        weight: u32,
    ) -> oneshot::Receiver<Result<(), NotStored>> {
        let (done, answer) = oneshot::channel();
        fault::reached(Point::Queued);
        let submission = Submission {
            message,
            since: Instant::now(),
            done,
        };
        if let Some(limit) = self.door.0.push(weight, submission) {
            self.metrics.refused(limit);
        }
        answer
    }

    /// Waits until all that was submitted before is stored and delivered, or surely not stored. False where
    /// that takes longer than a message may wait.
    pub async fn settled(&self) -> bool {
        let (settled, answer) = oneshot::channel();
        self.door.0.push_look(settled);
        matches!(tokio::time::timeout(WAIT_MAX, answer).await, Ok(Ok(())))
    }

    /// Has an account's acknowledged debts written soon.
    pub fn paid(&self, account: AccountId, acknowledged: Acknowledged) {
        self.door.0.push_paid(account, acknowledged);
    }
}

/// What goes into one commit.
#[derive(Default)]
struct Batch {
    messages: Vec<Submission>,
    paid: Vec<(AccountId, Acknowledged)>,
    /// Told once this is written.
    looks: Vec<oneshot::Sender<()>>,
}

impl Batch {
    fn is_empty(&self) -> bool {
        self.messages.is_empty() && self.paid.is_empty() && self.looks.is_empty()
    }
}

impl WriterTask {
    /// Runs until every [`Writer`] is gone and all is written.
    pub async fn run(mut self) {
        let mut ledger_due = Instant::now() + self.ledger_period;
        while let Some(mut batch) = self.queue.take() {
            self.pulse.turn(Instant::now());
            // Also while messages never stop coming.
            if ledger_due <= Instant::now() {
                ledger_due = Instant::now() + self.ledger_period;
                batch.paid.splice(..0, std::mem::take(&mut self.paid));
                batch.paid.extend(self.deliver.paid());
            }
            if batch.is_empty() {
                let _ = tokio::time::timeout_at(ledger_due, self.queue.news()).await;
                continue;
            }
            let looks = std::mem::take(&mut batch.looks);
            self.write(batch).await;
            for settled in looks {
                let _ = settled.send(());
            }
        }
        let mut paid = std::mem::take(&mut self.paid);
        paid.extend(self.deliver.paid());
        self.write(Batch {
            paid,
            ..Batch::default()
        })
        .await;
    }

    async fn write(&mut self, batch: Batch) {
        let commit = self.commit_of(&batch);
        if commit.is_empty() {
            self.deliver_batch(batch.messages, &[]);
            return;
        }
        let started = Instant::now();
        let outcome = match self.storage.archive_commit(commit).await {
            Ok(positions) => Ok(positions),
            Err(CommitError::Failed(error)) => Err(error),
            Err(CommitError::Unknown(unknown)) => self.resolve(&unknown).await,
        };
        self.metrics
            .commit_seconds
            .observe(started.elapsed().as_secs_f64());
        self.metrics
            .commit_messages
            .observe(batch.messages.len() as f64);
        let noted = if outcome.is_ok() {
            Outcome::Written
        } else {
            Outcome::Failed
        };
        self.pulse.note(noted, Instant::now());
        match outcome {
            Ok(positions) => {
                fault::reached(Point::Committed);
                self.metrics.debts_made.inc_by(debts(&batch));
                self.deliver_batch(batch.messages, &positions);
            }
            Err(error) => {
                warn!(%error, messages = batch.messages.len(), "messages not stored");
                self.metrics.commit_failures.inc();
                refuse(batch.messages, &error);
                self.paid.extend(batch.paid);
                // What gathered behind a commit that took its whole deadline has waited as long.
                self.queue.refuse_older(Duration::ZERO);
            }
        }
    }

    fn commit_of(&self, batch: &Batch) -> Commit {
        let mut commit = Commit::new(self.fence);
        let now = crate::clock::timestamp();
        let stored = batch.messages.iter().map(|submission| &submission.message);
        for stored in stored.filter(|message| !message.rows.is_empty()) {
            let message = commit.messages.len();
            commit.messages.push(NewMessage {
                bytes: stored.stanza.as_bytes().clone(),
                text: stored.text.clone(),
            });
            commit.rows.extend(
                stored
                    .rows
                    .iter()
                    .map(|row| row.owner_row(stored, message, now)),
            );
            commit.resend_keys.extend(stored.resend_key.clone());
        }
        commit.watermarks = batch
            .paid
            .iter()
            .map(|(account, paid)| (*account, watermark(paid)))
            .collect();
        commit
    }

    fn deliver_batch(&self, messages: Vec<Submission>, positions: &[Position]) {
        let mut rest = positions;
        let mut own = Vec::with_capacity(2);
        for submission in messages {
            let (mine, others) = rest.split_at(submission.message.rows.len().min(rest.len()));
            rest = others;
            own.clear();
            own.extend(mine.iter().map(|position| position.0));
            self.committed(&submission.message, &own);
            fault::reached(Point::Routed);
            let _ = submission.done.send(Ok(()));
        }
    }

    /// Delivers a stored message. Where that panics the message stays owed, and all others go on: without this
    /// task nobody's messages would.
    fn committed(&self, message: &Message, positions: &[i64]) {
        let delivered = catch_unwind(AssertUnwindSafe(|| {
            self.deliver.committed(message, positions);
        }));
        if delivered.is_err() {
            self.metrics.panics.inc();
            error!(from = %message.from, "delivery of a message failed; it stays owed");
            let owed = catch_unwind(AssertUnwindSafe(|| self.deliver.failed(message, positions)));
            if owed.is_err() {
                error!(from = %message.from, "the message is delivered after the next start");
            }
        }
    }

    /// Asks until the fate of a commit is known. Nobody is told anything meanwhile; what
    /// waits in the queue is surely not stored and is refused in time.
    async fn resolve(&self, unknown: &Unknown) -> Result<Vec<Position>, eider_storage::Error> {
        warn!("the outcome of a commit is unknown; asking the database");
        loop {
            self.pulse.note(Outcome::Unknown, Instant::now());
            match self.storage.archive_resolve(unknown).await {
                Ok(Some(positions)) => return Ok(positions),
                Ok(None) => {
                    return Err(eider_storage::Error::Unavailable(
                        "the commit did not happen".into(),
                    ));
                }
                Err(error) => error!(%error, "the fate of a commit cannot be learnt yet"),
            }
            self.queue.refuse_older(WAIT_MAX);
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }
}

impl Drop for WriterTask {
    /// However its task ends.
    fn drop(&mut self) {
        self.pulse.end();
    }
}

/// How many debts a batch makes.
fn debts(batch: &Batch) -> u64 {
    let rows = batch
        .messages
        .iter()
        .flat_map(|submission| &submission.message.rows);
    rows.filter(|row| row.debt).count() as u64
}

fn refuse(messages: Vec<Submission>, error: &eider_storage::Error) {
    let reason = match error {
        eider_storage::Error::Fenced => NotStored::Fenced,
        _ => NotStored::Unavailable,
    };
    for submission in messages {
        let _ = submission.done.send(Err(reason));
    }
}

fn watermark(paid: &Acknowledged) -> Watermark {
    Watermark {
        acked_up_to: Position(paid.up_to),
        acked_above: paid
            .above
            .iter()
            .map(|(first, last)| PosRange {
                first: Position(*first),
                last: Position(*last),
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests;
