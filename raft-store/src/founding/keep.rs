//! The record of a cluster that runs: its leader puts the row again when it is missing, everybody looks whether it names
//! another cluster.

use std::convert::Infallible;
use std::time::Duration;

use std::sync::Arc;

use tokio::time::{sleep, timeout};

use super::decide::{Assessment, assess, over};
use super::settle::RECORD_LIMIT;
use super::{Created, Founding, FoundingRecord, RecordError, Standing};
use crate::clock::Clock;
use crate::ids::ClusterId;

/// Between two looks when all is well, and when it is not or nobody knows.
const CALM: Duration = Duration::from_secs(60);
const WATCHFUL: Duration = Duration::from_secs(5);

/// The task that does it, until it is dropped.
pub(crate) struct Keep {
    pub(crate) record: Arc<dyn FoundingRecord>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) standing: Standing,
    pub(crate) cluster: ClusterId,
}

impl Keep {
    pub(crate) async fn run(self, leading: impl Fn() -> bool) -> Infallible {
        // A reading may be old: only the second one in a row counts. What `create` answers is so.
        let mut suspected = None;
        loop {
            let other = match self.look(leading()).await {
                Ok(Seen::Own) => None,
                Ok(Seen::Other(other)) => Some(other),
                Ok(Seen::MaybeOther(other)) if suspected == Some(other) => Some(other),
                Ok(Seen::MaybeOther(other)) => {
                    suspected = Some(other);
                    sleep(self.clock.wait(WATCHFUL)).await;
                    continue;
                }
                Err(error) => {
                    // Nothing follows from it: the cluster goes on without the record.
                    tracing::warn!(%error, "the founding record");
                    self.standing.looked();
                    sleep(self.clock.wait(WATCHFUL)).await;
                    continue;
                }
            };
            suspected = other;
            self.standing.disputed(self.cluster, other);
            let pause = if other.is_some() { WATCHFUL } else { CALM };
            sleep(self.clock.wait(pause)).await;
        }
    }

    async fn look(&self, leading: bool) -> Result<Seen, RecordError> {
        let row = self.limited(self.record.read()).await?;
        match assess(self.cluster, row, leading) {
            Assessment::Fine => Ok(Seen::Own),
            Assessment::Create(row) => self.create(row).await,
            Assessment::Retire(row) => {
                let done = self.limited(self.record.replace(self.cluster, row));
                match done.await? {
                    true => Ok(Seen::Own),
                    // Another row by now; `create` says which.
                    false => self.create(row).await,
                }
            }
            Assessment::Other(_) if leading => self.create(over(self.cluster)).await,
            Assessment::Other(other) => Ok(Seen::MaybeOther(other)),
        }
    }

    async fn create(&self, row: Founding) -> Result<Seen, RecordError> {
        match self.limited(self.record.create(row)).await? {
            Created::Yes => {
                tracing::warn!(cluster = %row.uuid, "the founding record had lost its row");
                Ok(Seen::Own)
            }
            Created::Exists(found) if found.uuid == self.cluster => Ok(Seen::Own),
            Created::Exists(found) => Ok(Seen::Other(found.uuid)),
        }
    }

    async fn limited<T>(
        &self,
        call: impl Future<Output = Result<T, RecordError>>,
    ) -> Result<T, RecordError> {
        let limited = timeout(self.clock.wait(RECORD_LIMIT), call).await;
        limited.unwrap_or_else(|_| Err(RecordError::Unknown("no answer in time".into())))
    }
}

enum Seen {
    Own,
    Other(ClusterId),
    MaybeOther(ClusterId),
}
