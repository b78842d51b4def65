//! A timed window over running load: what was done in it and what it cost.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use parking_lot::Mutex;
use tokio::task::JoinSet;

use super::baseline::echo::Echo;
use super::report::Row;
use super::server::Server;
use super::stats::{Latencies, per_op_us};

/// Tasks that make load; they end by themselves only when something failed.
pub type Workers = JoinSet<Result<Infallible>>;

/// Counts operations of all workers.
#[derive(Debug, Default)]
pub struct Meter {
    operations: AtomicU64,
    measuring: AtomicBool,
    latencies: Mutex<Vec<Arc<Mutex<Latencies>>>>,
}

/// One worker's handle of a [`Meter`].
#[derive(Debug, Clone)]
pub struct Recorder {
    meter: Arc<Meter>,
    latencies: Arc<Mutex<Latencies>>,
}

impl Meter {
    /// A handle for one worker.
    pub fn recorder(self: &Arc<Self>) -> Recorder {
        let latencies = Arc::<Mutex<Latencies>>::default();
        self.latencies.lock().push(latencies.clone());
        Recorder {
            meter: self.clone(),
            latencies,
        }
    }

    fn done(&self) -> u64 {
        self.operations.load(Ordering::Relaxed)
    }

    fn merged(&self) -> Latencies {
        let mut all = Latencies::default();
        for one in self.latencies.lock().iter() {
            all.merge(std::mem::take(&mut *one.lock()));
        }
        all
    }
}

impl Recorder {
    /// One operation done, after so long.
    pub fn done(&self, nanoseconds: u64) {
        self.count(1);
        self.latency(nanoseconds);
    }

    /// So many operations done.
    pub fn count(&self, operations: u64) {
        self.meter
            .operations
            .fetch_add(operations, Ordering::Relaxed);
    }

    /// A latency.
    pub fn latency(&self, nanoseconds: u64) {
        if self.meter.measuring.load(Ordering::Relaxed) {
            self.latencies.lock().add(nanoseconds);
        }
    }
}

/// What is measured.
pub enum Subject<'a> {
    /// A server.
    Server(&'a mut Server),
    /// The bare echo server.
    Echo(&'a Echo),
}

impl Subject<'_> {
    fn cpu(&self) -> (Duration, Duration) {
        match self {
            Self::Server(server) => server.cpu(),
            Self::Echo(echo) => (echo.cpu(), Duration::ZERO),
        }
    }

    fn check(&mut self) -> Result<()> {
        match self {
            Self::Server(server) => server.check(),
            Self::Echo(_) => Ok(()),
        }
    }

    async fn histogram(&self, name: &str) -> Option<(f64, f64)> {
        match self {
            Self::Server(server) => server.histogram(name).await,
            Self::Echo(_) => None,
        }
    }
}

/// Lets the workers run for `timing` (warm-up, window), stops them and gives the row of the window.
pub async fn window(
    subject: &mut Subject<'_>,
    timing: (Duration, Duration),
    meter: &Arc<Meter>,
    mut workers: Workers,
    row: Row,
) -> Result<Row> {
    undisturbed(&mut workers, timing.0).await?;
    let batches = subject.histogram("eider_commit_messages").await;
    let (begun, done, cpu) = (Instant::now(), meter.done(), subject.cpu());
    meter.measuring.store(true, Ordering::Relaxed);
    let outcome = undisturbed(&mut workers, timing.1).await;
    meter.measuring.store(false, Ordering::Relaxed);
    let (took, cpu_after, operations) = (begun.elapsed(), subject.cpu(), meter.done() - done);
    subject.check()?;
    outcome?;
    let batches_after = subject.histogram("eider_commit_messages").await;
    workers.shutdown().await;
    let mut latencies = meter.merged();
    let database = cpu_after.1 - cpu.1;
    let batch = batches
        .zip(batches_after)
        .map(|(a, b)| (b.0 - a.0, b.1 - a.1));
    Ok(Row {
        server_us: Some(per_op_us(cpu_after.0 - cpu.0, operations)),
        database_us: (!database.is_zero()).then(|| per_op_us(database, operations)),
        per_second: Some(operations as f64 / took.as_secs_f64()),
        p50_ms: latencies.percentile_ms(50.0),
        p99_ms: latencies.percentile_ms(99.0),
        batch: batch.filter(|b| b.1 > 0.0).map(|b| b.0 / b.1),
        ..row
    })
}

async fn undisturbed(workers: &mut Workers, time: Duration) -> Result<()> {
    match tokio::time::timeout(time, workers.join_next()).await {
        Err(_) => Ok(()),
        Ok(None) => bail!("no workers"),
        Ok(Some(ended)) => match ended? {
            Err(error) => Err(error),
            Ok(never) => match never {},
        },
    }
}
