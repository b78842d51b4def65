//! Health: whether the database answers, told to probes and in the log; its pools as metrics.

use std::sync::Arc;
use std::time::Duration;

use eider_storage::Storage;

use super::metrics::Metrics;
use crate::cluster::sessions::Sessions;
use crate::lifecycle::{Lifecycle, Readiness};

/// Time between two looks at the database.
const INTERVAL: Duration = Duration::from_secs(1);

/// Looks at the database until the drain begins: while it does not answer, the server is degraded.
/// To be started once the server is ready.
pub async fn watch(storage: Arc<dyn Storage>, lifecycle: Lifecycle) {
    let mut well = true;
    loop {
        tokio::select! {
            () = tokio::time::sleep(INTERVAL) => {}
            () = lifecycle.soft_stop().cancelled() => return,
        }
        match storage.ping().await {
            Ok(_) if well => {}
            Ok(_) => {
                well = true;
                tracing::info!("the database answers again");
                lifecycle.set_readiness(Readiness::Ready);
            }
            Err(e) => {
                if well {
                    tracing::error!("the database does not answer: {e}; type: eider check");
                }
                well = false;
                lifecycle.set_readiness(Readiness::Degraded(e.to_string()));
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
    use super::*;
    use crate::config::Config;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_database_that_is_gone_degrades_the_server() {
        let folder = std::env::temp_dir().join(format!("eider-health-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let config = Config {
            data_directory: folder.clone(),
            ..Config::default()
        };
        let storage = eider_storage::open(&config.storage_config()).await.unwrap();
        let metrics = Metrics::new();
        show_pools(&metrics, storage.clone());
        assert!(metrics.render().contains("eider_pool_open{pool="));

        let lifecycle = Lifecycle::new();
        lifecycle.set_readiness(Readiness::Ready);
        let watching = tokio::spawn(watch(storage.clone(), lifecycle.clone()));
        storage.close().await;
        let mut readiness = lifecycle.readiness();
        let degraded = readiness
            .wait_for(|r| matches!(r, Readiness::Degraded(_)))
            .await;
        assert!(degraded.is_ok());
        drop(degraded);
        lifecycle.stop();
        watching.await.unwrap();
        std::fs::remove_dir_all(folder).unwrap();
    }
}
