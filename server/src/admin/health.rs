//! Health: whether the database answers and messages are written, told to probes and in the log; pools as metrics.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use eider_storage::{Fence, Storage};
use tokio::time::Instant;

use super::metrics::Metrics;
use crate::account::writer::{Pulse, Trouble};
use crate::cluster::sessions::Sessions;
use crate::lifecycle::{Lifecycle, Readiness};

/// Time between two looks at the database.
const INTERVAL: Duration = Duration::from_secs(1);

/// What is written to see whether anything can be, and how long it is: more than one message would take.
const TRIAL_KEY: &str = "written";
const TRIAL_BYTES: usize = 32 * 1024;

/// What is wrong with reading or writing, if anything.
async fn trouble(storage: &dyn Storage, writer: &Pulse) -> Option<String> {
    if let Err(error) = storage.ping().await {
        return Some(format!("the database does not answer: {error}"));
    }
    let trouble = writer.trouble(Instant::now())?;
    // Where nobody is sent to a server that is not ready, no other commit would show that it can write again.
    if matches!(trouble, Trouble::Failed(_)) {
        match try_writing(storage).await {
            Ok(()) => {
                writer.recovered(Instant::now());
                return None;
            }
            Err(error) => return Some(format!("{trouble}, and so does another: {error}")),
        }
    }
    Some(trouble.to_string())
}

/// Writes something that is not there yet: what changes nothing would succeed on a full disk. Durable on return.
async fn try_writing(storage: &dyn Storage) -> Result<(), eider_storage::Error> {
    let mut trial = vec![0; TRIAL_BYTES];
    SystemRandom::new()
        .fill(&mut trial)
        .expect("the system has randomness");
    storage.meta_set(Fence::single(), TRIAL_KEY, &trial).await
}

/// Looks at the database and at the archive writer until the drain begins: while one does not answer or write,
/// the server is degraded. To be started once the server is ready.
pub async fn watch(storage: Arc<dyn Storage>, writer: Arc<Pulse>, lifecycle: Lifecycle) {
    let mut well = true;
    loop {
        tokio::select! {
            () = tokio::time::sleep(INTERVAL) => {}
            () = lifecycle.soft_stop().cancelled() => return,
        }
        match trouble(storage.as_ref(), &writer).await {
            None if well => {}
            None => {
                well = true;
                tracing::info!("the database answers and is written to again");
                lifecycle.set_readiness(Readiness::Ready);
            }
            Some(trouble) => {
                if well {
                    tracing::error!("not ready: {trouble}; type: eider check");
                }
                well = false;
                lifecycle.set_readiness(Readiness::Degraded(trouble));
            }
        }
    }
}

/// Has the metrics show the pools of the database.
pub fn show_pools(metrics: &Metrics, storage: Arc<dyn Storage>) {
    metrics.on_scrape(move |metrics| {
        for state in storage.pools() {
            let levels = metrics.pool(state.name);
            levels.busy.set(state.in_use.into());
            levels.open.set(state.connections_open.into());
        }
    });
}

/// Has the metrics show what waits: for sessions, in sessions, for the archive.
pub fn show_queues(
    metrics: &Metrics,
    sessions: &Arc<Sessions>,
    archive_depth: impl Fn() -> usize + Send + Sync + 'static,
) {
    // Weak: metrics outlive the sessions by the last scrape, and must not keep them.
    let sessions = Arc::downgrade(sessions);
    metrics.on_scrape(move |metrics| {
        metrics.archive_queue_stanzas.set(level(archive_depth()));
        let Some(sessions) = sessions.upgrade() else {
            return;
        };
        let (mut queued, mut held) = (0, 0);
        for handle in sessions.all() {
            let waiting = handle.mailbox.waiting_bytes();
            queued += waiting.0;
            held += waiting.1;
        }
        metrics.queue_bytes.set(level(queued));
        metrics.held_bytes.set(level(held));
    });
}

fn level(value: impl TryInto<i64>) -> i64 {
    value.try_into().unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use eider_storage::AccountId;

    use super::*;
    use crate::account::ledger::Acknowledged;
    use crate::account::message::Message;
    use crate::account::writer::{Deliver, Writer, WriterTask};
    use crate::config::Config;

    struct Nobody;

    impl Deliver for Nobody {
        fn committed(&self, _: &Message, _: &[i64]) {}

        fn failed(&self, _: &Message, _: &[i64]) {}

        fn paid(&self) -> Vec<(AccountId, Acknowledged)> {
            Vec::new()
        }
    }

    fn writer(storage: &Arc<dyn Storage>) -> (Writer, WriterTask) {
        let metrics = Arc::new(Metrics::new());
        let (deliver, fence) = (Arc::new(Nobody), Fence::single());
        Writer::new(storage.clone(), deliver, metrics, fence, 10, 1_000_000)
    }

    async fn open(name: &str) -> (std::path::PathBuf, Arc<dyn Storage>) {
        let folder = std::env::temp_dir().join(format!("eider-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let config = Config {
            data_directory: folder.clone(),
            ..Config::default()
        };
        let storage = eider_storage::open(&config.storage_config()).await.unwrap();
        (folder, storage)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_writer_that_is_gone_degrades_the_server() {
        let (folder, storage) = open("health-writer").await;
        let (writer, task) = writer(&storage);
        let lifecycle = Lifecycle::new();
        lifecycle.set_readiness(Readiness::Ready);
        let pulse = writer.pulse();
        assert_eq!(trouble(storage.as_ref(), &pulse).await, None);
        let watching = tokio::spawn(watch(storage.clone(), pulse.clone(), lifecycle.clone()));
        let running = tokio::spawn(task.run());
        running.abort();
        let mut readiness = lifecycle.readiness();
        let degraded = readiness
            .wait_for(|r| matches!(r, Readiness::Degraded(why) if why.contains("writer")))
            .await;
        assert!(degraded.is_ok());
        drop(degraded);
        assert!(!pulse.beats(Instant::now()));
        lifecycle.stop();
        watching.await.unwrap();
        storage.close().await;
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_database_that_is_gone_degrades_the_server() {
        let (folder, storage) = open("health").await;
        let metrics = Metrics::new();
        show_pools(&metrics, storage.clone());
        assert!(metrics.render().contains("eider_pool_open{pool="));

        let lifecycle = Lifecycle::new();
        lifecycle.set_readiness(Readiness::Ready);
        let (writer, task) = writer(&storage);
        let pulse = writer.pulse();
        let watching = tokio::spawn(watch(storage.clone(), pulse.clone(), lifecycle.clone()));
        let mut readiness = lifecycle.readiness();
        storage.close().await;
        let degraded = readiness
            .wait_for(|r| matches!(r, Readiness::Degraded(why) if why.contains("database")))
            .await;
        assert!(degraded.is_ok());
        drop(degraded);
        drop(task);
        lifecycle.stop();
        watching.await.unwrap();
        std::fs::remove_dir_all(folder).unwrap();
    }
}
