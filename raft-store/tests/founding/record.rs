//! A founding record whose replies get lost, whose readings are old, and which a test can change.

use std::sync::Arc;

use parking_lot::Mutex;
use raft_store::founding::{Created, Founding, FoundingRecord, RecordError};
use raft_store::ids::ClusterId;
use raft_store::transport::BoxFuture;

#[derive(Default)]
struct Rows {
    /// All there were, the newest last; none at first.
    all: Vec<Option<Founding>>,
    /// So many changes take effect without anybody being told.
    replies_lost: u32,
    /// So many readings show what was there before the last change.
    old_readings: u32,
    /// Nothing answers.
    down: bool,
    created: u32,
}

/// Clones are handles to the same.
#[derive(Clone, Default)]
pub struct Record(Arc<Mutex<Rows>>);

impl Record {
    pub fn row(&self) -> Option<Founding> {
        self.0.lock().all.last().copied().flatten()
    }

    pub fn set(&self, row: Option<Founding>) {
        self.0.lock().all.push(row);
    }

    pub fn lose_replies(&self, count: u32) {
        self.0.lock().replies_lost = count;
    }

    pub fn read_old(&self, count: u32) {
        self.0.lock().old_readings = count;
    }

    pub fn set_down(&self, down: bool) {
        self.0.lock().down = down;
    }

    /// How often a row was put where none was.
    pub fn created(&self) -> u32 {
        self.0.lock().created
    }

    fn answer<T>(&self, result: T) -> BoxFuture<'_, Result<T, RecordError>>
    where
        T: Send + 'static,
    {
        let mut rows = self.0.lock();
        let lost = rows.replies_lost > 0;
        rows.replies_lost = rows.replies_lost.saturating_sub(1);
        drop(rows);
        let answer = match lost {
            true => Err(RecordError::Unknown("the reply was lost".into())),
            false => Ok(result),
        };
        Box::pin(std::future::ready(answer))
    }

    fn is_down<T: Send + 'static>(&self) -> Option<BoxFuture<'_, Result<T, RecordError>>> {
        let down = RecordError::Unavailable("down".into());
        let answer: BoxFuture<'_, _> = Box::pin(std::future::ready(Err(down)));
        self.0.lock().down.then_some(answer)
    }
}

impl FoundingRecord for Record {
    fn read(&self) -> BoxFuture<'_, Result<Option<Founding>, RecordError>> {
        if let Some(down) = self.is_down() {
            return down;
        }
        let mut rows = self.0.lock();
        let back = usize::from(rows.old_readings > 0);
        rows.old_readings = rows.old_readings.saturating_sub(1);
        let at = rows.all.len().checked_sub(1 + back);
        let row = at.and_then(|at| rows.all[at]);
        Box::pin(std::future::ready(Ok(row)))
    }

    fn create(&self, founding: Founding) -> BoxFuture<'_, Result<Created, RecordError>> {
        if let Some(down) = self.is_down() {
            return down;
        }
        let created = match self.row() {
            Some(row) => Created::Exists(row),
            None => {
                self.set(Some(founding));
                self.0.lock().created += 1;
                Created::Yes
            }
        };
        self.answer(created)
    }

    fn replace(&self, old: ClusterId, new: Founding) -> BoxFuture<'_, Result<bool, RecordError>> {
        if let Some(down) = self.is_down() {
            return down;
        }
        let there = self.row().is_some_and(|row| row.uuid == old);
        if there {
            self.set(Some(new));
        }
        self.answer(there)
    }
}
