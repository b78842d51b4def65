//! Kill points of the loss test. They exist in builds with debug assertions only; of a
//! release build nothing is left.

/// A moment in a message's life at which a power cut must lose nothing (DESIGN §1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// Handed to the archive writer.
    Queued,
    /// Its rows are durable.
    Committed,
    /// In the mailboxes of its recipients.
    Routed,
    /// Written to a client's socket.
    Written,
    /// A recipient's acknowledgement was read.
    AcknowledgementRead,
    /// Its debt is paid.
    DebtCleared,
    /// The sender was told.
    AcknowledgementSent,
}

impl Point {
    /// As in `EIDER_KILL_AT`.
    pub fn as_str(self) -> &'static str {
        match self {
            Point::Queued => "queued",
            Point::Committed => "committed",
            Point::Routed => "routed",
            Point::Written => "written",
            Point::AcknowledgementRead => "acknowledgement-read",
            Point::DebtCleared => "debt-cleared",
            Point::AcknowledgementSent => "acknowledgement-sent",
        }
    }
}

/// Ends the process by SIGKILL when `EIDER_KILL_AT=POINT:N` names this point and it is reached the Nth time.
#[cfg(debug_assertions)]
pub fn reached(point: Point) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicI64, Ordering};

    struct KillAt {
        point: String,
        left: AtomicI64,
    }
    static KILL_AT: OnceLock<Option<KillAt>> = OnceLock::new();
    let kill_at = KILL_AT.get_or_init(|| {
        let wanted = std::env::var("EIDER_KILL_AT").ok()?;
        let (point, times) = wanted.split_once(':')?;
        let left = AtomicI64::new(times.parse().ok()?);
        Some(KillAt {
            point: point.to_owned(),
            left,
        })
    });
    let Some(kill_at) = kill_at else { return };
    if kill_at.point == point.as_str() && kill_at.left.fetch_sub(1, Ordering::SeqCst) == 1 {
        let _ =
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }
}

/// Nothing, in release builds.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn reached(_: Point) {}

/// Whether `EIDER_UNSAFE_NO_SYNC` asks for commits that do not wait for the disk: the loss test must notice.
#[cfg(debug_assertions)]
pub fn no_sync() -> bool {
    std::env::var_os("EIDER_UNSAFE_NO_SYNC").is_some_and(|value| !value.is_empty())
}

/// Never, in release builds.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn no_sync() -> bool {
    false
}
