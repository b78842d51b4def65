//! Lifecycle: signals, soft and hard stop, readiness, what systemd is told, file limit and threads.

use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Whether the server takes clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// Parts are being built.
    Starting,
    /// All listeners accept.
    Ready,
    /// Accepting, but something is missing, as the database: the text says what.
    Degraded(String),
    /// No new streams; the present ones are being ended.
    Draining,
}

impl Readiness {
    /// The word shown to probes and administrators.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Degraded(_) => "degraded",
            Self::Draining => "draining",
        }
    }
}

/// The handle by which parts learn of a stop and are waited for. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Lifecycle {
    soft: CancellationToken,
    hard: CancellationToken,
    tasks: TaskTracker,
    readiness: Arc<watch::Sender<Readiness>>,
}

impl Default for Lifecycle {
    fn default() -> Self {
        Self::new()
    }
}

impl Lifecycle {
    /// A server that starts.
    pub fn new() -> Self {
        Self {
            soft: CancellationToken::new(),
            hard: CancellationToken::new(),
            tasks: TaskTracker::new(),
            readiness: Arc::new(watch::Sender::new(Readiness::Starting)),
        }
    }

    /// Cancelled when the drain begins: accept nothing new, end what there is in order.
    pub fn soft_stop(&self) -> &CancellationToken {
        &self.soft
    }

    /// Cancelled when there is no more time: stop where you are.
    pub fn hard_stop(&self) -> &CancellationToken {
        &self.hard
    }

    /// The tasks that a drain waits for. Spawn streams, sessions and writers on it.
    pub fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    /// Begins the drain.
    pub fn stop(&self) {
        self.set_readiness(Readiness::Draining);
        self.soft.cancel();
    }

    /// Ends the drain: whatever is not done stays undone.
    pub fn stop_now(&self) {
        self.stop();
        self.hard.cancel();
    }

    /// Says how ready the server is; once draining it stays so.
    pub fn set_readiness(&self, readiness: Readiness) {
        self.readiness.send_if_modified(|now| {
            let changes = *now != Readiness::Draining && *now != readiness;
            if changes {
                *now = readiness;
            }
            changes
        });
    }

    /// How ready the server is.
    pub fn readiness(&self) -> watch::Receiver<Readiness> {
        self.readiness.subscribe()
    }

    /// Waits until every tracked task has ended, for `grace` at most or until a hard stop; then the hard
    /// stop is given. Returns whether all had ended by themselves.
    pub async fn drained(&self, grace: Duration) -> bool {
        self.tasks.close();
        let all = tokio::select! {
            () = self.tasks.wait() => true,
            () = tokio::time::sleep(grace) => false,
            () = self.hard.cancelled() => false,
        };
        self.hard.cancel();
        all
    }
}

/// Watches signals as long as the runtime lives: SIGHUP calls `reload`, SIGTERM and SIGINT begin the drain, a second
/// of them ends it, and a third ends the process where even that hangs.
///
/// # Errors
/// Where the system refuses a handler.
pub fn watch_signals(
    lifecycle: &Lifecycle,
    reload: impl Fn() + Send + 'static,
) -> std::io::Result<()> {
    let mut hangup = signal(SignalKind::hangup())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let lifecycle = lifecycle.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                Some(()) = hangup.recv() => {
                    tell_systemd_reloading();
                    reload();
                    tell_systemd(&[NotifyState::Ready]);
                    continue;
                }
                Some(()) = terminate.recv() => {}
                Some(()) = interrupt.recv() => {}
            }
            if lifecycle.hard.is_cancelled() {
                tracing::error!("told once more to stop: gone, without waiting for the database");
                std::process::exit(EXIT_UNFINISHED);
            }
            if lifecycle.soft.is_cancelled() {
                tracing::warn!("second signal: stopping at once");
                lifecycle.stop_now();
            } else {
                tracing::info!("draining: no new streams; send the signal again to stop at once");
                tell_systemd(&[NotifyState::Stopping]);
                lifecycle.stop();
            }
        }
    });
    Ok(())
}

/// How long after a look that found the server standing still it is looked at again.
const SECOND_LOOK: Duration = Duration::from_secs(1);

/// How a process ends that was not let finish.
const EXIT_UNFINISHED: i32 = 1;

/// Tells systemd that the server is ready and, until the hard stop, keeps its watchdog content as long as the
/// server `beats`.
pub fn tell_systemd_ready(
    lifecycle: &Lifecycle,
    status: &str,
    beats: impl Fn() -> bool + Send + Sync + 'static,
) {
    tell_systemd(&[NotifyState::Ready, NotifyState::Status(status)]);
    let Some(interval) = sd_notify::watchdog_enabled() else {
        return;
    };
    let hard = lifecycle.hard.clone();
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(interval / 4);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => if beats_soon(&beats, SECOND_LOOK).await {
                    tell_systemd(&[NotifyState::Watchdog]);
                } else {
                    tracing::error!("the archive writer stands still: the watchdog is not told to wait");
                },
                () = hard.cancelled() => return,
            }
        }
    });
}

/// Whether it beats, now or in a moment: where the whole process was paused, whoever looks first sees it stand still.
async fn beats_soon(beats: &impl Fn() -> bool, moment: Duration) -> bool {
    if beats() {
        return true;
    }
    tokio::time::sleep(moment).await;
    beats()
}

/// Tells systemd that the start takes longer, and why.
pub fn tell_systemd_waiting(why: &str, patience: Duration) {
    let micros = u32::try_from(patience.as_micros()).unwrap_or(u32::MAX);
    tell_systemd(&[
        NotifyState::ExtendTimeoutUsec(micros),
        NotifyState::Status(why),
    ]);
}

fn tell_systemd_reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell_systemd(&[NotifyState::Reloading, now]),
        Err(_) => tell_systemd(&[NotifyState::Reloading]),
    }
}

fn tell_systemd(states: &[NotifyState<'_>]) {
    if let Err(e) = sd_notify::notify(states) {
        tracing::debug!("systemd was not told: {e}");
    }
}

/// Has all files made from now on readable by this user alone: databases, backups and keys hold secrets.
pub fn keep_files_private() {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
}

/// The data directory, which belongs to one process at a time while this lives.
#[derive(Debug)]
pub struct DataDirectory {
    _lock: std::fs::File,
}

impl DataDirectory {
    /// Makes the data directory, which nobody but the server's own user can look into, and takes it.
    ///
    /// # Errors
    /// `WouldBlock` where another process has it; where it can be neither made nor written to.
    pub fn take(path: &std::path::Path) -> std::io::Result<DataDirectory> {
        prepare_data_directory(path)?;
        // The file stays: a lock on one that is deleted would keep nobody out.
        let lock = std::fs::File::create(path.join("lock"))?;
        lock.try_lock()?;
        Ok(DataDirectory { _lock: lock })
    }
}

fn prepare_data_directory(path: &std::path::Path) -> std::io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    if !path.is_dir() {
        return std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path);
    }
    let mode = path.metadata()?.permissions().mode();
    if mode & 0o077 != 0 {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode & 0o700))?;
    }
    Ok(())
}

/// Raises the limit on open files to the hard limit. Returns the limit that holds now; `None` without one.
pub fn raise_file_limit() -> Option<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let now = getrlimit(Resource::Nofile);
    let wanted = Rlimit {
        current: now.maximum,
        maximum: now.maximum,
    };
    match setrlimit(Resource::Nofile, wanted) {
        Ok(()) => now.maximum,
        Err(_) => now.current,
    }
}

/// The runtime that serves: as many threads as configured, else one per core.
///
/// # Errors
/// Where the system refuses threads.
pub fn runtime(worker_threads: u32) -> std::io::Result<tokio::runtime::Runtime> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = match worker_threads {
        0 => cores,
        n => n as usize,
    };
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .thread_name("eider")
        .enable_all()
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn drain_waits_for_tasks_and_then_stops_hard() {
        let lifecycle = Lifecycle::new();
        let soft = lifecycle.soft_stop().clone();
        lifecycle
            .tasks()
            .spawn(async move { soft.cancelled().await });
        lifecycle.set_readiness(Readiness::Ready);
        lifecycle.stop();
        assert!(lifecycle.drained(Duration::from_secs(10)).await);
        assert!(lifecycle.hard_stop().is_cancelled());
        lifecycle.set_readiness(Readiness::Ready);
        assert_eq!(*lifecycle.readiness().borrow(), Readiness::Draining);
    }

    #[tokio::test]
    async fn a_task_that_does_not_end_is_not_waited_for_longer_than_the_grace() {
        let lifecycle = Lifecycle::new();
        let hard = lifecycle.hard_stop().clone();
        lifecycle
            .tasks()
            .spawn(async move { hard.cancelled().await });
        lifecycle.stop();
        assert!(!lifecycle.drained(Duration::from_millis(10)).await);
        lifecycle.tasks().wait().await;
    }

    #[tokio::test]
    async fn who_was_paused_with_the_watchdog_gets_a_second_look() {
        let looks = std::cell::Cell::new(0);
        let look = |well_from: u32| {
            looks.set(looks.get() + 1);
            looks.get() >= well_from
        };
        assert!(beats_soon(&|| look(2), Duration::ZERO).await);
        assert_eq!(looks.take(), 2);
        assert!(!beats_soon(&|| look(3), Duration::ZERO).await);
    }

    #[test]
    fn file_limit_is_the_hard_one() {
        let limit = raise_file_limit();
        assert_eq!(
            rustix::process::getrlimit(rustix::process::Resource::Nofile).current,
            limit
        );
    }
}
