//! When a snapshot is built, and what follows: published, told to log and core, the log purged (DESIGN §6).

use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::core::Core;
use super::machine::Progress;
use crate::config::Settings;
use crate::snapshot::file::Error;
use crate::spawner::Spawner;

/// Looks every [`Settings::snapshot_check`] whether a snapshot is due.
pub(crate) struct Compaction {
    core: Core,
    settings: Settings,
    spawner: Arc<dyn Spawner>,
    /// At the last snapshot.
    before: Progress,
    at: Instant,
}

impl Compaction {
    pub(crate) fn new(core: Core, settings: Settings, spawner: Arc<dyn Spawner>) -> Self {
        let at = Instant::now();
        let before = Progress::default();
        Self {
            core,
            settings,
            spawner,
            before,
            at,
        }
    }

    /// Runs until it is dropped or `ended` says so.
    pub(crate) async fn run(mut self, ended: impl Fn() -> bool) {
        while !ended() {
            tokio::time::sleep(self.settings.snapshot_check).await;
            let progress = self.core.machine().progress();
            if self.is_due(progress) {
                match self.build().await {
                    Ok(()) => (self.before, self.at) = (progress, Instant::now()),
                    Err(error) => tracing::error!(%error, "no snapshot was built"),
                }
            }
            self.core.published(self.settings.log_keep_entries).await;
        }
    }

    fn is_due(&self, now: Progress) -> bool {
        let settings = &self.settings;
        let bytes = now.bytes - self.before.bytes;
        let entries = now.entries - self.before.entries;
        let old = self.at.elapsed() >= settings.snapshot_interval;
        bytes >= settings.snapshot_log_bytes || (old && entries >= settings.snapshot_entries)
    }

    /// Builds and publishes one of what is applied now.
    async fn build(&self) -> Result<(), Error> {
        let captured = self.core.machine().capture();
        let Some((state, meta)) = captured.map_err(|error| {
            tracing::error!(%error, "a snapshot's meta");
            Error::Content("meta that cannot be encoded")
        })?
        else {
            return Ok(());
        };
        let (tell, told) = oneshot::channel();
        let built = Box::new(move |result| {
            // Nobody waits when the store has ended.
            let _ = tell.send(result);
        });
        let job = self
            .core
            .snapshots()
            .build(&*self.spawner, state, meta, built)?;
        let built = told.await;
        drop(job);
        built.map_err(|_| Error::Content("the job that builds has ended"))??;
        Ok(())
    }
}
