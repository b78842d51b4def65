//! When a snapshot is built, and what follows: published, told to log and core, the log purged (DESIGN §6).

use std::collections::VecDeque;
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
    /// After one that was not built, none before this.
    rests_until: Instant,
    kept: Kept,
}

/// Which entries are the last so many bytes, about.
struct Kept {
    bytes: u64,
    samples: VecDeque<Progress>,
}

/// Looks that pass after a snapshot that was not built: on a full disk each one writes all that fits.
const REST_CHECKS: u32 = 30;
/// Between two samples, as a part of the bytes kept.
const SAMPLES: u64 = 64;

impl Kept {
    fn new(bytes: u64) -> Self {
        let samples = VecDeque::new();
        Self { bytes, samples }
    }

    /// The first index of them.
    fn first(&mut self, now: Progress) -> u64 {
        let last = self.samples.back().map_or(0, |last| last.bytes);
        if self.samples.is_empty() || now.bytes - last >= self.bytes / SAMPLES {
            self.samples.push_back(now);
        }
        let is_old = |sample: &Progress| now.bytes - sample.bytes > self.bytes;
        let mut first = 0;
        while let Some(old) = self.samples.front().filter(|sample| is_old(sample)) {
            first = old.next;
            match self.samples.get(1).is_some_and(is_old) {
                true => drop(self.samples.pop_front()),
                false => break,
            }
        }
        first
    }
}

impl Compaction {
    pub(crate) fn new(core: Core, settings: Settings, spawner: Arc<dyn Spawner>) -> Self {
        let at = Instant::now();
        let before = Progress::default();
        let kept = Kept::new(settings.log_keep_bytes);
        Self {
            core,
            settings,
            spawner,
            before,
            at,
            rests_until: at,
            kept,
        }
    }

    /// Runs until it is dropped or `ended` says so.
    pub(crate) async fn run(mut self, ended: impl Fn() -> bool) {
        while !ended() {
            tokio::time::sleep(self.settings.snapshot_check).await;
            let progress = self.core.machine().progress();
            if Instant::now() >= self.rests_until && self.is_due(progress) {
                match self.build().await {
                    Ok(()) => (self.before, self.at) = (progress, Instant::now()),
                    Err(error) => {
                        tracing::error!(%error, "no snapshot was built");
                        self.rests_until =
                            Instant::now() + REST_CHECKS * self.settings.snapshot_check;
                    }
                }
            }
            let first = self.kept.first(progress);
            let needed = self
                .core
                .needed()
                .map_or(u64::MAX, |index| index.max(first));
            let keep = self.settings.log_keep_entries;
            self.core.published(keep, needed).await;
        }
    }

    fn is_due(&self, now: Progress) -> bool {
        let settings = &self.settings;
        let bytes = now.bytes - self.before.bytes;
        let entries = now.entries - self.before.entries;
        let old = self.at.elapsed() >= settings.snapshot_interval;
        bytes >= settings.snapshot_log_bytes
            || entries >= settings.snapshot_log_entries + now.keys
            || (old && entries >= settings.snapshot_entries)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_bytes_are_kept() {
        let mut kept = Kept::new(6_400);
        let at = |index| Progress {
            next: index,
            entries: index,
            bytes: index * 10,
            keys: 0,
        };
        for index in 0..=640 {
            assert_eq!(kept.first(at(index)), 0, "{index}");
        }
        for index in 641..5_000 {
            let first = kept.first(at(index));
            assert!(
                first < index - 640 && first + 660 >= index,
                "{index}: {first}"
            );
        }
        assert!(kept.samples.len() <= SAMPLES as usize + 2);
    }
}
