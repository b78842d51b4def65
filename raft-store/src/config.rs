//! What a store is opened with.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::discovery::Discovery;
use crate::disk::Disk;
use crate::entry::MemberInfo;
use crate::founding::FoundingRecord;
use crate::gate::Tasks;
use crate::limits::Limits;
use crate::membership::Rules;
use crate::observe::Observer;
use crate::random::Random;
use crate::spawner::Spawner;
use crate::transport::Transport;
use crate::watch::HubLimits;

/// Settings of one member. The defaults are those of production; tests make them smaller.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The member's directory, relative to the disk's root.
    pub dir: PathBuf,
    /// What others are told of this member.
    pub info: MemberInfo,
    /// Whether this member may found a cluster where the founding record has no row. One that may not waits for a row,
    /// or for a peer that has a cluster.
    pub may_found: bool,
    /// The same on all members.
    pub limits: Limits,
    /// When members become voters, and are replaced and removed. The leader's are what counts.
    pub rules: Rules,
    /// Of this member alone.
    pub watches: HubLimits,
    /// Length of a segment file of the log in bytes; one frame is at most 4 MiB and a quarter of it.
    pub segment_bytes: u64,
    /// Entries of the log on disk are kept in memory up to this many bytes.
    pub tail_cache_bytes: usize,
    /// A snapshot is built when so many bytes of entries were applied since the last one…
    pub snapshot_log_bytes: u64,
    /// …or so many entries and as many more as there are keys, those replayed at the start included: a start replays what
    /// no snapshot has (five microseconds an entry), and a snapshot writes every key…
    pub snapshot_log_entries: u64,
    /// …or after this time, if there were `snapshot_entries` of them.
    pub snapshot_interval: Duration,
    pub snapshot_entries: u64,
    /// How often that is looked at.
    pub snapshot_check: Duration,
    /// Entries behind a published snapshot that stay in the log.
    pub log_keep_entries: u64,
    /// Bytes of entries that a leader keeps behind it for members that need them; who needs more gets a snapshot.
    pub log_keep_bytes: u64,
    #[doc(hidden)]
    pub observer: Observer,
}

impl Settings {
    /// The defaults, in `dir`.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            info: MemberInfo::default(),
            may_found: true,
            limits: Limits::format_1(),
            rules: Rules::default(),
            watches: HubLimits::default(),
            segment_bytes: 64 << 20,
            tail_cache_bytes: 32 << 20,
            snapshot_log_bytes: 64 << 20,
            snapshot_log_entries: 50_000,
            snapshot_interval: Duration::from_secs(600),
            snapshot_entries: 1000,
            snapshot_check: Duration::from_secs(1),
            log_keep_entries: 0,
            log_keep_bytes: 256 << 20,
            observer: Observer::default(),
        }
    }
}

/// What a store stands on.
#[derive(Clone)]
pub struct Parts {
    /// Holds [`Settings::dir`], and nobody else writes there.
    pub disk: Arc<dyn Disk>,
    /// Ids, nonces, suspicions, pauses: all that is drawn.
    pub random: Arc<dyn Random>,
    /// Leases count on it.
    pub clock: Arc<dyn Clock>,
    /// To and from other members. [`crate::transport::Nowhere`]: there are none.
    pub transport: Arc<dyn Transport>,
    /// Says which cluster there is. [`crate::founding::Alone`]: none that others share.
    pub founding: Arc<dyn FoundingRecord>,
    /// Where other members may be.
    pub discovery: Arc<[Box<dyn Discovery>]>,
    /// Runs the jobs that own files: threads in production.
    pub spawner: Arc<dyn Spawner>,
    /// Runs everything else.
    pub tasks: Tasks,
}
